/* SPDX-License-Identifier: Apache-2.0
 *
 * What `quantize` and `convert` share: the plan as a table and as JSON, running it, the closing line. */
#ifndef PARE_TOOLS_JOB_SHOW_H
#define PARE_TOOLS_JOB_SHOW_H

#include "tools/cli.h"

/* One line on what it makes of how much; after it ran, a few on what came of it. */
void pare_cli_job_sum(const pare_job *job);
void pare_cli_job_brief(const pare_job *job);
/* As --json has it; the caller's. seconds < 0: it did not run. */
struct json_t;
struct json_t *pare_cli_job_json(const pare_job *job, const char *model, const char *out, double seconds);

/* A member that the job's JSON gets, too; takes value. */
void pare_cli_job_add(const char *key, struct json_t *value);

/* Prints the plan; with dry_run that is all, else runs it. Closes the job. Returns the exit status. */
int pare_cli_job(pare_job **job, const char *model, const char *out, bool dry_run);
/* The same; then original and output are compared as `pare verify` does it, and a failed gate gives exit status 1. */
int pare_cli_job_verified(pare_job **job, const char *model, const char *out, bool dry_run, const pare_verify_opts *v);

#endif
