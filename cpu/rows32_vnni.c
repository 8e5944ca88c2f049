/* SPDX-License-Identifier: Apache-2.0
 *
 * One stored row times one row of activations, AVX512-VNNI, for formats of 32-column chunks: Q4_0, Q8_0 and grouped
 * integers. Sixteen chunks at a time: their 16 integer sums are brought into one vector, the offset is taken off
 * exactly, and one multiplication by 16 scales follows. Memory is the limit, so the next rows are prefetched. */
#include "cpu/matmul_kernels.h"

#include <immintrin.h>
#include <string.h>

#define CHUNKS 16
#define AHEAD  4096 /* bytes; rows follow one another */

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

/* Where chunk i of 16 lies: `per` chunks of `bytes` follow one another in blocks at distance `block`. */
typedef struct place {
    const uint8_t *p;
    size_t block;
    int per, bytes;
} place;

static inline __attribute__((always_inline)) const uint8_t *at(const place c, int i) {
    return c.p + (size_t)(i / c.per) * c.block + i % c.per * c.bytes;
}

static inline __attribute__((always_inline)) __m512i sums8(const place c, const int8_t *x) {
    const __m512i order = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
    const __m512i flip = _mm512_set1_epi8(-128);
    __m512i v[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        __m512i w = _mm512_inserti64x4(_mm512_castsi256_si512(load32(at(c, 2 * i))), load32(at(c, 2 * i + 1)), 1);
        v[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_xor_si512(w, flip), _mm512_loadu_si512(x + 64 * i));
    }
    __m512i a = sum_parts(v), b = sum_parts(v + 4);
    __m512i s = _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xDD));
    return _mm512_permutexvar_epi32(order, s);
}

static inline __attribute__((always_inline)) __m512i sums4(const place c, const int8_t *x) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i low = _mm512_set1_epi8(15);
    __m512i v[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m512i w = _mm512_castsi128_si512(load16(at(c, 4 * i)));
        w = _mm512_inserti64x2(w, load16(at(c, 4 * i + 1)), 1);
        w = _mm512_inserti64x2(w, load16(at(c, 4 * i + 2)), 2);
        w = _mm512_inserti64x2(w, load16(at(c, 4 * i + 3)), 3);
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
            acc = finish(sums(((place){row + 2, block, 1, 0}), x->order + 32 * c), offset, scales_##name(row), x, c,   \
                         acc);                                                                                         \
        }                                                                                                              \
        if (c < n) { /* the rest among empty blocks */                                                                 \
            uint8_t last[CHUNKS * (block)] = {0};                                                                      \
            memcpy(last, row, (n - c) * (block));                                                                      \
            acc = finish(sums(((place){last + 2, block, 1, 0}), x->order + 32 * c), offset, scales_##name(last), x, c, \
                         acc);                                                                                         \
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

static inline int word_at(const uint8_t *p) {
    int32_t w;
    memcpy(&w, p, 4);
    return w;
}

typedef enum scale_kind { F16, BF16, F32 } scale_kind;

/* Four bytes at the head of each of the 16 / per groups at p, each in `per` lanes, gathered through registers: a vector
 * loaded from words just stored would wait for them. */
static inline __attribute__((always_inline)) __m512i four_bytes(const uint8_t *p, const size_t block, const int per) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m128i part[4] = {_mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128()};
#pragma GCC unroll 4
    for (int i = 0; i < 4 / per; i++) {
        const uint8_t *q = p + (size_t)(4 * i) * block;
        part[i] = _mm_setr_epi32(word_at(q), word_at(q + block), word_at(q + 2 * block), word_at(q + 3 * block));
    }
    __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(part[0]), part[1], 1);
    __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(part[2]), part[3], 1);
    __m512i all = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    return per == 1 ? all : _mm512_permutexvar_epi32(_mm512_srli_epi32(lanes, per == 4 ? 2 : 1), all);
}

/* Scales of those groups, and their zero points. */
static inline __attribute__((always_inline)) __m512 heads(const uint8_t *p, const size_t block, const int per,
                                                          const scale_kind kind, const bool asym, __m512i *zero) {
    __m512i v = four_bytes(p, block, per);
    if (asym) {
        __m512i z = kind == F32 ? four_bytes(p + 4, block, per) : _mm512_srli_epi32(v, 16);
        *zero = _mm512_and_si512(z, _mm512_set1_epi32(255));
    }
    if (kind == F16) return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v));
    return _mm512_castsi512_ps(kind == BF16 ? _mm512_slli_epi32(v, 16) : v);
}

/* Groups of 32 * per columns; what is left at the end is met among groups of zeros. All but the first three are
 * constants. */
