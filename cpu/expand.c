/* SPDX-License-Identifier: Apache-2.0
 *
 * Which formats are integers times a scale, and their expansion in plain C. */
#include "cpu/matmul_kernels.h"

static inline float half_at(const uint8_t *p) { return pare_f16_to_f32((uint16_t)(p[0] | p[1] << 8)); }
#define EXPAND_NAME    pare_expand_ref
#define EXPAND_HALF(p) half_at(p)
#include "cpu/expand_impl.h"

static const struct {
    int ggml;
    pare_i8_kind kind;
    int16_t offset;
    uint8_t group;
    bool wide, minima;
} blocks[] = {{2, PARE_I8_Q4_0, 8, 32, false, false},     {3, PARE_I8_Q4_1, 0, 32, false, true},
              {6, PARE_I8_Q5_0, 16, 32, false, false},    {7, PARE_I8_Q5_1, 0, 32, false, true},
              {8, PARE_I8_Q8_0, 128, 32, true, false},    {10, PARE_I8_Q2_K, 0, 16, false, true},
              {11, PARE_I8_Q3_K, 4, 16, false, false},    {12, PARE_I8_Q4_K, 0, 32, false, true},
              {13, PARE_I8_Q5_K, 0, 32, false, true},     {14, PARE_I8_Q6_K, 32, 16, false, false},
              {20, PARE_I8_IQ4_NL, 128, 32, true, false}, {23, PARE_I8_IQ4_XS, 128, 32, true, false},
              {39, PARE_I8_MXFP4, 12, 32, false, false}};

bool pare_i8_source_of(const pare_tensor *w, pare_i8_source *s) {
    const pare_qtype *qt = w->type;
    size_t k = (size_t)pare_tensor_cols(w);
    *s = (pare_i8_source){.kind = PARE_I8_GROUPED, .type = qt, .k = k, .row_bytes = pare_row_bytes(qt, k), .group = 32};
    const pare_int_format *f = qt->int_format;
    if (qt->kind == PARE_QK_SPARSE && f) s->kind = PARE_I8_SPARSE, s->sparse = pare_sparse_view_of(qt, k);
    if ((qt->kind == PARE_QK_GROUP || qt->kind == PARE_QK_SPARSE) && f) {
        s->offset = f->asym ? 0 : f->bits == 4 ? 8 : 128;
        s->wide = f->bits == 8;
        s->minima = f->asym;
        if (!f->group) s->group = 256;
        return true;
    }
    for (size_t i = 0; qt->kind == PARE_QK_BLOCK && i < sizeof blocks / sizeof *blocks; i++)
        if (blocks[i].ggml == qt->ggml_type) {
            s->kind = blocks[i].kind;
            s->offset = blocks[i].offset;
            s->group = blocks[i].group;
            s->wide = blocks[i].wide;
            s->minima = blocks[i].minima;
            return true;
        }
    return false;
}

pare_i8_order pare_i8_order_of(const pare_i8_source *s) {
    if (s->kind == PARE_I8_Q4_K) return PARE_ORDER_NIBBLE32;
    if (s->kind == PARE_I8_Q4_0) return PARE_ORDER_NIBBLE16;
    if (s->kind == PARE_I8_GROUPED && s->type->int_format->bits == 4) return PARE_ORDER_NIBBLE16;
    return PARE_ORDER_PLAIN;
}
