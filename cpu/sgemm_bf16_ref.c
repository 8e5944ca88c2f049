/* SPDX-License-Identifier: Apache-2.0
 *
 * Products of pairs of bf16 numbers, scalar, as VDPBF16PS is defined (Intel's SDM, volume 2): both numbers of a pair by
 * fused multiply-adds, the second first; subnormal operands and results are zeros. */
#include "cpu/matmul_kernels.h"

#include <math.h>
#include <string.h>

void pare_bf16_along_ref(const float *x, int64_t n, uint16_t *out) {
    for (int64_t i = 0; i < (n + 31) / 32 * 32; i++) out[i] = i < n ? pare_f32_to_bf16(x[i]) : 0;
}

void pare_bf16_across_ref(const float *x, const float *next, int64_t n, float *out) {
    for (int64_t i = 0; i < (n + 15) / 16 * 16; i++) {
        uint32_t word = i < n ? pare_f32_to_bf16(x[i]) : 0;
        if (i < n && next) word |= (uint32_t)pare_f32_to_bf16(next[i]) << 16;
        memcpy(out + i, &word, 4);
    }
}

static float flush(float v) { return fabsf(v) < 0x1p-126f ? copysignf(0, v) : v; }
static float number(const float *word, int which) {
    uint32_t u;
    memcpy(&u, word, 4);
    return flush(pare_bf16_to_f32((uint16_t)(which ? u >> 16 : u)));
}

void pare_gemm_bf16_ref(int64_t pairs, const float *a, int64_t a_row, int64_t a_col, int64_t m, const float *panel,
                        float alpha, float *c, int64_t ldc, int n, bool accumulate) {
    for (int64_t i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            float s = 0;
            for (int64_t p = 0; p < pairs; p++)
                for (int which = 1; which >= 0; which--)
                    s = flush(fmaf(number(a + i * a_row + p * a_col, which),
                                   number(panel + p * PARE_F32_COLS + j, which), s));
            c[i * ldc + j] = accumulate ? c[i * ldc + j] + alpha * s : alpha * s;
        }
}
