/* SPDX-License-Identifier: Apache-2.0
 *
 * Plain element types, the registry of all storage formats, and tensor arithmetic. */
#include "core/sparse.h"
#include "core/tensor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static void decode_f32(const pare_qtype *qt, const void *src, float *dst, size_t n) { memcpy(dst, src, n * 4); }
static void decode_f16(const pare_qtype *qt, const void *src, float *dst, size_t n) { pare_f16_to_f32_n(src, dst, n); }
static void decode_bf16(const pare_qtype *qt, const void *src, float *dst, size_t n) {
    pare_bf16_to_f32_n(src, dst, n);
}
static void decode_f64(const pare_qtype *qt, const void *src, float *dst, size_t n) {
    const char *p = src;
    for (size_t i = 0; i < n; i++) {
        double v;
        memcpy(&v, p + 8 * i, 8);
        dst[i] = (float)v;
    }
}

/* OCP 8-bit floats (OFP8 1.0): E4M3 has no infinity, S.1111.111 is NaN; E5M2 is IEEE-like. */
static float f8_value(unsigned b, int exp_bits, int man_bits, int bias) {
    unsigned e = b >> man_bits & ((1u << exp_bits) - 1), m = b & ((1u << man_bits) - 1);
    float v;
    if (exp_bits == 4 && (b & 0x7F) == 0x7F) v = NAN;
    else if (exp_bits == 5 && e == 31) v = m ? NAN : INFINITY;
    else if (e == 0) v = ldexpf((float)m, 1 - bias - man_bits);
    else v = ldexpf((float)(m | 1u << man_bits), (int)e - bias - man_bits);
    return b & 0x80 ? -v : v;
}
static void decode_f8_e4m3(const pare_qtype *qt, const void *src, float *dst, size_t n) {
    for (size_t i = 0; i < n; i++) dst[i] = f8_value(((const uint8_t *)src)[i], 4, 3, 7);
}
static void decode_f8_e5m2(const pare_qtype *qt, const void *src, float *dst, size_t n) {
    for (size_t i = 0; i < n; i++) dst[i] = f8_value(((const uint8_t *)src)[i], 5, 2, 15);
}
static void decode_f8_e8m0(const pare_qtype *qt, const void *src, float *dst, size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned b = ((const uint8_t *)src)[i];
        dst[i] = b == 255 ? NAN : ldexpf(1.0f, (int)b - 127);
    }
}

#define FLOAT_TYPE(id, nm, ggml, st, bytes)                                                                            \
    const pare_qtype pare_qtype_##id = {.name = nm,                                                                    \
                                        .kind = PARE_QK_FLOAT,                                                         \
                                        .ggml_type = ggml,                                                             \
                                        .safetensors = st,                                                             \
                                        .block_elems = 1,                                                              \
                                        .block_bytes = bytes,                                                          \
                                        .decode = decode_##id};
#define INT_TYPE(id, nm, ggml, st, bytes)                                                                              \
    const pare_qtype pare_qtype_##id = {.name = nm,                                                                    \
                                        .kind = PARE_QK_INT,                                                           \
                                        .ggml_type = ggml,                                                             \
                                        .safetensors = st,                                                             \
                                        .block_elems = 1,                                                              \
                                        .block_bytes = bytes};
#include "core/dtypes.def"
#undef FLOAT_TYPE
#undef INT_TYPE

#define FLOAT_TYPE(id, ...) &pare_qtype_##id,
#define INT_TYPE(id, ...)   &pare_qtype_##id,
static const pare_qtype *const plain[] = {
#include "core/dtypes.def"
};
#undef FLOAT_TYPE
#undef INT_TYPE

/* Formats of quant/: a link-time tie only. PARE_QTYPE(symbol) one row; PARE_QTYPE_TABLE(symbol, count) an array. */
#define PARE_QTYPE(sym)              extern const pare_qtype sym;
#define PARE_QTYPE_TABLE(sym, count) extern const pare_qtype sym[count];
#include "quant/qtypes.def"
#undef PARE_QTYPE
#undef PARE_QTYPE_TABLE
static const struct {
    const pare_qtype *first;
    size_t n;
} tables[] = {
#define PARE_QTYPE(sym)              {&sym, 1},
#define PARE_QTYPE_TABLE(sym, count) {sym, count},
#include "quant/qtypes.def"
    {NULL, 0}};

