/* SPDX-License-Identifier: Apache-2.0
 *
 * The tile instructions of AMX, as Intel's manual (SDM volume 2, "Intel AMX instruction reference") has them. A thread
 * has eight tiles of up to 16 rows by 64 bytes; a configuration gives each its rows and bytes per row (colsb).
 *   PARE_TILE_ZERO(t)           zeroes tile t
 *   PARE_TILE_LOAD(t, p, ld)    rows from p, p + ld, ... (bytes)
 *   PARE_TILE_STORE(t, p, ld)   the reverse
 *   PARE_TILE_DPBSUD(c, a, b)   c[m][n] += sum_k,i  a[m][4k+i] * b[k][4n+i], a signed and b unsigned bytes, c int32
 * that wraps PARE_TILE_DPBF16(c, a, b)   c[m][n] += sum_k a[m][2k] * b[k][2n]  +  sum_k a[m][2k+1] * b[k][2n+1], bf16
 * into f32; each sum a chain of fused multiply-adds from 0; denormals are zeros, in and out Tile numbers are literals.
 * Tile state is the thread's: configure before the first use and release before leaving.
 *
 * Two bodies: instructions, and with PARE_AMX_EMULATE plain C for machines without AMX. The instructions are our own
 * inline assembly, because compilers' headers tell too little: gcc 12's _tile_loadconfig names 8 of the 64 bytes that
 * it reads, and its loads and stores of tiles name no memory at all, so that surrounding code may be moved past them.
 */
#ifndef PARE_CPU_AMX_TILE_H
#define PARE_CPU_AMX_TILE_H

#include <stdint.h>
#include <string.h>

/* The operand of LDTILECFG. */
typedef struct pare_tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t colsb[16];
    uint8_t rows[16];
} pare_tile_config;
_Static_assert(sizeof(pare_tile_config) == 64, "LDTILECFG reads 64 bytes");

#define PARE_TILE_ROWS  16
#define PARE_TILE_BYTES 64

#ifndef PARE_AMX_EMULATE

static inline void pare_tile_configure(const pare_tile_config *c) { __asm__ volatile("ldtilecfg %0" : : "m"(*c)); }
static inline void pare_tile_release(void) { __asm__ volatile("tilerelease" : : : "memory"); }
#define PARE_TILE_ZERO(t) __asm__ volatile("tilezero %%tmm" #t : :)
#define PARE_TILE_LOAD(t, p, ld)                                                                                       \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t : : "r"((const void *)(p)), "r"((int64_t)(ld)) : "memory")
#define PARE_TILE_STORE(t, p, ld)                                                                                      \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" : : "r"((void *)(p)), "r"((int64_t)(ld)) : "memory")
#define PARE_TILE_DPBSUD(c, a, b) __asm__ volatile("tdpbsud %%tmm" #b ", %%tmm" #a ", %%tmm" #c : :)
#define PARE_TILE_DPBF16(c, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c : :)

#else

#include <assert.h>
#include <math.h>

typedef struct pare_tile_state {
    pare_tile_config config; /* palette 0: nothing configured */
    uint8_t tile[8][PARE_TILE_ROWS][PARE_TILE_BYTES];
} pare_tile_state;
static _Thread_local pare_tile_state pare_tiles;

/* Sizes beyond the palette's are a general protection fault. */
static inline void pare_tile_configure(const pare_tile_config *c) {
    assert(c->palette == 1);
    for (int t = 0; t < 16; t++) {
        assert(c->rows[t] <= (t < 8 ? PARE_TILE_ROWS : 0) && c->colsb[t] <= (t < 8 ? PARE_TILE_BYTES : 0));
        assert(!c->rows[t] == !c->colsb[t]);
    }
    memset(&pare_tiles, 0, sizeof pare_tiles);
    pare_tiles.config = *c;
}
static inline void pare_tile_release(void) { memset(&pare_tiles, 0, sizeof pare_tiles); }

