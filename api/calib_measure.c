/* SPDX-License-Identifier: Apache-2.0
 *
 * What a calibrated method bought for one matrix: errors of the weights and, under the second moments of the inputs, of
 * the outputs; and what rounding to nearest would have cost. */
#include "api/calibrate.h"
#include "calib/linalg.h"

#include "core/status.h"
#include "core/threads.h"

#define CHUNK 16 /* rows of a work item */

typedef struct work {
    const pare_method_layer *l;
    const uint8_t *rows;
    const float *scale;     /* of the columns of rows, or NULL */
    const float *reference; /* what the decoded rows are subtracted from */
    float *e;
} work;

static void item(void *ctx, size_t i) {
    work *k = ctx;
    const pare_method_layer *l = k->l;
    size_t n = l->n, r0 = i * CHUNK, m = l->rows - r0 < CHUNK ? l->rows - r0 : CHUNK,
           stride = pare_row_bytes(l->type, n);
    for (size_t r = r0; r < r0 + m; r++) {
        float *e = k->e + r * n;
        l->type->decode(l->type, k->rows + r * stride, e, n);
        for (size_t j = 0; k->scale && j < n; j++) e[j] /= k->scale[j];
        for (size_t j = 0; j < n; j++) e[j] = k->reference[r * n + j] - e[j];
    }
}

static void errors(work *k) { pare_parallel((k->l->rows + CHUNK - 1) / CHUNK, 1, item, k); }

static double energy(const float *x, size_t n) {
    double s = 0;
    for (size_t i = 0; i < n; i++) s += (double)x[i] * x[i];
    return s;
}

static double share(double a, double b) { return b > 0 ? a / b : 0; }

pare_status pare_calib_measure(const pare_method_layer *l, pare_job_quality *out, pare_diag *d) {
    size_t n = l->rows * l->n;
    float *e = pare_malloc(n * sizeof *e);
    uint8_t *rtn = pare_malloc(l->rows * pare_row_bytes(l->type, l->n));
    work stored = {l, l->out, l->scale, l->target, e}, rounded = {l, rtn, NULL, l->target, e},
         weights = {l, l->out, l->scale, l->w, e};
    double whole = 0, left = 0, nearest = 0;
    pare_status s =
        e && rtn ? PARE_OK : pare_fail(d, PARE_ERR_NOMEM, NULL, "calibration", "no memory for the errors of a layer");
    if (s == PARE_OK) {
        errors(&weights);
        out->weight_error = share(energy(e, n), energy(l->w, n));
        s = pare_quadratic_form(l->rows, l->n, l->w, l->s->h, &whole, d);
    }
    if (s == PARE_OK) errors(&stored), s = pare_quadratic_form(l->rows, l->n, e, l->s->h, &left, d);
    if (s == PARE_OK) s = pare_method_weighted(l->type, l->rows, l->n, l->w, NULL, rtn, d);
    if (s == PARE_OK) errors(&rounded), s = pare_quadratic_form(l->rows, l->n, e, l->s->h, &nearest, d);
    out->output_error = share(left, whole);
    out->rtn_output = share(nearest, whole);
    pare_free(e);
    pare_free(rtn);
    return s;
}
