/* SPDX-License-Identifier: Apache-2.0
 *
 * The columns of a verification: which devices, one opened model per (model, device), and work on all of them at once.
 */
#include "api/verify_impl.h"

#include "core/alloc.h"
#include "core/cpu_features.h"
#include "core/log.h"
#include "core/status.h"
#include "verify/metrics.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

pare_status pare_verify_devices(pare_verify_run *v, pare_diag *d) {
    const char *at = v->o->device ? v->o->device : "cpu";
    for (;; at++) {
        size_t n = strcspn(at, ",");
        if (v->n_devices == 2 || n == 0 || n >= sizeof v->device->name)
            return pare_fail(d, PARE_ERR_USAGE, NULL, "--device",
                             "`%s` is no list of devices; cpu, cuda or both were expected: --device cpu,cuda",
                             v->o->device);
        pare_verify_device *x = &v->device[v->n_devices];
        memcpy(x->name, at, n);
        if (v->n_devices && strcmp(x->name, v->device[0].name) == 0)
            return pare_fail(d, PARE_ERR_USAGE, NULL, "--device", "`%s` is named twice", x->name);
        PARE_TRY(pare_backend_find(x->name, &x->backend, d));
        v->n_devices++;
        at += n;
        if (!*at) return PARE_OK;
    }
}

static size_t stored_bytes(const pare_source *src) {
    size_t sum = 0;
    for (size_t i = 0; i < src->n_tensors; i++) sum += src->tensors[i].bytes;
    return sum;
}

/* Leaves *lm NULL when the architecture cannot be run. The original is first on a device, and must not fill it. */
static pare_status open_model(pare_verify_run *v, int column, pare_diag *d) {
    const pare_side *s = &v->side[column % 2];
    pare_lm_opts lo = {.backend = v->device[column / 2].backend, .act = s->act};
    if (column % 2 == 0) lo.leave_bytes = stored_bytes(v->side[1].src);
    pare_diag why = {0};
    pare_status st = pare_lm_open(s->src, &lo, &v->lm[column], &why);
    if (st == PARE_ERR_UNSUPPORTED) {
        pare_log(PARE_LOG_WARN, "%s cannot be run (%s): comparing weights", s->path, why.text);
        return PARE_OK;
    }
    return st == PARE_OK ? st : pare_fail(d, st, *why.file ? why.file : s->path, why.where, "%s", why.text);
}

pare_status pare_verify_open_models(pare_verify_run *v, pare_diag *d) {
    bool all = true;
    for (int c = 0; c < 2 * v->n_devices && (all || c < 2); c++) {
        PARE_TRY(open_model(v, c, d));
        all = all && v->lm[c];
    }
    for (int c = 0; c < PARE_VERIFY_COLUMNS && !all; c++) pare_lm_close(&v->lm[c]);
    v->n_columns = all ? 2 * v->n_devices : 0;
    return PARE_OK;
}

const char *pare_verify_column_name(const pare_verify_run *v, int column, char buf[64]) {
    const char *model = column % 2 ? "reduced" : "original";
    if (v->n_devices < 2) snprintf(buf, 64, "%s model", model);
    else snprintf(buf, 64, "%s model on %s", model, v->device[column / 2].name);
    return buf;
}

static uint64_t weight_bytes(const pare_source *s) {
    uint64_t n = 0;
    for (size_t i = 0; i < s->n_tensors; i++) n += s->tensors[i].bytes;
    return n;
}

void pare_verify_add_columns(const pare_verify_run *v, bool run) {
    for (int i = 0; i < (run ? v->n_columns : 2); i++) {
        const pare_side *s = &v->side[i % 2];
        const pare_verify_device *x = &v->device[i / 2];
        const char *text = !run                   ? ""
                           : x->backend->describe ? x->backend->describe(0, NULL)
                           : pare_cpu_mask()      ? pare_cpu_name(pare_cpu_mask())
                                                  : "plain x86-64";
        pare_column c = {.model = s->path,
                         .role = i % 2 ? "reduced" : "original",
                         .device = run ? x->name : "cpu",
                         .act = run ? pare_act_name(s->act) : "not run",
                         .arch = run ? pare_lm_describe(v->lm[i])->arch : "",
                         .bytes = weight_bytes(s->src),
                         .device_text = text};
        pare_report_column(v->r, &c);
    }
}

void pare_verify_note_use(const pare_verify_run *v) {
    for (int i = 0; i < v->n_columns; i++) {
        pare_column c = {.streamed = pare_lm_streamed(v->lm[i]),
                         .memory_bytes = pare_lm_device_bytes(v->lm[i]),
                         .seconds = v->seconds[i]};
        c.n_fallbacks = pare_lm_fallbacks(v->lm[i], &c.fallbacks);
        pare_report_column_use(v->r, i, &c);
    }
}

typedef struct lane { /* the columns of one device */
    pare_verify_run *v;
    int device;
    pare_verify_column_fn *fn;
    void *ctx;
    pare_status status;
    pare_diag diag;
} lane;

static void *run_lane(void *arg) {
    lane *l = arg;
    for (int c = 2 * l->device; c < 2 * l->device + 2 && l->status == PARE_OK; c++) {
        double t0 = pare_now_s();
        l->status = l->fn(l->v, c, l->ctx, &l->diag);
        l->v->seconds[c] += pare_now_s() - t0;
    }
    return NULL;
}

static pare_status each(pare_verify_run *v, pare_verify_column_fn *fn, void *ctx, bool together, pare_diag *d) {
    double t0 = pare_now_s();
    lane l[2] = {{.v = v, .device = 0, .fn = fn, .ctx = ctx}, {.v = v, .device = 1, .fn = fn, .ctx = ctx}};
    pthread_t other;
    bool apart = v->n_devices == 2 && pthread_create(&other, NULL, run_lane, &l[1]) == 0;
    if (together && !apart) return pare_fail(d, PARE_ERR_NOMEM, NULL, "verify", "no thread for the second device");
    run_lane(&l[0]);
    if (apart) pthread_join(other, NULL);
    else if (v->n_devices == 2) run_lane(&l[1]); /* no thread to be had */
    v->model_seconds += pare_now_s() - t0;
    for (int i = 0; i < v->n_devices; i++)
        if (l[i].status != PARE_OK)
            return pare_fail(d, l[i].status, l[i].diag.file, l[i].diag.where, "%s", l[i].diag.text);
    return PARE_OK;
}

pare_status pare_verify_each(pare_verify_run *v, pare_verify_column_fn *fn, void *ctx, pare_diag *d) {
    return each(v, fn, ctx, false, d);
}

pare_status pare_verify_together(pare_verify_run *v, pare_verify_column_fn *fn, void *ctx, pare_diag *d) {
    return each(v, fn, ctx, true, d);
}

void pare_verify_put_parity(pare_verify_run *v, const char *what, const pare_diff x[2]) {
    int metric = v->r->kind == PARE_VERIFY_LM ? PARE_M_LM_parity : PARE_M_ENCODER_parity;
    for (int i = 0; i < 2; i++) {
        double db = pare_diff_sqnr_db(&x[i]);
        pare_part p = {what, "", db, pare_diff_cosine(&x[i]), x[i].max_error, false};
        pare_metric_put(v->r, metric, 2 + i, db, &db, &db); /* exact: no interval, and none is missing */
        pare_report_parity(v->r, i, &p);
    }
}
