/* SPDX-License-Identifier: Apache-2.0
 *
 * Sparse rows, AVX512-VBMI2 and VNNI. Masks: those of 64 columns expand as many bytes in a register, which then are an
 * operand of the integer product. Two of four: 64 values meet those of 128 activations that their indexes name. Sums
 * and scales as in cpu/rows32_vnni.c: 16 chunks of 32 columns at a time. */
#include "cpu/matmul_kernels.h"

#include <immintrin.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define CHUNKS 16
#define STEP   (CHUNKS * 32) /* columns */
#define AHEAD  2048          /* bytes */

/* The mask bits of 64 columns, c a multiple of 64, at least 64 columns in the row. */
INLINE uint64_t mask64(const uint8_t *mask, size_t c, const int run) {
    uint64_t m = 0;
    if (run == 1) return memcpy(&m, mask + c / 8, 8), m;
    if (run == 4) return memcpy(&m, mask + c / 32, 2), _pdep_u64(m, 0x1111111111111111u) * 15;
    return _pdep_u64((uint64_t)mask[c / 128] >> (c % 128 / 16), 0x0001000100010001u) * 0xFFFF;
}
/* The same where fewer than 64 are left. */
INLINE uint64_t mask_few(const uint8_t *mask, size_t c, size_t n, const int run) {
    uint8_t few[8] = {0};
    size_t runs = (n - c + (size_t)run - 1) / (size_t)run;
    if (run == 16) return mask64(mask, c, 16) & (~0ull >> (64 - (n - c)));
    memcpy(few, mask + c / (size_t)run / 8, (runs + 7) / 8);
    return mask64(few, 0, run) & (~0ull >> (64 - (n - c)));
}

INLINE __m512i load(const uint8_t *p, size_t left) { /* bytes up to the row's end */
    return left >= 64 ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi8((1ull << left) - 1, p);
}
/* 64 nibbles from nibble `at` on, low ones first, as bytes. */
INLINE __m512i load_nibbles(const uint8_t *p, size_t at, size_t bytes) {
    size_t b = at / 2, left = b < bytes ? bytes - b : 0;
    __mmask32 in = left < 32 ? (1u << left) - 1 : ~0u, next = left < 33 ? (left ? (1u << (left - 1)) - 1 : 0) : ~0u;
    __m256i v = _mm256_maskz_loadu_epi8(in, p + b), w = _mm256_maskz_loadu_epi8(next, p + b + 1);
    const __m256i low = _mm256_set1_epi8(15);
    __m256i odd = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(v, 4), low),
                                  _mm256_andnot_si256(low, _mm256_slli_epi16(w, 4)));
    __m512i both = _mm512_cvtepu8_epi16(at % 2 ? odd : v);
    return _mm512_and_si512(_mm512_or_si512(both, _mm512_slli_epi16(both, 4)), _mm512_set1_epi8(15));
}

/* Where the walk over a row's values is. */
typedef struct walk {
    const uint8_t *values;
    size_t at, bytes; /* in values; of all */
} walk;

/* The next 64 columns as unsigned codes. */
INLINE __m512i next_codes(walk *w, uint64_t m, const int bits, const bool all) {
    __m512i v;
    if (bits == 8) {
        size_t left = all ? 64 : w->at < w->bytes ? w->bytes - w->at : 0;
        v = _mm512_xor_si512(load(w->values + w->at, left), _mm512_set1_epi8(-128));
    } else v = load_nibbles(w->values, w->at, w->bytes);
    w->at += (size_t)__builtin_popcountll(m);
    return _mm512_mask_expand_epi8(_mm512_set1_epi8(bits == 8 ? -128 : 8), m, v);
}

/* Masks of words from those of four runs of 16 bytes. */
static const uint16_t words_of[16] = {0x0000, 0x000F, 0x00F0, 0x00FF, 0x0F00, 0x0F0F, 0x0FF0, 0x0FFF,
                                      0xF000, 0xF00F, 0xF0F0, 0xF0FF, 0xFF00, 0xFF0F, 0xFFF0, 0xFFFF};

/* Eight times the next 64 columns of bytes, met by their activations. near: the row's end may be nearer than loads
 * reach. */
