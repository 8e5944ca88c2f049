/* SPDX-License-Identifier: Apache-2.0
 *
 * Sparse storage formats: their descriptors, made at first use and never freed, and rows in plain C (core/sparse.h). */
#include "core/sparse.h"

#include <stdio.h>
#include <string.h>

#define MAX_DENSE 27 /* f32, f16, bf16; 2 widths x 4 groups x 3 scale types */
#define SHAPES    46 /* 2of4; 3 runs x 15 densities */

static pare_qtype made[MAX_DENSE][SHAPES];
static pare_sparse_format formats[MAX_DENSE][SHAPES];
static char names[MAX_DENSE][SHAPES][32];
static const pare_qtype *dense_of[MAX_DENSE];
static size_t n_dense;
static int ready;

static void decode(const pare_qtype *qt, const void *src, float *dst, size_t n);

static void make(size_t d, size_t shape) {
    static const uint8_t runs[] = {1, 4, 16};
    const pare_qtype *q = dense_of[d];
    unsigned run = shape ? runs[(shape - 1) / 15] : 1, keep = shape ? (unsigned)((shape - 1) % 15 + 1) : 0;
    formats[d][shape] =
        (pare_sparse_format){.dense = q,
                             .run = (uint8_t)run,
                             .keep = (uint8_t)keep,
                             .bits = q->int_format ? q->int_format->bits : (uint8_t)(8 * q->block_bytes)};
    if (keep) snprintf(names[d][shape], sizeof names[d][shape], "%s:mask%u.%u", q->name, run, keep);
    else snprintf(names[d][shape], sizeof names[d][shape], "%s:2of4", q->name);
    made[d][shape] = (pare_qtype){.name = names[d][shape],
                                  .kind = PARE_QK_SPARSE,
                                  .ggml_type = -1,
                                  .int_format = q->int_format,
                                  .decode = decode,
                                  .sparse = &formats[d][shape]};
}

static void make_all(void) {
    static const uint32_t groups[] = {0, 32, 64, 128};
    const pare_qtype *floats[] = {&pare_qtype_f32, &pare_qtype_f16, &pare_qtype_bf16};
    for (size_t i = 0; i < 3; i++) dense_of[n_dense++] = floats[i];
    for (int bits = 4; bits <= 8; bits += 4)
        for (size_t g = 0; g < 4; g++)
            for (size_t s = 0; s < 3; s++) {
                const pare_qtype *q = pare_qtype_int(bits, groups[g], false, floats[s]);
                if (q) dense_of[n_dense++] = q;
            }
    for (size_t d = 0; d < n_dense; d++)
        for (size_t s = 0; s < SHAPES; s++) make(d, s);
}

const pare_qtype *pare_qtype_sparse(const pare_qtype *dense, unsigned run, unsigned keep) {
    if (!__atomic_load_n(&ready, __ATOMIC_ACQUIRE)) {
#pragma omp critical(pare_sparse_formats)
        if (!__atomic_load_n(&ready, __ATOMIC_ACQUIRE)) {
            make_all();
            __atomic_store_n(&ready, 1, __ATOMIC_RELEASE);
        }
    }
    unsigned family = run == 1 ? 0 : run == 4 ? 1 : 2;
    if ((run != 1 && run != 4 && run != 16) || keep > 15 || (keep == 0 && run != 1)) return NULL;
    for (size_t d = 0; d < n_dense; d++)
        if (dense_of[d] == dense) return &made[d][keep ? 1 + family * 15 + keep - 1 : 0];
    return NULL;
}

/* ---- rows ---- */
static size_t groups_of(const pare_qtype *dense, size_t n) {
    const pare_int_format *f = dense->int_format;
    return !f ? 0 : f->group ? n / f->group : 1;
}

bool pare_sparse_fits(const pare_qtype *qt, size_t n) {
    const pare_sparse_format *f = qt->sparse;
    if (!n || n % (f->keep ? f->run : 4) || n / f->run > UINT16_MAX) return false;
    return pare_qtype_fits(f->dense, n);
}

