/* SPDX-License-Identifier: Apache-2.0
 *
 * The common half of the block grids: snapping of slices, and whole rows in one go. */
#include "quant/block_grid.h"

#include "quant/blocks.h"
#include "quant/lanes.h"

#include <math.h>
#include <string.h>

#define CHUNK     32 /* blocks encoded at once: parameters and codes stay in the first-level cache */
#define MAX_ELEMS 256

static const pare_block_format *format_of(const pare_qtype *qt) { return (const pare_block_format *)qt->grid; }

uint16_t pare_f16_scale(float v) {
    uint16_t h = pare_f32_to_f16(s_clamp(v, -65504.0f, 65504.0f));
    return (h & 0x7FFF) == 0 && v != 0 ? (uint16_t)(h | 1) : h;
}

void pare_block_fit(const pare_qtype *qt, const float *w, size_t w_ld, const float *importance, const float *row_energy,
                    size_t rows, size_t n, void *params) {
    format_of(qt)->fit(format_of(qt), w, w_ld, importance, row_energy, rows, params);
}

static void decode_run(const pare_block_format *f, const int8_t *codes, size_t n, float a, float b, float *out) {
    if (f->codebook)
        for (size_t i = 0; i < n; i++) out[i] = a * pare_iq4_values[codes[i]];
    else
        for (size_t i = 0; i < n; i++) out[i] = a * (float)codes[i] - b;
}

static void snap_segment(const pare_block_format *f, const pare_qops *ops, const float *w, size_t run, size_t runs,
                         const float *off, const float *inv, int8_t *codes) {
    if (f->codebook) ops->snap_iq4(w, run, runs, inv, codes);
    else ops->snap_runs(w, run, runs, off, inv, f->lo, f->hi, codes);
}

void pare_block_snap(const pare_qtype *qt, const void *params, size_t group_n, const float *w, size_t w_ld, size_t rows,
                     size_t first, size_t n, int8_t *codes, size_t codes_ld, float *decoded, size_t decoded_ld) {
    const pare_block_format *f = format_of(qt);
    const pare_block_params *p = params;
    const pare_qops *ops = pare_qops_get();
    for (size_t r = 0; r < rows; r++, w += w_ld, codes += codes_ld) {
        float a[PARE_MAX_SUBS], b[PARE_MAX_SUBS], inv[PARE_MAX_SUBS];
        f->affine(p + r, a, b);
        for (size_t j = 0; j < f->subs; j++) inv[j] = a[j] != 0 ? 1.0f / a[j] : 0.0f;
        if (first == 0 && n == f->elems) {
            snap_segment(f, ops, w, f->run, f->subs, b, inv, codes);
        } else {
            for (size_t c = 0, len; c < n; c += len) {
                size_t j = (first + c) / f->run, left = (j + 1) * f->run - (first + c);
                len = left < n - c ? left : n - c;
                snap_segment(f, ops, w + c, len, 1, b + j, inv + j, codes + c);
            }
        }
        for (size_t c = 0, len; decoded && c < n; c += len) {
            size_t j = (first + c) / f->run, left = (j + 1) * f->run - (first + c);
            len = left < n - c ? left : n - c;
            decode_run(f, codes + c, len, a[j], b[j], decoded + r * decoded_ld + c);
        }
    }
}

void pare_block_pack(const pare_qtype *qt, const void *params, const int8_t *codes, size_t codes_ld, size_t rows,
                     size_t n, void *out, size_t out_stride) {
    const pare_block_format *f = format_of(qt);
    const pare_block_params *p = params;
    for (size_t r = 0; r < rows; r++) f->pack(p + r, codes + r * codes_ld, (uint8_t *)out + r * out_stride);
}

void pare_block_unpack(const pare_qtype *qt, const void *in, size_t in_stride, size_t rows, size_t n, void *params,
                       int8_t *codes, size_t codes_ld) {
    const pare_block_format *f = format_of(qt);
    pare_block_params *p = params;
    for (size_t r = 0; r < rows; r++) {
        memset(p + r, 0, sizeof *p);
        f->unpack((const uint8_t *)in + r * in_stride, p + r, codes + r * codes_ld);
    }
}

static float mean_square(const float *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    return (float)(sum / (double)n < 3e38 ? sum / (double)n : 3e38);
}

/* blocks blocks, w_ld apart in w and out_ld apart in out */
static void encode_chunk(const pare_qtype *qt, const float *w, size_t w_ld, const float *importance,
                         const float *row_energy, size_t blocks, uint8_t *out, size_t out_ld) {
    const pare_block_format *f = format_of(qt);
    pare_block_params params[CHUNK];
    int8_t codes[CHUNK * MAX_ELEMS];
    pare_block_fit(qt, w, w_ld, importance, row_energy, blocks, f->elems, params);
    pare_block_snap(qt, params, f->elems, w, w_ld, blocks, 0, f->elems, codes, f->elems, NULL, 0);
    pare_block_pack(qt, params, codes, f->elems, blocks, f->elems, out, out_ld);
}

void pare_block_encode(const pare_qtype *qt, const float *w, size_t w_ld, const float *importance, size_t rows,
                       size_t n, void *out, size_t out_stride) {
    const pare_block_format *f = format_of(qt);
    size_t groups = n / f->elems;
    uint8_t *dst = out;
    if (!importance) { /* neighbouring blocks of a row at once */
        for (size_t r = 0; r < rows; r++)
            for (size_t g = 0; g < groups; g += CHUNK)
                encode_chunk(qt, w + r * w_ld + g * f->elems, f->elems, NULL, NULL,
                             groups - g < CHUNK ? groups - g : CHUNK, dst + r * out_stride + g * f->bytes, f->bytes);
        return;
    }
    for (size_t r = 0; r < rows; r += CHUNK) { /* the rows share their columns' importance */
        size_t chunk = rows - r < CHUNK ? rows - r : CHUNK;
        float energy[CHUNK];
        for (size_t i = 0; f->search.row_energy && i < chunk; i++) energy[i] = mean_square(w + (r + i) * w_ld, n);
        for (size_t g = 0; g < groups; g++)
            encode_chunk(qt, w + r * w_ld + g * f->elems, w_ld, importance + g * f->elems,
                         f->search.row_energy ? energy : NULL, chunk, dst + r * out_stride + g * f->bytes, out_stride);
    }
}
