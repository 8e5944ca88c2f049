/* SPDX-License-Identifier: Apache-2.0
 *
 * Putting a case together. */
#include "tests/tools/parity.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool pc_wants(const pc_run *r, pare_op op) { return !r->only_op || strcasecmp(r->only_op, pare_op_get(op)->name) == 0; }

void *pc_alloc(pc_run *r, size_t bytes) {
    if (r->n_blocks == r->cap_blocks) {
        r->cap_blocks = r->cap_blocks ? 2 * r->cap_blocks : 64;
        r->blocks = realloc(r->blocks, r->cap_blocks * sizeof *r->blocks);
        if (!r->blocks) fprintf(stderr, "device_parity: out of memory\n"), exit(2);
    }
    void *p = pare_malloc_aligned(bytes + 64);
    if (!p) fprintf(stderr, "device_parity: out of memory (%zu bytes)\n", bytes), exit(2);
    memset(p, 0, bytes + 64);
    return r->blocks[r->n_blocks++] = p;
}

static pc_attr defaults(pare_op op) {
    pc_attr a;
    memset(&a, 0, sizeof a);
    switch (op) {
    case PARE_OP_LogSoftmax:
    case PARE_OP_Softmax: a.softmax.axis = -1; break;
    case PARE_OP_SwishGrad:
    case PARE_OP_Swish: a.swish.alpha = 1; break;
    case PARE_OP_ReduceSum:
    case PARE_OP_ReduceMean: a.reduce.keepdims = true; break;
    case PARE_OP_Gemm: a.gemm.alpha = a.gemm.beta = 1; break;
    case PARE_OP_LayerNormalization:
    case PARE_OP_RMSNormalization: a.norm.axis = -1, a.norm.epsilon = 1e-5f; break;
    case PARE_OP_TensorScatter: a.scatter.axis = -2; break;
    default: break;
    }
    return a;
}

void pc_begin(pc_run *r, pc_case *c, pare_op op, const char *label, ...) {
    va_list ap;
    memset(c, 0, sizeof *c);
    c->op = op, c->alias = -1, c->attr = defaults(op);
    c->equal = "bits";
    va_start(ap, label);
    vsnprintf(c->label, sizeof c->label, label, ap);
    va_end(ap);
}

void pc_params(pc_case *c, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->params, sizeof c->params, fmt, ap);
    va_end(ap);
}

void *pc_in(pc_run *r, pc_case *c, pc_kind kind, const pare_qtype *type, int ndim, const int64_t *shape) {
    pare_tensor t = pare_tensor_make(type, ndim, shape, NULL);
    c->kind[c->n_in] = kind;
    t.data = (char *)pc_alloc(r, pare_tensor_bytes(&t) + 64) + (kind == PC_WEIGHT ? 3 : 0); /* files align nothing */
    c->in[c->n_in++] = t;
    return t.data;
}

void pc_absent(pc_case *c) { c->n_in++; }

void pc_out(pc_run *r, pc_case *c, const pare_qtype *type, int ndim, const int64_t *shape) {
    pare_tensor t = pare_tensor_make(type, ndim, shape, NULL);
    t.data = pc_alloc(r, pare_tensor_bytes(&t));
    c->out[c->n_out++] = t;
}

float *pc_normal(pc_run *r, pc_case *c, int ndim, const int64_t *shape, float scale) {
    float *x = pc_in(r, c, PC_INPUT, &pare_qtype_f32, ndim, shape);
    int64_t n = pare_tensor_elems(&c->in[c->n_in - 1]);
    for (int64_t i = 0; i < n; i++) x[i] = scale * pare_rng_normal(&r->rng);
    return x;
}

void pc_expect(pc_run *r, pc_case *c, int i, const char *equal) {
    size_t n = (size_t)pare_tensor_elems(&c->out[i]);
    c->want[i] = pc_alloc(r, n * sizeof(double));
    c->bound[i] = pc_alloc(r, n * sizeof(double));
    c->equal = equal;
}

int64_t pc_pick(pc_run *r, const int64_t *list, int n) { return list[pare_rng_below(&r->rng, (uint64_t)n)]; }