#define N_PLAIN (sizeof plain / sizeof *plain)

size_t pare_qtype_count(void) {
    size_t n = N_PLAIN;
    for (size_t i = 0; tables[i].first; i++) n += tables[i].n;
    return n;
}

const pare_qtype *pare_qtype_at(size_t i) {
    if (i < N_PLAIN) return plain[i];
    i -= N_PLAIN;
    for (size_t t = 0; tables[t].first; i -= tables[t].n, t++)
        if (i < tables[t].n) return &tables[t].first[i];
    return NULL;
}

/* "X:2of4", "X:mask4.9" */
static const pare_qtype *sparse_by_name(const char *name) {
    const char *tail = strrchr(name, ':');
    char dense[64];
    unsigned run = 1, keep = 0;
    int end = 0;
    if (!tail || tail - name >= (int)sizeof dense) return NULL;
    snprintf(dense, sizeof dense, "%.*s", (int)(tail - name), name);
    if (strcasecmp(tail, ":2of4") != 0) {
        if (strncasecmp(tail, ":mask", 5) != 0 || sscanf(tail + 5, "%2u.%2u%n", &run, &keep, &end) != 2) return NULL;
        if (tail[5 + end] || keep == 0) return NULL;
    }
    const pare_qtype *q = pare_qtype_by_name(dense);
    return q ? pare_qtype_sparse(q, run, keep) : NULL;
}

const pare_qtype *pare_qtype_by_name(const char *name) {
    const pare_qtype *q;
    for (size_t i = 0; (q = pare_qtype_at(i)); i++)
        if (strcasecmp(q->name, name) == 0) return q;
    return sparse_by_name(name);
}

const pare_qtype *pare_qtype_by_ggml(int ggml_type) {
    const pare_qtype *q;
    for (size_t i = 0; ggml_type >= 0 && (q = pare_qtype_at(i)); i++)
        if (q->ggml_type == ggml_type) return q;
    return NULL;
}

const pare_qtype *pare_qtype_by_safetensors(const char *dtype) {
    const pare_qtype *q;
    for (size_t i = 0; (q = pare_qtype_at(i)); i++)
        if (q->safetensors && strcmp(q->safetensors, dtype) == 0) return q;
    return NULL;
}

const pare_qtype *pare_qtype_int(int bits, unsigned group, bool asym, const pare_qtype *scale_type) {
    const pare_qtype *q;
    for (size_t i = 0; (q = pare_qtype_at(i)); i++) {
        const pare_int_format *f = q->int_format;
        if (f && f->bits == bits && f->group == group && f->asym == asym && f->scale_type == scale_type) return q;
    }
    return NULL;
}

bool pare_qtype_fits(const pare_qtype *qt, size_t n) {
    if (qt->sparse) return pare_sparse_fits(qt, n);
    return qt->block_elems ? n % qt->block_elems == 0 : n > 0;
}

size_t pare_row_bytes(const pare_qtype *qt, size_t n) {
    if (qt->block_elems) return n / qt->block_elems * qt->block_bytes;
    if (qt->sparse) return pare_sparse_row_of(qt, n).bytes;
    const pare_int_format *f = qt->int_format;
    size_t codes = f->bits == 8 ? n : (n + 31) / 32 * 16;
    return f->scale_type->block_bytes + (f->asym ? 1 : 0) + codes;
}

int64_t pare_tensor_elems(const pare_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i < t->ndim; i++) n *= t->shape[i];
    return n;
}
int64_t pare_tensor_cols(const pare_tensor *t) { return t->ndim ? t->shape[t->ndim - 1] : 1; }
int64_t pare_tensor_rows(const pare_tensor *t) {
    int64_t n = 1;
    for (int i = 0; i + 1 < t->ndim; i++) n *= t->shape[i];
    return n;
}
size_t pare_tensor_bytes(const pare_tensor *t) {
    return (size_t)pare_tensor_rows(t) * pare_row_bytes(t->type, (size_t)pare_tensor_cols(t));
}
pare_tensor pare_tensor_make(const pare_qtype *type, int ndim, const int64_t *shape, void *data) {
    pare_tensor t = {.type = type, .ndim = ndim, .data = data};
    for (int i = 0; i < ndim; i++) t.shape[i] = shape[i];
    return t;
}
