/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows of make bench-gpu: products with stored weights. A weight of one layer has as many copies as fill 256 MB, which
 * take turns; the stack is one weight of 200 MB. */
#include "tests/gpu/bench.cuh"

#include <algorithm>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DISTINCT 64 /* rows that are really quantized; the others repeat them */

typedef struct layer {
    const pare_qtype *type;
    pare_tensor view; /* first copy on the device */
    std::vector<void *> copies;
    size_t bytes;
} layer;

static std::vector<uint8_t> stored_rows(const pare_qtype *qt, int64_t n, int64_t k) {
    size_t row = pare_row_bytes(qt, (size_t)k);
    std::vector<float> w((size_t)(DISTINCT * k));
    std::vector<uint8_t> out(row * (size_t)n), some(row * DISTINCT);
    pare_rng r;
    pare_rng_seed(&r, 3);
    for (float &v : w) v = 0.02f * pare_rng_normal(&r);
    if (qt->grid) {
        void *scratch = pare_malloc_aligned(pare_rtn_scratch_bytes(qt, DISTINCT, (size_t)k));
        pare_rtn_encode(qt, w.data(), (size_t)k, NULL, DISTINCT, (size_t)k, some.data(), row, scratch);
        pare_free(scratch);
    } else pare_f32_to_bf16_n(w.data(), (uint16_t *)some.data(), w.size()); /* the one float type of the rows below */
    for (int64_t i = 0; i < n; i++) memcpy(&out[(size_t)i * row], &some[(size_t)(i * 29 % DISTINCT) * row], row);
    return out;
}

static void upload(bench *b, bench_memory *mem, layer *l, int64_t n, int64_t k) {
    std::vector<uint8_t> host = stored_rows(l->type, n, k);
    int64_t shape[2] = {n, k};
    pare_tensor t = pare_tensor_make(l->type, 2, shape, host.data());
    l->bytes = b->backend->weight_bytes(b->dev, &t);
    size_t copies = b->smoke ? 2 : std::max<size_t>(1, ((size_t)256 << 20) / l->bytes);
    for (size_t i = 0; i < copies; i++) {
        l->copies.push_back(mem->take(l->bytes));
        if (i) rt_copy(&b->dev->rt, l->copies[i], l->copies[0], l->bytes);
        else if (b->backend->upload_weight(b->dev, l->copies[0], &t, NULL) != PARE_OK) exit(1);
    }
    l->view = t;
    l->view.data = l->copies[0];
}

static void one(bench *b, const char *group, const layer *l, pare_cuda_rule rule, int64_t m, const char *shape,
                const float *x, float *y, double peer, const char *peer_name) {
    int64_t n = l->view.shape[0], k = l->view.shape[1];
    std::vector<pare_cuda_mm> calls;
    bench_memory mem(b);
    const pare_cuda_mm_kernel *kernel = NULL;
    for (void *copy : l->copies) {
        pare_cuda_mm p = {};
        pare_tensor t = l->view;
        t.data = copy;
        p.format = pare_cuda_format_of(l->type), p.plain = pare_cuda_type_of(l->type);
        if (p.format == PARE_CF_NONE) p.plain_w = copy;
        else p.w = pare_cuda_weight_view(&t);
        p.m = m, p.n = n, p.k = k;
        p.x = x, p.y = y;
        p.rule = rule;
        if (!kernel && !(kernel = pare_cuda_mm_choose(b->dev, &p))) return;
        p.workspace = calls.empty() ? mem.take(kernel->workspace(b->dev, &p)) : calls[0].workspace;
        calls.push_back(p);
    }
    bench_row r = {};
    r.group = group, r.m = m;
    snprintf(r.name, sizeof r.name, "%s", l->type->name);
    snprintf(r.shape, sizeof r.shape, "%s", shape);
    snprintf(r.kernel, sizeof r.kernel, "%s", kernel->name);
    r.replayed = bench_time(
        b, (int)calls.size(), [&](int i) { kernel->run(b->dev, &calls[(size_t)i % calls.size()]); }, &r.launched);
    r.bytes = (double)l->bytes + 4.0 * (double)(m * (n + k));
    r.flops = 2.0 * (double)m * (double)n * (double)k;
    r.peer = peer, r.peer_name = peer_name;
    bench_print(b, &r);
}

/* All M of a weight; peers[i] is filled when first needed. */
static void all_m(bench *b, const char *group, const char *type, pare_act_round act, int64_t n, int64_t k,
                  const char *shape, int64_t most, bool int8, double *peers) {
    static const int64_t ms[] = {1, 2, 4, 8, 16, 32, 64, 256, 1024, 2048, 4096};
    layer l = {};
    l.type = pare_qtype_by_name(type);
    if (!l.type || (b->only && !strstr(type, b->only) && !strstr(group, b->only))) return;
    bench_memory mem(b);
    upload(b, &mem, &l, n, k);
    float *x = mem.random(most * k), *y = (float *)mem.take((size_t)(most * n) * sizeof(float));
    for (size_t i = 0; i < sizeof ms / sizeof *ms && ms[i] <= most; i++) {
        if (peers[i] == 0 && ms[i] >= 16) peers[i] = lt_time(b, int8, ms[i], n, k);
        one(b, group, &l, pare_cuda_rule_for(l.type, act), ms[i], shape, x, y, peers[i], int8 ? "Lt int8" : "Lt bf16");
    }
}

void bench_products(bench *b) {
    static const struct {
        int64_t n, k, most;
        const char *name;
    } shapes[] = {{4096, 4096, 4096, "4096x4096"}, {4096, 14336, 4096, "4096x14336"}}, tiny = {48, 512, 16, "48x512"};
    static const char *const types[] = {"q4_0", "q4_k", "int4:g128", "q8_0", "int8", "bf16"};
    for (size_t s = 0; s < (b->smoke ? 1 : 2); s++) {
        auto shape = b->smoke ? tiny : shapes[s];
        double bf16[16] = {}, int8[16] = {};
        for (const char *type : types)
            all_m(b, "weights times f16 activations, one layer", type, PARE_ACT_F16, shape.n, shape.k, shape.name,
                  shape.most, false, bf16);
        all_m(b, "W8A8, one scale per row and token, one layer", "int8", PARE_ACT_INT8_TOKEN, shape.n, shape.k,
              shape.name, shape.most, true, int8);
    }
    for (const char *type : types) { /* 200 MB in one launch */
        const pare_qtype *qt = pare_qtype_by_name(type);
        double bf16[16] = {};
        int64_t k = b->smoke ? 256 : 8192,
                n = b->smoke ? 32 : (int64_t)(((size_t)208 << 20) / pare_row_bytes(qt, (size_t)k)) / 64 * 64;
        char name[32];
        snprintf(name, sizeof name, "%lldx%lld", (long long)n, (long long)k);
        all_m(b, "weights times f16 activations, 200 MB in one launch", type, PARE_ACT_F16, n, k, name,
              b->smoke ? 2 : 64, false, bf16);
    }
}
