/* SPDX-License-Identifier: Apache-2.0
 *
 * Integer products on AMX tiles, 16 tokens x 16 stored rows each. A panel is B as it lies: 4 columns of 16 rows are one
 * row of a tile. A tile sums one group of columns, is stored to L1, and AVX-512 applies offset, scales and minima in
 * the order of the VNNI kernel. */
#include "cpu/amx_tile.h"
#include "cpu/matmul_kernels.h"

#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define T      PARE_I8_TALL
#define W_LD   (4 * PARE_I8_ROWS) /* bytes from one quad of columns to the next in a panel */
#define X_LD   PARE_I8_SLAB

/* Tiles 0..3 hold sums (16 x 16 int32), 4 and 5 activations (16 tokens x k bytes), 6 and 7 codes (k/4 quads x 16 rows).
 */
#define SHAPE(k)                                                                                                       \
    {                                                                                                                  \
        .palette = 1, .colsb = {64, 64, 64, 64, k, k, 64, 64}, .rows = { 16, 16, 16, 16, 16, 16, (k) / 4, (k) / 4 }    \
    }
static const pare_tile_config shape_16 = SHAPE(16), shape_32 = SHAPE(32), shape_64 = SHAPE(64);

typedef struct tall_args {
    const pare_i8_shape *s;
    const pare_i8_panel *w;
    const pare_i8_tall *x;
    float *c; /* [16][32] */
    int half; /* stored rows 0..15 or 16..31 */
    bool accumulate;
} tall_args;

/* sums [16 tokens][16 rows] of group g into acc. */
INLINE void apply(const tall_args a, int g, const int32_t *sums, const int group, const bool by_slab, const bool minima,
                  __m512 acc[T]) {
    const float *scales = a.w->scale[g * (group / 16)] + 16 * a.half;
    __m512 scale = _mm512_load_ps(scales), least = _mm512_setzero_ps();
    if (minima) least = _mm512_load_ps(a.w->minimum[g * (group / 16)] + 16 * a.half);
    UNROLL for (int t = 0; t < T; t++) {
        __m512i sum = _mm512_add_epi32(_mm512_load_si512(sums + 16 * t), _mm512_set1_epi32(a.x->start[g][t]));
        __m512 s = by_slab ? scale : _mm512_mul_ps(scale, _mm512_set1_ps(a.x->scale[g][t]));
        acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), s, acc[t]);
        if (minima) acc[t] = _mm512_fmadd_ps(least, _mm512_set1_ps(a.x->extra[g][t]), acc[t]);
    }
}

INLINE void finish(const tall_args a, const bool by_slab, __m512 acc[T]) {
    UNROLL for (int t = 0; t < T; t++) {
        float *c = a.c + t * PARE_I8_ROWS + 16 * a.half;
        __m512 y = by_slab ? _mm512_mul_ps(acc[t], _mm512_set1_ps(a.x->scale[0][t])) : acc[t];
        _mm512_store_ps(c, a.accumulate ? _mm512_add_ps(_mm512_load_ps(c), y) : y);
    }
}

/* One group's sums; even and odd groups in different tiles, so that one is multiplied while the other is stored. */
INLINE void group_sums(const tall_args a, int g, const int group, int32_t *sums) {
    const int8_t *x = a.x->codes[0] + g * group;
    const uint8_t *w = a.w->codes + g * (group / 4) * W_LD + 64 * a.half;
    if (g % 2 == 0) {
        PARE_TILE_ZERO(0);
        PARE_TILE_LOAD(4, x, X_LD);
        PARE_TILE_LOAD(6, w, W_LD);
        PARE_TILE_DPBSUD(0, 4, 6);
        PARE_TILE_STORE(0, sums, 64);
    } else {
        PARE_TILE_ZERO(1);
        PARE_TILE_LOAD(5, x, X_LD);
        PARE_TILE_LOAD(7, w, W_LD);
        PARE_TILE_DPBSUD(1, 5, 7);
        PARE_TILE_STORE(1, sums, 64);
    }
}

