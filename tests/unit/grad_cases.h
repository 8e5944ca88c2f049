/* SPDX-License-Identifier: Apache-2.0
 *
 * One small graph per operator that has a gradient, of random shapes, shared by the unit test (central differences) and
 * by tests/tools/grad_dump.c (torch). A case adds its operands with gc_var (a gradient is wanted) and gc_const, and
 * says in `note` what a reader needs to build the same in other words. */
#ifndef PARE_TESTS_GRAD_CASES_H
#define PARE_TESTS_GRAD_CASES_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"
#include "core/rng.h"
#include "graph/graph.h"

typedef struct gc {
    pare_rng rng;
    pare_graph *g;
    pare_value var[16];
    pare_tensor t[16]; /* of all operands */
    bool wanted[16];
    int n;
    char note[200];
} gc;

static int64_t gc_dim(gc *c, int64_t lo, int64_t hi) {
    return lo + (int64_t)pare_rng_below(&c->rng, (uint64_t)(hi - lo + 1));
}

static pare_value gc_operand(gc *c, bool wanted, int ndim, const int64_t *shape, float lo, float hi, bool transposed) {
    pare_tensor t = pare_tensor_make(&pare_qtype_f32, ndim, shape, NULL);
    int64_t n = pare_tensor_elems(&t);
    float *p = pare_graph_own(c->g, (size_t)(n ? n : 1) * sizeof *p);
    for (int64_t i = 0; p && i < n; i++) p[i] = lo + (hi - lo) * (float)pare_rng_unit(&c->rng);
    t.data = p;
    t.transposed = transposed;
    char name[8];
    snprintf(name, sizeof name, "x%d", c->n);
    c->t[c->n] = t, c->wanted[c->n] = wanted;
    return c->var[c->n++] = pare_graph_weight(c->g, name, &t);
}
#define GC_DIMS(...) ((int)(sizeof((int64_t[]){__VA_ARGS__}) / 8)), ((const int64_t[]){__VA_ARGS__})
static pare_value gc_var(gc *c, int ndim, const int64_t *shape) {
    return gc_operand(c, true, ndim, shape, -1.5f, 1.5f, false);
}
static pare_value gc_ints(gc *c, int n, const int64_t *v) { return pare_graph_const_i64(c->g, "ints", n, v); }
static pare_value gc_node(gc *c, pare_op op, const void *attr, size_t bytes, int n, const pare_value *in) {
    return pare_graph_node(c->g, op, pare_op_get(op)->name, attr, bytes, n, in, 1);
}
static pare_value gc_1(gc *c, pare_op op, pare_value x) { return gc_node(c, op, NULL, 0, 1, &x); }
static pare_value gc_2(gc *c, pare_op op, pare_value x, pare_value y) {
    return gc_node(c, op, NULL, 0, 2, (pare_value[]){x, y});
}

/* Two operands that broadcast one another. */
static pare_value gc_binary(gc *c, pare_op op) {
    int64_t a = gc_dim(c, 2, 4), b = gc_dim(c, 2, 5), e = gc_dim(c, 2, 6);
    bool away = op == PARE_OP_Div; /* from zero */
    pare_value x, y;
    switch (gc_dim(c, 0, 3)) {
    case 0: x = gc_var(c, GC_DIMS(a, b, e)), y = gc_operand(c, true, GC_DIMS(e), away ? 0.7f : -1, 1.5f, false); break;
    case 1:
        x = gc_var(c, GC_DIMS(b, 1)), y = gc_operand(c, true, GC_DIMS(a, 1, e), away ? 0.7f : -1, 1.5f, false);
        break;
    case 2: x = gc_var(c, 0, NULL), y = gc_operand(c, true, GC_DIMS(a, b), away ? 0.7f : -1, 1.5f, false); break;
    default: x = gc_var(c, GC_DIMS(a, e)), y = gc_operand(c, true, GC_DIMS(a, e), away ? 0.7f : -1, 1.5f, false); break;
    }
    return gc_2(c, op, x, y);
}
static pare_value gc_unary(gc *c, pare_op op, float lo, float hi, const void *attr, size_t bytes) {
    pare_value x = gc_operand(c, true, GC_DIMS(gc_dim(c, 1, 4), gc_dim(c, 1, 9)), lo, hi, false);
    return gc_node(c, op, attr, bytes, 1, &x);
}

