/* SPDX-License-Identifier: Apache-2.0
 *
 * make bench-gpu: how fast the CUDA backend's kernels are on the card at hand. Times come from events around replayed
 * recordings (and, beside them, plain launches), data is random, and what is read is larger than L2: several copies of
 * an operand take turns. Every row carries its ratio to a device copy or to cuBLASLt from the same run. */
#ifndef PARE_TESTS_GPU_BENCH_CUH
#define PARE_TESTS_GPU_BENCH_CUH

extern "C" { /* the host's side, which the plug-in sees only through its table */
#include "core/alloc.h"
#include "core/plugin.h"
#include "core/rng.h"
#include "core/status.h"
#include "quant/rtn.h"
}
#include "cuda/matmul.cuh"

#include <functional>
#include <vector>

typedef struct bench {
    pare_cuda *dev;
    const pare_backend *backend;
    double copy;  /* bytes per second that a device copy reads and writes */
    double empty; /* seconds of an empty kernel in a recording */
    bool smoke;   /* tiny sizes: does the program itself work (emulator) */
    const char *only;
} bench;

typedef struct bench_row {
    const char *group;
    char name[32], shape[32], kernel[32];
    int64_t m;
    double replayed, launched; /* seconds per call; 0: not taken */
    double bytes, flops;       /* that the call has to move or do */
    double peer;               /* seconds of cuBLASLt for the same, 0: none */
    const char *peer_name;
} bench_row;
void bench_print(bench *b, const bench_row *r); /* and keeps it for the file */

/* Seconds per call of run(i), i counting calls so that operands can take turns; *launched without a recording. Median
 * of five; < 0 when the device fails. */
double bench_time(bench *b, int turns, const std::function<void(int)> &run, double *launched);

/* Device memory that goes away with its owner. */
struct bench_memory {
    bench *b;
    std::vector<void *> all;
    explicit bench_memory(bench *b_) : b(b_) {}
    ~bench_memory() {
        for (void *p : all) b->backend->release(b->dev, p);
    }
    bench_memory(const bench_memory &) = delete;
    void *take(size_t bytes); /* ends the program when there is none */
    float *random(int64_t n); /* normal numbers */
};

/* Fills device memory: random bytes, or bf16 numbers about 1. */
void bench_random_bytes(bench *b, void *to, size_t bytes, bool bf16);

void bench_products(bench *b);
void bench_attention(bench *b);

/* ---- cuBLASLt, loaded with dlopen ---- */
bool lt_open(char *why, size_t why_bytes);
/* Seconds of the best of its algorithms for y [m][n] = x [m][k] w [n][k]^T, bf16 or int8 in, bf16 or int32 out, the
 * weights taking turns over more than L2; 0 when it has none. */
double lt_time(bench *b, bool int8, int64_t m, int64_t n, int64_t k);

#endif
