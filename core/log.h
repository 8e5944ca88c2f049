/* SPDX-License-Identifier: Apache-2.0
 *
 * Log lines and progress, both through the hooks of pare.h. */
#ifndef PARE_CORE_LOG_H
#define PARE_CORE_LOG_H

#include "pare/pare.h"

pare_hooks pare_get_hooks(void); /* those in force, to be put back after replacing them for a while */
PARE_PRINTF(2, 3) void pare_log(pare_log_level level, const char *fmt, ...);

typedef struct pare_meter {
    const char *what, *unit;
    uint64_t total;
    double start_s, last_s;
} pare_meter;
void pare_meter_start(pare_meter *m, const char *what, const char *unit, uint64_t total);
/* Reports at most ten times a second, and always when done == total. Call from one thread. */
void pare_meter_step(pare_meter *m, const char *item, uint64_t done);
double pare_now_s(void); /* monotonic clock */

#endif
