/* SPDX-License-Identifier: Apache-2.0
 *
 * Packing of weights for the device (cuda/layout.cuh): stored blocks are taken apart chunk by chunk. */
#include "cuda/sparse.cuh"

#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES (32u << 20) /* host buffer of an upload */

/* How a format is stored (bytes and offsets of a block), and what its planes hold per chunk and slab. */
typedef struct shape {
    int ggml;
    pare_cuda_format format;
    uint8_t low, high, slab_scales; /* bytes */
    uint8_t columns;                /* per block, / 32 */
    uint8_t codes;                  /* offset of nibbles or bytes that are copied as they stand */
} shape;
static const shape shapes[] = {{2, PARE_CF_Q4_0, 16, 0, 16, 1, 2},  {3, PARE_CF_Q4_1, 16, 0, 32, 1, 4},
                               {6, PARE_CF_Q5_0, 16, 4, 16, 1, 6},  {7, PARE_CF_Q5_1, 16, 4, 32, 1, 8},
                               {8, PARE_CF_Q8_0, 32, 0, 16, 1, 2},  {20, PARE_CF_IQ4_NL, 16, 0, 16, 1, 2},
                               {39, PARE_CF_MXFP4, 16, 0, 8, 1, 1}, {10, PARE_CF_Q2_K, 8, 0, 20, 8, 0},
                               {11, PARE_CF_Q3_K, 8, 4, 16, 8, 0},  {12, PARE_CF_Q4_K, 16, 0, 16, 8, 0},
                               {13, PARE_CF_Q5_K, 16, 4, 16, 8, 0}, {14, PARE_CF_Q6_K, 16, 8, 20, 8, 0},
                               {23, PARE_CF_IQ4_XS, 16, 0, 8, 8, 8}};

static const shape *shape_of(const pare_qtype *qt) {
    static const shape int4 = {-1, PARE_CF_INT4, 16, 0, 0, 0, 0}, int8 = {-1, PARE_CF_INT8, 32, 0, 0, 0, 0};
    if (qt->kind == PARE_QK_GROUP) return qt->int_format->bits == 4 ? &int4 : &int8;
    for (size_t i = 0; qt->kind == PARE_QK_BLOCK && i < sizeof shapes / sizeof *shapes; i++)
        if (shapes[i].ggml == qt->ggml_type) return &shapes[i];
    return NULL;
}

pare_cuda_format pare_cuda_format_of(const pare_qtype *qt) {
    const shape *s = shape_of(qt);
    if (pare_cuda_sparse_has(qt)) return PARE_CF_2OF4;
    return s ? s->format : PARE_CF_NONE;
}

static size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

pare_cuda_weight pare_cuda_weight_view(const pare_tensor *w) {
    const shape *s = shape_of(w->type);
    const pare_int_format *f = w->type->int_format;
    pare_cuda_weight v = {};
    if (!s) return pare_cuda_sparse_view(w);
    v.n = (int)pare_cuda_rows(w), v.k = (int)pare_cuda_cols(w), v.slabs = (v.k + PARE_CUDA_SLAB - 1) / PARE_CUDA_SLAB;
    v.low_row = (uint32_t)v.slabs * 8 * s->low, v.high_row = (uint32_t)v.slabs * 8 * s->high;
    v.scale_row = (uint32_t)round_up((size_t)v.slabs * s->slab_scales, 16);
    if (f) {
        v.scale_type = pare_cuda_type_of(f->scale_type), v.asym = f->asym;
        v.entry = (v.scale_type == PARE_CT_F32 ? 4 : 2) * (f->asym ? 2 : 1);
        v.group_shift = f->group ? __builtin_ctz(f->group) : 31;
        v.scale_row = (uint32_t)v.entry;
        if (f->group)
            v.scale_row = (uint32_t)round_up((size_t)(v.slabs * PARE_CUDA_SLAB >> v.group_shift) * (size_t)v.entry, 16);
    }
    v.low = (const uint8_t *)w->data;
    v.high = v.low + round_up((size_t)v.n * v.low_row, 256);
    v.scales = v.high + round_up((size_t)v.n * v.high_row, 256);
    if (!s->high) v.high = NULL;
    return v;
}

size_t pare_cuda_weight_bytes(const pare_tensor *w) {
    if (pare_cuda_sparse_has(w->type)) return pare_cuda_sparse_bytes(w);
    if (!shape_of(w->type)) return pare_cuda_host->tensor_bytes(w);
    pare_cuda_weight v = pare_cuda_weight_view(w);
    return (size_t)(v.scales - (const uint8_t *)w->data) + round_up((size_t)v.n * v.scale_row, 256);
}

/* ---- a chunk ---- */