static pare_value gc_Add(gc *c) { return gc_binary(c, PARE_OP_Add); }
static pare_value gc_Sub(gc *c) { return gc_binary(c, PARE_OP_Sub); }
static pare_value gc_Mul(gc *c) { return gc_binary(c, PARE_OP_Mul); }
static pare_value gc_Div(gc *c) { return gc_binary(c, PARE_OP_Div); }
static pare_value gc_Sqrt(gc *c) { return gc_unary(c, PARE_OP_Sqrt, 0.5f, 3, NULL, 0); }
static pare_value gc_Erf(gc *c) { return gc_unary(c, PARE_OP_Erf, -2, 2, NULL, 0); }
static pare_value gc_Exp(gc *c) { return gc_unary(c, PARE_OP_Exp, -2, 1, NULL, 0); }
static pare_value gc_Log(gc *c) { return gc_unary(c, PARE_OP_Log, 0.5f, 3, NULL, 0); }
static pare_value gc_Sigmoid(gc *c) { return gc_unary(c, PARE_OP_Sigmoid, -3, 3, NULL, 0); }
static pare_value gc_Tanh(gc *c) { return gc_unary(c, PARE_OP_Tanh, -2, 2, NULL, 0); }
static pare_value gc_Relu(gc *c) { /* its kink is no place to differentiate */
    bool above = gc_dim(c, 0, 1);
    return gc_unary(c, PARE_OP_Relu, above ? 0.2f : -2, above ? 2 : -0.2f, NULL, 0);
}
static pare_value gc_Gelu(gc *c) {
    pare_attr_gelu at = {.tanh_approx = gc_dim(c, 0, 1)};
    snprintf(c->note, sizeof c->note, "%s", at.tanh_approx ? "tanh" : "none");
    return gc_unary(c, PARE_OP_Gelu, -3, 3, &at, sizeof at);
}
static pare_value gc_Swish(gc *c) {
    pare_attr_swish at = {.alpha = gc_dim(c, 0, 1) ? 1.0f : 1.75f};
    snprintf(c->note, sizeof c->note, "%g", (double)at.alpha);
    return gc_unary(c, PARE_OP_Swish, -3, 3, &at, sizeof at);
}
static pare_value gc_softmaxes(gc *c, pare_op op) {
    pare_attr_softmax at = {.axis = gc_dim(c, -3, 2)};
    pare_value x = gc_operand(c, true, GC_DIMS(gc_dim(c, 1, 3), gc_dim(c, 1, 5), gc_dim(c, 1, 7)), -2, 2, false);
    snprintf(c->note, sizeof c->note, "%lld", (long long)at.axis);
    return gc_node(c, op, &at, sizeof at, 1, &x);
}
static pare_value gc_Softmax(gc *c) { return gc_softmaxes(c, PARE_OP_Softmax); }
static pare_value gc_LogSoftmax(gc *c) { return gc_softmaxes(c, PARE_OP_LogSoftmax); }
static pare_value gc_reduction(gc *c, pare_op op) {
    int64_t axes[2] = {gc_dim(c, 0, 1), 2};
    pare_attr_reduce at = {.keepdims = gc_dim(c, 0, 1)};
    int n = (int)gc_dim(c, 0, 2);
    if (n == 1) axes[0] = gc_dim(c, 0, 1) ? -1 : 1;
    pare_value x = gc_var(c, GC_DIMS(gc_dim(c, 2, 4), gc_dim(c, 1, 5), gc_dim(c, 2, 6))),
               in[] = {x, gc_ints(c, n, axes)};
    int used = snprintf(c->note, sizeof c->note, "%d", (int)at.keepdims);
    for (int i = 0; i < n; i++)
        used += snprintf(c->note + used, sizeof c->note - (size_t)used, " %lld", (long long)axes[i]);
    return gc_node(c, op, &at, sizeof at, n ? 2 : 1, in);
}
static pare_value gc_ReduceMean(gc *c) { return gc_reduction(c, PARE_OP_ReduceMean); }
static pare_value gc_ReduceSum(gc *c) { return gc_reduction(c, PARE_OP_ReduceSum); }
static pare_value gc_Expand(gc *c) {
    int64_t a = gc_dim(c, 2, 4), b = gc_dim(c, 2, 4), e = gc_dim(c, 2, 4), to[] = {a, b, e};
    snprintf(c->note, sizeof c->note, "%lld %lld %lld", (long long)a, (long long)b, (long long)e);
    return gc_2(c, PARE_OP_Expand, gc_dim(c, 0, 1) ? gc_var(c, GC_DIMS(b, 1)) : gc_var(c, GC_DIMS(a, 1, e)),
                gc_ints(c, 3, to));
}
static pare_value gc_Reshape(gc *c) {
    int64_t a = gc_dim(c, 2, 4), b = gc_dim(c, 2, 4), to[] = {0, -1, 2};
    pare_value x = gc_var(c, GC_DIMS(a, 2 * b, 3));
    return gc_2(c, PARE_OP_Reshape, x, gc_ints(c, 3, to));
}
static pare_value gc_Transpose(gc *c) {
    static const int64_t all[3][3] = {{2, 0, 1}, {1, 2, 0}, {0, 2, 1}};
    pare_attr_transpose at = {.n = 3};
    memcpy(at.perm, all[gc_dim(c, 0, 2)], sizeof all[0]);
    snprintf(c->note, sizeof c->note, "%lld %lld %lld", (long long)at.perm[0], (long long)at.perm[1],
             (long long)at.perm[2]);
    pare_value x = gc_var(c, GC_DIMS(gc_dim(c, 1, 4), gc_dim(c, 1, 4), gc_dim(c, 1, 4)));
    return gc_node(c, PARE_OP_Transpose, &at, sizeof at, 1, &x);
}
static pare_value gc_Gather(gc *c) { /* rows that come up more than once */
    int64_t v = gc_dim(c, 2, 5), n = gc_dim(c, 3, 9), ids[9];
    int used = 0;
    for (int64_t i = 0; i < n; i++) {
        ids[i] = gc_dim(c, 0, v - 1);
        used += snprintf(c->note + used, sizeof c->note - (size_t)used, "%lld ", (long long)ids[i]);
    }
    pare_attr_gather at = {0};
    pare_value in[] = {gc_var(c, GC_DIMS(v, gc_dim(c, 1, 7))), gc_ints(c, (int)n, ids)};
    return gc_node(c, PARE_OP_Gather, &at, sizeof at, 2, in);
}
static pare_value gc_Tied(gc *c) { /* one table, looked up and multiplied by: its two gradients are one */
    int64_t v = gc_dim(c, 3, 6), d = gc_dim(c, 2, 5), ids[] = {1, 0, 1};
    pare_attr_gather at = {0};
    pare_value table = gc_var(c, GC_DIMS(v, d)), x;
    pare_tensor turned = c->t[0];
    turned.transposed = true;
    x = gc_node(c, PARE_OP_Gather, &at, sizeof at, 2, (pare_value[]){table, gc_ints(c, 3, ids)});
    return gc_2(c, PARE_OP_MatMul, gc_1(c, PARE_OP_Tanh, x), pare_graph_weight(c->g, "turned", &turned));
}
static pare_value gc_MatMul(gc *c) {
    int64_t m = gc_dim(c, 1, 5), k = gc_dim(c, 1, 6), n = gc_dim(c, 1, 7), b = gc_dim(c, 1, 3), e = gc_dim(c, 2, 3),
            way = gc_dim(c, 0, 4);
    snprintf(c->note, sizeof c->note, "%s", way < 2 ? "T" : "N");
    pare_value x = way == 0 || way == 2 ? gc_var(c, GC_DIMS(b, m, k))
                   : way == 1           ? gc_var(c, GC_DIMS(m, k))
                   : way == 3           ? gc_var(c, GC_DIMS(b, 1, m, k))
                                        : gc_var(c, GC_DIMS(e, b, m, k));
    pare_value w = way < 2    ? gc_operand(c, true, GC_DIMS(n, k), -1, 1, true)
                   : way == 2 ? gc_var(c, GC_DIMS(k, n))
                   : way == 3 ? gc_var(c, GC_DIMS(e, k, n))
                              : gc_var(c, GC_DIMS(e, 1, k, n));
    return gc_2(c, PARE_OP_MatMul, x, w);
}
static pare_value gc_Gemm(gc *c) {
    int64_t m = gc_dim(c, 1, 5), k = gc_dim(c, 1, 6), n = gc_dim(c, 1, 7);
    pare_attr_gemm at = {1.5f, gc_dim(c, 0, 1) ? 1.0f : 0.25f, gc_dim(c, 0, 1), gc_dim(c, 0, 1)};
    snprintf(c->note, sizeof c->note, "%g %d %d", (double)at.beta, at.trans_a, at.trans_b);
    pare_value in[3];
    in[0] = at.trans_a ? gc_var(c, GC_DIMS(k, m)) : gc_var(c, GC_DIMS(m, k));
    in[1] = at.trans_b ? gc_var(c, GC_DIMS(n, k)) : gc_var(c, GC_DIMS(k, n));
    in[2] = gc_dim(c, 0, 1) ? gc_var(c, GC_DIMS(n)) : gc_var(c, GC_DIMS(m, 1));
    return gc_node(c, PARE_OP_Gemm, &at, sizeof at, 3, in);
}
static pare_value gc_norms(gc *c, bool layer) {
    int64_t rows = gc_dim(c, 1, 70), n = gc_dim(c, 2, 19);
    pare_attr_norm at = {.axis = gc_dim(c, 0, 1) ? -1 : 1, .epsilon = 1e-3f};
    pare_value in[3];
    if (at.axis == 1 && n % 2 == 0) in[0] = gc_var(c, GC_DIMS(rows, n / 2, 2)), in[1] = gc_var(c, GC_DIMS(n / 2, 2));
    else in[0] = gc_var(c, GC_DIMS(rows, n)), in[1] = gc_var(c, GC_DIMS(n));
    in[2] = layer ? gc_operand(c, true, c->t[1].ndim, c->t[1].shape, -1, 1, false) : PARE_NO_VALUE;
    return gc_node(c, layer ? PARE_OP_LayerNormalization : PARE_OP_RMSNormalization, &at, sizeof at, 2 + layer, in);
}
static pare_value gc_LayerNormalization(gc *c) { return gc_norms(c, true); }
static pare_value gc_RMSNormalization(gc *c) { return gc_norms(c, false); }
static pare_value gc_RotaryEmbedding(gc *c) {
    int64_t batch = gc_dim(c, 1, 2), seq = gc_dim(c, 1, 4), heads = gc_dim(c, 1, 3), half = gc_dim(c, 1, 4);
    pare_attr_rotary at = {.interleaved = gc_dim(c, 0, 1), .num_heads = heads};
    snprintf(c->note, sizeof c->note, "%d %lld", at.interleaved, (long long)heads);
    pare_value x = gc_var(c, GC_DIMS(batch, seq, heads * 2 * half));
    pare_value cosines = gc_operand(c, false, GC_DIMS(batch, seq, half), -1, 1, false);
    pare_value in[] = {x, cosines, gc_operand(c, false, GC_DIMS(batch, seq, half), -1, 1, false)};
    return gc_node(c, PARE_OP_RotaryEmbedding, &at, sizeof at, 3, in);
}
static pare_value gc_Attention(gc *c) {
    int64_t batch = gc_dim(c, 1, 2), kv = gc_dim(c, 1, 2), group = gc_dim(c, 1, 3), d = gc_dim(c, 1, 5),
            nk = gc_dim(c, 1, 90), heads = kv * group;
    bool causal = gc_dim(c, 0, 1), flat = gc_dim(c, 0, 1), nonpad = gc_dim(c, 0, 1), masked = gc_dim(c, 0, 1);
    int64_t nq = causal ? nk : gc_dim(c, 1, 70), length[2] = {nk, gc_dim(c, 1, nk)};
    if (causal && nonpad) length[1] = nk; /* beyond that some queries would see nothing, in other words than torch's */
    pare_attr_attention at = {.is_causal = causal,
                              .q_num_heads = flat ? heads : 0,
                              .kv_num_heads = flat ? kv : 0,
                              .scale = gc_dim(c, 0, 1) ? 0 : 0.4f};
    snprintf(c->note, sizeof c->note, "%lld %lld %d %g %d %lld %d", (long long)heads, (long long)kv, causal,
             (double)at.scale, nonpad, (long long)length[1], masked);
    pare_value in[7] = {0, 0, 0, PARE_NO_VALUE, PARE_NO_VALUE, PARE_NO_VALUE, PARE_NO_VALUE};
    for (int i = 0; i < 3; i++) {
        int64_t h = i ? kv : heads, len = i ? nk : nq;
        in[i] = flat ? gc_var(c, GC_DIMS(batch, len, h * d)) : gc_var(c, GC_DIMS(batch, h, len, d));
    }
    if (masked) in[3] = gc_operand(c, false, GC_DIMS(nq, nk), -1, 1, false);
    if (nonpad) in[6] = gc_ints(c, (int)batch, batch == 1 ? length + 1 : length);
    return gc_node(c, PARE_OP_Attention, &at, sizeof at, 7, in);
}

