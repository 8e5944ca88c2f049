/* SPDX-License-Identifier: Apache-2.0
 *
 * Sparse rows, AVX2: eight columns at a time, their places turned into a shuffle. */
#include "cpu/matmul_kernels.h"

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* For 4 columns with this mask: which of the next values each takes, 0x80 for none. */
static const uint32_t by_mask[16] = {0x80808080, 0x80808000, 0x80800080, 0x80800100, 0x80008080, 0x80018000,
                                     0x80010080, 0x80020100, 0x00808080, 0x01808000, 0x01800080, 0x02800100,
                                     0x01008080, 0x02018000, 0x02010080, 0x03020100};
/* The same for two indexes; rows that break the rule get anything. */
static const uint32_t by_index[16] = {0x80808000, 0x80800080, 0x80008080, 0x00808080, 0x80800100, 0x80800080,
                                      0x80008080, 0x00808080, 0x80018000, 0x80010080, 0x80008080, 0x00808080,
                                      0x01808000, 0x01800080, 0x01008080, 0x00808080};

/* run 0: two of four. The places of 8 columns (c a multiple of 8), as a byte of mask or of indexes. */
INLINE unsigned places8(const uint8_t *places, size_t c, const int run) {
    if (run <= 1) return places[c / 8];
    unsigned bits = places[c / (unsigned)run / 8] >> (c / (unsigned)run % 8);
    return run == 16 ? (bits & 1) * 255 : (bits & 1) * 15 | (bits >> 1 & 1) * 240;
}
INLINE unsigned count8(unsigned places, const int run) { return run ? (unsigned)__builtin_popcount(places) : 4; }

INLINE __m128i order8(unsigned p, const int run) {
    const uint32_t *table = run ? by_mask : by_index;
    uint32_t before = (run ? (uint32_t)__builtin_popcount(p & 15) : 2) * 0x01010101u;
    return _mm_cvtsi64_si128((long long)((uint64_t)(table[p >> 4] + before) << 32 | table[p & 15]));
}

/* Eight values. */
INLINE __m256i load_values(const uint8_t *at, const size_t size) {
    if (size == 4) return _mm256_loadu_si256((const __m256i *)(const void *)at);
    if (size == 2) return _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)at));
    return _mm256_castsi128_si256(_mm_loadl_epi64((const __m128i *)(const void *)at));
}
/* The same near the row's end. */
static __m256i load_last(const uint8_t *at, const uint8_t *end, size_t size) {
    _Alignas(32) uint8_t few[32] = {0};
    size_t left = at < end ? (size_t)(end - at) : 0;
    memcpy(few, at, left < 8 * size ? left : 8 * size);
    return _mm256_load_si256((const __m256i *)(const void *)few);
}
INLINE __m256i load_near(const uint8_t *at, const uint8_t *end, const size_t size) {
    return __builtin_expect(end - at >= (ptrdiff_t)(8 * size), 1) ? load_values(at, size) : load_last(at, end, size);
}

INLINE __m128i spread2(__m256i v, __m128i order) { /* 16-bit values */
    __m128i twice = _mm_unpacklo_epi8(order, order);
    twice = _mm_adds_epu8(_mm_adds_epu8(twice, twice), _mm_set1_epi16(0x0100));
    return _mm_shuffle_epi8(_mm256_castsi256_si128(v), twice);
}
INLINE __m256i spread4(__m256i v, __m128i order) {
    __m256i index = _mm256_cvtepi8_epi32(order);
    return _mm256_andnot_si256(_mm256_srai_epi32(index, 31), _mm256_permutevar8x32_epi32(v, index));
}

INLINE void slab(const uint8_t *places, const uint8_t *p, const uint8_t *end, size_t first, size_t n, uint8_t *out,
                 const size_t size, const int run) {
    for (size_t c = 0; c < n; c += 8, out += 8 * size) {
        unsigned m = places8(places, first + c, run);
        __m256i some = load_near(p, end, size);
        __m128i order = order8(m, run);
        if (size == 1) _mm_storel_epi64((void *)out, _mm_shuffle_epi8(_mm256_castsi256_si128(some), order));
        else if (size == 2) _mm_storeu_si128((void *)out, spread2(some, order));
        else _mm256_storeu_si256((void *)out, spread4(some, order));
        p += count8(m, run) * size;
    }
}

