/* SPDX-License-Identifier: Apache-2.0
 *
 * What the Hopper kernels for stored weights times f16 activations (cuda/w4a16_sm90.cuh) read besides the codes, made
 * once per product:
 *
 *   x       [m][k_pad] f16, k_pad a multiple of 64, zero past k; within 16 columns in the order in which a lane's
 *           fragment meets them: place p holds column 4 (p % 8 / 2) + 2 (p / 8) + p % 2
 *   scales  [k_pad / 64][n_pad][2 (HALVES: 4)] pairs of f16 {scale, minimum} of chunks (halves) times 2^e of the row,
 * n_pad a multiple of 256; zero past k and n factor  [n] 2^-e: the largest of |minimum| and 128 |scale| in the row is
 * in [2^13, 2^14) after scaling, so that f16 holds what the formats' scales (f32, bf16, products) are. Not finite: e is
 * 0 equal: x by f16 rounding; scales within 2^-11 of theirs or 2^-38 of the row's largest */
#ifndef PARE_CUDA_W16_CUH
#define PARE_CUDA_W16_CUH

#include "cuda/matmul.cuh"

typedef struct pare_w16 {
    uint16_t *x;
    uint32_t *scales;
    float *factor, *parts; /* parts: what is left of the workspace */
    int64_t k_pad, n_pad;
} pare_w16;

bool pare_w16_has(const pare_cuda_mm *p); /* the format is one of those below */
/* Bytes before the parts, a multiple of 256; the same places as pare_w16_make has them. */
size_t pare_w16_bytes(const pare_cuda_mm *p);
pare_w16 pare_w16_make(pare_cuda *dev, const pare_cuda_mm *p);

/* X(enumerator, asymmetric, format, format whose codes it shares): scales are read by the one, codes by the other, so
 * that formats of the same codes have one kernel. */
#define PARE_W16_FORMATS(X)                                                                                            \
    X(PARE_CF_Q4_0, 0, q4_0, q4_0)                                                                                     \
    X(PARE_CF_Q4_1, 0, q4_1, q4_1)                                                                                     \
    X(PARE_CF_Q5_0, 0, q5_0, q5_0)                                                                                     \
    X(PARE_CF_Q5_1, 0, q5_1, q5_1)                                                                                     \
    X(PARE_CF_Q8_0, 0, q8_0, q8_0)                                                                                     \
    X(PARE_CF_IQ4_NL, 0, iq4_nl, iq4_nl)                                                                               \
    X(PARE_CF_MXFP4, 0, mxfp4, mxfp4)                                                                                  \
    X(PARE_CF_Q2_K, 0, q2_k, q2_k)                                                                                     \
    X(PARE_CF_Q3_K, 0, q3_k, q3_k)                                                                                     \
    X(PARE_CF_Q4_K, 0, q4_k, q4_1)                                                                                     \
    X(PARE_CF_Q5_K, 0, q5_k, q5_1)                                                                                     \
    X(PARE_CF_Q6_K, 0, q6_k, q6_k)                                                                                     \
    X(PARE_CF_IQ4_XS, 0, iq4_xs, iq4_nl)                                                                               \
    X(PARE_CF_INT4, 0, int4, q4_0)                                                                                     \
    X(PARE_CF_INT4, 1, int4_asym, int4_asym)                                                                           \
    X(PARE_CF_INT8, 0, int8, q8_0)                                                                                     \
    X(PARE_CF_INT8, 1, int8_asym, int8_asym)

#endif
