/* SPDX-License-Identifier: Apache-2.0
 *
 * What the operator families share: axes, shapes, reading constants as f32, the loop that stays serial when small. */
#include "cpu/ops_cpu.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Below this many element operations a parallel region costs more than it gains (about 5 us to start one). */
#define SERIAL_WORK 16384

pare_status pare_cpu_fail(const pare_op_call *c, pare_diag *d, const char *fmt, ...) {
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return pare_fail(d, PARE_ERR_MISMATCH, NULL, pare_op_get(c->op)->name, "%s", text);
}

size_t pare_cpu_no_workspace(const pare_op_call *c) { return 0; }

int pare_cpu_axis(int64_t axis, int ndim) {
    if (axis < 0) axis += ndim;
    return axis >= 0 && axis < ndim ? (int)axis : -1;
}

bool pare_cpu_same_shape(const pare_tensor *a, const pare_tensor *b) {
    if (a->ndim != b->ndim) return false;
    for (int i = 0; i < a->ndim; i++)
        if (a->shape[i] != b->shape[i]) return false;
    return true;
}

int64_t pare_cpu_span(const pare_tensor *t, int first, int last) {
    int64_t n = 1;
    for (int i = first; i < last; i++) n *= t->shape[i];
    return n;
}

bool pare_cpu_plain(const pare_tensor *t) { return t->type->block_elems == 1; }
bool pare_cpu_is_f32(const pare_tensor *t) { return t && t->type == &pare_qtype_f32; }
bool pare_cpu_decodable(const pare_tensor *t) { return t && (t->type == &pare_qtype_f32 || t->type->decode); }
bool pare_cpu_is_index(const pare_tensor *t) { return t && (t->type == &pare_qtype_i64 || t->type == &pare_qtype_i32); }

int64_t pare_cpu_index(const pare_tensor *t, int64_t i) {
    if (t->type == &pare_qtype_i64) return ((const int64_t *)t->data)[i];
    return ((const int32_t *)t->data)[i];
}

/* A mapped file may hold f32 at any address; floats are read at multiples of 4. */
static bool in_place(const pare_tensor *t) { return t->type == &pare_qtype_f32 && ((uintptr_t)t->data & 3) == 0; }

size_t pare_cpu_f32_bytes(const pare_tensor *t) {
    if (!t || in_place(t)) return 0;
    return ((size_t)pare_tensor_elems(t) * sizeof(float) + 63) & ~(size_t)63;
}

const float *pare_cpu_f32(const pare_tensor *t, char **scratch) {
    if (!t) return NULL;
    if (in_place(t)) return t->data;
    float *out = (float *)*scratch;
    size_t rows = (size_t)pare_tensor_rows(t), cols = (size_t)pare_tensor_cols(t);
    size_t row_bytes = pare_row_bytes(t->type, cols);
    for (size_t r = 0; r < rows; r++)
        t->type->decode(t->type, (const char *)t->data + r * row_bytes, out + r * cols, cols);
    *scratch += pare_cpu_f32_bytes(t);
    return out;
}

void pare_cpu_for(size_t n, size_t work, pare_item_fn *fn, void *ctx) {
    if (!work) work = 1;
    if (n < SERIAL_WORK / work + 1) {
        for (size_t i = 0; i < n; i++) fn(ctx, i);
        return;
    }
    pare_parallel(n, SERIAL_WORK / 4 / work, fn, ctx);
}
