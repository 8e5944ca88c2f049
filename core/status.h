/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside view of status and diagnosis: how library code reports a failure. */
#ifndef PARE_CORE_STATUS_H
#define PARE_CORE_STATUS_H

#include "pare/pare.h"

/* Fills *d (if d is not NULL and holds no earlier failure) and returns code, so that `return pare_fail(...)` reads
 * well. file and where may be NULL. The text says what was expected and what to do, in one sentence without a final
 * period. */
PARE_PRINTF(5, 6)
pare_status pare_fail(pare_diag *d, pare_status code, const char *file, const char *where, const char *fmt, ...);

/* Same for a failed system call: appends strerror(errno); ENOSPC, ENOMEM and ENOENT choose their own status. */
pare_status pare_fail_errno(pare_diag *d, const char *file, const char *what);

#define PARE_TRY(expr)                                                                                                 \
    do {                                                                                                               \
        pare_status pare_try_s = (expr);                                                                               \
        if (pare_try_s != PARE_OK) return pare_try_s;                                                                  \
    } while (0)

/* True once pare_interrupt() was called; long loops ask between items and return pare_interrupted(d). */
bool pare_is_interrupted(void);
pare_status pare_interrupted(pare_diag *d);

#endif
