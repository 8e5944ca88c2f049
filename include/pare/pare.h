/* SPDX-License-Identifier: Apache-2.0
 *
 * pare: makes trained models smaller and proves that they still work. The only public header.
 *
 * Conventions. Shapes are row-major, outermost dimension first. Sizes name their unit (`_bytes`, `_elems`). Every call
 * that can fail returns a pare_status and takes an optional pare_diag, which says which file, which tensor or byte,
 * what was expected and what to do. Objects are closed with the matching x_close(T **), which accepts NULL and clears
 * the pointer. Strings handed out belong to the object they came from. Nothing here prints; progress and log lines go
 * through the callbacks of pare_hooks.
 */
#ifndef PARE_PARE_H
#define PARE_PARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PARE_API __attribute__((visibility("default")))
#define PARE_MUST_USE __attribute__((warn_unused_result))
#define PARE_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define PARE_API
#define PARE_MUST_USE
#define PARE_PRINTF(f, a)
#endif

#define PARE_VERSION "0.1.0"
#define PARE_MAX_DIMS 8

/* ---- status and diagnosis ------------------------------------------------------------------------------------- */

/* Each status maps to one exit status of the command line (pare_exit_status). */
typedef enum pare_status {
#define PARE_STATUS(id, value, exit_code, text) PARE_##id = value,
#include "pare/status.def"
#undef PARE_STATUS
} pare_status;

/* What went wrong and where. `file` and `where` (tensor name, byte offset, key, option) may be empty. */
typedef struct pare_diag {
    pare_status code;
    char file[256];
    char where[192];
    char text[640];
} pare_diag;

PARE_API const char *pare_status_text(pare_status s);
PARE_API int pare_exit_status(pare_status s); /* 0 done, 1 gate, 2 usage, 3 input, 4 machine, 130 interrupted */
/* "FILE: WHERE: text" into buf (always terminated); returns buf. */
PARE_API const char *pare_diag_line(const pare_diag *d, char *buf, size_t buf_bytes);

/* ---- hooks and common options --------------------------------------------------------------------------------- */

typedef enum pare_log_level { PARE_LOG_ERROR, PARE_LOG_WARN, PARE_LOG_INFO, PARE_LOG_DEBUG } pare_log_level;

/* One step of long work: `done` of `total` units (bytes, windows, ...). Called from one thread at a time. */
typedef struct pare_progress {
    const char *what; /* "quantize", "verify", ... */
    const char *item; /* the tensor or window in hand; may be NULL */
    const char *unit; /* "bytes", "windows", "tokens" */
    uint64_t done, total;
    double elapsed_s, eta_s; /* eta_s < 0 while unknown */
} pare_progress;

typedef struct pare_hooks {
    void (*log)(void *user, pare_log_level level, const char *line);
    void (*progress)(void *user, const pare_progress *p);
    void *user;
} pare_hooks;

/* Sets the process-wide hooks (copied). NULL restores silence. */
PARE_API void pare_set_hooks(const pare_hooks *hooks);
/* Asks running work to stop at the next safe point with PARE_ERR_INTERRUPTED. Async-signal-safe. */
PARE_API void pare_interrupt(void);
/* Number of threads used by all work; 0 = one per core available to the process. */
PARE_API void pare_set_threads(int n);
PARE_API int pare_threads(void);

/* ---- models: api/model.c ----------------------------------------------------------------------------------------- */


/* (end of models) */

/* ---- quantize: api/quantize.c ------------------------------------------------------------------------------------ */


/* (end of quantize) */

/* ---- convert: api/convert.c -------------------------------------------------------------------------------------- */


/* (end of convert) */

/* ---- verify: api/verify.c ---------------------------------------------------------------------------------------- */


/* (end of verify) */

/* ---- run: api/run.c ---------------------------------------------------------------------------------------------- */


/* (end of run) */

/* ---- bench: api/bench.c ------------------------------------------------------------------------------------------ */


/* (end of bench) */


#ifdef __cplusplus
}
#endif
#endif