#define GC_CASES(F)                                                                                                    \
    F(Add)                                                                                                             \
    F(Sub)                                                                                                             \
    F(Mul)                                                                                                             \
    F(Div)                                                                                                             \
    F(Sqrt)                                                                                                            \
    F(Erf)                                                                                                             \
    F(Exp)                                                                                                             \
    F(Log)                                                                                                             \
    F(Sigmoid)                                                                                                         \
    F(Tanh)                                                                                                            \
    F(Relu)                                                                                                            \
    F(Gelu)                                                                                                            \
    F(Swish)                                                                                                           \
    F(Softmax)                                                                                                         \
    F(LogSoftmax)                                                                                                      \
    F(ReduceMean)                                                                                                      \
    F(ReduceSum)                                                                                                       \
    F(Expand)                                                                                                          \
    F(Reshape)                                                                                                         \
    F(Transpose)                                                                                                       \
    F(Gather)                                                                                                          \
    F(Tied)                                                                                                            \
    F(MatMul)                                                                                                          \
    F(Gemm)                                                                                                            \
    F(LayerNormalization)                                                                                              \
    F(RMSNormalization)                                                                                                \
    F(RotaryEmbedding)                                                                                                 \
    F(Attention)
typedef pare_value gc_build(gc *c);
static const struct gc_case {
    const char *name;
    gc_build *build;
} gc_cases[] = {
#define GC_CASE(name) {#name, gc_##name},
    GC_CASES(GC_CASE)
#undef GC_CASE
};
#define GC_COUNT (sizeof gc_cases / sizeof *gc_cases)

/* The case's graph and its result; c->g is the caller's to free. */
static pare_value gc_make(gc *c, size_t which, uint64_t seed) {
    memset(c, 0, sizeof *c);
    pare_rng_seed(&c->rng, seed * 1000 + which);
    c->g = pare_graph_new();
    return gc_cases[which].build(c);
}

#endif