pare_sparse_row pare_sparse_row_of(const pare_qtype *qt, size_t n) {
    const pare_sparse_format *f = qt->sparse;
    size_t runs = n / f->run, stored = f->keep ? (runs * f->keep + 15) / 16 : n / 2;
    pare_sparse_row r = {.groups = groups_of(f->dense, n), .place_bytes = (runs + 7) / 8, .values = stored * f->run};
    if (r.groups) r.table_at = r.groups * f->dense->int_format->scale_type->block_bytes;
    r.place_at = r.table_at + (f->keep ? (n + PARE_SPARSE_SLAB - 1) / PARE_SPARSE_SLAB * 2 : 0);
    r.values_at = r.place_at + r.place_bytes;
    r.bytes = r.values_at + (r.values * f->bits + 7) / 8;
    return r;
}

size_t pare_sparse_count(const uint8_t *mask, size_t bytes) {
    size_t n = 0, i = 0;
    for (uint64_t w; i + 8 <= bytes; i += 8) {
        memcpy(&w, mask + i, 8);
        n += (size_t)__builtin_popcountll(w);
    }
    for (; i < bytes; i++) n += (size_t)__builtin_popcount(mask[i]);
    return n;
}

static void put_value(const pare_sparse_format *f, const uint8_t *values, size_t at, uint8_t *out) {
    if (f->bits == 4) *out = (uint8_t)((values[at / 2] >> (at % 2 * 4) & 15) - 8);
    else memcpy(out, values + at * (f->bits / 8), f->bits / 8);
}

/* Whether column c is stored; run 0: 2of4. */
static bool stored_in(const uint8_t *places, unsigned run, size_t c) {
    if (run) return places[c / run / 8] >> (c / run % 8) & 1;
    unsigned two = places[c / 8] >> (c & 4) & 15;
    return (two & 3) == (c & 3) || two >> 2 == (c & 3);
}

void pare_sparse_slab(const pare_qtype *qt, const uint8_t *row, size_t row_n, size_t first, size_t n, void *out) {
    const pare_sparse_format *f = qt->sparse;
    pare_sparse_row r = pare_sparse_row_of(qt, row_n);
    const uint8_t *places = row + r.place_at, *table = row + r.table_at + first / PARE_SPARSE_SLAB * 2;
    size_t size = f->bits == 4 ? 1 : f->bits / 8u, at = first / 2;
    if (f->keep) at = (size_t)(table[0] | table[1] << 8) * f->run;
    memset(out, 0, n * size);
    for (size_t c = first; c < first + n; c++)
        if (stored_in(places, f->keep ? f->run : 0, c) && at < r.values)
            put_value(f, row + r.values_at, at++, (uint8_t *)out + (c - first) * size);
}

/* The slab's columns as the dense format stores them; out begins at `first` (group 0: right behind the scale). */
static void dense_codes(const pare_qtype *dense, const uint8_t *scales, const int8_t *q, size_t n, uint8_t *out) {
    const pare_int_format *f = dense->int_format;
    size_t head = f->group ? f->scale_type->block_bytes : 0, group = f->group ? f->group : n;
    for (size_t c = 0; c < n; c += group, scales += head) {
        if (head) memcpy(out, scales, head);
        out += head;
        if (f->bits == 8) memcpy(out, q + c, group), out += group;
        for (size_t b = 0; f->bits == 4 && b < group; b += 32, out += 16)
            for (size_t j = 0; j < 16; j++) {
                uint8_t low = b + j < group ? (uint8_t)(q[c + b + j] + 8) : 0;
                uint8_t high = b + j + 16 < group ? (uint8_t)(q[c + b + j + 16] + 8) : 0;
                out[j] = (uint8_t)(low | high << 4);
            }
    }
}

