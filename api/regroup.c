/* SPDX-License-Identifier: Apache-2.0
 *
 * Exact transcoding. GGUF's q4_0 and q8_0 blocks are byte for byte the rows of int4:g32 and int8:g32 with f16 scales,
 * so both are treated as such; wider groups repeat their scale, another scale type must hold the scale exactly. */
#include "api/job.h"

#include <string.h>

typedef struct {
    bool ok;
    int bits;
    bool asym;
    unsigned group;
    const pare_qtype *scale;
} shape;

static shape shape_of(const pare_qtype *q) {
    const pare_int_format *f = q->int_format;
    if (q->kind == PARE_QK_GROUP && f) return (shape){true, f->bits, f->asym, f->group, f->scale_type};
    if (q->kind == PARE_QK_BLOCK && strcmp(q->name, "q4_0") == 0) return (shape){true, 4, false, 32, &pare_qtype_f16};
    if (q->kind == PARE_QK_BLOCK && strcmp(q->name, "q8_0") == 0) return (shape){true, 8, false, 32, &pare_qtype_f16};
    return (shape){0};
}

bool pare_regroup_possible(const pare_qtype *from, const pare_qtype *to, int64_t cols) {
    if (from == to) return true;
    shape a = shape_of(from), b = shape_of(to);
    unsigned wide = a.group ? a.group : (unsigned)cols;
    return a.ok && b.ok && a.bits == b.bits && a.asym == b.asym && (b.group ? wide % b.group == 0 : a.group == 0);
}

const pare_qtype *pare_regroup_twin(const pare_qtype *from, pare_source_kind to, int64_t cols) {
    shape a = shape_of(from);
    if (!a.ok) return NULL;
    if (to != PARE_SOURCE_GGUF)
        return from->kind == PARE_QK_GROUP ? from : pare_qtype_int(a.bits, 32, false, &pare_qtype_f16);
    const pare_qtype *q = a.asym ? NULL : pare_qtype_by_name(a.bits == 4 ? "q4_0" : "q8_0");
    return q && cols % 32 == 0 && pare_regroup_possible(from, q, cols) ? q : NULL;
}

/* Both are at most 4 bytes; exact or false. */
static bool move_scale(const pare_qtype *from, const pare_qtype *to, const uint8_t *src, uint8_t *dst) {
    float v, back;
    uint16_t h;
    from->decode(from, src, &v, 1);
    if (to == &pare_qtype_f32) memcpy(dst, &v, 4), back = v;
    else if (to == &pare_qtype_f16) h = pare_f32_to_f16(v), memcpy(dst, &h, 2), back = pare_f16_to_f32(h);
    else h = pare_f32_to_bf16(v), memcpy(dst, &h, 2), back = pare_bf16_to_f32(h);
    uint32_t a, b; /* by bits: the sign of zero counts */
    memcpy(&a, &v, 4), memcpy(&b, &back, 4);
    return a == b;
}

bool pare_regroup_rows(const pare_qtype *from, const pare_qtype *to, const void *src, void *dst, size_t rows,
                       size_t cols) {
    size_t in_bytes = pare_row_bytes(from, cols), out_bytes = pare_row_bytes(to, cols);
    shape a = shape_of(from), b = shape_of(to);
    if (from == to || (a.group == b.group && a.scale == b.scale)) {
        memcpy(dst, src, rows * in_bytes);
        return true;
    }
    size_t wide = a.group ? a.group : cols, narrow = b.group ? b.group : cols, head = a.scale->block_bytes,
           out_head = b.scale->block_bytes, chunk = a.bits == 4 ? 32 : 1, chunk_bytes = a.bits == 4 ? 16 : 1;
    for (size_t r = 0; r < rows; r++) {
        const uint8_t *p = (const uint8_t *)src + r * in_bytes;
        uint8_t *o = (uint8_t *)dst + r * out_bytes;
        for (size_t c = 0; c < cols; c += wide) {
            const uint8_t *codes = p + head + a.asym;
            for (size_t k = 0; k < wide; k += narrow) {
                size_t bytes = (narrow + chunk - 1) / chunk * chunk_bytes;
                if (!move_scale(a.scale, b.scale, p, o)) return false;
                if (a.asym) o[out_head] = p[head];
                memcpy(o + out_head + b.asym, codes, bytes);
                o += out_head + b.asym + bytes;
                codes += bytes;
            }
            p = codes;
        }
    }
    return true;
}
