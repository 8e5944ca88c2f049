/* SPDX-License-Identifier: Apache-2.0
 *
 * One stored row times one row of activations, AVX512-VNNI, for formats of 32-column chunks: Q4_0, Q8_0 and grouped
 * integers. Sixteen chunks at a time: their 16 integer sums are brought into one vector, the offset is taken off
 * exactly, and one multiplication by 16 scales follows. Memory is the limit, so the next rows are prefetched. */
#include "cpu/matmul_kernels.h"

#include <immintrin.h>
#include <string.h>

#define CHUNKS 16
#define AHEAD  3072 /* bytes; rows follow one another */

static inline __m256i load32(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }
static inline __m128i load16(const uint8_t *p) { return _mm_loadu_si128((const __m128i *)(const void *)p); }

static inline void prefetch(const uint8_t *p, int bytes) {
    for (int i = 0; i < bytes; i += 64) _mm_prefetch((const char *)p + AHEAD + i, _MM_HINT_T0);
}

/* Sum of the four lanes of each 128-bit part of four vectors: lane 4*i+j of the result is part i of v[j]. */
static inline __m512i sum_parts(const __m512i *v) {
    __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
    __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}

/* Chunk b's codes lie at p + stride * b, or at at[b]. */
static inline __attribute__((always_inline)) __m512i sums8(const uint8_t *p, int stride, const uint8_t *const *at,
                                                           const int8_t *x) {
    const __m512i order = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
    const __m512i flip = _mm512_set1_epi8(-128);
    __m512i v[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        const uint8_t *p0 = at ? at[2 * i] : p + 2 * i * stride, *p1 = at ? at[2 * i + 1] : p + (2 * i + 1) * stride;
        __m512i w = _mm512_inserti64x4(_mm512_castsi256_si512(load32(p0)), load32(p1), 1);
        v[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_xor_si512(w, flip), _mm512_loadu_si512(x + 64 * i));
    }
    __m512i a = sum_parts(v), b = sum_parts(v + 4);
    __m512i s = _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xDD));
    return _mm512_permutexvar_epi32(order, s);
}

static inline __attribute__((always_inline)) __m512i sums4(const uint8_t *p, int stride, const uint8_t *const *at,
                                                           const int8_t *x) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i low = _mm512_set1_epi8(15);
    __m512i v[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m512i w = _mm512_setzero_si512();
        w = _mm512_castsi128_si512(load16(at ? at[4 * i] : p + 4 * i * stride));
        w = _mm512_inserti64x2(w, load16(at ? at[4 * i + 1] : p + (4 * i + 1) * stride), 1);
        w = _mm512_inserti64x2(w, load16(at ? at[4 * i + 2] : p + (4 * i + 2) * stride), 2);
        w = _mm512_inserti64x2(w, load16(at ? at[4 * i + 3] : p + (4 * i + 3) * stride), 3);
        v[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_and_si512(w, low), _mm512_loadu_si512(x + 128 * i));
        w = _mm512_and_si512(_mm512_srli_epi16(w, 4), low);
        v[i] = _mm512_dpbusd_epi32(v[i], w, _mm512_loadu_si512(x + 128 * i + 64));
    }
    return _mm512_permutexvar_epi32(order, sum_parts(v));
}

/* The f16 scales at the head of 16 blocks. Loads stay inside the blocks. */
static inline __m512 scales_q4_0(const uint8_t *p) {
    const __m512i pick = _mm512_castsi128_si512(_mm_setr_epi16(0, 9, 18, 27, 32, 41, 50, 59));
    __m512i a = _mm512_permutex2var_epi16(_mm512_loadu_si512(p), pick, _mm512_loadu_si512(p + 72));
    __m512i b = _mm512_permutex2var_epi16(_mm512_loadu_si512(p + 144), pick, _mm512_loadu_si512(p + 216));
    return _mm512_cvtph_ps(_mm256_inserti128_si256(_mm512_castsi512_si256(a), _mm512_castsi512_si128(b), 1));
}

static inline __m512 scales_q8_0(const uint8_t *p) {
    const __m512i pick = _mm512_castsi128_si512(_mm_setr_epi16(0, 17, 32, 49, 0, 0, 0, 0));
    __m128i t[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        t[i] = _mm512_castsi512_si128(
            _mm512_permutex2var_epi16(_mm512_loadu_si512(p + 136 * i), pick, _mm512_loadu_si512(p + 136 * i + 68)));
    return _mm512_cvtph_ps(_mm256_inserti128_si256(_mm256_castsi128_si256(_mm_unpacklo_epi64(t[0], t[1])),
                                                   _mm_unpacklo_epi64(t[2], t[3]), 1));
}

static inline __m512 finish(__m512i sum, __m512i offset, __m512 scale, const pare_i8_act *x, size_t chunk, __m512 acc) {
    sum = _mm512_sub_epi32(sum, _mm512_mullo_epi32(offset, _mm512_loadu_si512(x->sum32 + chunk)));
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(scale, _mm512_loadu_ps(x->scale32 + chunk)), acc);
}