/* 32 columns of two-of-four bytes: every column sees both values of its four and takes the one whose index it is. */
INLINE void slab_two(const uint8_t *places, __m128i values, uint8_t *out) {
    const __m256i first =
        _mm256_setr_epi64x(0x0202020200000000, 0x0606060604040404, 0x0A0A0A0A08080808, 0x0E0E0E0E0C0C0C0C);
    const __m256i column = _mm256_set1_epi32(0x03020100), three = _mm256_set1_epi8(3);
    const __m256i byte = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    int32_t word;
    memcpy(&word, places, 4);
    __m256i v = _mm256_broadcastsi128_si256(values), m = _mm256_shuffle_epi8(_mm256_set1_epi32(word), byte);
    m = _mm256_blend_epi32(m, _mm256_srli_epi16(m, 4), 0xAA); /* of the odd fours: the high nibble */
    __m256i a = _mm256_cmpeq_epi8(_mm256_and_si256(m, three), column);
    __m256i b = _mm256_cmpeq_epi8(_mm256_and_si256(_mm256_srli_epi16(m, 2), three), column);
    a = _mm256_and_si256(a, _mm256_shuffle_epi8(v, first));
    b = _mm256_and_si256(b, _mm256_shuffle_epi8(v, _mm256_add_epi8(first, _mm256_set1_epi8(1))));
    _mm256_storeu_si256((void *)out, _mm256_or_si256(a, b));
}

static void slab_two_bytes(const uint8_t *places, const uint8_t *p, size_t n, const int bits, uint8_t *out) {
    for (size_t c = 0; c < n; c += 32, places += 4, out += 32) {
        __m128i v;
        if (bits == 8) v = _mm_loadu_si128((const __m128i *)(const void *)(p + c / 2));
        else {
            v = _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)(const void *)(p + c / 4)));
            v = _mm_and_si128(_mm_or_si128(v, _mm_slli_epi16(v, 4)), _mm_set1_epi8(15));
            v = _mm_sub_epi8(v, _mm_set1_epi8(8));
        }
        slab_two(places, v, out);
    }
}

void pare_sparse_slab_avx2(const pare_sparse_view *v, const uint8_t *row, size_t first, size_t n, void *out) {
    const uint8_t *table = row + v->at.table_at + first / PARE_SPARSE_SLAB * 2, *places = row + v->at.place_at;
    const uint8_t *values = row + v->at.values_at, *end = row + v->at.bytes;
    int run = v->f->keep ? v->f->run : 0, bits = v->f->bits;
    size_t at = run ? (size_t)(table[0] | table[1] << 8) * v->f->run : first / 2;
    if (!run && bits <= 8 && n % 32 == 0) {
        slab_two_bytes(places + first / 8, values + at * (size_t)bits / 8, n, bits, out);
        return;
    }
    if (bits == 4 || n % 8) { /* nibbles, odd ends: one by one */
        pare_sparse_slab(v->type, row, v->n, first, n, out);
        return;
    }
    const uint8_t *p = values + at * (size_t)bits / 8;
#define BY_RUN(size)                                                                                                   \
    switch (run) {                                                                                                     \
    case 0: slab(places, p, end, first, n, out, size, 0); return;                                                      \
    case 1: slab(places, p, end, first, n, out, size, 1); return;                                                      \
    case 4: slab(places, p, end, first, n, out, size, 4); return;                                                      \
    default: slab(places, p, end, first, n, out, size, 16); return;                                                    \
    }
    if (bits == 8) BY_RUN(1)
    if (bits == 16) BY_RUN(2)
    BY_RUN(4)
#undef BY_RUN
}

INLINE __m256 to_floats(__m256i v, const size_t size, const bool half) { /* eight stored values */
    if (size == 4) return _mm256_castsi256_ps(v);
    __m128i h = _mm256_castsi256_si128(v);
    return half ? _mm256_cvtph_ps(h) : _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}

