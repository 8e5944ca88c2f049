/* SPDX-License-Identifier: Apache-2.0
 *
 * Trying changes in memory (api/probe.h). */
#include "api/probe.h"

#include "core/status.h"
#include "verify/lm_metrics.h"

#include <math.h>
#include <string.h>

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "sensitivity", "no memory for the outputs of a few windows");
}

static pare_status forward(pare_probe *p, const float **out, pare_diag *d) {
    if (p->changed) PARE_TRY(pare_exec_shape(p->run.e, p->sym, d));
    p->changed = false;
    PARE_TRY(pare_lm_run_go(&p->run, p->data->ids, true, d));
    const pare_tensor *t = pare_exec_value(p->run.e, p->run.m.out);
    if (!t) return pare_fail(d, PARE_ERR_DEVICE, NULL, "sensitivity", "the result could not be read back");
    *out = t->data;
    return PARE_OK;
}

/* The rows of window b that are looked at: the second half, as verify does it; of encoders all. */
static const float *scored(const pare_probe *p, const float *out, int64_t b) {
    size_t first = p->decoder ? (size_t)p->data->ctx / 2 : 0;
    return out + ((size_t)(b * p->data->ctx) + first) * p->width;
}

pare_status pare_probe_open(pare_weights *w, const pare_calib_data *data, pare_probe *p, pare_diag *d) {
    const pare_arch *a = pare_weights_arch(w);
    const float *out;
    *p = (pare_probe){.w = w, .data = data, .decoder = a->family == PARE_FAMILY_LLAMA};
    p->width = (size_t)(p->decoder ? a->vocab : a->dim);
    p->scored = (size_t)(p->decoder ? data->ctx - 1 - data->ctx / 2 : data->ctx);
    size_t window = p->scored * p->width;
    PARE_TRY(pare_lm_run_open(w, 0, &(pare_exec_opts){0}, &p->run, d));
    PARE_TRY(pare_lm_run_shape(&p->run, w, data->batch, data->ctx, NULL, 0, d));
    const int64_t sym[PARE_SYM_COUNT] = {data->batch, data->ctx, p->run.table_rows};
    memcpy(p->sym, sym, sizeof sym);
    size_t n = p->run.m.g->n_values;
    if (!(p->views = pare_calloc(n, sizeof *p->views))) return no_memory(d);
    for (size_t v = 0; v < n; v++) p->views[v] = p->run.m.g->values[v].tensor;
    if (!(p->was = pare_malloc((size_t)data->batch * window * sizeof *p->was))) return no_memory(d);
    PARE_TRY(forward(p, &out, d));
    for (int64_t b = 0; b < data->batch; b++)
        memcpy(p->was + (size_t)b * window, scored(p, out, b), window * sizeof *out);
    return PARE_OK;
}

void pare_probe_close(pare_probe *p) {
    pare_lm_run_close(&p->run);
    pare_free(p->was);
    pare_free(p->views);
    p->was = NULL, p->views = NULL;
}

void pare_probe_put(pare_probe *p, pare_value v, const pare_qtype *type, const void *rows) {
    pare_tensor view = p->views[v];
    if (rows) view.type = type, view.data = (void *)(uintptr_t)rows;
    pare_exec_replace_weight(p->run.e, v, &view);
    p->changed = true;
}

static pare_status kl(pare_probe *p, const float *out, double *loss, pare_diag *d) {
    pare_lm_metrics *m = pare_lm_metrics_new(p->width);
    pare_verify_report *r = pare_report_new(PARE_VERIFY_LM);
    pare_lm_bad bad;
    pare_status s = m && r ? PARE_OK : no_memory(d);
    for (int64_t b = 0; s == PARE_OK && b < p->data->batch; b++) {
        const int64_t *next = p->data->ids + b * p->data->ctx + p->data->ctx / 2 + 1;
        s = pare_lm_metrics_window(m, p->was + (size_t)b * p->scored * p->width, scored(p, out, b), next, p->scored,
                                   &bad, d);
    }
    if (s == PARE_OK) s = pare_lm_metrics_finish(m, 1, 1, r, d);
    const pare_metric *found = s == PARE_OK ? pare_report_find(r, "kl_mean") : NULL;
    if (s == PARE_OK) s = pare_report_status(r, d);
    if (found) *loss = found->at[1].value;
    pare_lm_metrics_free(&m);
    pare_report_free(&r);
    return s;
}

static pare_status cosines(pare_probe *p, const float *out, double *loss, pare_diag *d) {
    size_t n = (size_t)p->data->batch * p->scored;
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        const float *a = p->was + i * p->width, *b = out + i * p->width;
        double aa = 0, bb = 0, ab = 0;
        for (size_t j = 0; j < p->width; j++)
            aa += (double)a[j] * a[j], bb += (double)b[j] * b[j], ab += (double)a[j] * b[j];
        sum += aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : aa == bb;
    }
    *loss = 1 - sum / (double)n;
    if (isfinite(*loss)) return PARE_OK;
    return pare_fail(d, PARE_ERR_INPUT, NULL, "sensitivity", "NaN or infinite numbers in the outputs");
}

pare_status pare_probe_loss(pare_probe *p, double *out, pare_diag *d) {
    const float *now;
    PARE_TRY(forward(p, &now, d));
    return p->decoder ? kl(p, now, out, d) : cosines(p, now, out, d);
}

const char *pare_probe_measure(const pare_probe *p) { return p->decoder ? "kl_mean" : "1 - cosine"; }