static void put_nibbles(const uint8_t *c, uint8_t *out) {
    for (int j = 0; j < 16; j++) out[j] = (uint8_t)((c[j] & 15) | (c[j + 16] & 15) << 4);
}
/* Two bits of 32 codes from bit `first` on. */
static void put_pairs(const uint8_t *c, int first, uint8_t *out) {
    for (int i = 0; i < 8; i++) {
        const uint8_t *from = c + i / 4 * 16 + i % 4;
        int v = 0;
        for (int t = 0; t < 4; t++) v |= (from[4 * t] >> first & 3) << 2 * t;
        out[i] = (uint8_t)v;
    }
}
static void put_bits(const uint8_t *c, int bit, uint8_t *out) {
    for (int i = 0; i < 4; i++) {
        int v = 0;
        for (int t = 0; t < 8; t++) v |= (c[4 * t + i] >> bit & 1) << t;
        out[i] = (uint8_t)v;
    }
}

/* Codes of chunk c of a 256-column block, with the format's offset (cuda/formats.cuh). */
static void take_codes(pare_cuda_format format, const uint8_t *p, int c, uint8_t *q) {
    int h = c / 4, s = c % 4; /* q2_k, q3_k, q6_k: halves of 128 columns */
    for (int j = 0; j < 32; j++) switch (format) {
        case PARE_CF_Q2_K: q[j] = p[16 + 32 * h + j] >> 2 * s & 3; break;
        case PARE_CF_Q3_K: q[j] = (uint8_t)((p[32 + 32 * h + j] >> 2 * s & 3) | (p[j] >> c & 1) << 2); break;
        case PARE_CF_Q4_K: q[j] = p[16 + 32 * (c / 2) + j] >> c % 2 * 4 & 15; break;
        case PARE_CF_Q5_K:
            q[j] = (uint8_t)((p[48 + 32 * (c / 2) + j] >> c % 2 * 4 & 15) | (p[16 + j] >> c & 1) << 4);
            break;
        default: /* q6_k */
            q[j] = (uint8_t)((p[64 * h + s % 2 * 32 + j] >> s / 2 * 4 & 15) | (p[128 + 32 * h + j] >> 2 * s & 3) << 4);
        }
}

/* Codes of a block of 32 columns (or of an iq4_xs chunk), whose nibbles and bytes stand as the device wants them. */
static void pack_plain(const shape *s, const uint8_t *p, int c, uint8_t *low, uint8_t *high) {
    memcpy(low, p + s->codes + c * s->low, s->low);
    if (!high) return;
    const uint8_t *bits = p + s->codes - 4; /* one per column */
    uint8_t q[32];
    for (int j = 0; j < 32; j++) q[j] = bits[j / 8] >> j % 8 & 1;
    put_bits(q, 0, high);
}

static void pack_k(const shape *s, const uint8_t *p, int c, uint8_t *low, uint8_t *high) {
    uint8_t q[32];
    take_codes(s->format, p, c, q);
    if (s->low == 16) put_nibbles(q, low);
    else put_pairs(q, 0, low);
    if (s->high == 4) put_bits(q, s->low == 16 ? 4 : 2, high);
    else if (s->high) put_pairs(q, 4, high);
}

static void pack_scales(pare_cuda_format format, const uint8_t *p, uint8_t *out) {
    switch (format) {
    case PARE_CF_Q4_1:
    case PARE_CF_Q5_1: memcpy(out, p, 4); break;
    case PARE_CF_MXFP4: *out = *p; break;
    case PARE_CF_Q2_K: memcpy(out, p, 16), memcpy(out + 16, p + 80, 4); break;
    case PARE_CF_Q3_K: memcpy(out, p + 96, 14); break;
    case PARE_CF_Q4_K:
    case PARE_CF_Q5_K: memcpy(out, p, 16); break;
    case PARE_CF_Q6_K: memcpy(out, p + 192, 18); break;
    case PARE_CF_IQ4_XS: memcpy(out, p, 8); break;
    default: memcpy(out, p, 2);
    }
}

/* ---- a row ---- */

typedef struct pack_job {
    const shape *s;
    const pare_qtype *type;
    pare_cuda_weight v;
    const uint8_t *rows;
    size_t row_bytes;
    uint8_t *low, *high, *scales; /* row 0 of the output */
} pack_job;

static void pack_grouped(const pack_job *j, const uint8_t *p, uint8_t *low, uint8_t *scales) {
    const pare_int_format *f = j->type->int_format;
    size_t scale = j->v.scale_type == PARE_CT_F32 ? 4 : 2, k = (size_t)j->v.k, group = f->group ? f->group : k;
    for (size_t first = 0; first < k; first += group, scales += j->v.entry) {
        size_t n = group < k - first ? group : k - first, bytes = f->bits == 4 ? (n + 31) / 32 * 16 : n;
        memcpy(scales, p, scale);
        p += scale;
        if (f->asym) scales[scale] = (uint8_t)(*p++ & (f->bits == 4 ? 15 : 255));
        memcpy(low + (f->bits == 4 ? first / 2 : first), p, bytes);
        p += bytes;
    }
}

