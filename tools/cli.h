/* SPDX-License-Identifier: Apache-2.0
 *
 * What subcommands share: option parsing, the progress bar, error lines, tables. Built on the public header alone. */
#ifndef PARE_TOOLS_CLI_H
#define PARE_TOOLS_CLI_H

#include "pare/pare.h"

/* One option of a subcommand. kind: 'f' flag (bool *), 's' string (const char **), 'i' int64 (int64_t *),
 * 'd' double (double *), 'b' byte count with K/M/G suffix (uint64_t *), 'S' repeated string (pare_cli_list *). */
typedef struct pare_cli_opt {
    const char *name; /* "--to" */
    char letter;      /* 'o' for -o, or 0 */
    char kind;
    void *to;
    const char *arg; /* shown in help: "GRID" */
    const char *help;
} pare_cli_opt;

typedef struct pare_cli_list {
    const char **v;
    size_t n;
} pare_cli_list;

/* --threads, --quiet, --json are understood by every subcommand; read them with pare_cli_json() etc. Parses argv
 * (argv[0] is the subcommand), moves positionals to pos (at most max_pos) and returns their number, or -1 after
 * printing what was wrong (exit 2), or -2 after printing --help (exit 0). A wrong option name is answered with the
 * nearest right one. */
int pare_cli_parse(int argc, char **argv, const char *usage, const char *examples, const pare_cli_opt *opts,
                   size_t n_opts, const char **pos, int max_pos);
bool pare_cli_quiet(void);
const char *pare_cli_json(void); /* file for --json ("-" = standard output), or NULL */

/* Installs the progress bar (terminal) or one line per step (elsewhere), and log lines on stderr. */
void pare_cli_hooks(void);
/* Prints "pare: FILE: WHERE: text" to stderr and returns the exit status. */
int pare_cli_fail(pare_status s, const pare_diag *d);
/* Refuses by name what the design has and this version does not: prints "pare: `WHAT NAME` is not part ..."; returns 2.
 */
int pare_cli_later(const char *what, const char *name);
/* Flushes standard output; a failed write there turns exit status 0 into 4. Returns the exit status. */
int pare_cli_done(int exit_status);

/* Aligned tables: columns from a format of 'l' and 'r' letters; cells are copied. Printed with two spaces between. */
typedef struct pare_cli_table pare_cli_table;
pare_cli_table *pare_cli_table_new(const char *align, const char *const *head); /* head: one string per column */
void pare_cli_table_row(pare_cli_table *t, const char *const *cells);
void pare_cli_table_print(pare_cli_table **t);            /* to standard output; frees */
const char *pare_cli_bytes(char buf[32], uint64_t bytes); /* "135.2 MB" (powers of 1000) */

/* The subcommands, one per file: argv[0] is the subcommand; they return the exit status. */
#define PARE_COMMAND(name, summary) int pare_cmd_##name(int argc, char **argv);
#include "tools/commands.def"
#undef PARE_COMMAND

#endif
