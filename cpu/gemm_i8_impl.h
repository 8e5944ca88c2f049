/* SPDX-License-Identifier: Apache-2.0
 *
 * The integer tile, one source for every vector width. Each step multiplies four columns of a vector of stored rows
 * with four broadcast activation bytes; sums of all tokens stay in registers; scales are applied once per group.
 * The including file defines IV and FV (integer and float vectors) with their operations, LANES, VECTORS (per step),
 * WIDE_32 (may codes with minima be wide) and DOT(sum, w, x, wide). */
#include "cpu/matmul_i8.h"

#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

typedef struct tile_args {
    const pare_i8_shape *s;
    const pare_i8_panel *w;
    const pare_i8_tile *x;
    float *c;
    int r0, t0; /* first row and token */
    bool accumulate;
} tile_args;

/* tokens T, group, and the flags are constants in every instance. */
INLINE void tile(const tile_args a, const int T, const int group, const bool by_slab, const bool minima,
                 const bool wide) {
    FV acc[PARE_I8_TOKENS][VECTORS];
    UNROLL for (int t = 0; t < T; t++) UNROLL for (int v = 0; v < VECTORS; v++) acc[t][v] = FV_ZERO();
    const int n_groups = group == 256 ? 1 : a.s->blocks * 32 / group, quads = group == 16 ? 4 : 8;
    const uint8_t *w = a.w->codes + 4 * a.r0;
    const int8_t *x = a.x->codes[0][a.t0];
    const int32_t *start = a.x->start[0] + a.t0;
    const float *extra = a.x->extra[0] + a.t0, *xs = a.x->scale[0] + a.t0;
    const float *ws = a.w->scale[0] + a.r0, *wm = a.w->minimum[0] + a.r0;
    for (int g = 0; g < n_groups; g++) {
        IV sum[PARE_I8_TOKENS][VECTORS];
        UNROLL for (int t = 0; t < T; t++) {
            IV first = IV_SET1(start[t]);
            UNROLL for (int v = 0; v < VECTORS; v++) sum[t][v] = first;
        }
        for (int b = group == 256 ? a.s->blocks : 1; b > 0; b--) {
            UNROLL for (int q = 0; q < quads; q++, w += 4 * PARE_I8_ROWS) {
                IV wv[VECTORS];
                UNROLL for (int v = 0; v < VECTORS; v++) wv[v] = IV_LOAD(w + 4 * LANES * v);
                UNROLL for (int t = 0; t < T; t++) {
                    int32_t four;
                    memcpy(&four, x + 32 * t + 4 * q, 4);
                    IV xv = IV_SET1(four);
                    UNROLL for (int v = 0; v < VECTORS; v++) sum[t][v] = DOT(sum[t][v], wv[v], xv, wide);
                }
            }
            x += group != 16 ? 32 * PARE_I8_TOKENS : g % 2 ? 32 * PARE_I8_TOKENS - 16 : 16;
        }
        UNROLL for (int v = 0; v < VECTORS; v++) {
            FV scale = FV_LOAD(ws + LANES * v), least = minima ? FV_LOAD(wm + LANES * v) : FV_ZERO();
            UNROLL for (int t = 0; t < T; t++) {
                FV s = by_slab ? scale : FV_MUL(scale, FV_SET1(xs[t]));
                acc[t][v] = FV_FMA(IV_TO_FV(sum[t][v]), s, acc[t][v]);
                if (minima) acc[t][v] = FV_FMA(least, FV_SET1(extra[t]), acc[t][v]);
            }
        }
        start += PARE_I8_TOKENS;
        extra += PARE_I8_TOKENS;
        ws += PARE_I8_ROWS * (group / 16);
        wm += PARE_I8_ROWS * (group / 16);
        if (!by_slab) xs += PARE_I8_TOKENS;
    }
    UNROLL for (int t = 0; t < T; t++) {
        float *c = a.c + (a.t0 + t) * PARE_I8_ROWS + a.r0;
        UNROLL for (int v = 0; v < VECTORS; v++) {
            FV y = acc[t][v];
            if (by_slab) y = FV_MUL(y, FV_SET1(xs[t]));
            FV_STORE(c + LANES * v, a.accumulate ? FV_ADD(FV_LOAD(c + LANES * v), y) : y);
        }
    }
}

/* All kinds for one token count. Formats of 16-column groups always meet one activation scale per slab. */
#define INSTANCE(T)                                                                                                    \
    static void tile_##T(const tile_args a) {                                                                          \
        const pare_i8_shape *s = a.s;                                                                                  \
        if (s->group == 32 && !s->by_slab) {                                                                           \
            if (s->minima) tile(a, T, 32, false, true, WIDE_32);                                                       \
            else if (s->wide) tile(a, T, 32, false, false, true);                                                      \
            else tile(a, T, 32, false, false, false);                                                                  \
        } else if (s->group == 32) {                                                                                   \
            if (s->minima) tile(a, T, 32, true, true, WIDE_32);                                                        \
            else tile(a, T, 32, true, false, true);                                                                    \
        } else if (s->group == 16) tile(a, T, 16, true, s->minima, false);                                             \
        else tile(a, T, 256, true, s->minima, true);                                                                   \
    }
