/* SPDX-License-Identifier: Apache-2.0
 *
 * Products of f32 matrices: MatMul with batches, broadcasting and vectors, Gemm with every transposition; and weights
 * that are not transposed. */
#include "tests/tools/parity.h"

#include "core/tensor.h"

#include <math.h>
#include <string.h>

#define EQUAL "2e-6 sum |a b|"
#define CORES "1e-4 sum |a b|" /* tensor cores cut where they should round */

static float rounded(float v) { return pare_bf16_to_f32(pare_f32_to_bf16(v)); }

/* One matrix product in double, strides in elements; added to *want and *bound. */
static void dot(const float *a, int64_t sa, const float *b, int64_t sb, int64_t k, bool bf16, double *want,
                double *bound) {
    double s = 0, mag = 0;
    for (int64_t i = 0; i < k; i++) {
        float x = a[i * sa], y = b[i * sb];
        double v = bf16 ? (double)rounded(x) * (double)rounded(y) : (double)x * (double)y;
        s += v, mag += fabs(v);
    }
    *want = s, *bound = 2e-6 * mag + 1e-42;
}

typedef struct batch {
    int na, nb;
    int64_t a[4], b[4]; /* all dimensions of the operands */
} batch;
static const batch batches[] = {
    {2, 2, {5, 33}, {33, 17}},
    {2, 2, {64, 64}, {64, 64}},
    {2, 2, {65, 130}, {130, 129}},
    {2, 2, {1, 96}, {96, 70}},
    {2, 2, {3, 1}, {1, 4}},
    {3, 2, {2, 9, 40}, {40, 24}},
    {3, 3, {3, 17, 32}, {3, 32, 16}},
    {4, 4, {2, 1, 8, 20}, {1, 3, 20, 12}},
    {3, 4, {3, 8, 20}, {2, 3, 20, 12}},
    {1, 2, {50}, {50, 31}},
    {2, 1, {31, 50}, {50}},
};

static void matmul(pc_run *r, const batch *p, bool weight, bool bf16) {
    pc_case c;
    int64_t dim_a[4] = {1, 1, 1, 1}, dim_b[4] = {1, 1, 1, 1}, y[4];
    int n_y = 0;
    pc_begin(r, &c, PARE_OP_MatMul, "%s%s", weight ? "f32 [K, N] weight" : "f32 batches", bf16 ? ", in bf16" : "");
    c.bf16 = bf16;
    pc_params(&c, "batch %d", (int)(p - batches));
    const float *a = pc_normal(r, &c, p->na, p->a, 1.0f), *b = pc_normal(r, &c, p->nb, p->b, 1.0f);
    if (weight) c.kind[1] = PC_WEIGHT;
    for (int i = 0; i < p->na; i++) dim_a[i + (p->na == 1 ? 3 : 4 - p->na)] = p->a[i];
    for (int i = 0; i < p->nb; i++) dim_b[i + (p->nb == 1 ? 2 : 4 - p->nb)] = p->b[i];
    int64_t m = dim_a[2], k = dim_a[3], n = dim_b[3], b0 = dim_a[0] > dim_b[0] ? dim_a[0] : dim_b[0];
    int64_t b1 = dim_a[1] > dim_b[1] ? dim_a[1] : dim_b[1];
    int most = p->na > p->nb ? p->na : p->nb;
    if (most > 3) y[n_y++] = b0;
    if (most > 2) y[n_y++] = b1;
    if (p->na > 1) y[n_y++] = m;
    if (p->nb > 1) y[n_y++] = n;
    pc_out(r, &c, &pare_qtype_f32, n_y, y);
    pc_expect(r, &c, 0, EQUAL);
    int64_t at = 0;
    for (int64_t i0 = 0; i0 < b0; i0++)
        for (int64_t i1 = 0; i1 < b1; i1++) {
            const float *pa = a + ((dim_a[0] > 1 ? i0 : 0) * dim_a[1] + (dim_a[1] > 1 ? i1 : 0)) * m * k;
            const float *pb = b + ((dim_b[0] > 1 ? i0 : 0) * dim_b[1] + (dim_b[1] > 1 ? i1 : 0)) * k * n;
            for (int64_t i = 0; i < m; i++)
                for (int64_t j = 0; j < n; j++, at++)
                    dot(pa + i * k, 1, pb + j, n, k, bf16, &c.want[0][at], &c.bound[0][at]);
        }
    pc_do(r, &c);
}

