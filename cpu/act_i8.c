/* SPDX-License-Identifier: Apache-2.0
 *
 * Activations made ready for integer kernels: rounded rows with their sums, and tiles of six or sixteen rows by
 * one slab. */
#include "cpu/matmul_kernels.h"

#include <math.h>
#include <string.h>

void pare_act_sums_ref(const int8_t *codes, const float *scale, size_t n, int32_t *sum, float *scaled) {
    for (size_t i = 0; i < n / 16; i++) {
        int32_t t = 0;
        for (size_t j = 0; j < 16; j++) t += codes[16 * i + j];
        sum[i] = t;
        scaled[i] = scale[i] * (float)t;
    }
}

static size_t padded(size_t k) { return (k + PARE_I8_PAD - 1) / PARE_I8_PAD * PARE_I8_PAD; }

/* codes, shuffled: 1 byte per column each; scale, sum, scaled_sum: 4 per 16; scale32, sum32: 4 per 32; sum16: 2 per 16
 */
size_t pare_i8_act_bytes(size_t k) {
    return padded(k) * 2 + padded(k) / 16 * 12 + padded(k) / 32 * 8 + padded(k) / 16 * 2;
}

pare_i8_act pare_i8_act_at(size_t k, void *mem) {
    size_t p = padded(k);
    char *m = mem;
    pare_i8_act a = {.codes = (int8_t *)m, .shuffled = (int8_t *)(m + p)};
    a.scale = (float *)(void *)(m + 2 * p);
    a.scaled_sum = a.scale + p / 16;
    a.sum = (int32_t *)(void *)(m + 2 * p + p / 2);
    a.scale32 = (float *)(void *)(m + 2 * p + p / 4 * 3);
    a.sum32 = (int32_t *)(void *)(a.scale32 + p / 32);
    a.sum16 = (int16_t *)(void *)(a.sum32 + p / 32);
    return a;
}

/* Stored nibbles of 64 bytes: 16 (or 32) low, then as many high columns per 16 (or 32) bytes. */
static void shuffle(pare_i8_order order, const int8_t *codes, size_t p, int8_t *out) {
    size_t w = order == PARE_ORDER_NIBBLE16 ? 16 : 32;
    if (order == PARE_ORDER_PLAIN) memcpy(out, codes, p);
    else
        for (size_t i = 0; i < p; i += 128)
            for (size_t j = 0; j < 64 / w; j++) {
                memcpy(out + i + w * j, codes + i + 2 * w * j, w);
                memcpy(out + i + 64 + w * j, codes + i + 2 * w * j + w, w);
            }
}

/* Q8_1's s = f16(amax / 127 * sum of codes), for the 32 columns from x on. */
static float q8_1_s(const float *x, size_t n, int32_t sum) {
    float amax = 0;
    for (size_t i = 0; i < n; i++) amax = fmaxf(amax, fabsf(x[i]));
    return pare_f16_to_f32(pare_f32_to_f16(amax / 127.0f * (float)sum));
}

static void for_rows(const pare_i8_source *s, size_t p, const pare_i8_act *a) {
    float *scale32 = (float *)a->scale32;
    int32_t *sum32 = (int32_t *)a->sum32;
    int16_t *sum16 = (int16_t *)a->sum16;
    shuffle(pare_i8_order_of(s), a->codes, p, (int8_t *)a->shuffled);
    for (size_t i = 0; i < p / 32; i++) scale32[i] = a->scale[2 * i], sum32[i] = a->sum[2 * i] + a->sum[2 * i + 1];
    for (size_t i = 0; i < p / 16; i++) sum16[i] = (int16_t)a->sum[i];
}

void pare_i8_act_make(const pare_i8_source *s, pare_act_rule rule, const float *x, bool with_rows, void *mem,
                      pare_i8_act *a) {
    size_t k = s->k, p = padded(k), block = pare_act_block(rule, k), n_scales = (k + block - 1) / block;
    *a = pare_i8_act_at(k, mem);
    int8_t *codes = (int8_t *)a->codes;
    float *scale = (float *)a->scale, *scaled = (float *)a->scaled_sum,
          *own = scaled; /* the rule's scales, for a moment */
    int32_t *sum = (int32_t *)a->sum;
    pare_mm_kernels()->act_quant(rule, x, k, codes, own);
    memset(codes + k, 0, p - k);
    size_t n = (k + 15) / 16, per = block / 16; /* per 16 columns; a row's one scale may cover any number */
    if (n_scales == 1) {
        float one = own[0];
        for (size_t i = 0; i < n; i++) scale[i] = one;
    } else
        for (size_t i = 0; i < n; i++) scale[i] = own[i / per];
    memset(scale + n, 0, (p / 16 - n) * sizeof *scale);
    pare_mm_kernels()->act_sums(codes, scale, p, sum, scaled);
    if (rule == PARE_RULE_Q8_1)
        for (size_t i = 0; i < k; i += 32) {
            scaled[i / 16] = q8_1_s(x + i, k - i < 32 ? k - i : 32, sum[i / 16] + sum[i / 16 + 1]);
            scaled[i / 16 + 1] = 0;
        }
    if (with_rows) for_rows(s, p, a);
}

/* Sums per group: 16, 32 or 256 columns are 1, 2 or 16 of the 16-column entries. */
static void tile_sums(const pare_i8_source *s, const pare_i8_shape *shape, const pare_i8_act *row, size_t first,
                      int32_t *start, float *extra, size_t ld) {
    size_t per = (size_t)shape->group / 16;
    for (size_t g = 0; g < 16 / per; g++) {
        int32_t sum = 0;
        float scaled = 0;
        for (size_t j = 0; j < per; j++)
            sum += row->sum[first / 16 + g * per + j], scaled += row->scaled_sum[first / 16 + g * per + j];
        start[g * ld] = -s->offset * sum;
        extra[g * ld] = shape->by_slab ? (float)sum : scaled;
    }
}

void pare_i8_tile_make(const pare_i8_source *s, const pare_i8_shape *shape, const pare_i8_act *rows, int tokens,
                       size_t first, pare_i8_tile *out) {
    if (tokens < PARE_I8_TOKENS) memset(out, 0, sizeof *out);
    for (int t = 0; t < tokens; t++) {
        for (size_t b = 0; b < PARE_I8_SLAB / 32; b++) {
            memcpy(out->codes[b][t], rows[t].codes + first + 32 * b, 32);
            out->scale[b][t] = rows[t].scale[first / 16 + 2 * b];
        }
        tile_sums(s, shape, &rows[t], first, &out->start[0][t], &out->extra[0][t], PARE_I8_TOKENS);
    }
}

void pare_i8_tall_make(const pare_i8_source *s, const pare_i8_shape *shape, const pare_i8_act *rows, int tokens,
                       size_t first, pare_i8_tall *out) {
    if (tokens < PARE_I8_TALL) memset(out, 0, sizeof *out);
    for (int t = 0; t < tokens; t++) {
        memcpy(out->codes[t], rows[t].codes + first, PARE_I8_SLAB);
        for (size_t b = 0; b < PARE_I8_SLAB / 32; b++) out->scale[b][t] = rows[t].scale[first / 16 + 2 * b];
        tile_sums(s, shape, &rows[t], first, &out->start[0][t], &out->extra[0][t], PARE_I8_TALL);
    }
}
