/* SPDX-License-Identifier: Apache-2.0
 *
 * Add, Sub, Mul, Div with ONNX broadcasting, f32. Dimensions of size 1 get stride 0; neighbours that run together in
 * all operands are merged first, so that most calls have one dimension.
 * equal: bit for bit to the CPU's reference. */
#include "cuda/backend.cuh"
#include "cuda/dev.cuh"

#define THREADS 256

typedef struct walk {
    int n;
    int64_t dim[PARE_MAX_DIMS], sa[PARE_MAX_DIMS], sb[PARE_MAX_DIMS];
} walk;

/* False when a or b does not broadcast to y. */
static bool plan(const pare_tensor *a, const pare_tensor *b, const pare_tensor *y, walk *w) {
    int64_t sa = 1, sb = 1;
    walk r = {};
    if (a->ndim > y->ndim || b->ndim > y->ndim) return false;
    for (int i = 0; i < y->ndim; i++) { /* last dimension first */
        int ia = a->ndim - 1 - i, ib = b->ndim - 1 - i;
        int64_t n = y->shape[y->ndim - 1 - i], da = ia >= 0 ? a->shape[ia] : 1, db = ib >= 0 ? b->shape[ib] : 1;
        if ((da != n && da != 1) || (db != n && db != 1)) return false;
        int64_t ta = da == 1 ? 0 : sa, tb = db == 1 ? 0 : sb;
        sa *= da, sb *= db;
        if (n == 1) continue;
        int last = r.n - 1;
        if (r.n && ta == r.sa[last] * r.dim[last] && tb == r.sb[last] * r.dim[last]) r.dim[last] *= n;
        else r.dim[r.n] = n, r.sa[r.n] = ta, r.sb[r.n] = tb, r.n++;
    }
    *w = r;
    return true;
}

template <int OP> static __device__ __forceinline__ float apply(float a, float b) {
    return OP == PARE_OP_Add ? a + b : OP == PARE_OP_Sub ? a - b : OP == PARE_OP_Mul ? a * b : a / b;
}

template <int OP>
__global__ void __launch_bounds__(THREADS) binary_kernel(walk w, const float *a, const float *b, float *y, int64_t n) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    int64_t rest = i, ia = 0, ib = 0;
    for (int k = 0; k < w.n; k++) {
        int64_t at = k + 1 < w.n ? rest % w.dim[k] : rest;
        rest = k + 1 < w.n ? rest / w.dim[k] : 0;
        ia += at * w.sa[k], ib += at * w.sb[k];
    }
    y[i] = apply<OP>(a[ia], b[ib]);
}

bool pare_cuda_binary_supports(const pare_cuda *dev, const pare_op_call *c) {
    return pare_cuda_is_f32(c->in[0]) && pare_cuda_is_f32(c->in[1]) && pare_cuda_is_f32(c->out[0]);
}

pare_status pare_cuda_binary_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    walk w;
    int64_t n = pare_cuda_elems(c->out[0]);
    if (!plan(c->in[0], c->in[1], c->out[0], &w))
        return pare_cuda_fail(c, d, "the operands do not broadcast to the output");
    if (!n) return PARE_OK;
    const float *a = (const float *)c->in[0]->data, *b = (const float *)c->in[1]->data;
    float *y = (float *)c->out[0]->data;
    dim3 grid((unsigned)pare_cuda_ceil(n, THREADS));
    switch (c->op) {
    case PARE_OP_Add: pare_launch<binary_kernel<PARE_OP_Add>>(dev->rt.stream, grid, THREADS, 0, w, a, b, y, n); break;
    case PARE_OP_Sub: pare_launch<binary_kernel<PARE_OP_Sub>>(dev->rt.stream, grid, THREADS, 0, w, a, b, y, n); break;
    case PARE_OP_Mul: pare_launch<binary_kernel<PARE_OP_Mul>>(dev->rt.stream, grid, THREADS, 0, w, a, b, y, n); break;
    default: pare_launch<binary_kernel<PARE_OP_Div>>(dev->rt.stream, grid, THREADS, 0, w, a, b, y, n); break;
    }
    return pare_cuda_check(dev, c, d);
}
