/* SPDX-License-Identifier: Apache-2.0
 *
 * The coupled dimensions of the builders' graphs against what they are by hand; refitting and the influence of layers
 * where the answer is known. */
#include "tiny.h"

#include <math.h>

#include "models/lm_run.h"
#include "prune/depth.h"
#include "prune/heal.h"
#include "prune/structure.h"

static tiny_dir dir;
static char path[3][160];

static const char *at(int slot, const char *name) {
    snprintf(path[slot], sizeof path[slot], "%s/%s", dir.path, name);
    return path[slot];
}

static int make_models(void **s) {
    static const char *const names[] = {"llama", "qwen2", "qwen3", "bert"};
    dir = tiny_dir_new();
    for (int i = 0; i < 4; i++) {
        char name[32];
        pare_arch a = tiny_arch(names[i]);
        a.tied = i == 2;
        tiny_write(at(0, names[i]), PARE_SOURCE_FOLDER, &a, NULL, NULL);
        snprintf(name, sizeof name, "%s.gguf", names[i]);
        tiny_write(at(0, name), PARE_SOURCE_GGUF, &a, NULL, NULL);
    }
    return 0;
}
static int remove_models(void **s) { return tiny_dir_remove(&dir), 0; }

/* ---- what belongs together ---- */
typedef struct opened {
    pare_source *src;
    pare_weights *w;
    pare_lm_run run;
} opened;

static opened open_graph(const char *name) {
    opened m = {0};
    pare_arch a;
    pare_diag d = {0};
    if (pare_source_open(at(0, name), &m.src, &d) != PARE_OK || pare_arch_read(m.src, &a, &d) != PARE_OK ||
        pare_weights_open(m.src, &a, &m.w, &d) != PARE_OK ||
        pare_lm_run_open(m.w, 16, &(pare_exec_opts){0}, &m.run, &d) != PARE_OK)
        fail_msg("%s: %s", d.where, d.text);
    return m;
}
static void close_graph(opened *m) {
    pare_lm_run_close(&m->run);
    pare_weights_close(&m->w);
    pare_source_close(&m->src);
}

typedef struct expected {
    const char *weight;
    int axis;
    int unit; /* elements of one unit, consecutive */
} expected;

/* Exactly these dimensions of weights are coupled, and unit u is elements u * unit .. of each. */
static void expect(const char *name, const char *start, int axis, pare_head_mode mode, int units, int sets,
                   const expected *want, size_t n) {
    opened m = open_graph(name);
    const pare_graph *g = m.run.m.g;
    pare_dimension dim;
    pare_diag d = {0};
    if (pare_structure_find(g, pare_graph_find(g, start), axis, mode, &dim, &d) != PARE_OK)
        fail_msg("%s: %s: %s", name, d.where, d.text);
    assert_int_equal(dim.units, units);
    assert_int_equal(dim.sets, sets);
    size_t weights = 0;
    for (size_t i = 0; i < dim.n; i++) {
        const pare_slot *s = &dim.slots[i];
        if (g->values[s->value].kind != PARE_VALUE_WEIGHT) continue;
        weights++;
        size_t k = 0;
        while (k < n && (strcmp(want[k].weight, g->values[s->value].name) != 0 || want[k].axis != s->axis)) k++;
        if (k == n) fail_msg("%s: dimension %d of %s is coupled", name, s->axis, g->values[s->value].name);
        assert_int_equal(s->size, units * want[k].unit);
        for (int64_t e = 0; e < s->size; e++) assert_int_equal(s->unit[e], e / want[k].unit);
    }
    assert_int_equal(weights, n);
    for (int u = 0; u < units; u++) assert_int_equal(dim.set[u], u * sets / units);
    pare_dimension_free(&dim);
    close_graph(&m);
}
#define EXPECT(name, start, axis, mode, units, sets, ...)                                                              \
    do {                                                                                                               \
        const expected w[] = {__VA_ARGS__};                                                                            \
        expect(name, start, axis, mode, units, sets, w, sizeof w / sizeof *w);                                         \
    } while (0)