INLINE const uint8_t *products(const uint8_t *p, const uint8_t *end, const uint8_t *mask, const int8_t *x,
                               const int run, const bool near, __m512i part[8]) {
    const __m512i flip = _mm512_set1_epi8(-128);
#pragma GCC unroll 8
    for (size_t i = 0; i < 8; i++) {
        __m512i v = near ? load(p, p < end ? (size_t)(end - p) : 0) : _mm512_loadu_si512(p);
        v = _mm512_xor_si512(v, flip);
        if (run == 1) {
            uint64_t m = mask64(mask, 64 * i, 1);
            v = _mm512_mask_expand_epi8(flip, m, v), p += (size_t)__builtin_popcountll(m);
        } else if (run == 4) {
            uint16_t m;
            memcpy(&m, mask + 2 * i, 2);
            v = _mm512_mask_expand_epi32(flip, m, v), p += 4 * (size_t)__builtin_popcount(m);
        } else {
            uint16_t m = words_of[mask[i / 2] >> i % 2 * 4 & 15];
            v = _mm512_mask_expand_epi32(flip, m, v), p += 4 * (size_t)__builtin_popcount(m);
        }
        part[i] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), v, _mm512_loadu_si512(x + 64 * i));
    }
    return p;
}

/* The same for nibbles, and where fewer than 512 columns are left. */
INLINE void products_few(walk *w, const uint8_t *mask, size_t c, size_t n, const int8_t *x, const int bits,
                         const int run, __m512i part[8]) {
    for (size_t i = 0; i < 8; i++) {
        size_t at = c + 64 * i;
        uint64_t m = at + 64 <= n ? mask64(mask, at, run) : at < n ? mask_few(mask, at, n, run) : 0;
        part[i] =
            _mm512_dpbusd_epi32(_mm512_setzero_si512(), next_codes(w, m, bits, false), _mm512_loadu_si512(x + 64 * i));
    }
}

INLINE __m512i sum_parts(const __m512i *v) {
    __m512i a = _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
    __m512i b = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
    return _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
}
/* Eight products' sums per 32 columns, in the order of the columns. */
INLINE __m512i sums16(const __m512i *v) {
    const __m512i order = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
    __m512i a = sum_parts(v), b = sum_parts(v + 4);
    return _mm512_permutexvar_epi32(order, _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88),
                                                            _mm512_shuffle_i32x4(a, b, 0xDD)));
}

/* Scales of the chunks from c on, `left` of them in the row: what is past its end gets 0. */
INLINE __m512 scales(const pare_i8_source *s, const uint8_t *row, size_t c, size_t left) {
    const pare_int_format *f = s->type->int_format;
    const bool wide = f->scale_type == &pare_qtype_f32;
    const int shift = f->group == 128 ? 2 : f->group == 64 ? 1 : 0;
    size_t first = f->group ? c >> shift : 0, n = f->group ? (left < CHUNKS ? left : CHUNKS) >> shift : 1;
    __mmask16 in = (__mmask16)((1u << n) - 1);
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512 v;
    if (wide) v = _mm512_maskz_loadu_ps(in, row + 4 * first);
    else {
        __m256i h = _mm256_maskz_loadu_epi16(in, row + 2 * first);
        v = f->scale_type == &pare_qtype_f16 ? _mm512_cvtph_ps(h)
                                             : _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
    }
    if (!f->group) return _mm512_broadcastss_ps(_mm512_castps512_ps128(v));
    return shift ? _mm512_permutexvar_ps(_mm512_srli_epi32(lanes, (unsigned)shift), v) : v;
}

INLINE float row_of(const pare_i8_source *s, const uint8_t *row, const pare_i8_act *x, const int bits, const int run) {
    const pare_sparse_view *v = &s->sparse;
    const uint8_t *mask = row + v->at.place_at;
    walk w = {row + v->at.values_at, 0, v->at.bytes - v->at.values_at};
    const __m512i offset = _mm512_set1_epi32(s->offset);
    __m512 acc = _mm512_setzero_ps();
    size_t n = v->n;
    for (size_t c = 0; c < n; c += STEP) {
        __m512i part[8];
        const uint8_t *p = w.values + w.at, *end = w.values + w.bytes;
        if (bits == 8 && n - c >= STEP) {
            const uint8_t *places = mask + c / (size_t)run / 8;
            for (size_t i = 0; i < STEP / 2; i += 64) _mm_prefetch((const char *)p + AHEAD + i, _MM_HINT_T0);
            p = w.at + STEP <= w.bytes ? products(p, end, places, x->codes + c, run, false, part)
                                       : products(p, end, places, x->codes + c, run, true, part);
            w.at = (size_t)(p - w.values);
        } else products_few(&w, mask, c, n, x->codes + c, bits, run, part);
        __m512i sum = sums16(part);
        sum = _mm512_sub_epi32(sum, _mm512_mullo_epi32(offset, _mm512_loadu_si512(x->sum32 + c / 32)));
        __m512 scale = _mm512_mul_ps(scales(s, row, c / 32, (n - c) / 32), _mm512_loadu_ps(x->scale32 + c / 32));
        acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, acc);
    }
    return _mm512_reduce_add_ps(acc);
}

