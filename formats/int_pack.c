/* SPDX-License-Identifier: Apache-2.0
 *
 * The unit of work is a chunk: 32 columns of one row, 4 words of 4-bit codes or 8 words of 8-bit codes. Layouts with
 * codes along K have those words side by side (compressed-tensors) or one below the other (GPTQ); the latter, and AWQ,
 * are walked in tiles so that every cache line is used while it is there. */
#include "formats/int_pack.h"

#include <assert.h>
#include <string.h>

#define CHUNK 32
#define TILE  64 /* rows of a GPTQ tile: four cache lines of words */

typedef struct layout { /* of one row */
    size_t k, width, groups, param_bytes, scale_bytes, code_bytes, row_bytes, per_word;
    unsigned bits;
    bool asym;
} layout;

static layout layout_of(const pare_qtype *qt, size_t k) {
    const pare_int_format *f = qt->int_format;
    layout l = {.k = k, .bits = f->bits, .asym = f->asym, .per_word = 32u / f->bits};
    l.width = f->group ? f->group : k;
    l.groups = l.width ? k / l.width : 0;
    l.scale_bytes = f->scale_type->block_bytes;
    l.param_bytes = l.scale_bytes + f->asym;
    l.code_bytes = f->bits == 8 ? l.width : (l.width + CHUNK - 1) / CHUNK * (CHUNK / 2);
    l.row_bytes = l.groups * (l.param_bytes + l.code_bytes);
    return l;
}

static uint8_t *block(const layout *l, const void *rows, size_t row, size_t g) {
    return (uint8_t *)rows + row * l->row_bytes + g * (l->param_bytes + l->code_bytes);
}

/* Chunk c of a block begins this many bytes behind the parameters. */
static size_t chunk_at(const layout *l, size_t c) { return c * (l->bits == 8 ? CHUNK : CHUNK / 2); }
static size_t chunks(const layout *l) { return (l->width + CHUNK - 1) / CHUNK; }
static size_t valid_in(const layout *l, size_t c) {
    return l->width - c * CHUNK < CHUNK ? l->width - c * CHUNK : CHUNK;
}
static size_t first_word(const layout *l, size_t g, size_t c) { return (g * l->width + c * CHUNK) / l->per_word; }

static uint32_t load(const void *words, size_t i) { /* stored tensors need not be aligned */
    uint32_t w;
    memcpy(&w, (const char *)words + 4 * i, 4);
    return w;
}

#define EVEN 0x0F0F0F0F0F0F0F0Fu

/* Words of a chunk -> bytes of a row. Codes beyond `valid` are dropped. */
static void put_chunk(const layout *l, uint32_t *w, size_t valid, uint8_t *dst) {
    uint64_t lo, hi, even, odd;
    if (l->bits == 8) {
        for (size_t i = 0; i < valid; i++) dst[i] = (uint8_t)(w[i / 4] >> (8 * (i % 4)) ^ 0x80);
        return;
    }
    for (size_t i = 0; valid < CHUNK && i < 4; i++)
        if (valid < 8 * (i + 1)) w[i] = valid <= 8 * i ? 0 : w[i] & ((1u << 4 * (valid - 8 * i)) - 1);
    lo = w[0] | (uint64_t)w[1] << 32, hi = w[2] | (uint64_t)w[3] << 32;
    even = (lo & EVEN) | (hi & EVEN) << 4, odd = (lo >> 4 & EVEN) | (hi & ~EVEN);
    for (int i = 0; i < 8; i++) dst[2 * i] = (uint8_t)(even >> 8 * i), dst[2 * i + 1] = (uint8_t)(odd >> 8 * i);
}

