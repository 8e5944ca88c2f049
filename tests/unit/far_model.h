/* SPDX-License-Identifier: Apache-2.0
 *
 * A small decoder with a cache, a tied embedding and quantized layers, run step by step on the CPU and on the far
 * device, to be compared bit for bit. */
#ifndef PARE_TESTS_FAR_MODEL_H
#define PARE_TESTS_FAR_MODEL_H

#include "far_device.h"

#include "core/rng.h"
#include "graph/exec.h"

enum { DIM = 64, VOCAB = 40, LAYERS = 6, CAP = 16, LAYER_BYTES = DIM * (DIM / 32 * 34) };

typedef struct net {
    pare_graph *g;
    pare_value ids, past, length, kv[LAYERS], out;
} net;

static float table[VOCAB * DIM], scale[DIM];
static unsigned char layer[LAYERS][LAYER_BYTES];

static inline void make_weights(void) {
    pare_rng r;
    float w[DIM * DIM];
    const pare_qtype *q8 = pare_qtype_by_name("q8_0");
    pare_rng_seed(&r, 7);
    for (int i = 0; i < VOCAB * DIM; i++) table[i] = pare_rng_normal(&r);
    for (int i = 0; i < DIM; i++) scale[i] = 1 + 0.1f * pare_rng_normal(&r);
    for (int l = 0; l < LAYERS; l++) {
        for (int i = 0; i < DIM * DIM; i++) w[i] = 0.2f * pare_rng_normal(&r);
        assert_int_equal(pare_row_bytes(q8, DIM) * DIM, LAYER_BYTES);
        q8->grid->encode(q8, w, DIM, NULL, DIM, DIM, layer[l], pare_row_bytes(q8, DIM));
    }
}

static inline pare_value far_weight(pare_graph *g, const char *name, const pare_qtype *type, int ndim, int64_t rows,
                                    void *data, bool transposed) {
    const int64_t matrix[] = {rows, DIM}, vector[] = {DIM};
    pare_tensor t = pare_tensor_make(type, ndim, ndim == 2 ? matrix : vector, data);
    t.transposed = transposed;
    return pare_graph_weight(g, name, &t);
}

static inline pare_value reshape(pare_graph *g, const char *name, pare_value x, int64_t width) {
    pare_attr_reshape at = {0};
    pare_value in[] = {x, pare_graph_const_i64(g, "shape", 3, (int64_t[]){0, -1, width})};
    return pare_graph_node(g, PARE_OP_Reshape, name, &at, sizeof at, 2, in, 1);
}

static inline pare_value add_layer(net *m, int l, pare_value x) {
    char name[32];
    pare_graph *g = m->g;
    pare_attr_norm norm = {-1, 1e-5f};
    pare_attr_scatter cache = {-2, false};
    pare_attr_attention attn = {.is_causal = true, .q_num_heads = 2, .kv_num_heads = 2};
    pare_attr_softmax last = {-1};
    snprintf(name, sizeof name, "layer%d", l);
    pare_graph_stage(g, name);
    pare_value in[] = {x, far_weight(g, "scale", &pare_qtype_f32, 1, 1, scale, false)};
    pare_value h = pare_graph_node(g, PARE_OP_RMSNormalization, "norm", &norm, sizeof norm, 2, in, 1);
    m->kv[l] = pare_graph_state(g, "kv", &pare_qtype_f32, 3, (int64_t[]){PARE_SYM_BATCH, PARE_SYM_CACHE, DIM});
    pare_value put[] = {m->kv[l], h, m->past};
    pare_value k = pare_graph_node(g, PARE_OP_TensorScatter, "cache", &cache, sizeof cache, 3, put, 1);
    pare_value mul[] = {h, far_weight(g, name, pare_qtype_by_name("q8_0"), 2, DIM, layer[l], true)};
    pare_value q = pare_graph_node(g, PARE_OP_MatMul, "q", NULL, 0, 2, mul, 1), no = PARE_NO_VALUE;
    pare_value see[] = {q, k, k, no, no, no, m->length};
    pare_value y = pare_graph_node(g, PARE_OP_Attention, "attn", &attn, sizeof attn, 7, see, 1);
    y = reshape(g, "halves", y, DIM / 2);
    y = pare_graph_node(g, PARE_OP_Softmax, "soft", &last, sizeof last, 1, &y, 1);
    pare_value sum[] = {x, reshape(g, "whole", y, DIM)};
    return pare_graph_node(g, PARE_OP_Add, "sum", NULL, 0, 2, sum, 1);
}