/* ---- two of four ---- */
/* Products of 64 values with what they meet of 128 activations, by fours: four lanes to 32 columns. */
INLINE __m512i products_two(const uint8_t *places, const uint8_t *values, const int8_t *x, const int bits) {
    const __m512i shift = _mm512_set1_epi64(0x0E0C0A0806040200), bias = _mm512_set1_epi8(bits == 8 ? -128 : 8);
    const __m512i base =
        _mm512_set_epi64(0x7C7C787874747070, 0x6C6C686864646060, 0x5C5C585854545050, 0x4C4C484844444040,
                         0x3C3C383834343030, 0x2C2C282824242020, 0x1C1C181814141010, 0x0C0C080804040000);
    __m512i i = _mm512_cvtepu16_epi64(_mm_loadu_si128((const __m128i *)(const void *)places)), w;
    i = _mm512_ternarylogic_epi32(_mm512_multishift_epi64_epi8(shift, i), _mm512_set1_epi8(3), base, 0xEA);
    __m512i a = _mm512_permutex2var_epi8(_mm512_loadu_si512(x), i, _mm512_loadu_si512(x + 64));
    if (bits == 8) w = _mm512_xor_si512(_mm512_loadu_si512(values), bias);
    else {
        w = _mm512_cvtepu8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)values));
        w = _mm512_and_si512(_mm512_or_si512(w, _mm512_slli_epi16(w, 4)), _mm512_set1_epi8(15));
    }
    const __m512i zero = _mm512_setzero_si512();
    return _mm512_sub_epi32(_mm512_dpbusd_epi32(zero, w, a), _mm512_dpbusd_epi32(zero, bias, a));
}

INLINE float row_two(const pare_i8_source *s, const uint8_t *row, const pare_i8_act *x, const int bits) {
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const size_t step = STEP / 2 * (size_t)bits / 8; /* bytes of values */
    const pare_sparse_view *v = &s->sparse;
    const uint8_t *places = row + v->at.place_at, *p = row + v->at.values_at;
    uint8_t last_places[STEP / 8] = {0}, last[STEP / 2] = {0};
    __m512 acc = _mm512_setzero_ps();
    for (size_t c = 0; c < v->n; c += STEP, places += STEP / 8, p += step) {
        if (v->n - c < STEP) { /* the rest among zeros */
            if (bits == 4) memset(last, 0x88, sizeof last);
            memcpy(last_places, places, (v->n - c + 7) / 8);
            memcpy(last, p, ((v->n - c) / 2 * (size_t)bits + 7) / 8);
            places = last_places, p = last;
        } else
            for (size_t i = 0; i < step + 64; i += 64) _mm_prefetch((const char *)p + AHEAD + i, _MM_HINT_T0);
        __m512i part[4];
#pragma GCC unroll 4
        for (size_t i = 0; i < 4; i++)
            part[i] = products_two(places + 16 * i, p + step / 4 * i, x->codes + c + 128 * i, bits);
        __m512i sum = _mm512_permutexvar_epi32(order, sum_parts(part));
        __m512 scale = _mm512_mul_ps(scales(s, row, c / 32, (v->n - c) / 32), _mm512_loadu_ps(x->scale32 + c / 32));
        acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), scale, acc);
    }
    return _mm512_reduce_add_ps(acc);
}

/* Indexes of 64 columns to their mask. */
INLINE uint64_t mask_two(const uint8_t *places, size_t bytes) {
    const __m128i table = _mm_setr_epi8(1, 2, 4, 8, 3, 2, 6, 10, 5, 6, 4, 12, 9, 10, 12, 8), low = _mm_set1_epi8(15);
    uint64_t word = 0;
    memcpy(&word, places, bytes);
    __m128i v = _mm_cvtsi64_si128((long long)word);
    __m128i a = _mm_shuffle_epi8(table, _mm_and_si128(v, low));
    __m128i b = _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16(v, 4), low));
    return (uint64_t)_mm_cvtsi128_si64(_mm_or_si128(a, _mm_slli_epi16(b, 4)));
}

