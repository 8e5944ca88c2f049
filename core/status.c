/* SPDX-License-Identifier: Apache-2.0
 *
 * Status texts, exit statuses, diagnosis, and the interrupt flag. */
#include "core/status.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    pare_status code;
    int exit_code;
    const char *text;
} statuses[] = {
#define PARE_STATUS(id, value, exit_code, text) {PARE_##id, exit_code, text},
#include "pare/status.def"
#undef PARE_STATUS
};

static volatile sig_atomic_t interrupted;

const char *pare_status_text(pare_status s) {
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        if (statuses[i].code == s) return statuses[i].text;
    return "unknown status";
}

int pare_exit_status(pare_status s) {
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        if (statuses[i].code == s) return statuses[i].exit_code;
    return 4;
}

/* Copies with control characters made visible, so that names from hostile files cannot drive a terminal. */
static void copy_clean(char *dst, size_t dst_bytes, const char *src) {
    size_t n = 0;
    for (; src && *src && n + 5 < dst_bytes; src++) {
        unsigned char c = (unsigned char)*src;
        if (c < 0x20 || c == 0x7F) n += (size_t)snprintf(dst + n, dst_bytes - n, "\\x%02x", c);
        else dst[n++] = (char)c;
    }
    dst[n] = 0;
}

pare_status pare_fail(pare_diag *d, pare_status code, const char *file, const char *where, const char *fmt, ...) {
    if (!d || d->code != PARE_OK) return code;
    char text[sizeof d->text];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    d->code = code;
    copy_clean(d->file, sizeof d->file, file);
    copy_clean(d->where, sizeof d->where, where);
    copy_clean(d->text, sizeof d->text, text);
    return code;
}

pare_status pare_fail_errno(pare_diag *d, const char *file, const char *what) {
    int e = errno;
    pare_status code = e == ENOSPC || e == EDQUOT ? PARE_ERR_NOSPACE
                       : e == ENOMEM              ? PARE_ERR_NOMEM
                       : e == ENOENT              ? PARE_ERR_NOT_FOUND
                                                  : PARE_ERR_IO;
    return pare_fail(d, code, file, NULL, "%s: %s", what, strerror(e));
}

const char *pare_diag_line(const pare_diag *d, char *buf, size_t buf_bytes) {
    if (!buf_bytes) return buf;
    snprintf(buf, buf_bytes, "%s%s%s%s%s", d->file, *d->file ? ": " : "", d->where, *d->where ? ": " : "",
             *d->text ? d->text : pare_status_text(d->code));
    return buf;
}

void pare_interrupt(void) { interrupted = 1; }
bool pare_is_interrupted(void) { return interrupted != 0; }
pare_status pare_interrupted(pare_diag *d) {
    return pare_fail(d, PARE_ERR_INTERRUPTED, NULL, NULL,
                     "stopped on request; nothing was left under the output's name");
}