void pare_sparse_spread(const pare_qtype *dense, unsigned run, size_t n, const void *scales, const uint8_t *places,
                        const void *values, void *row) {
    const pare_int_format *f = dense->int_format;
    const uint8_t *in = values;
    uint8_t *out = row;
    int8_t q[PARE_SPARSE_SLAB];
    size_t at = 0, size = f ? 1 : dense->block_bytes, head = f ? f->scale_type->block_bytes : 0;
    const pare_sparse_format taken = {.bits = f ? f->bits : (uint8_t)(8 * size)};
    if (f && !f->group) memcpy(out, scales, head), out += head;
    for (size_t c = 0; c < n; c += PARE_SPARSE_SLAB) {
        size_t k = n - c < PARE_SPARSE_SLAB ? n - c : PARE_SPARSE_SLAB;
        uint8_t *to = f ? (uint8_t *)q : out + c * size;
        memset(to, 0, k * size);
        for (size_t i = 0; i < k; i++)
            if (stored_in(places, run, c + i)) put_value(&taken, in, at++, to + i * size);
        if (!f) continue;
        dense_codes(dense, f->group ? (const uint8_t *)scales + c / f->group * head : NULL, q, k, out);
        out += f->group ? k / f->group * dense->block_bytes : f->bits == 8 ? k : (k + 31) / 32 * 16;
    }
}

void pare_sparse_to_dense(const pare_qtype *qt, const void *row, size_t n, void *dense) {
    const pare_sparse_format *f = qt->sparse;
    pare_sparse_row r = pare_sparse_row_of(qt, n);
    const uint8_t *p = row;
    pare_sparse_spread(f->dense, f->keep ? f->run : 0, n, p, p + r.place_at, p + r.values_at, dense);
}

static void decode(const pare_qtype *qt, const void *src, float *dst, size_t n) {
    const pare_qtype *d = qt->sparse->dense;
    const pare_int_format *f = d->int_format;
    const uint8_t *row = src;
    int8_t q[PARE_SPARSE_SLAB];
    uint8_t slab[PARE_SPARSE_SLAB * 4 + 8 * 4 + 4];
    for (size_t c = 0; c < n; c += PARE_SPARSE_SLAB) {
        size_t k = n - c < PARE_SPARSE_SLAB ? n - c : PARE_SPARSE_SLAB;
        if (!f) pare_sparse_slab(qt, row, n, c, k, slab);
        else { /* a run of a whole-row format under its scale is a row of that format */
            size_t scale = f->scale_type->block_bytes;
            if (!f->group) memcpy(slab, row, scale);
            pare_sparse_slab(qt, row, n, c, k, q);
            dense_codes(d, f->group ? row + c / f->group * scale : row, q, k, slab + (f->group ? 0 : scale));
        }
        d->decode(d, slab, dst + c, k);
    }
}

/* ---- packing ---- */
/* Element c of a dense row is not zero. */
static bool stored_at(const pare_qtype *dense, const uint8_t *row, size_t c) {
    const pare_int_format *f = dense->int_format;
    if (!f) {
        uint8_t any = 0;
        for (size_t i = 0; i < dense->block_bytes; i++) any |= row[c * dense->block_bytes + i];
        return any;
    }
    size_t scale = f->scale_type->block_bytes, at = f->group ? c % f->group : c;
    const uint8_t *codes = (f->group ? row + c / f->group * dense->block_bytes : row) + scale;
    return f->bits == 8 ? codes[at] != 0 : (codes[at / 32 * 16 + at % 16] >> (at % 32 < 16 ? 0 : 4) & 15) != 8;
}

/* The indexes of four columns from their mask, or -1. */
static int two_of(unsigned four) {
    for (unsigned i = 0; __builtin_popcount(four) < 2; i++) four |= 1u << i;
    if (__builtin_popcount(four) > 2) return -1;
    return __builtin_ctz(four) | (31 - __builtin_clz(four)) << 2;
}