#define BLOCK_ROW(name, block, sums, order, off)                                                                       \
    float pare_row_##name##_vnni(const pare_i8_source *s, const uint8_t *row, const pare_i8_act *x) {                  \
        size_t n = s->k / 32, c = 0;                                                                                   \
        const __m512i offset = _mm512_set1_epi32(off);                                                                 \
        __m512 acc = _mm512_setzero_ps();                                                                              \
        for (; c + CHUNKS <= n; c += CHUNKS, row += CHUNKS * (block)) {                                                \
            prefetch(row, CHUNKS *(block));                                                                            \
            acc = finish(sums(row + 2, block, NULL, x->order + 32 * c), offset, scales_##name(row), x, c, acc);        \
        }                                                                                                              \
        if (c < n) { /* the rest among empty blocks */                                                                 \
            uint8_t last[CHUNKS * (block)] = {0};                                                                      \
            memcpy(last, row, (n - c) * (block));                                                                      \
            acc = finish(sums(last + 2, block, NULL, x->order + 32 * c), offset, scales_##name(last), x, c, acc);      \
        }                                                                                                              \
        return _mm512_reduce_add_ps(acc);                                                                              \
    }
BLOCK_ROW(q4_0, 18, sums4, shuffled, 8)
BLOCK_ROW(q8_0, 34, sums8, codes, 128)

static inline float any_scale(const pare_qtype *type, const uint8_t *p) {
    uint32_t u;
    if (type == &pare_qtype_f16) return _cvtsh_ss((unsigned short)(p[0] | p[1] << 8));
    if (type == &pare_qtype_f32) memcpy(&u, p, 4);
    else u = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 24;
    return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128((int)u)));
}

/* Grouped integers: every chunk's address, scale and zero point are found first. Chunks past the end have scale 0. */
static inline __attribute__((always_inline)) float grouped(const pare_i8_source *s, const uint8_t *row,
                                                           const pare_i8_act *x, const int chunk_bytes) {
    static const uint8_t nothing[32];
    const pare_int_format *f = s->type->int_format;
    size_t n = (s->k + 31) / 32, per = f->group ? f->group / 32 : n,
           head = (f->scale_type == &pare_qtype_f32 ? 4u : 2u) + f->asym;
    size_t whole = s->k / 32; /* a short last chunk of bytes is copied */
    uint8_t last[32] = {0};
    if (whole < n) memcpy(last, row + head + whole * (size_t)chunk_bytes, chunk_bytes == 16 ? 16 : s->k % 32);
    __m512 acc = _mm512_setzero_ps();
    const uint8_t *group = row;
    size_t inside = 0; /* chunks of the group already taken */
    float scale = any_scale(f->scale_type, group);
    int zero = f->asym ? group[head - 1] : s->offset;
    for (size_t c = 0; c < n; c += CHUNKS) {
        const uint8_t *at[CHUNKS];
        _Alignas(64) float scales[CHUNKS];
        _Alignas(64) int32_t zeros[CHUNKS];
        prefetch(group, CHUNKS * chunk_bytes + 64);
        for (size_t i = 0; i < CHUNKS; i++) {
            if (c + i >= n) {
                at[i] = nothing, scales[i] = 0, zeros[i] = 0;
                continue;
            }
            if (inside == per) {
                group += s->type->block_bytes, inside = 0;
                scale = any_scale(f->scale_type, group);
                if (f->asym) zero = group[head - 1];
            }
            at[i] = c + i < whole ? group + head + inside * (size_t)chunk_bytes : last;
            scales[i] = scale, zeros[i] = zero;
            inside++;
        }
        __m512i sum =
            chunk_bytes == 16 ? sums4(NULL, 0, at, x->shuffled + 32 * c) : sums8(NULL, 0, at, x->codes + 32 * c);
        acc = finish(sum, _mm512_load_si512(zeros), _mm512_load_ps(scales), x, c, acc);
    }
    return _mm512_reduce_add_ps(acc);
}

float pare_row_int4_vnni(const pare_i8_source *s, const uint8_t *row, const pare_i8_act *x) {
    return grouped(s, row, x, 16);
}
float pare_row_int8_vnni(const pare_i8_source *s, const uint8_t *row, const pare_i8_act *x) {
    return grouped(s, row, x, 32);
}
