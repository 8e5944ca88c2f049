/* SPDX-License-Identifier: Apache-2.0
 *
 * The two halves of an attention tile (cpu/vec.h) in the words of cpu/simd.h. Included once per instruction set, by a
 * file that defines FN(name) and NV, the vectors of a register block (with BLOCK_ROWS rows of accumulators).
 * Both products are c[r][j] = keep[r] * c[r][j] + sum_e a[r][e] * b[e][j]: scores with b = the keys transposed into
 * kt, update with b = the values as they lie. Few rows (decoding) skip the transposition: dot products. */
#include "cpu/simd.h"
#include "cpu/vec.h"

#include <math.h>

#define BLOCK_ROWS 6
#define FEW_ROWS   1 /* up to here dot products beat transposing the keys */

/* One register block: nr <= BLOCK_ROWS rows, nv vectors; tail > 0: the only vector has that many columns. */
static inline __attribute__((always_inline)) void block(const int nr, const int nv, const float *a, size_t lda,
                                                        const float *b, size_t ldb, size_t depth, const float *keep,
                                                        float *c, size_t ldc, size_t tail) {
    V acc[BLOCK_ROWS][NV];
    for (int r = 0; r < nr; r++)
        for (int v = 0; v < nv; v++) {
            float *p = c + (size_t)r * ldc + v * VW;
            acc[r][v] = v_set1(0.0f);
            if (keep) acc[r][v] = (tail ? v_load_n(p, tail) : v_load(p)) * v_set1(keep[r]);
        }
    for (size_t e = 0; e < depth; e++) {
        V bv[NV];
        for (int v = 0; v < nv; v++) bv[v] = tail ? v_load_n(b + e * ldb, tail) : v_load(b + e * ldb + v * VW);
        for (int r = 0; r < nr; r++) {
            V x = v_set1(a[(size_t)r * lda + e]);
            for (int v = 0; v < nv; v++) acc[r][v] = v_fma(x, bv[v], acc[r][v]);
        }
    }
    for (int r = 0; r < nr; r++)
        for (int v = 0; v < nv; v++) {
            float *p = c + (size_t)r * ldc + v * VW;
            if (tail) v_store_n(p, acc[r][v], tail);
            else v_store(p, acc[r][v]);
        }
}

/* All columns of nr rows. */
static inline __attribute__((always_inline)) void stripe(const int nr, const float *a, size_t lda, const float *b,
                                                         size_t ldb, size_t depth, size_t cols, const float *keep,
                                                         float *c, size_t ldc) {
    size_t j = 0;
    for (; j + NV * VW <= cols; j += NV * VW) block(nr, NV, a, lda, b + j, ldb, depth, keep, c + j, ldc, 0);
    for (; j + VW <= cols; j += VW) block(nr, 1, a, lda, b + j, ldb, depth, keep, c + j, ldc, 0);
    if (j < cols) block(nr, 1, a, lda, b + j, ldb, depth, keep, c + j, ldc, cols - j);
}

static void product(const float *a, size_t lda, size_t rows, const float *b, size_t ldb, size_t depth, size_t cols,
                    const float *keep, float *c, size_t ldc) {
    for (size_t r = 0; r < rows; r += BLOCK_ROWS, a += BLOCK_ROWS * lda, c += BLOCK_ROWS * ldc) {
        const float *k = keep ? keep + r : NULL;
        switch (rows - r) {
        case 1: stripe(1, a, lda, b, ldb, depth, cols, k, c, ldc); break;
        case 2: stripe(2, a, lda, b, ldb, depth, cols, k, c, ldc); break;
        case 3: stripe(3, a, lda, b, ldb, depth, cols, k, c, ldc); break;
        case 4: stripe(4, a, lda, b, ldb, depth, cols, k, c, ldc); break;
        case 5: stripe(5, a, lda, b, ldb, depth, cols, k, c, ldc); break;
        default: stripe(BLOCK_ROWS, a, lda, b, ldb, depth, cols, k, c, ldc); break;
        }
    }
}