static void gemm(pc_run *r, int64_t m, int64_t n, int64_t k, bool ta, bool tb, int bias, bool weight, bool bf16) {
    pc_case c;
    pc_begin(r, &c, PARE_OP_Gemm, "%s%s%s%s%s", bf16 ? "bf16" : "f32", ta ? " a'" : "", tb ? " b'" : "",
             bias ? " bias" : "", weight ? " weight" : "");
    pc_params(&c, "M=%lld N=%lld K=%lld", (long long)m, (long long)n, (long long)k);
    c.bf16 = bf16;
    c.attr.gemm = (pare_attr_gemm){bias == 2 ? 0.5f : 1.0f, bias == 2 ? 3.0f : 1.0f, ta, tb};
    const float *a = ta ? pc_normal(r, &c, PC_SHAPE(k, m), 1.0f) : pc_normal(r, &c, PC_SHAPE(m, k), 1.0f);
    const float *b = tb ? pc_normal(r, &c, PC_SHAPE(n, k), 1.0f) : pc_normal(r, &c, PC_SHAPE(k, n), 1.0f), *add = NULL;
    if (weight) c.kind[1] = PC_WEIGHT;
    if (bias == 1) add = pc_normal(r, &c, PC_SHAPE(n), 1.0f);
    if (bias == 2) add = pc_normal(r, &c, PC_SHAPE(m, 1), 1.0f);
    pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(m, n));
    double cores = bf16 && m * n >= 32 * 1024 ? 50 : 1; /* of 2e-6 */
    pc_expect(r, &c, 0, cores > 1 ? CORES : EQUAL);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double *want = &c.want[0][i * n + j], *bound = &c.bound[0][i * n + j], alpha = (double)c.attr.gemm.alpha;
            dot(a + (ta ? i : i * k), ta ? m : 1, b + (tb ? j * k : j), tb ? 1 : n, k, bf16, want, bound);
            double product = alpha * *want, more = add ? (double)(c.attr.gemm.beta * add[bias == 1 ? j : i]) : 0;
            *want = product + more;
            *bound = fabs(alpha) * cores * *bound + 0x1p-23 * (fabs(product) + 2 * fabs(more));
        }
    pc_do(r, &c);
}

void pc_cases_dense(pc_run *r) {
    static const int64_t sizes[][3] = {{1, 1, 1}, {3, 5, 7}, {16, 40, 33}, {65, 66, 64}, {130, 20, 100}, {33, 129, 48}};
    if (pc_wants(r, PARE_OP_MatMul))
        for (size_t i = 0; i < 2 * sizeof batches / sizeof *batches; i++) {
            matmul(r, &batches[i / 2], false, i % 2);
            if (batches[i / 2].nb == 2) matmul(r, &batches[i / 2], true, i % 2);
        }
    if (!pc_wants(r, PARE_OP_Gemm)) return;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int way = 0; way < 4; way++)
            for (int bias = 0; bias < 3; bias++) {
                gemm(r, sizes[i][0], sizes[i][1], sizes[i][2], way & 1, way & 2, bias, false, false);
                if (bias == 1 || r->full)
                    gemm(r, sizes[i][0], sizes[i][1], sizes[i][2], way & 1, way & 2, bias, false, true);
                if (bias != 1 || !r->full) continue;
                gemm(r, sizes[i][0], sizes[i][1], sizes[i][2], way & 1, way & 2, bias, true, false);
                gemm(r, sizes[i][0], sizes[i][1], sizes[i][2], way & 1, way & 2, bias, true, true);
            }
    for (int way = 0; way < 4 && r->full; way++) gemm(r, 190, 264, 520, way & 1, way & 2, way, way & 1, true);
}
