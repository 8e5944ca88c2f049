/* SPDX-License-Identifier: Apache-2.0
 *
 * Gates as options: --max-kl X and the like, --gate KEY<=X; for every subcommand that ends in a verification. */
#ifndef PARE_TOOLS_GATE_OPTS_H
#define PARE_TOOLS_GATE_OPTS_H

#include "tools/cli.h"

enum { PARE_GATE_OPTS = 12 }; /* those with names (pare_gate_named), and --gate */

/* Fills o[0 .. PARE_GATE_OPTS). Before pare_cli_parse; a process parses once. */
void pare_gate_opts_add(pare_cli_opt *o);
/* After parsing: what was given, into v->gates and v->n_gates. Returns an exit status, 0 = fine, after printing as
 * `pare COMMAND: ...` what was wrong. owns: pare_gate_opts_free */
int pare_gate_opts_make(const char *command, pare_verify_opts *v);
void pare_gate_opts_free(void);

#endif
