/* SPDX-License-Identifier: Apache-2.0
 *
 * Integer products of stored weights and rounded activations. Every integer format is seen as unsigned byte codes with
 * one scale (and for some one minimum) per 16 columns:
 *     w = scale * (code - offset) + minimum
 * so that a group's product is  scale * sx * (sum code * x - offset * sum x) + minimum * sx * sum x,  the bracket exact
 * in int32. Columns are taken in slabs of 256; the last slab is padded with zero codes and zero scales. */
#ifndef PARE_CPU_MATMUL_I8_H
#define PARE_CPU_MATMUL_I8_H

#include "core/tensor.h"
#include "cpu/act_quant.h"
#include "cpu/sparse.h"

#define PARE_I8_SLAB   256
#define PARE_I8_ROWS   32  /* stored rows per panel */
#define PARE_I8_TOKENS 6   /* tokens per tile */
#define PARE_I8_TALL   16  /* tokens per tile of AMX */
#define PARE_I8_PAD    512 /* activation rows are padded to this with zero codes, so that row kernels may overrun */

typedef enum pare_i8_kind {
    PARE_I8_Q4_0,
    PARE_I8_Q4_1,
    PARE_I8_Q5_0,
    PARE_I8_Q5_1,
    PARE_I8_Q8_0,
    PARE_I8_IQ4_NL,
    PARE_I8_MXFP4,
    PARE_I8_Q2_K,
    PARE_I8_Q3_K,
    PARE_I8_Q4_K,
    PARE_I8_Q5_K,
    PARE_I8_Q6_K,
    PARE_I8_IQ4_XS,
    PARE_I8_GROUPED,
    PARE_I8_SPARSE /* of grouped integers */
} pare_i8_kind;

/* How a tensor's rows are read as codes. */
typedef struct pare_i8_source {
    pare_i8_kind kind;
    const pare_qtype *type;
    size_t k, row_bytes;
    int offset;
    bool wide; /* codes above 63 occur: pairs of products overflow 16 bits */
    bool minima;
    int group;               /* columns per scale: 16, 32, or 256 when one scale covers every slab */
    pare_sparse_view sparse; /* PARE_I8_SPARSE */
} pare_i8_source;
/* False for formats that are no integers times a scale; those go through f32. */
bool pare_i8_source_of(const pare_tensor *w, pare_i8_source *s);

/* One row's slab. */
typedef struct pare_i8_slab {
    _Alignas(64) uint8_t codes[PARE_I8_SLAB];
    float scale[PARE_I8_SLAB / 16], minimum[PARE_I8_SLAB / 16];
    float zero[PARE_I8_SLAB / 16]; /* asymmetric grouped integers: minimum = -scale * zero */
} pare_i8_slab;

/* op: columns first .. first+n of the row at `row` (n <= 256, first a multiple of 256), the rest zero-filled. equal:
 * exactly */
typedef void pare_expand_fn(const pare_i8_source *s, const uint8_t *row, size_t first, size_t n, pare_i8_slab *out);

/* op: the slab's values in f32, as the format's decode has them (its products rounded to the scale's type).
 * equal: exactly */
typedef void pare_decode_slab_fn(const pare_i8_source *s, const pare_i8_slab *w, float *out);

/* 32 rows of one slab. layout: codes [64][32 rows][4 columns]; scale, minimum [16][32 rows]. */
typedef struct pare_i8_panel {
    _Alignas(64) uint8_t codes[PARE_I8_SLAB * PARE_I8_ROWS];
    float scale[PARE_I8_SLAB / 16][PARE_I8_ROWS], minimum[PARE_I8_SLAB / 16][PARE_I8_ROWS];
} pare_i8_panel;
/* op: puts rows r0 .. r0+16 of the panel together from 16 slabs. equal: exactly */
typedef void pare_panel_i8_fn(const pare_i8_slab *slabs, int r0, pare_i8_panel *p);

/* One row of activations: codes, and per 16 columns scale, sum of codes, scale * sum (Q8_1: its s). */
typedef struct pare_i8_act {
    const int8_t *codes;
    const float *scale, *scaled_sum;
    const int32_t *sum;
    /* for row kernels: codes in the order of the format's nibbles, and per 32 columns */
    const int8_t *shuffled;
    const float *scale32;
    const int32_t *sum32;
    const int16_t *sum16; /* sum per 16 columns, as `sum` */
} pare_i8_act;

/* One slab of up to six rows. start = -offset * sum of codes, what integer sums begin with; extra = what minima
 * multiply. layout: codes [8][6 tokens][32 columns]; scale per 32 columns (by_slab: one, in scale[0]); start and extra
 * per group. */
