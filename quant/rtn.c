/* SPDX-License-Identifier: Apache-2.0
 *
 * RTN through the grid interface: the format's fast path, or fit, snap and pack group by group. */
#include "quant/rtn.h"

#include <math.h>

static size_t width(const pare_grid *g, size_t n) { return g->group ? g->group : n; }
static size_t up64(size_t x) { return (x + 63) / 64 * 64; }

/* Mean square of a row, which some formats weigh importance with. */
static float energy_of(const float *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return (float)fmin(sum / (double)n, 3e38);
}

size_t pare_rtn_steps_scratch_bytes(const pare_qtype *qt, size_t rows, size_t n) {
    return up64(rows * qt->grid->param_bytes) + up64(rows * sizeof(float)) + rows * width(qt->grid, n);
}

void pare_rtn_steps(const pare_qtype *qt, const float *w, size_t w_ld, const float *importance, size_t rows, size_t n,
                    void *out, size_t out_stride, void *scratch) {
    const pare_grid *g = qt->grid;
    size_t step = width(g, n);
    void *params = scratch;
    float *energy = (float *)(void *)((uint8_t *)scratch + up64(rows * g->param_bytes));
    int8_t *codes = (int8_t *)energy + up64(rows * sizeof(float));
    for (size_t r = 0; importance && r < rows; r++) energy[r] = energy_of(w + r * w_ld, n);
    for (size_t c = 0; c < n; c += step) {
        uint8_t *block = (uint8_t *)out + (c ? pare_row_bytes(qt, c) : 0);
        g->fit(qt, w + c, w_ld, importance ? importance + c : NULL, importance ? energy : NULL, rows, step, params);
        g->snap(qt, params, step, w + c, w_ld, rows, 0, step, codes, step, NULL, 0);
        g->pack(qt, params, codes, step, rows, step, block, out_stride);
    }
}

size_t pare_rtn_scratch_bytes(const pare_qtype *qt, size_t rows, size_t n) {
    return qt->grid->encode ? 0 : pare_rtn_steps_scratch_bytes(qt, rows, n);
}

void pare_rtn_encode(const pare_qtype *qt, const float *w, size_t w_ld, const float *importance, size_t rows, size_t n,
                     void *out, size_t out_stride, void *scratch) {
    if (qt->grid->encode) qt->grid->encode(qt, w, w_ld, importance, rows, n, out, out_stride);
    else pare_rtn_steps(qt, w, w_ld, importance, rows, n, out, out_stride, scratch);
}
