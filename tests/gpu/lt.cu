/* SPDX-License-Identifier: Apache-2.0
 *
 * cuBLASLt as the yardstick of tests/gpu/bench_gpu.cu: opened at run time, all algorithms its heuristic offers are
 * tried, the fastest counts. */
#include "tests/gpu/bench.cuh"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

enum {
    R_8I = 3,
    R_32I = 10,
    R_32F = 0,
    R_16BF = 14,
    COMPUTE_32F = 68,
    COMPUTE_32I = 72,
    OP_T = 1,
    TRANS_A = 3,
    WORKSPACE_BYTES = 1
};
#if !defined PARE_EMU && defined __has_include
#if __has_include(<cublasLt.h>)
#include <cublasLt.h>
static_assert((int)CUBLASLT_MATMUL_DESC_TRANSA == TRANS_A &&
                  (int)CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES == WORKSPACE_BYTES &&
                  (int)CUBLAS_COMPUTE_32I == COMPUTE_32I && (int)CUDA_R_8I == R_8I && (int)CUDA_R_32I == R_32I &&
                  sizeof(cublasLtMatmulHeuristicResult_t) == 96,
              "cuBLASLt");
#endif
#endif

#define WORKSPACE  ((size_t)64 << 20)
#define ALGORITHMS 16

typedef struct heuristic { /* cublasLtMatmulHeuristicResult_t */
    uint64_t algo[8];
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
} heuristic;

static struct {
    void *handle;
    int (*create)(void **);
    int (*desc_new)(void **, int, int), (*desc_set)(void *, int, const void *, size_t), (*desc_free)(void *);
    int (*layout_new)(void **, int, uint64_t, uint64_t, int64_t), (*layout_free)(void *);
    int (*pref_new)(void **), (*pref_set)(void *, int, const void *, size_t), (*pref_free)(void *);
    int (*ask)(void *, void *, void *, void *, void *, void *, void *, int, heuristic *, int *);
    int (*matmul)(void *, void *, const void *, const void *, void *, const void *, void *, const void *, const void *,
                  void *, void *, void *, const void *, void *, size_t, void *);
} lt;

bool lt_open(char *why, size_t why_bytes) {
    const char *names[] = {"libcublasLt.so.13", "libcublasLt.so.12", "/usr/local/cuda/lib64/libcublasLt.so.13",
                           "/usr/local/cuda/lib64/libcublasLt.so.12"};
    const struct {
        void **to;
        const char *name;
    } functions[] = {{(void **)&lt.create, "cublasLtCreate"},
                     {(void **)&lt.desc_new, "cublasLtMatmulDescCreate"},
                     {(void **)&lt.desc_set, "cublasLtMatmulDescSetAttribute"},
                     {(void **)&lt.desc_free, "cublasLtMatmulDescDestroy"},
                     {(void **)&lt.layout_new, "cublasLtMatrixLayoutCreate"},
                     {(void **)&lt.layout_free, "cublasLtMatrixLayoutDestroy"},
                     {(void **)&lt.pref_new, "cublasLtMatmulPreferenceCreate"},
                     {(void **)&lt.pref_set, "cublasLtMatmulPreferenceSetAttribute"},
                     {(void **)&lt.pref_free, "cublasLtMatmulPreferenceDestroy"},
                     {(void **)&lt.ask, "cublasLtMatmulAlgoGetHeuristic"},
                     {(void **)&lt.matmul, "cublasLtMatmul"}};
    void *so = NULL;
#ifndef PARE_EMU /* it wants a device */
    for (const char *name : names)
        if (!so) so = dlopen(name, RTLD_NOW | RTLD_LOCAL);
#endif
    if (!so) return snprintf(why, why_bytes, "%s is not there", names[0]), false;
    for (const auto &f : functions)
        if (!(*f.to = dlsym(so, f.name))) return snprintf(why, why_bytes, "it has no %s", f.name), false;
    if (lt.create(&lt.handle) == 0) return true;
    lt.handle = NULL;
    return snprintf(why, why_bytes, "cublasLtCreate failed"), false;
}

/* Column-major: y^T [n, m] = (w^T)^T x^T, all with k (or n) as the leading dimension. */
double lt_time(bench *b, bool int8, int64_t m, int64_t n, int64_t k) {
    if (!lt.handle || (int8 && k % 16)) return 0;
    void *desc = NULL, *la = NULL, *lb = NULL, *lc = NULL, *pref = NULL;
    int in = int8 ? R_8I : R_16BF, out = int8 ? R_32I : R_16BF, transpose = OP_T, found = 0;
    size_t size = int8 ? 1 : 2, bytes = (size_t)(n * k) * size, space = WORKSPACE;
    int turns = (int)(((size_t)256 << 20) / bytes + 1);
    static heuristic best[ALGORITHMS];
    const float one_f = 1, zero_f = 0;
    const int32_t one_i = 1, zero_i = 0;
    const void *alpha = int8 ? (const void *)&one_i : &one_f, *beta = int8 ? (const void *)&zero_i : &zero_f;
    double seconds = 0;
    bench_memory mem(b);
    bool ok = lt.desc_new(&desc, int8 ? COMPUTE_32I : COMPUTE_32F, int8 ? R_32I : R_32F) == 0 &&
              lt.desc_set(desc, TRANS_A, &transpose, sizeof transpose) == 0 &&
              lt.layout_new(&la, in, (uint64_t)k, (uint64_t)n, k) == 0 &&
              lt.layout_new(&lb, in, (uint64_t)k, (uint64_t)m, k) == 0 &&
              lt.layout_new(&lc, out, (uint64_t)n, (uint64_t)m, n) == 0 && lt.pref_new(&pref) == 0 &&
              lt.pref_set(pref, WORKSPACE_BYTES, &space, sizeof space) == 0 &&
              lt.ask(lt.handle, desc, la, lb, lc, lc, pref, ALGORITHMS, best, &found) == 0;
    if (ok && found) {
        char *w = (char *)mem.take(bytes * (size_t)turns), *x = (char *)mem.take((size_t)(m * k) * size);
        void *y = mem.take((size_t)(m * n) * 4), *ws = mem.take(WORKSPACE);
        /* Halves of random f32 numbers are random int8 as they are; for bf16 the high halves are taken as numbers. */
        bench_random_bytes(b, w, bytes, !int8), bench_random_bytes(b, x, (size_t)(m * k) * size, !int8);
        for (int i = 1; i < turns; i++) rt_copy(&b->dev->rt, w + (size_t)i * bytes, w, bytes);
        for (int i = 0; i < found; i++) {
            bool fine = best[i].state == 0;
            double s = bench_time(
                b, turns,
                [&](int turn) {
                    fine = fine && lt.matmul(lt.handle, desc, alpha, w + (size_t)(turn % turns) * bytes, la, x, lb,
                                             beta, y, lc, y, lc, best[i].algo, ws, WORKSPACE, b->dev->rt.stream) == 0;
                },
                NULL);
            if (fine && s > 0 && (seconds == 0 || s < seconds)) seconds = s;
        }
    }
    if (pref) lt.pref_free(pref);
    for (void *l : {la, lb, lc})
        if (l) lt.layout_free(l);
    if (desc) lt.desc_free(desc);
    return seconds;
}
