/* SPDX-License-Identifier: Apache-2.0
 *
 * Operators that only move elements. equal: exactly. */
#include "cuda/backend.cuh"
#include "cuda/dev.cuh"

bool pare_cuda_reshape_supports(const pare_cuda *dev, const pare_op_call *c) {
    return c->in[0]->type == c->out[0]->type && pare_cuda_plain(c->in[0]);
}

pare_status pare_cuda_reshape_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0], *y = c->out[0];
    int64_t n = pare_cuda_elems(x);
    if (n != pare_cuda_elems(y))
        return pare_cuda_fail(c, d, "%lld elements cannot become %lld", (long long)n, (long long)pare_cuda_elems(y));
    if (n && x->data != y->data) rt_copy(&dev->rt, y->data, x->data, (size_t)n * x->type->block_bytes);
    return pare_cuda_check(dev, c, d);
}