/* The reverse; words beyond the last valid code are zero. */
static void get_chunk(const layout *l, const uint8_t *src, size_t valid, uint32_t w[8]) {
    uint64_t even = 0, odd = 0, lo, hi;
    if (l->bits == 8) {
        memset(w, 0, 32);
        for (size_t i = 0; i < valid; i++) w[i / 4] |= (uint32_t)(src[i] ^ 0x80) << (8 * (i % 4));
        return;
    }
    for (int i = 0; i < 8; i++) even |= (uint64_t)src[2 * i] << 8 * i, odd |= (uint64_t)src[2 * i + 1] << 8 * i;
    lo = (even & EVEN) | (odd & EVEN) << 4, hi = (even >> 4 & EVEN) | (odd & ~EVEN);
    w[0] = (uint32_t)lo, w[1] = (uint32_t)(lo >> 32), w[2] = (uint32_t)hi, w[3] = (uint32_t)(hi >> 32);
}

static unsigned zero_of(const layout *l, const uint8_t *blk) {
    return l->asym ? blk[l->scale_bytes] : 1u << (l->bits - 1);
}

size_t pare_int_groups(const pare_qtype *qt, size_t k) { return qt->int_format->group ? k / qt->int_format->group : 1; }
size_t pare_int_words(const pare_qtype *qt, size_t n) { return (n * qt->int_format->bits + 31) / 32; }

void pare_int_to_ct_packed(const pare_qtype *qt, const void *rows, size_t n_rows, size_t k, uint32_t *out) {
    layout l = layout_of(qt, k);
    size_t ld = pare_int_words(qt, k);
    uint32_t w[8];
    for (size_t r = 0; r < n_rows; r++)
        for (size_t g = 0; g < l.groups; g++)
            for (size_t c = 0; c < chunks(&l); c++) {
                size_t valid = valid_in(&l, c), n_words = (valid + l.per_word - 1) / l.per_word;
                get_chunk(&l, block(&l, rows, r, g) + l.param_bytes + chunk_at(&l, c), valid, w);
                memcpy(out + r * ld + first_word(&l, g, c), w, 4 * n_words);
            }
}

void pare_int_to_ct_scale(const pare_qtype *qt, const void *rows, size_t n_rows, size_t k, void *out) {
    layout l = layout_of(qt, k);
    for (size_t r = 0; r < n_rows; r++)
        for (size_t g = 0; g < l.groups; g++)
            memcpy((char *)out + (r * l.groups + g) * l.scale_bytes, block(&l, rows, r, g), l.scale_bytes);
}

void pare_int_to_ct_zero(const pare_qtype *qt, const void *rows, size_t n_rows, size_t k, uint32_t *out) {
    layout l = layout_of(qt, k);
    memset(out, 0, (n_rows + l.per_word - 1) / l.per_word * l.groups * 4);
    for (size_t r = 0; r < n_rows; r++)
        for (size_t g = 0; g < l.groups; g++)
            out[r / l.per_word * l.groups + g] |= zero_of(&l, block(&l, rows, r, g)) << (l.bits * (r % l.per_word));
}

void pare_int_to_i8(const pare_qtype *qt, const void *rows, size_t n_rows, size_t k, int8_t *out) {
    layout l = layout_of(qt, k);
    assert(l.bits == 8);
    for (size_t r = 0; r < n_rows; r++)
        for (size_t g = 0; g < l.groups; g++)
            memcpy(out + r * k + g * l.width, block(&l, rows, r, g) + l.param_bytes, l.width);
}

void pare_int_to_gptq_qweight(const pare_qtype *qt, const void *rows, size_t n_rows, size_t k, uint32_t *out,
                              size_t ld) {
    layout l = layout_of(qt, k);
    uint32_t w[8];
    for (size_t r0 = 0; r0 < n_rows; r0 += TILE)
        for (size_t g = 0; g < l.groups; g++)
            for (size_t c = 0; c < chunks(&l); c++) {
                size_t valid = valid_in(&l, c), n_words = (valid + l.per_word - 1) / l.per_word;
                uint32_t *to = out + first_word(&l, g, c) * ld;
                for (size_t r = r0; r < n_rows && r < r0 + TILE; r++) {
                    get_chunk(&l, block(&l, rows, r, g) + l.param_bytes + chunk_at(&l, c), valid, w);
                    for (size_t i = 0; i < n_words; i++) to[i * ld + r] = w[i];
                }
            }
}