static void pack_row(void *ctx, size_t r) {
    const pack_job *j = (const pack_job *)ctx;
    const shape *s = j->s;
    const uint8_t *p = j->rows + r * j->row_bytes;
    uint8_t *low = j->low + r * j->v.low_row, *high = j->high ? j->high + r * j->v.high_row : NULL;
    uint8_t *scales = j->scales + r * j->v.scale_row;
    memset(low, 0, j->v.low_row), memset(scales, 0, j->v.scale_row);
    if (high) memset(high, 0, j->v.high_row);
    if (!s->columns) {
        pack_grouped(j, p, low, scales);
        return;
    }
    size_t scale = s->columns == 8 ? s->slab_scales : s->slab_scales / 8u; /* bytes per block */
    for (int first = 0; first < j->v.k; first += 32 * s->columns, p += j->type->block_bytes, scales += scale) {
        pack_scales(s->format, p, scales);
        for (int c = 0; c < s->columns; c++, low += s->low, high = high ? high + s->high : NULL)
            if (s->codes) pack_plain(s, p, c, low, high);
            else pack_k(s, p, c, low, high);
    }
}

/* ---- a tensor ---- */

static pack_job job_of(const pare_tensor *w) {
    pack_job j = {};
    j.s = shape_of(w->type), j.type = w->type, j.v = pare_cuda_weight_view(w);
    j.rows = (const uint8_t *)w->data, j.row_bytes = pare_cuda_host->row_bytes(w->type, (size_t)j.v.k);
    return j;
}

/* Where in the scale plane the first scale's lowest bit is. */
static size_t fault_byte(const pack_job *j) {
    switch (j->s->format) {
    case PARE_CF_Q4_K:
    case PARE_CF_Q5_K:
    case PARE_CF_IQ4_XS: return 4;
    default: return j->v.scale_type == PARE_CT_F32 ? 2 : 0;
    }
}

static bool upload_planes(pare_cuda *dev, pack_job *j, const pare_cuda_weight *to, uint8_t *buffer, size_t piece,
                          bool fault) {
    for (size_t r = 0, n = (size_t)j->v.n; r < n; r += piece) {
        size_t rows = piece < n - r ? piece : n - r;
        const uint8_t *all = j->rows;
        j->low = buffer, j->scales = buffer + piece * j->v.low_row;
        j->high = to->high ? j->scales + piece * j->v.scale_row : NULL;
        j->rows = all + r * j->row_bytes;
        pare_cuda_host->parallel(rows, 16, pack_row, j);
        j->rows = all;
        if (fault && r == 0) j->scales[fault_byte(j)] ^= 1;
        if (!rt_upload(&dev->rt, (uint8_t *)to->low + r * j->v.low_row, j->low, rows * j->v.low_row) ||
            !rt_upload(&dev->rt, (uint8_t *)to->scales + r * j->v.scale_row, j->scales, rows * j->v.scale_row) ||
            (j->high && !rt_upload(&dev->rt, (uint8_t *)to->high + r * j->v.high_row, j->high, rows * j->v.high_row)))
            return false;
    }
    return true;
}

pare_status pare_cuda_weight_upload(pare_cuda *dev, void *dst, const pare_tensor *w, pare_diag *d) {
    size_t bytes = pare_cuda_host->tensor_bytes(w);
    bool done = true;
    if (bytes && shape_of(w->type)) {
        const char *fault = getenv("PARE_CUDA_FAULT");
        pack_job j = job_of(w);
        pare_tensor there = *w;
        there.data = dst;
        pare_cuda_weight to = pare_cuda_weight_view(&there);
        size_t per = (size_t)to.low_row + to.high_row + to.scale_row, piece = PIECE_BYTES / per + 1;
        if (piece > (size_t)to.n) piece = (size_t)to.n;
        uint8_t *buffer = (uint8_t *)pare_cuda_host->alloc(piece * per);
        if (!buffer) return pare_cuda_host->fail(d, PARE_ERR_NOMEM, NULL, "cuda", "not enough memory to pack weights");
        done = upload_planes(dev, &j, &to, buffer, piece, fault && strtoull(fault, NULL, 10) == dev->weights);
        pare_cuda_host->release(buffer);
        dev->weights++;
    } else if (bytes && pare_cuda_sparse_has(w->type)) {
        done = pare_cuda_sparse_upload(dev, dst, w);
        dev->weights++;
    } else if (bytes) {
        done = rt_upload(&dev->rt, dst, w->data, bytes);
    }
    if (done) return PARE_OK;
    return pare_cuda_host->fail(d, PARE_ERR_DEVICE, NULL, "cuda", "copying %zu bytes to the device failed", bytes);
}