size_t pare_sparse_places(const pare_qtype *dense, unsigned run, const void *row, size_t n, uint8_t *places) {
    size_t bytes = (n / (run ? run : 1) + 7) / 8;
    memset(places, 0, bytes);
    for (size_t c = 0; run && c < n; c++)
        if (stored_at(dense, row, c)) places[c / run / 8] = (uint8_t)(places[c / run / 8] | 1u << (c / run % 8));
    if (run) return pare_sparse_count(places, bytes);
    for (size_t c = 0; c < n; c += 4) {
        unsigned four = 0;
        for (unsigned i = 0; i < 4; i++) four |= (unsigned)stored_at(dense, row, c + i) << i;
        int two = two_of(four);
        if (two < 0) return SIZE_MAX;
        places[c / 8] = (uint8_t)(places[c / 8] | two << (c & 4));
    }
    return n / 2;
}

bool pare_sparse_indexes_ok(const uint8_t *places, size_t n) {
    for (size_t c = 0; c < n; c += 4) {
        unsigned two = places[c / 8] >> (c & 4) & 15;
        if ((two & 3) >= two >> 2) return false;
    }
    return n % 8 == 0 || places[n / 8] >> 4 == 0;
}

size_t pare_sparse_values(const pare_qtype *dense, unsigned run, const void *row, size_t n, const uint8_t *places,
                          void *out) {
    const pare_int_format *f = dense->int_format;
    const uint8_t *in = row;
    uint8_t *o = out;
    size_t at = 0, size = f ? 1 : dense->block_bytes;
    for (size_t c = 0; c < n; c++) {
        if (!stored_in(places, run, c)) continue;
        if (!f) {
            memcpy(o + at++ * size, in + c * size, size);
            continue;
        }
        size_t scale = f->scale_type->block_bytes, k = f->group ? c % f->group : c;
        const uint8_t *codes = (f->group ? in + c / f->group * dense->block_bytes : in) + scale;
        if (f->bits == 8) o[at++] = codes[k];
        else {
            uint8_t q = codes[k / 32 * 16 + k % 16] >> (k % 32 < 16 ? 0 : 4) & 15;
            o[at / 2] = at % 2 ? (uint8_t)(o[at / 2] | q << 4) : q;
            at++;
        }
    }
    return f && f->bits == 4 ? (at + 1) / 2 : at * size;
}

size_t pare_sparse_scales(const pare_qtype *dense, const void *row, size_t n, void *out) {
    const pare_int_format *f = dense->int_format;
    size_t groups = groups_of(dense, n);
    for (size_t g = 0; g < groups; g++)
        memcpy((uint8_t *)out + g * f->scale_type->block_bytes, (const uint8_t *)row + g * dense->block_bytes,
               f->scale_type->block_bytes);
    return f ? groups * f->scale_type->block_bytes : 0;
}

void pare_sparse_join(const pare_qtype *qt, size_t n, const void *scales, const uint8_t *places, const void *values,
                      size_t value_bytes, void *row) {
    pare_sparse_row r = pare_sparse_row_of(qt, n);
    uint8_t *out = row;
    if (r.table_at) memcpy(out, scales, r.table_at);
    size_t per = PARE_SPARSE_SLAB / qt->sparse->run / 8, before = 0; /* bytes of places to a slab */
    for (size_t b = 0, s = 0; qt->sparse->keep && b < r.place_bytes; b += per, s++) {
        out[r.table_at + 2 * s] = (uint8_t)before, out[r.table_at + 2 * s + 1] = (uint8_t)(before >> 8);
        before += pare_sparse_count(places + b, r.place_bytes - b < per ? r.place_bytes - b : per);
    }
    memcpy(out + r.place_at, places, r.place_bytes);
    memcpy(out + r.values_at, values, value_bytes);
    memset(out + r.values_at + value_bytes, 0, r.bytes - r.values_at - value_bytes);
}
