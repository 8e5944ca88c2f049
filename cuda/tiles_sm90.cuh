/* SPDX-License-Identifier: Apache-2.0
 *
 * How the blocks of a Hopper product share its work. A block takes every gridDim.x-th tile and sees their steps of k as
 * one sequence, so that the copies of the next tile are under way while the results of the last one are written. Tiles
 * that run at the same time lie close together, so that their operands meet in L2: bands of BAND row tiles, rows
 * fastest. Few tiles: k is split, the parts are added in their order by another kernel. */
#ifndef PARE_CUDA_TILES_SM90_CUH
#define PARE_CUDA_TILES_SM90_CUH

#include "cuda/dev.cuh"

#define PARE_BAND 16

typedef struct pare_tiles {
    int row_tiles, token_tiles, splits; /* tiles in all: their product */
    int steps, per_split;               /* of k in all, in a split (the last may have fewer) */
} pare_tiles;

/* As many splits as leave each at least `least` steps and no multiprocessor idle. */
static inline pare_tiles pare_tiles_plan(int64_t rows, int tile_rows, int64_t tokens, int tile_tokens, int64_t steps,
                                         int sms, int least) {
    pare_tiles t = {(int)((rows + tile_rows - 1) / tile_rows), (int)((tokens + tile_tokens - 1) / tile_tokens), 1,
                    (int)steps, (int)steps};
    int64_t tiles = (int64_t)t.row_tiles * t.token_tiles, want = tiles < sms ? sms / tiles : 1;
    if (want > steps / least) want = steps / least;
    if (want < 2) return t;
    t.per_split = (int)((steps + want - 1) / want);
    t.splits = (int)((steps + t.per_split - 1) / t.per_split);
    return t;
}
static inline int64_t pare_tiles_count(const pare_tiles *t) {
    return (int64_t)t->row_tiles * t->token_tiles * t->splits;
}

/* Where a block is. */
struct pare_walk {
    int tile, tiles;
    int row, token, split, step, end; /* tile coordinates; step runs to end */

    __device__ __forceinline__ void locate(const pare_tiles &t) {
        if (tile >= tiles) return;
        int plane = t.row_tiles * t.token_tiles, i = tile % plane, band = i / (PARE_BAND * t.token_tiles);
        int first = band * PARE_BAND, height = t.row_tiles - first < PARE_BAND ? t.row_tiles - first : PARE_BAND;
        i -= first * t.token_tiles;
        split = tile / plane, row = first + i % height, token = i / height;
        step = split * t.per_split, end = step + t.per_split < t.steps ? step + t.per_split : t.steps;
    }
    __device__ __forceinline__ void start(const pare_tiles &t) {
        row = token = split = step = end = 0;
        tile = (int)blockIdx.x, tiles = t.row_tiles * t.token_tiles * t.splits;
        locate(t);
    }
    __device__ __forceinline__ bool more(void) const { return tile < tiles; }
    __device__ __forceinline__ void next_tile(const pare_tiles &t) {
        tile += (int)gridDim.x;
        locate(t);
    }
    __device__ __forceinline__ void next(const pare_tiles &t) {
        if (++step == end) next_tile(t);
    }
};

#endif
