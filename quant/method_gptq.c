/* SPDX-License-Identifier: Apache-2.0
 *
 * GPTQ (arXiv 2210.17323) with corrected targets: the sweep of calib/sweep.h aims at the weights whose outputs on the
 * reduced model's own inputs come closest to the original's outputs, and for matrices that write the residual stream
 * also makes good the error that is in the stream already (GPTAQ, arXiv 2504.02692; QEP, arXiv 2504.09629). Columns are
 * taken by energy, and after the sweep passes of coordinate descent choose each group again (calib/refine.h). */
#include "calib/refine.h"
#include "calib/sweep.h"
#include "calib/target.h"
#include "quant/method.h"

#include "core/alloc.h"
#include "core/status.h"

#include <string.h>

/* Zeros of the weights stay zeros, whatever the sweep and the target would make of them. */
static void keep(void *ctx, size_t row0, size_t rows, size_t first, size_t count, const float *w, size_t ld,
                 const float *inv_diag, uint8_t *zero) {
    const pare_method_layer *l = ctx;
    for (size_t r = 0; r < rows; r++)
        for (size_t k = 0; k < count; k++) {
            size_t column = l->order ? l->order[first + k] : first + k;
            zero[r * count + k] = l->w[(row0 + r) * l->n + column] == 0;
        }
}

static pare_status encode(const pare_method_layer *l, pare_diag *d) {
    size_t bytes = l->rows * l->n * sizeof(float);
    PARE_TRY(pare_target_for(l->rows, l->n, l->w, l->s, l->u, l->order, l->target, NULL, d));
    float *w = pare_malloc(bytes); /* the sweep works in place */
    if (!w) return pare_fail(d, PARE_ERR_NOMEM, NULL, "gptq", "no memory for %zu x %zu weights", l->rows, l->n);
    memcpy(w, l->target, bytes);
    pare_sweep sweep =
        {.rows = l->rows, .n = l->n, .u = l->u, .order = l->order, .type = l->type, .w = w, .out = l->out};
    if (l->keep_zeros) sweep.choose = keep, sweep.ctx = (void *)(uintptr_t)l;
    pare_status s = pare_sweep_run(&sweep, d);
    pare_free(w);
    PARE_TRY(s);
    pare_refine refine = {.rows = l->rows,
                          .n = l->n,
                          .w = l->target,
                          .h = l->s->h,
                          .damping = l->damping,
                          .type = l->type,
                          .out = l->out,
                          .passes = l->passes,
                          .zeros = l->keep_zeros ? l->w : NULL};
    return pare_refine_run(&refine, d);
}

const pare_method pare_method_gptq = {.name = "gptq",
                                      .text = "error feedback through the inputs' second moments, targets corrected",
                                      .calibrated = true,
                                      .factor = true,
                                      .ordered = true,
                                      .want = PARE_STATS_CROSS | PARE_STATS_RESIDUAL | PARE_STATS_SPLIT,
                                      .encode = encode};