static inline net build(void) {
    net m = {.g = pare_graph_new()};
    pare_attr_gather rows = {0};
    if (!m.g) return m;
    m.ids = pare_graph_input(m.g, "ids", &pare_qtype_i64, 2, (int64_t[]){PARE_SYM_BATCH, PARE_SYM_SEQ});
    m.past = pare_graph_input(m.g, "past", &pare_qtype_i64, 1, (int64_t[]){PARE_SYM_BATCH});
    m.length = pare_graph_input(m.g, "length", &pare_qtype_i64, 1, (int64_t[]){PARE_SYM_BATCH});
    pare_graph_stage(m.g, "embed");
    pare_value in[] = {far_weight(m.g, "table", &pare_qtype_f32, 2, VOCAB, table, false), m.ids};
    pare_value x = pare_graph_node(m.g, PARE_OP_Gather, "rows", &rows, sizeof rows, 2, in, 1);
    for (int l = 0; l < LAYERS; l++) x = add_layer(&m, l, x);
    pare_graph_stage(m.g, "head");
    pare_value mix[] = {x, far_weight(m.g, "again", pare_qtype_by_name("q8_0"), 2, DIM, layer[0], true)};
    x = pare_graph_node(m.g, PARE_OP_MatMul, "mix", NULL, 0, 2, mix, 1);
    pare_value head[] = {x, far_weight(m.g, "tied", &pare_qtype_f32, 2, VOCAB, table, true)};
    m.out = pare_graph_node(m.g, PARE_OP_MatMul, "logits", NULL, 0, 2, head, 1);
    pare_graph_mark_output(m.g, m.out);
    return m;
}

/* ---- one model on one backend ---- */
typedef struct session {
    net m;
    pare_exec *e;
    void *kv[LAYERS];
    pare_node_hook *hook;
} session;

static size_t leave_bytes;

static inline pare_status session_open(session *s, const pare_backend *be, pare_diag *d) {
    float zero[CAP * DIM] = {0};
    *s = (session){.m = build()};
    if (!s->m.g) return PARE_ERR_NOMEM;
    pare_status st = pare_exec_open(s->m.g, &(pare_exec_opts){.backend = be, .leave_bytes = leave_bytes}, &s->e, d);
    for (int l = 0; l < LAYERS && st == PARE_OK; l++) {
        s->kv[l] = pare_exec_alloc(s->e, sizeof zero);
        st = s->kv[l] ? pare_exec_upload(s->e, s->kv[l], zero, sizeof zero, d) : PARE_ERR_NOMEM;
    }
    return st;
}

static inline void session_close(session *s) {
    for (int l = 0; l < LAYERS && s->e; l++) pare_exec_release(s->e, s->kv[l]);
    pare_exec_close(&s->e);
    pare_graph_free(&s->m.g);
}

/* n tokens at position past; all stages at once, or one by one. */
static inline pare_status step(session *s, int64_t n, int64_t past, bool stages, float *logits, pare_diag *d) {
    int64_t ids[CAP], length = past + n;
    for (int64_t i = 0; i < n; i++) ids[i] = (past + i) * 7 % VOCAB;
    pare_binding b[3 + LAYERS] = {{s->m.ids, ids}, {s->m.past, &past}, {s->m.length, &length}};
    for (int l = 0; l < LAYERS; l++) b[3 + l] = (pare_binding){s->m.kv[l], s->kv[l]};
    pare_status st = pare_exec_shape(s->e, (int64_t[]){1, n, CAP}, d);
    int runs = stages ? pare_exec_stages(s->e) : 1;
    for (int i = 0; i < runs && st == PARE_OK; i++) st = pare_exec_run(s->e, stages ? i : -1, b, 3 + LAYERS, d);
    if (st != PARE_OK) return st;
    const pare_tensor *t = pare_exec_value(s->e, s->m.out);
    if (!t) return PARE_ERR_NOMEM;
    assert_int_equal(pare_tensor_elems(t), n * VOCAB);
    memcpy(logits, t->data, (size_t)(n * VOCAB) * sizeof *logits);
    return PARE_OK;
}

/* The same step on both; logits must be the same numbers. */
static inline void both(session *cpu, session *dev, int64_t n, int64_t past, bool stages) {
    float want[CAP * VOCAB], got[CAP * VOCAB];
    pare_diag d = {0};
    assert_int_equal(step(cpu, n, past, stages, want, NULL), PARE_OK);
    if (step(dev, n, past, stages, got, &d) != PARE_OK) fail_msg("%s: %s", d.where, d.text);
    assert_memory_equal(want, got, (size_t)(n * VOCAB) * sizeof *want);
}

static inline void open_both(session *cpu, session *dev) {
    assert_int_equal(session_open(cpu, NULL, NULL), PARE_OK);
    assert_int_equal(session_open(dev, &far_device, NULL), PARE_OK);
}
static inline void close_both(session *cpu, session *dev) {
    session_close(cpu);
    session_close(dev);
}

static inline int reset(void **s) {
    memset(&far, 0, sizeof far);
    pare_set_threads(1); /* workspaces, and so what a limit leaves, grow with threads */
    return 0;
}

/* table, scale (shared by all layers, as table and the first matrix are by the head), LAYERS matrices, two shapes a
 * layer */
enum { WEIGHTS = 2 + LAYERS + 2 * LAYERS };

#endif
