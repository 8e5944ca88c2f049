/* SPDX-License-Identifier: Apache-2.0
 *
 * cpu/sparse.h in plain C. */
#include "cpu/matmul_kernels.h"

void pare_sparse_slab_ref(const pare_sparse_view *v, const uint8_t *row, size_t first, size_t n, void *out) {
    pare_sparse_slab(v->type, row, v->n, first, n, out);
}

float pare_sparse_dot_ref(const pare_sparse_view *v, const uint8_t *row, const float *x) {
    const pare_qtype *d = v->f->dense;
    uint8_t slab[PARE_SPARSE_SLAB * 4];
    float w[PARE_SPARSE_SLAB], sum = 0;
    for (size_t c = 0; c < v->n; c += PARE_SPARSE_SLAB) {
        size_t n = v->n - c < PARE_SPARSE_SLAB ? v->n - c : PARE_SPARSE_SLAB;
        pare_sparse_slab(v->type, row, v->n, c, n, slab);
        d->decode(d, slab, w, n);
        for (size_t i = 0; i < n; i++) sum += w[i] * x[c + i];
    }
    return sum;
}
