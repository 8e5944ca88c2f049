/* SPDX-License-Identifier: Apache-2.0
 *
 * AWQ (Activation-aware Weight Quantization, arXiv 2306.00978, section 3.2): columns that matter are multiplied by a
 * scale before they are rounded, and the normalization before them is divided by it. The scale is a power of the
 * input's root mean square; the exponent is searched by the error of the outputs, on a sample of rows. Each grid's own
 * scale search, weighted by the scaled inputs' mean square, takes the part of clipping. */
#include "calib/linalg.h"
#include "core/alloc.h"
#include "core/status.h"
#include "quant/method.h"

#include <math.h>
#include <string.h>

#define STEPS  20  /* exponents 0, 1/20 .. 19/20 */
#define SAMPLE 256 /* rows of a matrix that the search looks at */

/* s[j] = rms_j^exponent, geometric mean 1; columns without input keep 1. */
static void scales(const pare_stats *s, double exponent, float *out) {
    double sum = 0;
    size_t live = 0;
    for (size_t j = 0; j < s->n; j++) {
        double h = s->h[j * s->n + j];
        if (h > 0) sum += 0.5 * log(h / (double)s->tokens), live++;
    }
    for (size_t j = 0; j < s->n; j++) {
        double h = s->h[j * s->n + j];
        double x = h > 0 ? exponent * (0.5 * log(h / (double)s->tokens) - sum / (double)live) : 0;
        out[j] = (float)exp(fmin(fmax(x, -6), 6)); /* far columns: 1/400 .. 400 */
    }
}

static void importances(const pare_stats *s, const float *scale, float *out) {
    for (size_t j = 0; j < s->n; j++) out[j] = s->h[j * s->n + j] / (float)s->tokens / (scale[j] * scale[j]);
}

typedef struct search {
    float *sample, *scaled, *importance; /* sample: rows of one layer; scaled also takes the errors */
    void *rows;
} search;

/* Adds the logarithm of a layer's error under these scales: of the outputs of its sample, relative to the outputs. */
static pare_status cost(const pare_method_layer *l, const float *scale, search *k, double *out, pare_diag *d) {
    size_t n = l->n, rows = l->rows < SAMPLE ? l->rows : SAMPLE, stride = pare_row_bytes(l->type, n);
    double whole = 0, left = 0;
    for (size_t r = 0; r < rows; r++) memcpy(k->sample + r * n, l->w + r * l->rows / rows * n, n * sizeof *k->sample);
    importances(l->s, scale, k->importance);
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < n; j++) k->scaled[r * n + j] = k->sample[r * n + j] * scale[j];
    PARE_TRY(pare_method_weighted(l->type, rows, n, k->scaled, k->importance, k->rows, d));
    PARE_TRY(pare_quadratic_form(rows, n, k->sample, l->s->h, &whole, d));
    for (size_t r = 0; r < rows; r++) {
        float *e = k->scaled + r * n;
        l->type->decode(l->type, (const char *)k->rows + r * stride, e, n);
        for (size_t j = 0; j < n; j++) e[j] = k->sample[r * n + j] - e[j] / scale[j];
    }
    PARE_TRY(pare_quadratic_form(rows, n, k->scaled, l->s->h, &left, d));
    if (whole > 0 && left > 0) *out += log(left / whole); /* layers count alike, however large their errors */
    return PARE_OK;
}

static pare_status no_memory(size_t n, pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "awq", "no memory for %zu columns", n);
}

static bool make(search *k, const pare_method_layer *l, size_t layers) {
    size_t n = l->n, bytes = 0;
    for (size_t i = 0; i < layers; i++) {
        size_t b = SAMPLE * pare_row_bytes(l[i].type, n);
        bytes = b > bytes ? b : bytes;
    }
    k->sample = pare_malloc(SAMPLE * n * sizeof(float));
    k->scaled = pare_malloc(SAMPLE * n * sizeof(float));
    k->importance = pare_malloc(n * sizeof(float));
    k->rows = pare_malloc(bytes);
    return k->sample && k->scaled && k->importance && k->rows;
}

static pare_status choose(const pare_method_layer *l, size_t layers, float *best, pare_diag *d) {
    search k = {0};
    size_t n = l->n;
    float *scale = pare_malloc(n * sizeof *scale);
    double least = INFINITY;
    pare_status s = make(&k, l, layers) && scale ? PARE_OK : no_memory(n, d);
    for (int i = 0; s == PARE_OK && i < STEPS; i++) {
        double sum = 0;
        scales(l->s, (double)i / STEPS, scale);
        for (size_t m = 0; s == PARE_OK && m < layers; m++) s = cost(&l[m], scale, &k, &sum, d);
        if (s == PARE_OK && sum < least) least = sum, memcpy(best, scale, n * sizeof *scale);
    }
    void *all[] = {scale, k.sample, k.scaled, k.importance, k.rows};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) pare_free(all[i]);
    return s;
}

static pare_status encode(const pare_method_layer *l, pare_diag *d) {
    if (!l->scale) return pare_method_search.encode(l, d);
    size_t n = l->n;
    float *importance = pare_malloc(n * sizeof *importance), *scaled = pare_malloc(l->rows * n * sizeof *scaled);
    pare_status s = importance && scaled ? PARE_OK : no_memory(n, d);
    if (s == PARE_OK) {
        importances(l->s, l->scale, importance);
        for (size_t r = 0; r < l->rows; r++)
            for (size_t j = 0; j < n; j++) scaled[r * n + j] = l->w[r * n + j] * l->scale[j];
        s = pare_method_weighted(l->type, l->rows, n, scaled, importance, l->out, d);
    }
    pare_free(importance);
    pare_free(scaled);
    return s;
}

const pare_method pare_method_awq = {.name = "awq",
                                     .text = "columns scaled by their inputs, the normalization before them divided",
                                     .calibrated = true,
                                     .scale = choose,
                                     .encode = encode};
