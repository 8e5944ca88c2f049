/* SPDX-License-Identifier: Apache-2.0
 *
 * RTN through the grid interface: the format's fast path, or fit, snap and pack group by group. */
#include "quant/rtn.h"

static size_t width(const pare_grid *g, size_t n) { return g->group ? g->group : n; }
static size_t up64(size_t x) { return (x + 63) / 64 * 64; }

size_t pare_rtn_scratch_bytes(const pare_qtype *qt, size_t rows, size_t n) {
    const pare_grid *g = qt->grid;
    return g->encode ? 0 : up64(rows * g->param_bytes) + rows * width(g, n);
}

void pare_rtn_encode(const pare_qtype *qt, const float *w, size_t w_ld, const float *importance, size_t rows, size_t n,
                     void *out, size_t out_stride, void *scratch) {
    const pare_grid *g = qt->grid;
    if (g->encode) {
        g->encode(qt, w, w_ld, importance, rows, n, out, out_stride);
        return;
    }
    size_t step = width(g, n);
    void *params = scratch;
    int8_t *codes = (int8_t *)scratch + up64(rows * g->param_bytes);
    for (size_t c = 0; c < n; c += step) {
        uint8_t *block = (uint8_t *)out + pare_row_bytes(qt, g->group ? c : 0) * (g->group ? 1 : 0);
        g->fit(qt, w + c, w_ld, importance ? importance + c : NULL, NULL, rows, step, params);
        g->snap(qt, params, step, w + c, w_ld, rows, 0, step, codes, step, NULL, 0);
        g->pack(qt, params, codes, step, rows, step, block, out_stride);
    }
}