INLINE void by_groups(const tall_args a, const int group, const bool by_slab, const bool minima) {
    _Alignas(64) int32_t sums[2][16 * T];
    __m512 acc[T];
    UNROLL for (int t = 0; t < T; t++) acc[t] = _mm512_setzero_ps();
    const int n = a.s->blocks * 32 / group;
    group_sums(a, 0, group, sums[0]);
    for (int g = 0; g < n; g++) {
        if (g + 1 < n) group_sums(a, g + 1, group, sums[(g + 1) % 2]);
        apply(a, g, sums[g % 2], group, by_slab, minima, acc);
    }
    finish(a, by_slab, acc);
}

/* One scale for the whole slab: its sums stay in tiles. Four of them (two token tiles, both halves) hide the latency of
 * products that add to the same tile. Columns past the last block are zeros on both sides. */
INLINE void by_slabs(tall_args a, const bool two, const bool minima) {
    _Alignas(64) int32_t sums[4][16 * T];
    PARE_TILE_ZERO(0);
    PARE_TILE_ZERO(1);
    if (two) PARE_TILE_ZERO(2);
    if (two) PARE_TILE_ZERO(3);
    for (int b = 0; b < a.s->blocks; b += 2) {
        const uint8_t *w = a.w->codes + b * 8 * W_LD;
        PARE_TILE_LOAD(4, a.x->codes[0] + 32 * b, X_LD);
        PARE_TILE_LOAD(6, w, W_LD);
        PARE_TILE_DPBSUD(0, 4, 6);
        PARE_TILE_LOAD(7, w + 64, W_LD);
        PARE_TILE_DPBSUD(1, 4, 7);
        if (!two) continue;
        PARE_TILE_LOAD(5, a.x[1].codes[0] + 32 * b, X_LD);
        PARE_TILE_DPBSUD(2, 5, 6);
        PARE_TILE_DPBSUD(3, 5, 7);
    }
    PARE_TILE_STORE(0, sums[0], 64);
    PARE_TILE_STORE(1, sums[1], 64);
    if (two) PARE_TILE_STORE(2, sums[2], 64);
    if (two) PARE_TILE_STORE(3, sums[3], 64);
    for (int i = 0; i < (two ? 4 : 2); i++) {
        tall_args b = a;
        b.half = i % 2, b.x += i / 2, b.c += i / 2 * T * PARE_I8_ROWS;
        __m512 acc[T];
        UNROLL for (int t = 0; t < T; t++) acc[t] = _mm512_setzero_ps();
        apply(b, 0, sums[i], 256, true, minima, acc);
        finish(b, true, acc);
    }
}

static void groups_32(const tall_args a) {
    const pare_i8_shape *s = a.s;
    if (!s->by_slab && s->minima) by_groups(a, 32, false, true);
    else if (!s->by_slab) by_groups(a, 32, false, false);
    else if (s->minima) by_groups(a, 32, true, true);
    else by_groups(a, 32, true, false);
}

static void groups_16(const tall_args a) {
    if (a.s->minima) by_groups(a, 16, true, true);
    else by_groups(a, 16, true, false);
}

static void slabs(const tall_args a, bool two) {
    if (two && a.s->minima) by_slabs(a, true, true);
    else if (two) by_slabs(a, true, false);
    else if (a.s->minima) by_slabs(a, false, true);
    else by_slabs(a, false, false);
}

void pare_gemm_i8_tall_amx(const pare_i8_shape *s, const pare_i8_panel *w, const pare_i8_tall *x, int tokens, float *c,
                           bool accumulate) {
    tall_args a = {.s = s, .w = w, .x = x, .c = c, .accumulate = accumulate};
    const int n = (tokens + T - 1) / T, step = s->group == 256 ? 2 : 1;
    pare_tile_configure(s->group == 16 ? &shape_16 : s->group == 32 ? &shape_32 : &shape_64);
    for (int i = 0; i < n; i += step, a.x += step, a.c += step * T * PARE_I8_ROWS) {
        if (s->group == 256) slabs(a, i + 1 < n);
        else
            for (a.half = 0; a.half < 2; a.half++)
                if (s->group == 32) groups_32(a);
                else groups_16(a);
    }
    pare_tile_release();
}
