/* SPDX-License-Identifier: Apache-2.0
 *
 * What the grids of the GGUF block formats share. A block of `elems` columns is `subs` sub-blocks of `run` columns;
 * sub-block j holds value(code) * a_j - b_j, where a and b follow from the stored parameters and value() is the code
 * itself or a codebook's entry. A format says how parameters are fitted, turned into (a, b), and packed; snapping,
 * slicing and encoding are common. */
#ifndef PARE_QUANT_BLOCK_GRID_H
#define PARE_QUANT_BLOCK_GRID_H

#include "core/qtype.h"
#include "quant/qops.h"

#define PARE_MAX_SUBS 16

/* One parameter set: exactly the stored bits. m is the offset of *_1, dmin of the K formats. */
typedef struct pare_block_params {
    uint16_t d, m;
    int8_t sc[PARE_MAX_SUBS];
    uint8_t mn[PARE_MAX_SUBS];
} pare_block_params;

/* How pare_block_search fits: weights, and the numbers of search_sym / search_asym (quant/qops.def). Without importance
 * the weights are of kind `weights` with c = rms * the root mean square of the sub-block; with it of kind `importance`
 * with c = energy * the mean square of the block (of the row, where row_energy is set). */
typedef struct pare_block_search {
    int weights, importance;
    float rms, energy;
    bool row_energy;
    int sc_lo, sc_hi;  /* integer scales of sub-blocks; 0, 0 when d is the only scale. Offsets have 0..sc_hi */
    int tries;         /* symmetric */
    float first, step; /* with offset: */
    int steps;
} pare_block_search;

typedef struct pare_block_format {
    pare_grid grid; /* first: a pare_qtype points at it */
    uint16_t elems, bytes, run, subs;
    int8_t lo, hi; /* codes */
    bool offset;   /* sub-blocks have one */
    bool codebook; /* codes are indices into pare_iq4_values */
    pare_block_search search;
    /* rows blocks, w_ld apart; importance and row_energy as in pare_grid */
    void (*fit)(const struct pare_block_format *f, const float *w, size_t w_ld, const float *importance,
                const float *row_energy, size_t rows, pare_block_params *params);
    void (*affine)(const pare_block_params *p, float *a, float *b); /* subs values each */
    void (*pack)(const pare_block_params *p, const int8_t *codes, uint8_t *out);
    void (*unpack)(const uint8_t *in, pare_block_params *p, int8_t *codes);
} pare_block_format;

/* The fit of formats whose scales are searched (quant/block_search.c). */
void pare_block_search_fit(const pare_block_format *f, const float *w, size_t w_ld, const float *importance,
                           const float *row_energy, size_t rows, pare_block_params *params);

void pare_block_fit(const pare_qtype *qt, const float *w, size_t w_ld, const float *importance, const float *row_energy,
                    size_t rows, size_t n, void *params);
void pare_block_snap(const pare_qtype *qt, const void *params, size_t group_n, const float *w, size_t w_ld, size_t rows,
                     size_t first, size_t n, int8_t *codes, size_t codes_ld, float *decoded, size_t decoded_ld);
void pare_block_pack(const pare_qtype *qt, const void *params, const int8_t *codes, size_t codes_ld, size_t rows,
                     size_t n, void *out, size_t out_stride);
void pare_block_unpack(const pare_qtype *qt, const void *in, size_t in_stride, size_t rows, size_t n, void *params,
                       int8_t *codes, size_t codes_ld);
void pare_block_encode(const pare_qtype *qt, const float *w, size_t w_ld, const float *importance, size_t rows,
                       size_t n, void *out, size_t out_stride);

#define PARE_BLOCK_GRID(columns)                                                                                       \
    {                                                                                                                  \
        .group = columns, .param_bytes = sizeof(pare_block_params), .fit = pare_block_fit, .snap = pare_block_snap,    \
        .pack = pare_block_pack, .unpack = pare_block_unpack, .encode = pare_block_encode                              \
    }

/* v as a finite f16; not 0 unless v is, so that the smallest scales still tell codes apart. */
uint16_t pare_f16_scale(float v);

#endif