static inline __attribute__((always_inline)) float groups(const pare_i8_source *s, const uint8_t *row,
                                                          const pare_i8_act *x, const int bits, const int per,
                                                          const scale_kind kind, const bool asym) {
    const size_t head = (kind == F32 ? 4u : 2u) + asym, block = head + (size_t)(per * bits * 4), n = s->k / 32;
    __m512 acc = _mm512_setzero_ps();
    __m512i zero = _mm512_set1_epi32(s->offset);
    uint8_t last[CHUNKS * (32 + 5)];
    for (size_t c = 0; c < n; c += CHUNKS, row += CHUNKS / per * block) {
        if (n - c < CHUNKS) {
            memset(last, 0, sizeof last);
            memcpy(last, row, (n - c) / (size_t)per * block);
            row = last;
        } else prefetch(row, CHUNKS * bits * 4 + 64);
        __m512 scale = heads(row, block, per, kind, asym, &zero);
        place at_codes = {row + head, block, per, bits * 4};
        __m512i sum = bits == 4 ? sums4(at_codes, x->shuffled + 32 * c) : sums8(at_codes, x->codes + 32 * c);
        acc = finish(sum, zero, scale, x, c, acc);
    }
    return _mm512_reduce_add_ps(acc);
}

/* One scale for the row; its codes lie side by side. */
static inline __attribute__((always_inline)) float whole_row(const pare_i8_source *s, const uint8_t *row,
                                                             const pare_i8_act *x, const int bits) {
    const pare_int_format *f = s->type->int_format;
    size_t head = (f->scale_type == &pare_qtype_f32 ? 4u : 2u) + f->asym, k = s->k;
    __m512 scale = _mm512_set1_ps(any_scale(f->scale_type, row)), acc = _mm512_setzero_ps();
    __m512i zero = _mm512_set1_epi32(f->asym ? row[head - 1] : s->offset);
    const uint8_t *p = row + head;
    uint8_t last[CHUNKS * 32] = {0};
    for (size_t i = 0; i < k; i += CHUNKS * 32, p += CHUNKS * bits * 4) {
        if (k - i < CHUNKS * 32) {
            memcpy(last, p, bits == 8 ? k - i : (k - i + 31) / 32 * 16);
            p = last;
        } else prefetch(p, CHUNKS * bits * 4);
        place at_codes = {p, (size_t)bits * 4, 1, 0};
        __m512i sum = bits == 4 ? sums4(at_codes, x->shuffled + i) : sums8(at_codes, x->codes + i);
        acc = finish(sum, zero, scale, x, i / 32, acc);
    }
    return _mm512_reduce_add_ps(acc);
}

/* One instance for every width, group, scale type and symmetry: addresses become constants. */
#define BY_SYMMETRY(bits, per, kind)                                                                                   \
    return f->asym ? groups(s, row, x, bits, per, kind, true) : groups(s, row, x, bits, per, kind, false)
#define BY_SCALE(bits, per)                                                                                            \
    if (f->scale_type == &pare_qtype_f16) BY_SYMMETRY(bits, per, F16);                                                 \
    if (f->scale_type == &pare_qtype_bf16) BY_SYMMETRY(bits, per, BF16);                                               \
    BY_SYMMETRY(bits, per, F32)
#define GROUPED(name, bits)                                                                                            \
    static float name##_g32(const pare_i8_source *s, const uint8_t *row, const pare_i8_act *x) {                       \
        const pare_int_format *f = s->type->int_format;                                                                \
        BY_SCALE(bits, 1);                                                                                             \
    }                                                                                                                  \
    static float name##_g64(const pare_i8_source *s, const uint8_t *row, const pare_i8_act *x) {                       \
        const pare_int_format *f = s->type->int_format;                                                                \
        BY_SCALE(bits, 2);                                                                                             \
    }                                                                                                                  \
    static float name##_g128(const pare_i8_source *s, const uint8_t *row, const pare_i8_act *x) {                      \
        const pare_int_format *f = s->type->int_format;                                                                \
        BY_SCALE(bits, 4);                                                                                             \
    }                                                                                                                  \
    float pare_row_##name##_vnni(const pare_i8_source *s, const uint8_t *row, const pare_i8_act *x) {                  \
        switch (s->type->int_format->group) {                                                                          \
        case 32: return name##_g32(s, row, x);                                                                         \
        case 64: return name##_g64(s, row, x);                                                                         \
        case 128: return name##_g128(s, row, x);                                                                       \
        default: return whole_row(s, row, x, bits);                                                                    \
        }                                                                                                              \
    }
GROUPED(int4, 4)
GROUPED(int8, 8)