void pare_int_to_gptq_scales(const pare_qtype *qt, const void *rows, size_t n_rows, size_t k, void *out, size_t ld) {
    layout l = layout_of(qt, k);
    for (size_t r = 0; r < n_rows; r++)
        for (size_t g = 0; g < l.groups; g++)
            memcpy((char *)out + (g * ld + r) * l.scale_bytes, block(&l, rows, r, g), l.scale_bytes);
}

void pare_int_to_gptq_qzeros(const pare_qtype *qt, const void *rows, size_t n_rows, size_t k, uint32_t *out, size_t ld,
                             bool v1) {
    layout l = layout_of(qt, k);
    uint32_t mask = (1u << l.bits) - 1;
    for (size_t g = 0; g < l.groups; g++)
        for (size_t i = 0; i < (n_rows + l.per_word - 1) / l.per_word; i++) out[g * ld + i] = 0;
    for (size_t r = 0; r < n_rows; r++)
        for (size_t g = 0; g < l.groups; g++)
            out[g * ld + r / l.per_word] |= ((zero_of(&l, block(&l, rows, r, g)) - v1) & mask)
                                            << (l.bits * (r % l.per_word));
}

void pare_int_gptq_g_idx(const pare_qtype *qt, size_t k, int32_t *out) {
    size_t group = qt->int_format->group;
    for (size_t i = 0; i < k; i++) out[i] = group ? (int32_t)(i / group) : 0;
}

void pare_int_from_ct(const pare_qtype *qt, const void *packed, const void *scale, const void *zero, size_t k,
                      size_t row0, size_t n_rows, void *rows) {
    layout l = layout_of(qt, k);
    size_t ld = pare_int_words(qt, k);
    assert(!l.asym || zero);
    for (size_t r = 0; r < n_rows; r++)
        for (size_t g = 0; g < l.groups; g++) {
            size_t n = row0 + r;
            uint8_t *blk = block(&l, rows, r, g);
            memcpy(blk, (const char *)scale + (n * l.groups + g) * l.scale_bytes, l.scale_bytes);
            if (l.asym)
                blk[l.scale_bytes] =
                    (uint8_t)(load(zero, n / l.per_word * l.groups + g) >> (l.bits * (n % l.per_word)) &
                              ((1u << l.bits) - 1));
            for (size_t c = 0; c < chunks(&l); c++) {
                uint32_t w[8] = {0};
                size_t valid = valid_in(&l, c), n_words = (valid + l.per_word - 1) / l.per_word;
                memcpy(w, (const char *)packed + 4 * (n * ld + first_word(&l, g, c)), 4 * n_words);
                put_chunk(&l, w, valid, blk + l.param_bytes + chunk_at(&l, c));
            }
        }
}

void pare_int_from_i8(const pare_qtype *qt, const void *weight, const void *scale, const void *zero, bool per_row,
                      size_t k, size_t row0, size_t n_rows, void *rows) {
    layout l = layout_of(qt, k);
    assert(l.bits == 8 && l.groups == 1 && (!l.asym || zero));
    for (size_t r = 0; r < n_rows; r++) {
        size_t n = row0 + r, i = per_row ? n : 0;
        uint8_t *blk = block(&l, rows, r, 0);
        memcpy(blk, (const char *)scale + i * l.scale_bytes, l.scale_bytes);
        if (l.asym) blk[l.scale_bytes] = ((const uint8_t *)zero)[i] ^ 0x80;
        memcpy(blk + l.param_bytes, (const char *)weight + n * k, k);
    }
}

unsigned pare_int_gptq_zero(const void *qzeros, unsigned bits, size_t n_rows, size_t g, size_t n, bool v1) {
    size_t per_word = 32 / bits, ld = (n_rows * bits + 31) / 32;
    return (load(qzeros, g * ld + n / per_word) >> (bits * (n % per_word)) & ((1u << bits) - 1)) + v1;
}

