/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows of every storage format with known or random content, and what they mean in double. */
#include "tests/tools/parity.h"

#include "cpu/matmul_kernels.h"

#include <math.h>
#include <string.h>

/* Where a block format keeps f16 numbers; the other bytes may be anything. */
static const struct halves {
    const char *name;
    int at[2];
} halves[] = {{"q4_0", {0, -1}},   {"q4_1", {0, 2}},    {"q5_0", {0, -1}},   {"q5_1", {0, 2}}, {"q8_0", {0, -1}},
              {"q8_1", {0, -1}},   {"q2_k", {80, 82}},  {"q3_k", {108, -1}}, {"q4_k", {0, 2}}, {"q5_k", {0, 2}},
              {"q6_k", {208, -1}}, {"iq4_nl", {0, -1}}, {"iq4_xs", {0, -1}}};

static const struct halves *halves_of(const pare_qtype *qt) {
    for (size_t i = 0; i < sizeof halves / sizeof *halves; i++)
        if (strcmp(halves[i].name, qt->name) == 0) return &halves[i];
    return NULL;
}

static void put(uint8_t *p, const pare_qtype *qt, float v) {
    uint16_t h = qt == &pare_qtype_bf16 ? pare_f32_to_bf16(v) : pare_f32_to_f16(v);
    if (qt == &pare_qtype_f32) memcpy(p, &v, 4);
    else memcpy(p, &h, 2);
}

static float scale_for(pare_rng *rng, pc_fill fill) {
    return fill == PC_INTEGERS ? 1.0f : 0.02f * pare_rng_normal(rng);
}

static void fill_group(pare_rng *rng, const pare_qtype *qt, uint8_t *q, pc_fill fill) {
    const pare_int_format *f = qt->int_format;
    size_t at = f->scale_type == &pare_qtype_f32 ? 4 : 2;
    put(q, f->scale_type, scale_for(rng, fill));
    if (f->asym && f->bits == 4) q[at] &= 15;
}

static bool fill_block(pare_rng *rng, const pare_qtype *qt, uint8_t *q, pc_fill fill) {
    const struct halves *h = halves_of(qt);
    if (h)
        for (int i = 0; i < 2; i++)
            if (h->at[i] >= 0) put(q + h->at[i], &pare_qtype_f16, scale_for(rng, fill));
    if (strcmp(qt->name, "mxfp4") == 0) q[0] = fill == PC_INTEGERS ? 128 : (uint8_t)(118 + q[0] % 6); /* 2^(e - 127) */
    else if (strcmp(qt->name, "q8_k") == 0) put(q, &pare_qtype_f32, scale_for(rng, fill));
    else if (!h) return false;
    return true;
}

static bool encode_rows(pare_rng *rng, const pare_qtype *qt, uint8_t *p, int64_t n, int64_t k) {
    if (!qt->grid || !qt->grid->encode) return false;
    float *row = pare_malloc((size_t)k * sizeof *row);
    for (int64_t i = 0; row && i < n; i++) {
        for (int64_t j = 0; j < k; j++) row[j] = 0.05f * pare_rng_normal(rng);
        qt->grid->encode(qt, row, (size_t)k, NULL, 1, (size_t)k, p + (size_t)i * pare_row_bytes(qt, (size_t)k), 0);
    }
    pare_free(row);
    return row != NULL;
}

static bool fill_floats(pare_rng *rng, const pare_qtype *qt, uint8_t *p, int64_t n, pc_fill fill) {
    bool plain = qt == &pare_qtype_f32 || qt == &pare_qtype_f16 || qt == &pare_qtype_bf16;
    for (int64_t i = 0; i < n; i++) {
        float v = pare_rng_normal(rng);
        if (fill == PC_INTEGERS) v = (float)(int)(8 * v);
        double wide = (double)v;
        uint8_t byte = (uint8_t)(pare_rng_u64(rng) & 0xBF); /* f8: no NaN, no infinity */
        if (plain) put(p + i * qt->block_bytes, qt, v);
        else if (qt == &pare_qtype_f64) memcpy(p + 8 * i, &wide, 8);
        else if (strcmp(qt->name, "f8_e8m0") == 0) p[i] = (uint8_t)(118 + byte % 6);
        else p[i] = fill == PC_INTEGERS ? 0 : byte;
    }
    return plain || fill == PC_RANDOM;
}