INLINE float sum8(__m256 v) {
    float last[8], s = 0;
    _mm256_storeu_ps(last, v);
    for (int i = 0; i < 8; i++) s += last[i];
    return s;
}

/* Columns c .. n, one by one. */
static float dot_rest(const pare_sparse_view *v, const uint8_t *row, const float *x, size_t c, const uint8_t *p) {
    const uint8_t *places = row + v->at.place_at, *end = row + v->at.bytes;
    float sum = 0, w;
    for (; c < v->n; c++) {
        unsigned two = places[c / 8] >> (c & 4) & 15, r = (unsigned)(c / v->f->run);
        bool there = v->f->keep ? places[r / 8] >> (r % 8) & 1 : (two & 3) == (c & 3) || two >> 2 == (c & 3);
        if (!there || p >= end) continue;
        v->f->dense->decode(v->f->dense, p, &w, 1);
        sum += w * x[c];
        p += v->f->bits / 8;
    }
    return sum;
}

INLINE float dot(const pare_sparse_view *v, const uint8_t *row, const float *x, const size_t size, const bool half,
                 const int run) {
    const uint8_t *places = row + v->at.place_at, *end = row + v->at.bytes, *p = row + v->at.values_at;
    __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    size_t c = 0;
    for (; c + 16 <= v->n; c += 16)
#pragma GCC unroll 2
        for (size_t k = 0; k < 2; k++) {
            unsigned m = places8(places, c + 8 * k, run);
            __m256i some = load_near(p, end, size);
            some = size == 4 ? spread4(some, order8(m, run)) : _mm256_castsi128_si256(spread2(some, order8(m, run)));
            sum[k] = _mm256_fmadd_ps(to_floats(some, size, half), _mm256_loadu_ps(x + c + 8 * k), sum[k]);
            p += count8(m, run) * size;
        }
    return sum8(_mm256_add_ps(sum[0], sum[1])) + dot_rest(v, row, x, c, p);
}

/* Two of four: eight values meet those of sixteen activations that their indexes name. */
INLINE float dot_two(const pare_sparse_view *v, const uint8_t *row, const float *x, const size_t size,
                     const bool half) {
    const __m256i shift = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14),
                  base = _mm256_setr_epi32(0, 0, 4, 4, 0, 0, 4, 4);
    const uint8_t *places = row + v->at.place_at, *p = row + v->at.values_at;
    __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    size_t c = 0;
    for (; c + 32 <= v->n; c += 32, p += 16 * size) {
        uint32_t word;
        memcpy(&word, places + c / 8, 4);
        _mm_prefetch((const char *)p + 2048, _MM_HINT_T0);
#pragma GCC unroll 2
        for (size_t k = 0; k < 2; k++) {
            __m256i i = _mm256_srlv_epi32(_mm256_set1_epi32((int)(k ? word >> 16 : word)), shift);
            i = _mm256_or_si256(_mm256_and_si256(i, _mm256_set1_epi32(3)), base);
            __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(x + c + 16 * k), i);
            __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(x + c + 16 * k + 8), i);
            sum[k] = _mm256_fmadd_ps(to_floats(load_values(p + 8 * size * k, size), size, half),
                                     _mm256_blend_ps(low, high, 0xF0), sum[k]);
        }
    }
    return sum8(_mm256_add_ps(sum[0], sum[1])) + dot_rest(v, row, x, c, p);
}

float pare_sparse_dot_avx2(const pare_sparse_view *v, const uint8_t *row, const float *x) {
#define BY_RUN(size, half)                                                                                             \
    switch (v->f->keep ? v->f->run : 0) {                                                                              \
    case 0: return dot_two(v, row, x, size, half);                                                                     \
    case 1: return dot(v, row, x, size, half, 1);                                                                      \
    case 4: return dot(v, row, x, size, half, 4);                                                                      \
    default: return dot(v, row, x, size, half, 16);                                                                    \
    }
    if (v->f->bits == 32) BY_RUN(4, false)
    if (v->f->dense == &pare_qtype_f16) BY_RUN(2, true)
    BY_RUN(2, false)
#undef BY_RUN
}
