/* SPDX-License-Identifier: Apache-2.0
 *
 * What the operator families of the CUDA backend share. */
#include "cuda/backend.cuh"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const pare_host *pare_cuda_host;

pare_status pare_cuda_fail(const pare_op_call *c, pare_diag *d, const char *fmt, ...) {
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return pare_cuda_host->fail(d, PARE_ERR_INPUT, NULL, pare_cuda_host->op_get(c->op)->name, "%s", text);
}

pare_status pare_cuda_check(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    char why[512];
    if (rt_check(&dev->rt, why, sizeof why)) return PARE_OK;
    return pare_cuda_host->fail(d, PARE_ERR_DEVICE, NULL, pare_cuda_host->op_get(c->op)->name, "%s", why);
}

int pare_cuda_axis(int64_t axis, int ndim) {
    if (axis < 0) axis += ndim;
    return axis >= 0 && axis < ndim ? (int)axis : -1;
}

int64_t pare_cuda_span(const pare_tensor *t, int first, int last) {
    int64_t n = 1;
    for (int i = first; i < last; i++) n *= t->shape[i];
    return n;
}

bool pare_cuda_same_shape(const pare_tensor *a, const pare_tensor *b) {
    if (a->ndim != b->ndim) return false;
    for (int i = 0; i < a->ndim; i++)
        if (a->shape[i] != b->shape[i]) return false;
    return true;
}

pare_cuda_type pare_cuda_type_of(const pare_qtype *qt) {
    static const struct {
        const char *name;
        pare_cuda_type type;
    } types[] = {{"f32", PARE_CT_F32}, {"f16", PARE_CT_F16}, {"bf16", PARE_CT_BF16},
                 {"i64", PARE_CT_I64}, {"i32", PARE_CT_I32}, {"bool", PARE_CT_BOOL}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(qt->name, types[i].name) == 0) return types[i].type;
    return PARE_CT_OTHER;
}
bool pare_cuda_is_f32(const pare_tensor *t) { return t && pare_cuda_type_of(t->type) == PARE_CT_F32; }
bool pare_cuda_is_i64(const pare_tensor *t) { return t && pare_cuda_type_of(t->type) == PARE_CT_I64; }
bool pare_cuda_is_index(const pare_tensor *t) {
    return t && (pare_cuda_type_of(t->type) == PARE_CT_I64 || pare_cuda_type_of(t->type) == PARE_CT_I32);
}
bool pare_cuda_plain(const pare_tensor *t) {
    uint32_t size = t && t->type->block_elems == 1 ? t->type->block_bytes : 0;
    return size == 1 || size == 2 || size == 4 || size == 8;
}

int64_t pare_cuda_host_index(const pare_op_call *c, int k, int64_t i) {
    if (pare_cuda_is_i64(c->in[k])) return ((const int64_t *)c->host[k])[i];
    return ((const int32_t *)c->host[k])[i];
}

size_t pare_cuda_no_workspace(const pare_cuda *dev, const pare_op_call *c) { return 0; }
