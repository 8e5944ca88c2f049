/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensor-core products of stored weights, as kernels of cuda/matmul.def: which activations they take and where their
 * workspace lies. From three tokens on; the GEMV takes fewer. */
#include "cuda/mm_codes.cuh"

static int terms_of(pare_cuda_rule rule) { return rule == PARE_CR_NONE ? 2 : rule == PARE_CR_F16 ? 1 : 0; }

static size_t codes(const pare_cuda *dev, const pare_cuda_mm *p, bool run, const pare_codes_args *a) {
    pare_codes_fn *fn = nullptr;
#define PARE_CODES_ROW(id, asymmetric, name)                                                                           \
    if (p->format == id && !p->w.asym == !asymmetric) fn = name##_codes;
    PARE_FORMATS(PARE_CODES_ROW)
#undef PARE_CODES_ROW
    return fn ? fn(dev, terms_of(p->rule), p->rule == PARE_CR_TOKEN, run, a) : 0;
}

static pare_codes_args args_of(const pare_cuda_mm *p) {
    pare_codes_args a = {};
    a.w = p->w;
    a.w.n = (int)p->n, a.w.k = (int)p->k;
    a.m = (int)p->m;
    a.y = p->y;
    return a;
}

/* Activations first, then parts. */
static size_t x_bytes(const pare_cuda_mm *p) {
    int terms = terms_of(p->rule);
    size_t bytes = terms ? pare_cuda_terms_bytes(p->m, p->k, terms) : pare_cuda_act8_bytes(p->m, p->k);
    return (bytes + 255) / 256 * 256;
}

static size_t parts_bytes(const pare_cuda *dev, const pare_cuda_mm *p) {
    pare_codes_args a = args_of(p);
    return codes(dev, p, false, &a);
}

static bool codes_can(const pare_cuda *dev, const pare_cuda_mm *p) {
    const int64_t most = INT32_MAX;
    return p->m >= 3 && p->m < most && p->n < most && p->k < most - PARE_CUDA_SLAB && p->rule != PARE_CR_BF16 &&
           parts_bytes(dev, p) > 0;
}

static size_t codes_workspace(const pare_cuda *dev, const pare_cuda_mm *p) { return x_bytes(p) + parts_bytes(dev, p); }

static void codes_run(pare_cuda *dev, const pare_cuda_mm *p) {
    pare_codes_args a = args_of(p);
    int terms = terms_of(p->rule);
    if (terms) {
        pare_cuda_terms x = pare_cuda_terms_make(dev, terms, p->x, p->m, p->k, p->workspace);
        a.x = (const uint8_t *)x.terms, a.x_scale = x.row_scale, a.sums = x.sums, a.k_pad = (int)x.k_pad;
    } else {
        pare_cuda_act8 x = pare_cuda_act8_make(dev, p->rule, p->x, p->m, p->k, p->workspace);
        a.x = (const uint8_t *)x.codes, a.x_scale = x.scale, a.sums = x.sums, a.k_pad = (int)x.k_pad;
    }
    a.parts = (float *)((uint8_t *)p->workspace + x_bytes(p));
    codes(dev, p, true, &a);
}

extern const pare_cuda_mm_kernel pare_cuda_mm_codes;
const pare_cuda_mm_kernel pare_cuda_mm_codes = {"codes", codes_can, codes_workspace, codes_run};
