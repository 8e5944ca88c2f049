/* SPDX-License-Identifier: Apache-2.0
 *
 * One Attention call, understood: views of its operands and the rules of who sees whom. Shared by the tiled way
 * (cpu/op_attention_tiles.c) and the row way (cpu/op_attention_rows.c), which also returns the scores, and
 * by the gradient (cpu/op_grad_attention.c). */
#ifndef PARE_CPU_ATTENTION_H
#define PARE_CPU_ATTENTION_H

#include "cpu/ops_cpu.h"
#include "cpu/vec.h"

/* [batch][head][n][size] by strides in floats; rows of `size` are contiguous. */
typedef struct pare_attn_view {
    const float *data;
    size_t heads, n, size, batch, head, row;
} pare_attn_view;

typedef struct pare_attn {
    const pare_attr_attention *attr;
    pare_attn_view q, k, v, y, past_k, past_v;
    size_t batch, past, keys, group; /* keys = past + new; group = query heads per key head */
    float scale;
    const void *mask; /* bool (true = may see) or f32 (added), NULL = none */
    bool mask_bool;
    size_t mask_stride[4], mask_keys; /* keys beyond mask_keys are hidden */
    const pare_tensor *nonpad;
} pare_attn;

static inline const float *pare_attn_row(const pare_attn_view *v, size_t b, size_t h, size_t i) {
    return v->data + b * v->batch + h * v->head + i * v->row;
}

/* Checks a call of Attention (but for what nonpad holds) and fills *a. */
pare_status pare_attn_describe(const pare_op_call *c, pare_attn *a, pare_diag *d);
pare_status pare_attn_check_nonpad(const pare_op_call *c, const pare_attn *a, pare_diag *d);
size_t pare_attn_visible(const pare_attn *a, size_t b, size_t i);
void pare_attn_add_mask(const pare_attn *a, size_t b, size_t h, size_t i, size_t first, size_t n, float *s);

/* Each way has scratch of so many floats (for the current thread count). Shapes are checked; rows also checks qk. */
size_t pare_attn_tiles_floats(const pare_attn *a);
void pare_attn_tiles(const pare_attn *a, float *scratch);
size_t pare_attn_rows_floats(const pare_attn *a);
pare_status pare_attn_rows(const pare_op_call *c, const pare_attn *a, pare_tensor *qk, pare_diag *d);

#endif
