/* SPDX-License-Identifier: Apache-2.0
 *
 * Pruning that asks first how much: sensitivity, and goals. */
#ifndef PARE_TOOLS_PRUNE_SHOW_H
#define PARE_TOOLS_PRUNE_SHOW_H

#include "tools/job_show.h"

/* The table, --json, the picture (svg may be NULL). o->pattern may name several patterns, amounts is "0.25,0.5" or
 * NULL. Returns the exit status. */
int pare_cli_sensitivity(const char *model, const pare_prune_opts *o, const char *amounts, const char *svg);
/* Chooses, prunes, verifies. fit: "80MB", "60%" or NULL. Returns the exit status; 1 when the result misses the goal. */
int pare_cli_prune_goal(const char *model, const char *out, const pare_prune_opts *o, pare_prune_goal *g,
                        const char *fit, bool dry_run);

#endif
