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
    const pare_method_layer *l;
    const float *importance;
    _Atomic bool failed;
} work;

static void item(void *ctx, size_t i) {
    work *k = ctx;
    const pare_method_layer *l = k->l;
    size_t r0 = i * CHUNK, m = l->rows - r0 < CHUNK ? l->rows - r0 : CHUNK, stride = pare_row_bytes(l->type, l->n);
    void *scratch = pare_malloc_aligned(pare_rtn_scratch_bytes(l->type, m, l->n) + 64);
    if (scratch)
        pare_rtn_encode(l->type, l->w + r0 * l->n, l->n, k->importance, m, l->n, (uint8_t *)l->out + r0 * stride,
                        stride, scratch);
    else atomic_store(&k->failed, true);
    pare_free(scratch);
}

static pare_status encode(const pare_method_layer *l, pare_diag *d) {
    float *importance = pare_malloc(l->n * sizeof *importance);
    work k = {.l = l, .importance = importance};
    if (!importance) return pare_fail(d, PARE_ERR_NOMEM, NULL, "search", "no memory for %zu columns", l->n);
    for (size_t j = 0; j < l->n; j++) importance[j] = l->s->h[j * l->n + j] / (float)l->s->tokens;
    pare_parallel((l->rows + CHUNK - 1) / CHUNK, 1, item, &k);
    pare_free(importance);
    return atomic_load(&k.failed) ? pare_fail(d, PARE_ERR_NOMEM, NULL, "search", "no memory for the search") : PARE_OK;
}

const pare_method pare_method_search = {.name = "search",
                                        .text = "scale search weighted by the inputs' mean square (imatrix)",
                                        .calibrated = true,
                                        .encode = encode};