typedef struct pare_i8_tile {
    _Alignas(64) int8_t codes[PARE_I8_SLAB / 32][PARE_I8_TOKENS][32];
    float scale[PARE_I8_SLAB / 32][PARE_I8_TOKENS];
    int32_t start[PARE_I8_SLAB / 16][PARE_I8_TOKENS];
    float extra[PARE_I8_SLAB / 16][PARE_I8_TOKENS];
} pare_i8_tile;

/* The same for AMX: a row of codes per token. */
typedef struct pare_i8_tall {
    _Alignas(64) int8_t codes[PARE_I8_TALL][PARE_I8_SLAB];
    float scale[PARE_I8_SLAB / 32][PARE_I8_TALL];
    int32_t start[PARE_I8_SLAB / 16][PARE_I8_TALL];
    float extra[PARE_I8_SLAB / 16][PARE_I8_TALL];
} pare_i8_tall;

/* What kind of product: by_slab = activations have one scale per slab (or row) instead of one per 32 columns; then
 * scale and minimum are summed first and multiplied by it last. */
typedef struct pare_i8_shape {
    int group;  /* 16, 32, 256 */
    int blocks; /* 32-column blocks in this slab, 1..8 */
    bool by_slab, minima, wide;
} pare_i8_shape;

/* op: c[t][r] (+)= product of the panel and the tile, t < tokens <= 6, all 32 rows; c is [6][32], 64-byte aligned.
 * equal: integer sums exactly, results within 1e-6 * sum of magnitudes */
typedef void pare_gemm_i8_fn(const pare_i8_shape *s, const pare_i8_panel *w, const pare_i8_tile *x, int tokens,
                             float *c, bool accumulate);

/* op: the same for any number of tokens: x has ceil(tokens / 16) tiles, c [16 * tiles][32] (rows past `tokens` are
 * written too). equal: as gemm_i8 */
typedef void pare_gemm_i8_tall_fn(const pare_i8_shape *s, const pare_i8_panel *w, const pare_i8_tall *x, int tokens,
                                  float *c, bool accumulate);

/* op: the product of one slab and the activations from column `first` on.  equal: as gemm_i8 */
typedef float pare_dot_i8_fn(const pare_i8_source *s, const pare_i8_slab *w, const pare_i8_act *x, size_t first);

/* op: the product of one stored row and one row of activations, straight from storage; one kernel per layout:
 * row_q4_0 and row_q8_0 (also int4:g32 and int8:g32), row_q4_k, row_q6_k, row_int4 and row_int8 (other grouped
 * integers), row_sparse (sparse formats of those). equal: as gemm_i8 */
typedef float pare_row_fn(const pare_i8_source *s, const uint8_t *row, const pare_i8_act *x);

/* Order of `shuffled`: column of each byte within 128, so that low and high nibbles of 64 stored bytes meet their
 * codes. */
typedef enum pare_i8_order { PARE_ORDER_PLAIN, PARE_ORDER_NIBBLE16, PARE_ORDER_NIBBLE32 } pare_i8_order;
pare_i8_order pare_i8_order_of(const pare_i8_source *s);

/* ---- preparation of activations: cpu/act_i8.c ---- */
size_t pare_i8_act_bytes(size_t k); /* of one prepared row, a multiple of 64 */
/* Rounds one row into `mem` (pare_i8_act_bytes) and fills the pointers; with_rows also what row kernels want. */
void pare_i8_act_make(const pare_i8_source *s, pare_act_rule rule, const float *x, bool with_rows, void *mem,
                      pare_i8_act *a);
pare_i8_act pare_i8_act_at(size_t k, void *mem); /* the pointers again */
/* Slab `first` of `tokens` prepared rows as a tile. */
void pare_i8_tile_make(const pare_i8_source *s, const pare_i8_shape *shape, const pare_i8_act *rows, int tokens,
                       size_t first, pare_i8_tile *t);

void pare_i8_tall_make(const pare_i8_source *s, const pare_i8_shape *shape, const pare_i8_act *rows, int tokens,
                       size_t first, pare_i8_tall *t); /* up to 16 */

/* ---- the frame: cpu/matmul_i8.c; arguments as in cpu/matmul.h ---- */
void pare_matmul_i8(const pare_i8_source *s, const void *w, int64_t n, const float *x, float *y, int64_t m,
                    pare_act_rule rule, void *workspace);
size_t pare_matmul_i8_workspace(const pare_i8_source *s, int64_t m);

#endif