static void coupled_dimensions(void **s) {
    EXPECT("llama", "blk.1.ffn_down.weight", 1, 0, 48, 1, {"blk.1.ffn_down.weight", 1, 1},
           {"blk.1.ffn_up.weight", 0, 1}, {"blk.1.ffn_gate.weight", 0, 1});
    EXPECT("llama", "blk.1.ffn_gate.weight", 0, 0, 48, 1, {"blk.1.ffn_down.weight", 1, 1},
           {"blk.1.ffn_up.weight", 0, 1}, {"blk.1.ffn_gate.weight", 0, 1});
    EXPECT("llama.gguf", "blk.0.attn_output.weight", 1, PARE_HEADS_GROUPS, 2, 1, {"blk.0.attn_output.weight", 1, 16},
           {"blk.0.attn_q.weight", 0, 16}, {"blk.0.attn_k.weight", 0, 8}, {"blk.0.attn_v.weight", 0, 8});
    EXPECT("qwen2", "blk.0.attn_output.weight", 1, PARE_HEADS_GROUPS, 2, 1, {"blk.0.attn_output.weight", 1, 16},
           {"blk.0.attn_q.weight", 0, 16}, {"blk.0.attn_k.weight", 0, 8}, {"blk.0.attn_v.weight", 0, 8},
           {"blk.0.attn_q.bias", 0, 16}, {"blk.0.attn_k.bias", 0, 8}, {"blk.0.attn_v.bias", 0, 8});
    /* norms over single heads are shared by all heads: they stay */
    EXPECT("qwen3", "blk.1.attn_k.weight", 0, PARE_HEADS_GROUPS, 2, 1, {"blk.1.attn_output.weight", 1, 32},
           {"blk.1.attn_q.weight", 0, 32}, {"blk.1.attn_k.weight", 0, 16}, {"blk.1.attn_v.weight", 0, 16});
    EXPECT("qwen3", "blk.1.attn_q.weight", 0, PARE_HEADS_QUERY, 4, 2, {"blk.1.attn_output.weight", 1, 16},
           {"blk.1.attn_q.weight", 0, 16});
    EXPECT("bert", "blk.0.ffn_up.weight", 0, 0, 48, 1, {"blk.0.ffn_up.weight", 0, 1}, {"blk.0.ffn_up.bias", 0, 1},
           {"blk.0.ffn_down.weight", 1, 1});
    EXPECT("bert", "blk.1.attn_output.weight", 1, 0, 4, 1, {"blk.1.attn_output.weight", 1, 8},
           {"blk.1.attn_q.weight", 0, 8}, {"blk.1.attn_q.bias", 0, 8}, {"blk.1.attn_k.weight", 0, 8},
           {"blk.1.attn_k.bias", 0, 8}, {"blk.1.attn_v.weight", 0, 8}, {"blk.1.attn_v.bias", 0, 8});
#define RESIDUAL(l)                                                                                                    \
    {"blk." l ".attn_norm.weight", 0, 1}, {"blk." l ".attn_q.weight", 1, 1}, {"blk." l ".attn_k.weight", 1, 1},        \
        {"blk." l ".attn_v.weight", 1, 1}, {"blk." l ".attn_output.weight", 0, 1},                                     \
        {"blk." l ".ffn_norm.weight", 0, 1}, {"blk." l ".ffn_gate.weight", 1, 1}, {"blk." l ".ffn_up.weight", 1, 1},   \
        {"blk." l ".ffn_down.weight", 0, 1}
    EXPECT("llama", "token_embd.weight", 1, 0, 32, 1, {"token_embd.weight", 1, 1}, {"output_norm.weight", 0, 1},
           {"output.weight", 1, 1}, RESIDUAL("0"), RESIDUAL("1"));
    /* tied: the same matrix twice, as a table and as the output */
    EXPECT("qwen3", "blk.1.ffn_norm.weight", 0, 0, 32, 1, {"token_embd.weight", 1, 1}, {"token_embd.weight", 1, 1},
           {"output_norm.weight", 0, 1}, RESIDUAL("0"), RESIDUAL("1"));
#undef RESIDUAL
#define RESIDUAL(l)                                                                                                    \
    {"blk." l ".attn_q.weight", 1, 1}, {"blk." l ".attn_k.weight", 1, 1}, {"blk." l ".attn_v.weight", 1, 1},           \
        {"blk." l ".attn_output.weight", 0, 1}, {"blk." l ".attn_output.bias", 0, 1},                                  \
        {"blk." l ".attn_output_norm.weight", 0, 1}, {"blk." l ".attn_output_norm.bias", 0, 1},                        \
        {"blk." l ".ffn_up.weight", 1, 1}, {"blk." l ".ffn_down.weight", 0, 1}, {"blk." l ".ffn_down.bias", 0, 1},     \
        {"blk." l ".layer_output_norm.weight", 0, 1}, {"blk." l ".layer_output_norm.bias", 0, 1}
    EXPECT("bert", "token_embd.weight", 1, 0, 32, 1, {"token_embd.weight", 1, 1}, {"position_embd.weight", 1, 1},
           {"token_types.weight", 1, 1}, {"token_embd_norm.weight", 0, 1}, {"token_embd_norm.bias", 0, 1},
           RESIDUAL("0"), RESIDUAL("1"));
}

