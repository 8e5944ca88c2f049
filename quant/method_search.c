/* SPDX-License-Identifier: Apache-2.0
 *
 * Importance-weighted rounding: each grid's own scale search, columns weighted by the mean square of their input (what
 * llama-quantize does with an imatrix). */
#include "core/alloc.h"
#include "core/status.h"
#include "core/threads.h"
#include "quant/method.h"
#include "quant/rtn.h"

#include <stdatomic.h>

#define CHUNK 16 /* rows of a work item */

typedef struct work {
    const pare_qtype *type;
    size_t rows, n;
    const float *w, *importance;
    uint8_t *out;
    _Atomic bool failed;
} work;

static void item(void *ctx, size_t i) {
    work *k = ctx;
    size_t r0 = i * CHUNK, m = k->rows - r0 < CHUNK ? k->rows - r0 : CHUNK, stride = pare_row_bytes(k->type, k->n);
    void *scratch = pare_malloc_aligned(pare_rtn_scratch_bytes(k->type, m, k->n) + 64);
    if (scratch)
        pare_rtn_encode(k->type, k->w + r0 * k->n, k->n, k->importance, m, k->n, k->out + r0 * stride, stride, scratch);
    else atomic_store(&k->failed, true);
    pare_free(scratch);
}

pare_status pare_method_weighted(const pare_qtype *type, size_t rows, size_t n, const float *w, const float *importance,
                                 void *out, pare_diag *d) {
    work k = {.type = type, .rows = rows, .n = n, .w = w, .importance = importance, .out = out};
    pare_parallel((rows + CHUNK - 1) / CHUNK, 1, item, &k);
    return atomic_load(&k.failed) ? pare_fail(d, PARE_ERR_NOMEM, NULL, "search", "no memory for the search") : PARE_OK;
}

static pare_status encode(const pare_method_layer *l, pare_diag *d) {
    float *importance = pare_malloc(l->n * sizeof *importance);
    if (!importance) return pare_fail(d, PARE_ERR_NOMEM, NULL, "search", "no memory for %zu columns", l->n);
    for (size_t j = 0; j < l->n; j++) importance[j] = l->s->h[j * l->n + j] / (float)l->s->tokens;
    pare_status s = pare_method_weighted(l->type, l->rows, l->n, l->w, importance, l->out, d);
    pare_free(importance);
    return s;
}

const pare_method pare_method_search = {.name = "search",
                                        .text = "scale search weighted by the inputs' mean square (imatrix)",
                                        .calibrated = true,
                                        .encode = encode};