/* 8 rows of 8 columns at k (row distance ld) to columns: out[e * PARE_ATTN_KEYS + row]. */
static inline void transpose8(const float *k, size_t ld, float *out) {
    __m256 r[8], t[8];
    for (int i = 0; i < 8; i++) r[i] = _mm256_loadu_ps(k + (size_t)i * ld);
    for (int i = 0; i < 8; i += 2)
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]), t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    for (int i = 0; i < 8; i += 4)
        for (int h = 0; h < 2; h++) {
            r[i + 2 * h] = _mm256_shuffle_ps(t[i + h], t[i + h + 2], 0x44);
            r[i + 2 * h + 1] = _mm256_shuffle_ps(t[i + h], t[i + h + 2], 0xEE);
        }
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps(out + (size_t)i * PARE_ATTN_KEYS, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
        _mm256_storeu_ps(out + (size_t)(i + 4) * PARE_ATTN_KEYS, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
}

static void transpose_keys(const float *k, size_t k_stride, size_t n, size_t d, float *kt) {
    size_t j = 0;
    for (; j + 8 <= n; j += 8) {
        size_t e = 0;
        for (; e + 8 <= d; e += 8) transpose8(k + j * k_stride + e, k_stride, kt + e * PARE_ATTN_KEYS + j);
        for (; e < d; e++)
            for (size_t i = j; i < j + 8; i++) kt[e * PARE_ATTN_KEYS + i] = k[i * k_stride + e];
    }
    for (; j < n; j++)
        for (size_t e = 0; e < d; e++) kt[e * PARE_ATTN_KEYS + j] = k[j * k_stride + e];
}

void FN(attn_scores_f32)(const float *q, size_t rows, size_t d, const float *k, size_t k_stride, size_t n, float *s,
                         float *kt) {
    if (rows <= FEW_ROWS) {
        for (size_t j = 0; j < n; j++)
            for (size_t r = 0; r < rows; r++)
                s[r * PARE_ATTN_KEYS + j] = FN(row_dot_f32)(q + r * d, k + j * k_stride, d);
        return;
    }
    transpose_keys(k, k_stride, n, d, kt);
    product(q, d, rows, kt, PARE_ATTN_KEYS, d, n, NULL, s, PARE_ATTN_KEYS);
}

/* A row that has seen no key yet (m = -inf) shifts by 0 instead: exp(-inf) = 0 then does the right thing everywhere. */
void FN(attn_update_f32)(float *s, size_t rows, size_t n, float *m, float *l, float *o, size_t dv, const float *v,
                         size_t v_stride) {
    float keep[PARE_ATTN_ROWS];
    for (size_t r = 0; r < rows; r++) {
        float *p = s + r * PARE_ATTN_KEYS;
        V lanes = v_set1(m[r]), sums = v_set1(0.0f);
        size_t j = 0;
        for (; j + VW <= n; j += VW) lanes = v_max(lanes, v_load(p + j));
        float max = v_hmax(lanes), tail = 0;
        for (size_t i = j; i < n; i++)
            if (!(p[i] <= max)) max = p[i];
        float base = max == -INFINITY ? 0 : max;
        V shift = v_set1(base);
        for (j = 0; j + VW <= n; j += VW) {
            V e = v_exp(v_load(p + j) - shift);
            v_store(p + j, e);
            sums = sums + e;
        }
        if (j < n) v_store_n(p + j, v_exp(v_load_n(p + j, n - j) - shift), n - j);
        for (; j < n; j++) tail += p[j];
        keep[r] = expf(m[r] - base);
        m[r] = max;
        l[r] = l[r] * keep[r] + (float)v_hsum(sums) + tail;
    }
    product(s, PARE_ATTN_KEYS, rows, v, v_stride, n, dv, keep, o, dv);
}