/* The vocabulary reaches a Gather, whose ids would have to change. */
static void refused_with_the_node(void **s) {
    opened m = open_graph("llama");
    pare_dimension dim;
    pare_diag d = {0};
    pare_value v = pare_graph_find(m.run.m.g, "token_embd.weight");
    assert_int_equal(pare_structure_find(m.run.m.g, v, 0, 0, &dim, &d), PARE_ERR_UNSUPPORTED);
    assert_string_equal(d.where, "token_embd");
    assert_non_null(strstr(d.text, "Gather"));
    close_graph(&m);
}

/* Units through a graph of other operators: concatenation, transposition, reshaping, ones that stop it. */
static void other_operators(void **s) {
    pare_graph *g = pare_graph_new();
    static float zeros[4096];
    const int64_t in[] = {PARE_SYM_BATCH, PARE_SYM_SEQ, 8};
    pare_tensor w = pare_tensor_make(&pare_qtype_f32, 2, (int64_t[]){12, 8}, zeros);
    w.transposed = true;
    pare_value x = pare_graph_input(g, "x", &pare_qtype_f32, 3, in), wa = pare_graph_weight(g, "a", &w),
               wb = pare_graph_weight(g, "b", &w);
    pare_value a = pare_graph_node(g, PARE_OP_MatMul, "xa", NULL, 0, 2, (pare_value[]){x, wa}, 1);
    pare_value b = pare_graph_node(g, PARE_OP_MatMul, "xb", NULL, 0, 2, (pare_value[]){x, wb}, 1);
    pare_attr_concat cat = {.axis = -1};
    pare_value c = pare_graph_node(g, PARE_OP_Concat, "cat", &cat, sizeof cat, 2, (pare_value[]){a, b}, 1);
    pare_value shape = pare_graph_const_i64(g, "shape", 4, (int64_t[]){0, 0, 6, 4});
    pare_attr_reshape re = {0};
    pare_value h = pare_graph_node(g, PARE_OP_Reshape, "heads", &re, sizeof re, 2, (pare_value[]){c, shape}, 1);
    pare_attr_transpose tr = {4, {0, 2, 1, 3}};
    pare_value t = pare_graph_node(g, PARE_OP_Transpose, "turn", &tr, sizeof tr, 1, &h, 1);
    pare_dimension dim;
    pare_diag d = {0};
    assert_int_equal(pare_structure_find(g, wb, 0, 0, &dim, &d), PARE_OK);
    assert_int_equal(dim.units, 3); /* blocks of 4 rows of b are the last three heads */
    const pare_slot *sl = pare_dimension_slot(&dim, t, 1);
    assert_non_null(sl);
    for (int i = 0; i < 6; i++) assert_int_equal(sl->unit[i], i < 3 ? -1 : i - 3);
    for (int i = 0; i < 12; i++) assert_int_equal(pare_dimension_slot(&dim, wb, 0)->unit[i], i / 4);
    pare_dimension_free(&dim);
    pare_attr_softmax soft = {.axis = -1};
    pare_graph_node(g, PARE_OP_Softmax, "soft", &soft, sizeof soft, 1, &a, 1);
    assert_int_equal(pare_structure_find(g, wa, 0, 0, &dim, &d), PARE_ERR_UNSUPPORTED);
    assert_string_equal(d.where, "soft");
    assert_int_equal(pare_structure_find(g, wa, 1, 0, &dim, &d), PARE_ERR_UNSUPPORTED); /* an input would shrink */
    pare_graph_free(&g);
}

