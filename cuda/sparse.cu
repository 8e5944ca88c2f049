/* SPDX-License-Identifier: Apache-2.0
 *
 * Packing of two-of-four weights (cuda/sparse.cuh). */
#include "core/sparse.h"
#include "cuda/sparse.cuh"

#include <string.h>

#define PIECE_BYTES (32u << 20) /* host buffer of an upload */
#define FIRST_TWO   0x4         /* indexes 0 and 1 */

bool pare_cuda_sparse_has(const pare_qtype *qt) {
    const pare_sparse_format *f = qt->sparse;
    if (!f || f->keep) return false;
    pare_cuda_type t = pare_cuda_type_of(f->dense);
    return t == PARE_CT_F16 || t == PARE_CT_BF16 || (f->dense->int_format && f->bits == 8);
}

static size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }
static size_t tiles_of(const pare_cuda_weight &v) { return pare_cuda_ceil(v.n, PARE_SPARSE_ROWS); }

pare_cuda_weight pare_cuda_sparse_view(const pare_tensor *w) {
    const pare_int_format *f = w->type->int_format;
    pare_cuda_weight v = {};
    v.n = (int)pare_cuda_rows(w), v.k = (int)pare_cuda_cols(w);
    if (f) {
        v.scale_type = pare_cuda_type_of(f->scale_type);
        v.entry = v.scale_type == PARE_CT_F32 ? 4 : 2;
        v.group_shift = f->group ? __builtin_ctz(f->group) : 31;
        v.scale_row = (uint32_t)v.entry;
        if (f->group) v.scale_row = (uint32_t)round_up(round_up((size_t)v.k, 64) / 32 * (size_t)v.entry, 16);
    }
    v.slabs = (int)pare_cuda_ceil(v.k, pare_cuda_sparse_chunk(v));
    v.low_row = (uint32_t)v.slabs * 512, v.high_row = (uint32_t)v.slabs * (f ? 128 : 64);
    v.low = (const uint8_t *)w->data;
    v.high = v.low + tiles_of(v) * v.low_row;
    v.scales = v.high + round_up(tiles_of(v) * v.high_row, 256);
    return v;
}

size_t pare_cuda_sparse_bytes(const pare_tensor *w) {
    pare_cuda_weight v = pare_cuda_sparse_view(w);
    return (size_t)(v.scales - v.low) + round_up((size_t)v.n * v.scale_row, 256);
}

typedef struct pack_job {
    pare_cuda_weight v;
    const uint8_t *rows;                          /* of the tile the piece begins with */
    size_t row_bytes, places_at, values_at, left; /* rows from there on */
    uint8_t *low, *high;
} pack_job;

/* Chunk c of row r of a tile: stored values and indexes, or zeros past the end. */
static void take(const pack_job *j, size_t tile, int r, int c, uint8_t *values, uint8_t *places) {
    int cols = pare_cuda_sparse_chunk(j->v), size = j->v.entry ? 1 : 2, first = c * cols;
    size_t row = tile * PARE_SPARSE_ROWS + (size_t)r;
    int n = j->v.k - first < cols ? j->v.k - first : cols;
    memset(values, 0, 32), memset(places, FIRST_TWO * 0x11, 8);
    if (row >= j->left) return;
    const uint8_t *p = j->rows + row * j->row_bytes;
    memcpy(values, p + j->values_at + (size_t)first / 2 * size, (size_t)n / 2 * size);
    for (int b = 0; b < n; b += 8) /* the last byte may hold one four only */
        places[b / 8] = n - b >= 8 ? p[j->places_at + (first + b) / 8]
                                   : (uint8_t)((p[j->places_at + (first + b) / 8] & 15) | FIRST_TWO << 4);
}

static void pack_tile(void *ctx, size_t tile) {
    const pack_job *j = (const pack_job *)ctx;
    bool bytes = j->v.entry != 0;
    for (int c = 0; c < j->v.slabs; c++) {
        uint8_t *low = j->low + tile * j->v.low_row + c * 512,
                *high = j->high + tile * j->v.high_row + c * (bytes ? 128 : 64);
        for (int r = 0; r < PARE_SPARSE_ROWS; r++) {
            uint8_t values[32], places[8];
            take(j, tile, r, c, values, places);
            for (int t = 0; t < 4; t++) { /* words t and t + 4 of the eight */
                uint8_t *lane = low + (4 * (r % 8) + t) * 16 + r / 8 * 4;
                memcpy(lane, values + 4 * t, 4), memcpy(lane + 8, values + 16 + 4 * t, 4);
            }
            for (int half = 0; half < 2; half++) {
                if (bytes) memcpy(high + (4 * (r % 8) + r / 8 + 2 * half) * 4, places + 4 * half, 4);
                else memcpy(high + (2 * (r % 8) + half) * 4 + r / 8 * 2, places + 2 * half, 2);
            }
        }
    }
}

static bool upload_scales(pare_cuda *dev, const pack_job *j, const pare_cuda_weight *to, size_t groups) {
    size_t bytes = (size_t)j->v.n * j->v.scale_row, own = groups * (size_t)j->v.entry;
    uint8_t *buffer = (uint8_t *)pare_cuda_host->alloc(bytes);
    if (!buffer) return false;
    memset(buffer, 0, bytes);
    for (size_t r = 0; r < (size_t)j->v.n; r++) memcpy(buffer + r * j->v.scale_row, j->rows + r * j->row_bytes, own);
    bool done = rt_upload(&dev->rt, (void *)to->scales, buffer, bytes);
    pare_cuda_host->release(buffer);
    return done;
}

bool pare_cuda_sparse_upload(pare_cuda *dev, void *dst, const pare_tensor *w) {
    const pare_int_format *f = w->type->int_format;
    pare_tensor there = *w;
    there.data = dst;
    pare_cuda_weight to = pare_cuda_sparse_view(&there);
    pack_job j = {};
    j.v = pare_cuda_sparse_view(w), j.rows = (const uint8_t *)w->data, j.left = (size_t)j.v.n;
    j.row_bytes = pare_cuda_host->row_bytes(w->type, (size_t)j.v.k);
    size_t groups = !f ? 0 : f->group ? (size_t)j.v.k / f->group : 1;
    j.places_at = groups * (size_t)j.v.entry, j.values_at = j.places_at + (size_t)(j.v.k + 7) / 8;
    if (f && !upload_scales(dev, &j, &to, groups)) return false;
    size_t per = (size_t)to.low_row + to.high_row, tiles = tiles_of(to), piece = PIECE_BYTES / per + 1;
    if (piece > tiles) piece = tiles;
    uint8_t *buffer = (uint8_t *)pare_cuda_host->alloc(piece * per);
    bool done = buffer != NULL;
    for (size_t t = 0; done && t < tiles; t += piece) {
        size_t n = piece < tiles - t ? piece : tiles - t;
        j.low = buffer, j.high = buffer + piece * to.low_row;
        pare_cuda_host->parallel(n, 1, pack_tile, &j);
        done = rt_upload(&dev->rt, (uint8_t *)to.low + t * to.low_row, j.low, n * to.low_row) &&
               rt_upload(&dev->rt, (uint8_t *)to.high + t * to.high_row, j.high, n * to.high_row);
        j.rows += n * PARE_SPARSE_ROWS * j.row_bytes,
            j.left -= j.left < n * PARE_SPARSE_ROWS ? j.left : n * PARE_SPARSE_ROWS;
    }
    if (buffer) pare_cuda_host->release(buffer);
    return done;
}