float pare_row_sparse_vbmi2(const pare_i8_source *s, const uint8_t *row, const pare_i8_act *x) {
#define BY_RUN(bits)                                                                                                   \
    switch (s->sparse.f->keep ? s->sparse.f->run : 0) {                                                                \
    case 0: return row_two(s, row, x, bits);                                                                           \
    case 1: return row_of(s, row, x, bits, 1);                                                                         \
    case 4: return row_of(s, row, x, bits, 4);                                                                         \
    default: return row_of(s, row, x, bits, 16);                                                                       \
    }
    if (s->sparse.f->bits == 8) BY_RUN(8)
    BY_RUN(4)
#undef BY_RUN
}

/* 16 columns of two-of-four floats: each sees both values of its four and takes the one whose index it is. */
INLINE __m512i spread_two(uint32_t places, __m512i values) {
    const __m512i first = _mm512_setr_epi32(0, 0, 0, 0, 2, 2, 2, 2, 4, 4, 4, 4, 6, 6, 6, 6);
    const __m512i second = _mm512_setr_epi32(1, 1, 1, 1, 3, 3, 3, 3, 5, 5, 5, 5, 7, 7, 7, 7);
    const __m512i shift = _mm512_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12);
    const __m512i column = _mm512_setr_epi32(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3);
    const __m512i three = _mm512_set1_epi32(3);
    __m512i i = _mm512_srlv_epi32(_mm512_set1_epi32((int)places), shift);
    __mmask16 a = _mm512_cmpeq_epi32_mask(_mm512_and_si512(i, three), column);
    __mmask16 b = _mm512_cmpeq_epi32_mask(_mm512_and_si512(_mm512_srli_epi32(i, 2), three), column);
    return _mm512_mask_permutexvar_epi32(_mm512_maskz_permutexvar_epi32(a, first, values), b, second, values);
}

static void slab_two_f32(const uint8_t *places, const uint8_t *values, size_t n, uint8_t *out) {
    for (size_t c = 0; c < n; c += 16, out += 64) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(values + 2 * c));
        _mm512_storeu_si512(out,
                            spread_two(places[c / 8] | (uint32_t)places[c / 8 + 1] << 8, _mm512_castsi256_si512(v)));
    }
}
/* The same for 16-bit floats, 32 columns. */
static void slab_two_f16(const uint8_t *places, const uint8_t *values, size_t n, uint8_t *out) {
    const __m512i pair =
        _mm512_set_epi64(0x000E000E000E000E, 0x000C000C000C000C, 0x000A000A000A000A, 0x0008000800080008,
                         0x0006000600060006, 0x0004000400040004, 0x0002000200020002, 0);
    const __m512i next = _mm512_add_epi16(pair, _mm512_set1_epi16(1)), three = _mm512_set1_epi16(3);
    const __m512i column = _mm512_set1_epi64(0x0003000200010000),
                  shift = _mm512_set_epi64(0x000C000C000C000C, 0x0008000800080008, 0x0004000400040004, 0,
                                           0x000C000C000C000C, 0x0008000800080008, 0x0004000400040004, 0);
    for (size_t c = 0; c < n; c += 32, places += 4, out += 64) {
        uint32_t word;
        memcpy(&word, places, 4);
        __m512i v = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(const void *)(values + c)));
        __m512i i = _mm512_inserti64x4(_mm512_set1_epi16((short)word), _mm256_set1_epi16((short)(word >> 16)), 1);
        i = _mm512_srlv_epi16(i, shift);
        __mmask32 a = _mm512_cmpeq_epi16_mask(_mm512_and_si512(i, three), column);
        __mmask32 b = _mm512_cmpeq_epi16_mask(_mm512_and_si512(_mm512_srli_epi16(i, 2), three), column);
        v = _mm512_mask_permutexvar_epi16(_mm512_maskz_permutexvar_epi16(a, pair, v), b, next, v);
        _mm512_storeu_si512(out, v);
    }
}