/* ---- healing ---- */
/* Inputs that are combinations of those that stay: the refit loses nothing. */
static void healing_recovers_what_is_redundant(void **s) {
    enum { N = 12, KEEP = 7, ROWS = 5, TOKENS = 300 };
    static float x[TOKENS * N], h[N * N], w[ROWS * N], mix[(N - KEEP) * KEEP], fit[ROWS * KEEP];
    static const uint32_t keep[KEEP] = {0, 2, 3, 5, 8, 9, 11}, gone[N - KEEP] = {1, 4, 6, 7, 10};
    pare_rng rng;
    pare_rng_seed(&rng, 5);
    for (int i = 0; i < ROWS * N; i++) w[i] = pare_rng_normal(&rng);
    for (int i = 0; i < (N - KEEP) * KEEP; i++) mix[i] = pare_rng_normal(&rng);
    for (int t = 0; t < TOKENS; t++) {
        for (int k = 0; k < KEEP; k++) x[t * N + keep[k]] = pare_rng_normal(&rng);
        for (int g = 0; g < N - KEEP; g++)
            for (int k = 0; k < KEEP; k++) x[t * N + gone[g]] += mix[g * KEEP + k] * x[t * N + keep[k]];
    }
    for (int i = 0; i < N; i++)
        for (int j = 0; j <= i; j++)
            for (int t = 0; t < TOKENS; t++) h[i * N + j] += x[t * N + i] * x[t * N + j];
    double damping, step;
    pare_heal k = {ROWS, N, KEEP, w, keep, {h, NULL, NULL}, {h, NULL, NULL}};
    assert_int_equal(pare_heal_fit(&k, fit, &damping, &step, NULL), PARE_OK);
    assert_true(damping == 0.01 && step == 1);
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < KEEP; i++) { /* by hand: w_K + w_gone mix */
            double want = w[r * N + (int)keep[i]];
            for (int g = 0; g < N - KEEP; g++) want += (double)w[r * N + (int)gone[g]] * mix[g * KEEP + i];
            if (!(fabs(want - fit[r * KEEP + i]) < 3e-2 * (1 + fabs(want))))
                fail_msg("%g, not %g", fit[r * KEEP + i], want);
        }
    /* the residual's error is part of the target, r = E H adds E to the weights; judges that know nothing of it forbid
     * that */
    static float e[ROWS * N], r[ROWS * N], all_fit[ROWS * N], eye[N * N], none[ROWS * N];
    uint32_t all[N];
    for (uint32_t i = 0; i < N; i++) all[i] = i, eye[i * N + i] = 2;
    for (int i = 0; i < ROWS * N; i++) e[i] = pare_rng_normal(&rng), r[i] = 2 * e[i];
    pare_heal shift = {ROWS, N, N, w, all, {eye, NULL, r}, {eye, NULL, r}};
    assert_int_equal(pare_heal_fit(&shift, all_fit, &damping, &step, NULL), PARE_OK);
    for (int i = 0; i < ROWS * N; i++) assert_true(fabsf(all_fit[i] - w[i] - e[i]) < 0.02f * fabsf(e[i]) + 1e-5f);
    shift.judge.r = none;
    assert_int_equal(pare_heal_fit(&shift, all_fit, &damping, &step, NULL), PARE_OK);
    assert_true(step == 0);
    assert_memory_equal(all_fit, w, sizeof w);
}

/* Influence of layers that scale, turn and flip the stream: 0, 1 and 2; the least distant pair is found. */
static void influence(void **s) {
    static const float streams[5][2] = {{1, 0}, {3, 0}, {0, 2}, {0, -2}, {0.1f, -2}};
    pare_graph *g = pare_graph_new();
    pare_value v[5], x = pare_graph_input(g, "x", &pare_qtype_f32, 2, (int64_t[]){PARE_SYM_BATCH, 2});
    for (int i = 0; i < 5; i++) v[i] = x = pare_graph_node(g, PARE_OP_Relu, "y", NULL, 0, 1, &x, 1);
    pare_depth p;
    bool drop[4];
    assert_int_equal(pare_depth_open(g, v, 4, 1, 2, 1, &p, NULL), PARE_OK);
    for (int i = 0; i < 5; i++) {
        pare_tensor t = pare_tensor_make(&pare_qtype_f32, 2, (int64_t[]){1, 2}, (void *)(uintptr_t)streams[i]);
        pare_depth_hook(&p, i, "y", PARE_OP_Relu, &t);
    }
    pare_depth_finish(&p);
    const double want[] = {0, 1, 2, 1 - 2 / sqrt(4.01)};
    for (int i = 0; i < 4; i++) {
        assert_true(fabs(p.influence[i] - want[i]) < 1e-6);
        assert_true(fabs(p.distance[i] - acos(1 - want[i]) / M_PI) < 1e-6);
    }
    pare_depth_choose(&p, false, drop);
    assert_true(drop[0] && !drop[1] && !drop[2] && !drop[3]);
    p.run = 2;
    pare_depth_choose(&p, false, drop);
    assert_true(drop[0] && !drop[1] && !drop[2] && drop[3]);
    p.run = 1;
    pare_depth_close(&p);
    pare_graph_free(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(coupled_dimensions), cmocka_unit_test(refused_with_the_node),
                                       cmocka_unit_test(other_operators),
                                       cmocka_unit_test(healing_recovers_what_is_redundant),
                                       cmocka_unit_test(influence)};
    return cmocka_run_group_tests_name("structure", tests, make_models, remove_models);
}