void pare_int_from_gptq(const pare_qtype *qt, const void *qweight, const void *scales, const void *qzeros, bool v1,
                        size_t n, size_t k, size_t row0, size_t n_rows, void *rows) {
    layout l = layout_of(qt, k);
    assert(!l.asym || qzeros);
    for (size_t r0 = 0; r0 < n_rows; r0 += TILE) {
        size_t r1 = r0 + TILE < n_rows ? r0 + TILE : n_rows;
        for (size_t g = 0; g < l.groups; g++) {
            for (size_t r = r0; r < r1; r++) {
                uint8_t *blk = block(&l, rows, r, g);
                memcpy(blk, (const char *)scales + (g * n + row0 + r) * l.scale_bytes, l.scale_bytes);
                if (l.asym) blk[l.scale_bytes] = (uint8_t)pare_int_gptq_zero(qzeros, l.bits, n, g, row0 + r, v1);
            }
            for (size_t c = 0; c < chunks(&l); c++) {
                size_t valid = valid_in(&l, c), n_words = (valid + l.per_word - 1) / l.per_word,
                       at = first_word(&l, g, c);
                for (size_t r = r0; r < r1; r++) {
                    uint32_t w[8] = {0};
                    for (size_t i = 0; i < n_words; i++) w[i] = load(qweight, (at + i) * n + row0 + r);
                    put_chunk(&l, w, valid, block(&l, rows, r, g) + l.param_bytes + chunk_at(&l, c));
                }
            }
        }
    }
}

static const uint8_t awq_nibble[8] = {0, 4, 1, 5, 2, 6, 3, 7}; /* where output 8c + j lies in its word */

unsigned pare_int_awq_zero(const void *qzeros, size_t n_rows, size_t g, size_t n) {
    return load(qzeros, g * (n_rows / 8) + n / 8) >> (4 * awq_nibble[n % 8]) & 15;
}

/* One chunk of the 8 rows of word column `c`, transposed: nibbles of 32 words become 8 rows of 4 words. */
static void awq_transpose(const void *qweight, size_t ld, size_t k0, size_t valid, size_t c, uint32_t w[8][4]) {
    memset(w, 0, 8 * 4 * sizeof(uint32_t));
    for (size_t i = 0; i < valid; i++) {
        uint32_t x = load(qweight, (k0 + i) * ld + c);
        for (int j = 0; j < 8; j++) w[j][i / 8] |= (x >> (4 * awq_nibble[j]) & 15) << (4 * (i % 8));
    }
}

void pare_int_from_awq(const pare_qtype *qt, const void *qweight, const void *scales, const void *qzeros, size_t n,
                       size_t k, size_t row0, size_t n_rows, void *rows) {
    layout l = layout_of(qt, k);
    size_t end = row0 + n_rows, tile = TILE / 8;
    assert(l.bits == 4 && (!l.asym || qzeros));
    for (size_t g = 0; g < l.groups; g++)
        for (size_t r = row0; r < end; r++) {
            uint8_t *blk = block(&l, rows, r - row0, g);
            memcpy(blk, (const char *)scales + (g * n + r) * l.scale_bytes, l.scale_bytes);
            if (l.asym) blk[l.scale_bytes] = (uint8_t)pare_int_awq_zero(qzeros, n, g, r);
        }
    for (size_t c0 = row0 / 8; c0 < (end + 7) / 8; c0 += tile)
        for (size_t g = 0; g < l.groups; g++)
            for (size_t c = 0; c < chunks(&l); c++)
                for (size_t col = c0; col < c0 + tile && col < (end + 7) / 8; col++) {
                    uint32_t w[8][4];
                    size_t valid = valid_in(&l, c);
                    awq_transpose(qweight, n / 8, g * l.width + c * CHUNK, valid, col, w);
                    for (size_t r = 8 * col; r < 8 * col + 8; r++)
                        if (r >= row0 && r < end)
                            put_chunk(&l, w[r % 8], valid,
                                      block(&l, rows, r - row0, g) + l.param_bytes + chunk_at(&l, c));
                }
}