/* The same for codes, 64 columns. */
static void slab_two_codes(const uint8_t *places, const uint8_t *values, size_t n, const int bits, uint8_t *out) {
    const __m512i lanes =
        _mm512_set_epi64(0x1E1E1E1E1C1C1C1C, 0x1A1A1A1A18181818, 0x1616161614141414, 0x1212121210101010,
                         0x0E0E0E0E0C0C0C0C, 0x0A0A0A0A08080808, 0x0606060604040404, 0x0202020200000000);
    const __m512i next = _mm512_add_epi8(lanes, _mm512_set1_epi8(1)), shift = _mm512_slli_epi16(lanes, 1);
    const __m512i column = _mm512_set1_epi32(0x03020100), three = _mm512_set1_epi8(3);
    for (size_t c = 0; c < n; c += 64, places += 8, out += 64) {
        uint64_t word;
        memcpy(&word, places, 8);
        __m512i i = _mm512_multishift_epi64_epi8(shift, _mm512_set1_epi64((long long)word)), v;
        if (bits == 8) v = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)(const void *)(values + c / 2)));
        else {
            __m256i h = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(values + c / 4)));
            h = _mm256_and_si256(_mm256_or_si256(h, _mm256_slli_epi16(h, 4)), _mm256_set1_epi8(15));
            v = _mm512_castsi256_si512(_mm256_sub_epi8(h, _mm256_set1_epi8(8)));
        }
        __mmask64 a = _mm512_cmpeq_epi8_mask(_mm512_and_si512(i, three), column);
        __mmask64 b = _mm512_cmpeq_epi8_mask(_mm512_and_si512(_mm512_srli_epi16(i, 2), three), column);
        v = _mm512_mask_permutexvar_epi8(_mm512_maskz_permutexvar_epi8(a, lanes, v), b, next, v);
        _mm512_storeu_si512(out, v);
    }
}

/* Columns first .. first+n of rows whose values begin at w. */
INLINE void slab(const pare_sparse_view *v, const uint8_t *places, walk w, size_t first, size_t n, uint8_t *out,
                 const int bits, const int run) {
    const size_t per = bits == 16 ? 32 : 16; /* values to a register */
    for (size_t c = first; c < first + n; c += 64, out += 8 * (bits == 4 ? 8 : bits)) {
        size_t left = v->n - c;
        uint64_t m =
            !run ? mask_two(places + c / 8, left < 64 ? (left + 7) / 8 : 8) & (~0ull >> (left < 64 ? 64 - left : 0))
            : left >= 64 ? mask64(places, c, run)
                         : mask_few(places, c, v->n, run);
        if (bits <= 8) { /* signed codes */
            __m512i q = next_codes(&w, m, bits, false);
            q = bits == 8 ? _mm512_xor_si512(q, _mm512_set1_epi8(-128)) : _mm512_sub_epi8(q, _mm512_set1_epi8(8));
            _mm512_storeu_si512(out, q);
            continue;
        }
        for (size_t i = 0; i < 64; i += per) {
            uint64_t part = m >> i & ((1ull << per) - 1);
            size_t at = w.at * (size_t)bits / 8;
            __m512i q = load(w.values + at, at < w.bytes ? w.bytes - at : 0);
            q = bits == 16 ? _mm512_maskz_expand_epi16((__mmask32)part, q)
                           : _mm512_maskz_expand_epi32((__mmask16)part, q);
            _mm512_storeu_si512(out + i * (size_t)bits / 8, q);
            w.at += (size_t)__builtin_popcountll(part);
        }
    }
}

void pare_sparse_slab_vbmi2(const pare_sparse_view *v, const uint8_t *row, size_t first, size_t n, void *out) {
    const uint8_t *places = row + v->at.place_at, *table = row + v->at.table_at + first / PARE_SPARSE_SLAB * 2;
    const int run = v->f->keep ? v->f->run : 0;
    walk w = {row + v->at.values_at, 0, v->at.bytes - v->at.values_at};
    w.at = run ? (size_t)(table[0] | table[1] << 8) * v->f->run : first / 2;
    if (!run && n % 64 == 0) {
        const uint8_t *p = w.values + w.at * v->f->bits / 8;
        if (v->f->bits == 4) slab_two_codes(places + first / 8, p, n, 4, out);
        else if (v->f->bits == 8) slab_two_codes(places + first / 8, p, n, 8, out);
        else if (v->f->bits == 32) slab_two_f32(places + first / 8, p, n, out);
        else slab_two_f16(places + first / 8, p, n, out);
        return;
    }
#define BY_RUN(bits)                                                                                                   \
    switch (run) {                                                                                                     \
    case 0: slab(v, places, w, first, n, out, bits, 0); return;                                                        \
    case 1: slab(v, places, w, first, n, out, bits, 1); return;                                                        \
    case 4: slab(v, places, w, first, n, out, bits, 4); return;                                                        \
    default: slab(v, places, w, first, n, out, bits, 16); return;                                                      \
    }
    switch (v->f->bits) {
    case 4: BY_RUN(4)
    case 8: BY_RUN(8)
    case 16: BY_RUN(16)
    default: BY_RUN(32)
    }
#undef BY_RUN
}
