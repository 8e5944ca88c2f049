/* SPDX-License-Identifier: Apache-2.0
 *
 * What `quantize` and `convert` share: the plan as a table and as JSON, running it, the closing line. */
#ifndef PARE_TOOLS_JOB_SHOW_H
#define PARE_TOOLS_JOB_SHOW_H

#include "tools/cli.h"

/* Prints the plan; with dry_run that is all, else runs it. Closes the job. Returns the exit status. */
int pare_cli_job(pare_job **job, const char *model, const char *out, bool dry_run);

#endif
