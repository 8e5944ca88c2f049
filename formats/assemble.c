/* SPDX-License-Identifier: Apache-2.0
 *
 * part[]: 0 codes, 1 scales, 2 zero points (NULL when all are 2^(bits-1)), 3 g_idx (only where columns of a group lie
 * scattered: such a layer is decoded to its scales' type, since no row format can hold it). */
#include "formats/assemble.h"

#include <string.h>

#include "core/sparse.h"
#include "formats/int_pack.h"

static float to_float(const pare_qtype *qt, const void *p) {
    float v;
    qt->decode(qt, p, &v, 1);
    return v;
}

/* w[n][k] = scale[g_idx[k]][n] * (q[k][n] - zero), rounded to the scales' type, as the loaders of this layout compute.
 */
static void gptq_decode(const pare_stored *t, size_t row0, size_t n_rows, void *buf) {
    const pare_stored *q = t->part[0], *s = t->part[1], *z = t->part[2], *gi = t->part[3];
    size_t k = (size_t)t->shape[1], n = (size_t)t->shape[0], elem = t->type->block_bytes;
    unsigned bits = t->bits, per_word = 32 / bits;
    for (size_t i = 0; i < k; i++) {
        int32_t g;
        memcpy(&g, (const char *)gi->data + 4 * i, 4);
        for (size_t r = 0; r < n_rows; r++) {
            uint32_t w;
            memcpy(&w, (const char *)q->data + 4 * (i / per_word * n + row0 + r), 4);
            int code = (int)(w >> (bits * (i % per_word)) & ((1u << bits) - 1));
            int zero =
                z ? (int)pare_int_gptq_zero(z->data, bits, n, (size_t)g, row0 + r, t->zeros_less_one) : 1 << (bits - 1);
            float v =
                to_float(s->type, (const char *)s->data + ((size_t)g * n + row0 + r) * elem) * (float)(code - zero);
            char *to = (char *)buf + (r * k + i) * elem;
            uint16_t h = t->type == &pare_qtype_bf16 ? pare_f32_to_bf16(v) : pare_f32_to_f16(v);
            if (elem == 4) memcpy(to, &v, 4);
            else memcpy(to, &h, 2);
        }
    }
}

/* Rows of a sparse layer; part[]: 0 values, 1 scales, 2 places, 3 row offsets. */
static void sparse_rows(const pare_stored *t, size_t row0, size_t n_rows, void *buf) {
    const pare_stored *scale = t->part[1], *offsets = t->part[3];
    size_t n = (size_t)t->shape[1], out = pare_row_bytes(t->type, n), places = (size_t)t->part[2]->shape[1];
    size_t scale_bytes = scale ? scale->bytes / (size_t)t->shape[0] : 0;
    for (size_t r = row0; r < row0 + n_rows; r++, buf = (uint8_t *)buf + out) {
        size_t per = t->part[0]->bytes / (size_t)t->shape[0];
        int64_t from = (int64_t)(r * per), to = from + (int64_t)per;
        if (offsets) {
            memcpy(&from, (const char *)offsets->data + 8 * r, 8);
            memcpy(&to, (const char *)offsets->data + 8 * r + 8, 8);
        }
        const uint8_t *p = (const uint8_t *)t->part[2]->data + r * places;
        const void *s = scale ? (const uint8_t *)scale->data + r * scale_bytes : NULL,
                   *v = (const uint8_t *)t->part[0]->data + from;
        if (t->type->sparse) pare_sparse_join(t->type, n, s, p, v, (size_t)(to - from), buf);
        else pare_sparse_spread(t->type, t->run, n, s, p, v, buf);
    }
}

void pare_assemble_rows(const pare_stored *t, size_t row0, size_t n_rows, void *buf) {
    if (t->layout == PARE_LAYOUT_SPARSE) {
        sparse_rows(t, row0, n_rows, buf);
        return;
    }
    const void *codes = t->part[0]->data, *scales = t->part[1]->data, *zeros = t->part[2] ? t->part[2]->data : NULL;
    size_t n = (size_t)t->shape[0], k = (size_t)t->shape[1];
    switch (t->layout) {
    case PARE_LAYOUT_CT_PACKED: pare_int_from_ct(t->type, codes, scales, zeros, k, row0, n_rows, buf); return;
    case PARE_LAYOUT_CT_INT8: {
        bool per_row = t->part[1]->shape[0] == (int64_t)n && t->part[1]->ndim > 0;
        pare_int_from_i8(t->type, codes, scales, zeros, per_row, k, row0, n_rows, buf);
        return;
    }
    case PARE_LAYOUT_GPTQ:
        if (t->part[3]) gptq_decode(t, row0, n_rows, buf);
        else pare_int_from_gptq(t->type, codes, scales, zeros, t->zeros_less_one, n, k, row0, n_rows, buf);
        return;
    case PARE_LAYOUT_AWQ: pare_int_from_awq(t->type, codes, scales, zeros, n, k, row0, n_rows, buf); return;
    case PARE_LAYOUT_SPARSE:
    case PARE_LAYOUT_PLAIN: return;
    }
}