/* Two of four: any two columns, any codes, scales apart. */
static bool fill_two(pare_rng *rng, const pare_qtype *qt, uint8_t *p, int64_t n, int64_t k, pc_fill fill) {
    static const uint8_t twos[] = {0x4, 0x8, 0xC, 0x9, 0xD, 0xE}, extremes[] = {0x00, 0xFF, 0x80, 0x7F};
    pare_sparse_row at = pare_sparse_row_of(qt, (size_t)k);
    const pare_qtype *d = qt->sparse->dense;
    if (fill == PC_ENCODED) return false;
    for (int64_t r = 0; r < n; r++, p += at.bytes) {
        memset(p + at.place_at, 0, at.place_bytes);
        for (int64_t c = 0; c < k; c += 4)
            p[at.place_at + (size_t)c / 8] |= (uint8_t)(twos[pare_rng_below(rng, 6)] << (c & 4));
        if (!d->int_format) {
            if (!fill_floats(rng, d, p + at.values_at, k / 2, fill)) return false;
            continue;
        }
        const pare_qtype *st = d->int_format->scale_type;
        for (size_t g = 0; g < at.groups; g++) put(p + g * st->block_bytes, st, scale_for(rng, fill));
        for (int64_t i = 0; i < k / 2; i++)
            p[at.values_at + (size_t)i] = fill == PC_EXTREME ? extremes[r % 4] : (uint8_t)pare_rng_u64(rng);
    }
    return true;
}

bool pc_fill_rows(pare_rng *rng, const pare_qtype *qt, void *rows, int64_t n, int64_t k, pc_fill fill) {
    static const uint8_t extremes[] = {0x00, 0xFF, 0x80, 0x7F};
    uint8_t *p = rows;
    size_t bytes = pare_row_bytes(qt, (size_t)k), block = qt->block_bytes ? qt->block_bytes : bytes;
    if (qt->sparse) return fill_two(rng, qt, p, n, k, fill);
    if (qt->kind == PARE_QK_FLOAT) return fill_floats(rng, qt, p, n * k, fill);
    if (fill == PC_ENCODED) return encode_rows(rng, qt, p, n, k);
    for (int64_t r = 0; r < n; r++)
        for (size_t b = 0; b < bytes; b += block) {
            uint8_t *q = p + (size_t)r * bytes + b;
            for (size_t i = 0; i < block; i++) q[i] = fill == PC_EXTREME ? extremes[r % 4] : (uint8_t)pare_rng_u64(rng);
            if (qt->int_format) fill_group(rng, qt, q, fill);
            else if (!fill_block(rng, qt, q, fill)) return false;
        }
    return true;
}

pc_parts pc_parts_new(pc_run *r, const pare_tensor *w) {
    pare_i8_source s;
    size_t k = (size_t)pare_tensor_cols(w), bytes = k * sizeof(double);
    pc_parts p = {.w = pc_alloc(r, bytes)};
    if (!pare_i8_source_of(w, &s)) return p;
    p.code = pc_alloc(r, bytes), p.minimum = pc_alloc(r, bytes);
    p.code_share = pc_alloc(r, bytes), p.minimum_share = pc_alloc(r, bytes);
    return p;
}

void pc_parts_row(const pare_tensor *w, int64_t row, pc_parts *p) {
    size_t k = (size_t)pare_tensor_cols(w);
    const uint8_t *from = (const uint8_t *)w->data + (size_t)row * pare_row_bytes(w->type, k);
    float *f = pare_malloc(k * sizeof *f);
    if (!f) return;
    w->type->decode(w->type, from, f, k);
    for (size_t i = 0; i < k; i++) p->w[i] = (double)f[i];
    pare_free(f);
    pare_i8_source s;
    if (!p->code || !pare_i8_source_of(w, &s)) return;
    for (size_t at = 0; at < k; at += PARE_I8_SLAB) {
        pare_i8_slab slab;
        size_t n = k - at < PARE_I8_SLAB ? k - at : PARE_I8_SLAB;
        pare_mm_kernels()->expand(&s, from, at, n, &slab);
        for (size_t i = 0; i < n; i++) {
            double scale = (double)slab.scale[i / 16], code = scale * ((double)slab.codes[i] - s.offset);
            double minimum = s.minima ? (double)slab.minimum[i / 16] : 0.0, middle = 0;
            if (w->type->int_format && w->type->int_format->asym)
                middle = scale * (w->type->int_format->bits == 4 ? 8 : 128);
            p->code[at + i] = code, p->minimum[at + i] = minimum;
            p->code_share[at + i] = fmax(fabs(code), fabs(code - middle));
            p->minimum_share[at + i] = fmax(fabs(minimum), fabs(minimum + middle));
        }
    }
}