/* Any use of a tile that is not configured is an invalid opcode fault. */
static inline int pare_tile_rows(int t) {
    assert(pare_tiles.config.palette == 1 && t < 8 && pare_tiles.config.rows[t] > 0);
    return pare_tiles.config.rows[t];
}
static inline int pare_tile_colsb(int t) { return pare_tiles.config.colsb[t]; }

static inline void pare_tile_zero(int t) {
    (void)pare_tile_rows(t);
    memset(pare_tiles.tile[t], 0, sizeof pare_tiles.tile[t]);
}
static inline void pare_tile_load(int t, const void *p, int64_t ld) {
    int rows = pare_tile_rows(t);
    memset(pare_tiles.tile[t], 0, sizeof pare_tiles.tile[t]);
    for (int r = 0; r < rows; r++) memcpy(pare_tiles.tile[t][r], (const char *)p + r * ld, (size_t)pare_tile_colsb(t));
}
static inline void pare_tile_store(int t, void *p, int64_t ld) {
    for (int r = 0; r < pare_tile_rows(t); r++)
        memcpy((char *)p + r * ld, pare_tiles.tile[t][r], (size_t)pare_tile_colsb(t));
}

/* The operands' shapes must fit one another, or the instruction faults; rows of c beyond its own become zero. */
static inline void pare_tile_check(int c, int a, int b) {
    assert(pare_tile_rows(c) == pare_tile_rows(a) && pare_tile_colsb(c) == pare_tile_colsb(b));
    assert(pare_tile_colsb(a) == 4 * pare_tile_rows(b) && pare_tile_colsb(c) % 4 == 0 && c != a && a != b && c != b);
}

static inline void pare_tile_dpbsud(int c, int a, int b) {
    pare_tile_check(c, a, b);
    for (int m = 0; m < pare_tile_rows(c); m++)
        for (int n = 0; n < pare_tile_colsb(c) / 4; n++) {
            uint32_t sum; /* wraps */
            memcpy(&sum, pare_tiles.tile[c][m] + 4 * n, 4);
            for (int k = 0; k < pare_tile_rows(b); k++)
                for (int i = 0; i < 4; i++)
                    sum += (uint32_t)((int8_t)pare_tiles.tile[a][m][4 * k + i] * pare_tiles.tile[b][k][4 * n + i]);
            memcpy(pare_tiles.tile[c][m] + 4 * n, &sum, 4);
        }
}

static inline float pare_tile_flush(float v) { return fabsf(v) < 0x1p-126f ? copysignf(0, v) : v; }
static inline float pare_tile_bf16(const uint8_t *p) {
    uint32_t bits = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 24;
    float v;
    memcpy(&v, &bits, 4);
    return pare_tile_flush(v);
}
static inline void pare_tile_dpbf16(int c, int a, int b) {
    pare_tile_check(c, a, b);
    for (int m = 0; m < pare_tile_rows(c); m++)
        for (int n = 0; n < pare_tile_colsb(c) / 4; n++) {
            float sum[2] = {0, 0}, old;
            for (int k = 0; k < pare_tile_rows(b); k++)
                for (int i = 0; i < 2; i++)
                    sum[i] = pare_tile_flush(fmaf(pare_tile_bf16(pare_tiles.tile[a][m] + 4 * k + 2 * i),
                                                  pare_tile_bf16(pare_tiles.tile[b][k] + 4 * n + 2 * i), sum[i]));
            memcpy(&old, pare_tiles.tile[c][m] + 4 * n, 4);
            old = pare_tile_flush(pare_tile_flush(old) + pare_tile_flush(sum[0] + sum[1]));
            memcpy(pare_tiles.tile[c][m] + 4 * n, &old, 4);
        }
}

#define PARE_TILE_ZERO(t)         pare_tile_zero(t)
#define PARE_TILE_LOAD(t, p, ld)  pare_tile_load(t, p, ld)
#define PARE_TILE_STORE(t, p, ld) pare_tile_store(t, p, ld)
#define PARE_TILE_DPBSUD(c, a, b) pare_tile_dpbsud(c, a, b)
#define PARE_TILE_DPBF16(c, a, b) pare_tile_dpbf16(c, a, b)

#endif
#endif
