/* SPDX-License-Identifier: Apache-2.0
 *
 * Log lines and progress reports to the process-wide hooks. */
#include "core/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

static pare_hooks hooks;

void pare_set_hooks(const pare_hooks *h) { hooks = h ? *h : (pare_hooks){0}; }
pare_hooks pare_get_hooks(void) { return hooks; }

void pare_log(pare_log_level level, const char *fmt, ...) {
    if (!hooks.log) return;
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    hooks.log(hooks.user, level, line);
}

double pare_now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void pare_meter_start(pare_meter *m, const char *what, const char *unit, uint64_t total) {
    *m = (pare_meter){what, unit, total, pare_now_s(), -1};
}

void pare_meter_step(pare_meter *m, const char *item, uint64_t done) {
    if (!hooks.progress) return;
    double now = pare_now_s();
    if (done < m->total && now - m->last_s < 0.1) return;
    m->last_s = now;
    pare_progress p = {m->what, item, m->unit, done, m->total, now - m->start_s, -1};
    if (done && p.elapsed_s > 0.2) p.eta_s = p.elapsed_s * (double)(m->total - done) / (double)done;
    hooks.progress(hooks.user, &p);
}
