/* SPDX-License-Identifier: Apache-2.0
 *
 * graph/: the planner and the executor on random graphs, run by a backend that spoils every result before it computes
 * it, so that two values sharing memory while both are alive give wrong numbers; against an evaluation in which nothing
 * shares memory. The same on a backend with memory of its own. Allocation failures at every point. */
#include "harness.h"

#include <math.h>

#include "core/rng.h"
#include "core/status.h"
#include "graph/exec.h"
#include "graph/graph_impl.h"
#include "graph/shape.h"

/* ---- arithmetic of the toy backend: each operator some function of its operands, elementwise ones in order ---- */
static float operand(const pare_tensor *t, int64_t i) {
    return ((const float *)t->data)[i % pare_tensor_elems(t)]; /* broadcasting of leading dimensions */
}

static bool elementwise(pare_op op) { return op == PARE_OP_Add || op == PARE_OP_Mul || op == PARE_OP_Relu; }

static void compute(const pare_op_call *c) {
    const pare_tensor *x = c->in[0];
    float *y = c->out[0]->data;
    int64_t n = pare_tensor_elems(c->out[0]), at = 0;
    bool over_cache = c->op == PARE_OP_TensorScatter && y == x->data;
    if (!elementwise(c->op) && !over_cache)
        for (int64_t i = 0; i < n; i++) y[i] = NAN;
    switch (c->op) {
    case PARE_OP_Add:
        for (int64_t i = 0; i < n; i++) y[i] = operand(x, i) + 0.5f * operand(c->in[1], i) + 1;
        break;
    case PARE_OP_Mul:
        for (int64_t i = 0; i < n; i++) y[i] = operand(x, i) * 0.25f - operand(c->in[1], i);
        break;
    case PARE_OP_Relu:
        for (int64_t i = 0; i < n; i++) y[i] = operand(x, i) * 0.5f + 2;
        break;
    case PARE_OP_Softmax:
        for (int64_t i = 0; i < n; i++) y[i] = operand(x, n - 1 - i) * 0.75f - 1;
        break;
    case PARE_OP_Concat:
        for (int k = 0; k < c->n_in; k++)
            for (int64_t i = 0; i < pare_tensor_elems(c->in[k]); i++) y[at++] = operand(c->in[k], i);
        break;
    case PARE_OP_Reshape: memcpy(y, x->data, (size_t)n * 4); break;
    case PARE_OP_TensorScatter:
        for (int64_t i = 0; i < n && !over_cache; i++) y[i] = operand(x, i);
        for (int64_t b = 0, rows = x->shape[1], w = x->shape[2], m = c->in[1]->shape[1]; b < x->shape[0]; b++)
            for (int64_t i = 0; i < m * w; i++) y[b * rows * w + i] = operand(c->in[1], b * m * w + i);
        break;
    default: fail_msg("operator %s", pare_op_get(c->op)->name);
    }
}

/* ---- the toy backend, on host memory or with blocks of its own ---- */
static struct {
    char *p[256];
    size_t bytes[256], n;
} blocks;

static pare_status toy_open(void **dev, pare_diag *d) { return *dev = NULL, blocks.n = 0, PARE_OK; }
static void toy_close(void *dev) {
    for (size_t i = 0; i < blocks.n; i++) assert_null(blocks.p[i]);
}
static void *toy_alloc(void *dev, size_t bytes) {
    char *p = pare_malloc_aligned(bytes + 64);
    if (!p) return NULL;
    memset(p + bytes, 0x5A, 64);
    assert_true(blocks.n < 256);
    blocks.p[blocks.n] = p, blocks.bytes[blocks.n++] = bytes;
    return p;
}
static void toy_release(void *dev, void *p) {
    for (size_t i = 0; i < blocks.n; i++) {
        if (blocks.p[i] != p) continue;
        for (int k = 0; k < 64; k++) assert_int_equal(blocks.p[i][blocks.bytes[i] + (size_t)k], 0x5A);
        pare_free(p);
        blocks.p[i] = NULL;
        return;
    }
    fail_msg("a block that was not allocated");
}
static pare_status toy_copy(void *dev, void *dst, const void *src, size_t bytes) {
    return memcpy(dst, src, bytes), PARE_OK;
}
static bool toy_supports(void *dev, const pare_op_call *c) { return c->op != PARE_OP_Erf; }
static size_t toy_workspace(void *dev, const pare_op_call *c) { return 48; }
static pare_status toy_sync(void *dev) { return PARE_OK; }

static bool owned(const pare_tensor *t) {
    for (size_t i = 0; i < blocks.n; i++) {
        const char *p = t->data;
        if (blocks.p[i] && p >= blocks.p[i] && p + pare_tensor_bytes(t) <= blocks.p[i] + blocks.bytes[i]) return true;
    }
    return false;
}
static pare_status toy_run(void *dev, const pare_op_call *c, pare_diag *d) {
    assert_true(c->workspace_bytes >= 48);
    memset(c->workspace, 0xFF, c->workspace_bytes);
    compute(c);
    return PARE_OK;
}
static pare_status device_run(void *dev, const pare_op_call *c, pare_diag *d) {
    for (int i = 0; i < c->n_in; i++) assert_true(owned(c->in[i]));
    assert_true(owned(c->out[0]));
    return toy_run(dev, c, d);
}

#define TOY(host, run_fn)                                                                                              \
    {                                                                                                                  \
        .name = "toy", .abi = PARE_BACKEND_ABI, .open = toy_open, .close = toy_close, .alloc = toy_alloc,              \
        .release = toy_release, .upload = toy_copy, .download = toy_copy, .supports = toy_supports,                    \
        .workspace_bytes = toy_workspace, .run = run_fn, .sync = toy_sync, .host_memory = host                         \
    }
static const pare_backend toy_host = TOY(true, toy_run), toy_device = TOY(false, device_run);

/* ---- random graphs ---- */
enum { ROWS = 6, WIDTH = 8, MAX_VALUES = 64 };
typedef struct sample {
    pare_graph *g;
    pare_value x, cache, v[MAX_VALUES];
    int rows[MAX_VALUES], n; /* rows per batch of each usable value, all [batch, rows, WIDTH] */
} sample;

static pare_value unary(sample *m, pare_op op, const char *name, pare_value x, const void *attr, size_t bytes) {
    return pare_graph_node(m->g, op, name, attr, bytes, 1, &x, 1);
}

static void add_node(sample *m, pare_rng *r, int i) {
    char name[16];
    snprintf(name, sizeof name, "n%d", i);
    int a = (int)pare_rng_below(r, (uint64_t)m->n), b = a;
    for (int tries = 0; tries < 8 && (b == a || m->rows[b] != m->rows[a]); tries++)
        b = (int)pare_rng_below(r, (uint64_t)m->n);
    if (m->rows[b] != m->rows[a]) b = a;
    pare_value two[] = {m->v[a], m->v[b]}, out = PARE_NO_VALUE;
    int rows = m->rows[a];
    switch (pare_rng_below(r, 7)) {
    case 0: out = pare_graph_node(m->g, PARE_OP_Add, name, NULL, 0, 2, two, 1); break;
    case 1: out = pare_graph_node(m->g, PARE_OP_Mul, name, NULL, 0, 2, two, 1); break;
    case 2: out = unary(m, PARE_OP_Relu, name, m->v[a], NULL, 0); break;
    case 3: out = unary(m, PARE_OP_Softmax, name, m->v[a], &(pare_attr_softmax){-1}, sizeof(pare_attr_softmax)); break;
    case 4: {
        if (rows > 20) return;
        pare_attr_concat at = {1};
        out = pare_graph_node(m->g, PARE_OP_Concat, name, &at, sizeof at, 2, two, 1);
        rows *= 2;
        break;
    }
    case 5: { /* to rows of half the width and back: two aliases */
        pare_value s1 = pare_graph_const_i64(m->g, "s1", 3, (int64_t[]){0, -1, WIDTH / 2}), in1[] = {m->v[a], s1};
        pare_value half = pare_graph_node(m->g, PARE_OP_Reshape, "half", NULL, 0, 2, in1, 1);
        half = unary(m, PARE_OP_Relu, "halves", half, NULL, 0);
        pare_value s2 = pare_graph_const_i64(m->g, "s2", 3, (int64_t[]){0, -1, WIDTH}), in2[] = {half, s2};
        out = pare_graph_node(m->g, PARE_OP_Reshape, name, NULL, 0, 2, in2, 1);
        break;
    }
    default: {
        float bias[WIDTH];
        for (int k = 0; k < WIDTH; k++) bias[k] = (float)pare_rng_unit(r);
        pare_value in[] = {m->v[a], pare_graph_const_f32(m->g, "bias", 1, (int64_t[]){WIDTH}, bias)};
        out = pare_graph_node(m->g, PARE_OP_Add, name, NULL, 0, 2, in, 1);
    }
    }
    m->v[m->n] = out;
    m->rows[m->n++] = rows;
}

static void scatter(sample *m, pare_value past, pare_value update, const char *name) {
    pare_attr_scatter at = {1, false};
    m->v[m->n] = pare_graph_node(m->g, PARE_OP_TensorScatter, name, &at, sizeof at, 2, (pare_value[]){past, update}, 1);
    m->rows[m->n++] = 2 * ROWS;
}

static sample random_graph(uint64_t seed, int nodes) {
    sample m = {.g = pare_graph_new()};
    pare_rng r;
    pare_rng_seed(&r, seed);
    if (!m.g) return m;
    const int64_t dims[] = {PARE_SYM_BATCH, ROWS, WIDTH}, cache[] = {PARE_SYM_BATCH, 2 * ROWS, WIDTH};
    m.x = pare_graph_input(m.g, "x", &pare_qtype_f32, 3, dims);
    m.cache = pare_graph_state(m.g, "cache", &pare_qtype_f32, 3, cache);
    m.v[0] = m.x, m.rows[0] = ROWS, m.n = 1;
    pare_graph_stage(m.g, "first");
    for (int i = 0; i < nodes && m.n < MAX_VALUES - 4; i++) {
        if (i && pare_rng_below(&r, 6) == 0) pare_graph_stage(m.g, "next");
        add_node(&m, &r, i);
        if (i == nodes / 2) scatter(&m, m.cache, m.x, "present");
        if (i == nodes / 2 + 1 && m.rows[m.n - 1] == 2 * ROWS) scatter(&m, m.v[m.n - 1], m.x, "again");
    }
    for (int i = 1; i < m.n; i++)
        if (i == m.n - 1 || pare_rng_below(&r, 8) == 0) pare_graph_mark_output(m.g, m.v[i]);
    return m;
}

/* ---- evaluation in which nothing shares memory ---- */
typedef struct plain {
    pare_tensor t[4096];
    size_t n;
} plain;

static void plain_eval(const sample *m, int64_t batch, float *x, float *cache, plain *p) {
    p->n = m->g->n_values;
    assert_true(p->n <= 4096);
    for (size_t v = 0; v < p->n; v++) {
        p->t[v] = m->g->values[v].tensor;
        for (int k = 0; k < p->t[v].ndim; k++)
            if (p->t[v].shape[k] < 0) p->t[v].shape[k] = batch;
    }
    p->t[m->x].data = x, p->t[m->cache].data = cache;
    for (size_t i = 0; i < m->g->n_nodes; i++) {
        const pare_graph_node_t *n = &m->g->nodes[i];
        pare_op_call c = {.op = n->op, .attr = n->attr, .n_in = n->n_in, .n_out = 1, .out = {&p->t[n->out[0]]}};
        for (int k = 0; k < n->n_in; k++) c.in[k] = &p->t[n->in[k]];
        assert_int_equal(pare_infer_shapes(&c, NULL), PARE_OK);
        p->t[n->out[0]].data = malloc(pare_tensor_bytes(&p->t[n->out[0]]));
        compute(&c);
    }
}

static void plain_free(const sample *m, plain *p) {
    for (size_t v = 0; v < p->n; v++)
        if (m->g->values[v].node >= 0) free(p->t[v].data);
}

static bool read_later(const pare_graph *g, pare_value v, int stage) {
    for (size_t i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_in; k++)
            if (g->nodes[i].in[k] == v && g->nodes[i].stage > stage) return true;
    return false;
}

/* Values of stages up to `stage` that must be intact: graph outputs, and cut values still to be read (or just made). */
static void compare(const sample *m, pare_exec *e, const plain *want, int stage, uint64_t seed) {
    for (size_t v = 0; v < m->g->n_values; v++) {
        const pare_graph_value *gv = &m->g->values[v];
        if (gv->node < 0 || m->g->nodes[gv->node].stage > stage) continue;
        if (!gv->output && !read_later(m->g, (pare_value)v, stage)) continue;
        const pare_tensor *t = pare_exec_value(e, (pare_value)v);
        assert_int_equal(pare_tensor_elems(t), pare_tensor_elems(&want->t[v]));
        if (memcmp(t->data, want->t[v].data, pare_tensor_bytes(t)) != 0)
            fail_msg("seed %llu: value %s differs after stage %d", (unsigned long long)seed, gv->name, stage);
    }
}

static void check_graph(uint64_t seed, const pare_backend *be) {
    static plain want;
    sample m = random_graph(seed, 40);
    pare_exec *e;
    pare_rng r;
    pare_rng_seed(&r, seed + 1000);
    pare_exec_opts opts = {.backend = be};
    assert_int_equal(pare_exec_open(m.g, &opts, &e, NULL), PARE_OK);
    for (int round = 0; round < 3; round++) {
        int64_t batch = round == 1 ? 3 : 1, n = batch * ROWS * WIDTH;
        float x[3 * ROWS * WIDTH], cache[6 * ROWS * WIDTH];
        for (int64_t i = 0; i < 2 * n; i++) cache[i] = pare_rng_normal(&r), x[i / 2] = pare_rng_normal(&r);
        float *state = pare_exec_alloc(e, (size_t)n * 8);
        assert_int_equal(pare_exec_upload(e, state, cache, (size_t)n * 8, NULL), PARE_OK);
        pare_binding b[] = {{m.x, x}, {m.cache, state}};
        plain_eval(&m, batch, x, cache, &want);
        assert_int_equal(pare_exec_shape(e, (int64_t[]){batch, 1, 1}, NULL), PARE_OK);
        assert_int_equal(pare_exec_run(e, -1, b, 2, NULL), PARE_OK);
        compare(&m, e, &want, pare_exec_stages(e), seed);
        for (int s = 0; s < pare_exec_stages(e); s++) {
            for (int again = 0; again < 2; again++) {
                assert_int_equal(pare_exec_run(e, s, b, 2, NULL), PARE_OK);
                compare(&m, e, &want, s, seed);
            }
        }
        plain_free(&m, &want);
        pare_exec_release(e, state);
    }
    pare_exec_close(&e);
    pare_graph_free(&m.g);
}

static void random_graphs(void **s) {
    for (uint64_t seed = 0; seed < 300; seed++) check_graph(seed, &toy_host);
}

static void random_graphs_on_a_device(void **s) {
    for (uint64_t seed = 300; seed < 350; seed++) check_graph(seed, &toy_device);
}

static bool all_fours(void *ctx, int node, const char *name, pare_op op, const pare_tensor *out) {
    float *y = out->data;
    ++*(int *)ctx;
    if (node != 0) return false;
    for (int64_t i = 0; i < pare_tensor_elems(out); i++) y[i] = 4;
    return true;
}

static void a_hook_changes_a_node(void **s) { /* what follows reads the changed numbers, wherever memory is */
    const pare_backend *be[] = {&toy_host, &toy_device};
    for (int k = 0; k < 2; k++) {
        pare_graph *g = pare_graph_new();
        float x[8] = {1, 2, 3, 4, 5, 6, 7, 8};
        int seen = 0;
        pare_value in = pare_graph_input(g, "x", &pare_qtype_f32, 1, (int64_t[]){PARE_SYM_BATCH});
        pare_attr_softmax at = {-1};
        pare_value a = pare_graph_node(g, PARE_OP_Softmax, "a", &at, sizeof at, 1, &in, 1);
        pare_value b = pare_graph_node(g, PARE_OP_Relu, "b", NULL, 0, 1, &a, 1);
        pare_graph_mark_output(g, b);
        pare_exec *e;
        assert_int_equal(pare_exec_open(g, &(pare_exec_opts){.backend = be[k]}, &e, NULL), PARE_OK);
        pare_exec_set_hook(e, all_fours, &seen);
        assert_int_equal(pare_exec_shape(e, (int64_t[]){8, 0, 0}, NULL), PARE_OK);
        assert_int_equal(pare_exec_run(e, -1, &(pare_binding){in, x}, 1, NULL), PARE_OK);
        const pare_tensor *y = pare_exec_value(e, b);
        for (int i = 0; i < 8; i++) assert_true(((const float *)y->data)[i] == 4 * 0.5f + 2);
        assert_int_equal(seen, 2);
        pare_exec_close(&e);
        pare_graph_free(&g);
    }
}

static void memory_is_reused(void **s) { /* a chain of 64 values of one size needs room for two */
    pare_graph *g = pare_graph_new();
    pare_value v = pare_graph_input(g, "x", &pare_qtype_f32, 1, (int64_t[]){PARE_SYM_BATCH});
    for (int i = 0; i < 64; i++) {
        pare_attr_softmax at = {-1};
        v = pare_graph_node(g, PARE_OP_Softmax, "s", &at, sizeof at, 1, &v, 1);
    }
    pare_graph_mark_output(g, v);
    pare_exec *e;
    assert_int_equal(pare_exec_open(g, &(pare_exec_opts){.backend = &toy_host}, &e, NULL), PARE_OK);
    assert_int_equal(pare_exec_shape(e, (int64_t[]){1024, 0, 0}, NULL), PARE_OK);
    assert_int_equal(pare_exec_memory_bytes(e), 2 * 4096 + 48);
    pare_exec_close(&e);
    pare_graph_free(&g);
}

static void a_run_takes_no_memory(void **s) {
    harness_alloc_begin(SIZE_MAX);
    sample m = random_graph(5, 40);
    pare_exec *e;
    float x[3 * ROWS * WIDTH] = {0}, cache[6 * ROWS * WIDTH] = {0};
    pare_binding b[] = {{m.x, x}, {m.cache, cache}};
    assert_int_equal(pare_exec_open(m.g, &(pare_exec_opts){.backend = &toy_host}, &e, NULL), PARE_OK);
    size_t before = 0;
    for (int i = 0; i < 20; i++) {
        if (i == 4) before = harness_heap.calls;
        assert_int_equal(pare_exec_shape(e, (int64_t[]){i % 2 ? 3 : 1, 1, 1}, NULL), PARE_OK);
        assert_int_equal(pare_exec_run(e, -1, b, 2, NULL), PARE_OK);
    }
    assert_int_equal(harness_heap.calls, before);
    pare_exec_close(&e);
    pare_graph_free(&m.g);
    assert_int_equal(harness_alloc_end(), 0);
}

static pare_status build_and_run(void *ctx) {
    sample m = random_graph(11, 12);
    pare_exec *e = NULL;
    float x[ROWS * WIDTH] = {0};
    void *state = NULL;
    pare_status s = m.g ? pare_graph_status(m.g, NULL) : PARE_ERR_NOMEM;
    if (s == PARE_OK) s = pare_exec_open(m.g, &(pare_exec_opts){.backend = ctx}, &e, NULL);
    if (s == PARE_OK) s = pare_exec_shape(e, (int64_t[]){1, 1, 1}, NULL);
    if (s == PARE_OK) s = (state = pare_exec_alloc(e, sizeof x * 2)) ? PARE_OK : PARE_ERR_NOMEM;
    if (s == PARE_OK) s = pare_exec_run(e, -1, (pare_binding[]){{m.x, x}, {m.cache, state}}, 2, NULL);
    if (s == PARE_OK && !pare_exec_value(e, m.v[m.n - 1])) s = PARE_ERR_NOMEM;
    if (e) pare_exec_release(e, state);
    pare_exec_close(&e);
    pare_graph_free(&m.g);
    return s;
}

static void failing_allocations(void **s) {
    pare_set_threads(1);
    harness_fail_every_alloc(build_and_run, (void *)(uintptr_t)&toy_host);
    harness_fail_every_alloc(build_and_run, (void *)(uintptr_t)&toy_device);
    pare_set_threads(0);
}

static void refusals(void **s) {
    pare_diag d = {0};
    pare_exec *e;
    pare_graph *g = pare_graph_new();
    pare_value x = pare_graph_input(g, "x", &pare_qtype_f32, 2, (int64_t[]){PARE_SYM_BATCH, PARE_SYM_SEQ});
    pare_value y = pare_graph_input(g, "y", &pare_qtype_f32, 1, (int64_t[]){4}), in[] = {x, y};
    pare_value sum = pare_graph_node(g, PARE_OP_Add, "sum", NULL, 0, 2, in, 1);
    pare_graph_mark_output(g, sum);
    assert_int_equal(pare_exec_open(g, &(pare_exec_opts){.backend = &toy_host}, &e, &d), PARE_OK);
    assert_int_equal(pare_exec_run(e, -1, NULL, 0, NULL), PARE_ERR_INTERNAL); /* no shape yet */
    assert_int_equal(pare_exec_shape(e, (int64_t[]){2, 3, 0}, &d), PARE_ERR_INPUT);
    assert_string_equal(d.where, "sum");
    d = (pare_diag){0};
    assert_int_equal(pare_exec_shape(e, (int64_t[]){INT64_MAX / 4, 4, 0}, &d), PARE_ERR_INPUT);
    assert_int_equal(pare_exec_shape(e, (int64_t[]){2, 4, 0}, NULL), PARE_OK);
    float data[8] = {0};
    d = (pare_diag){0};
    assert_int_equal(pare_exec_run(e, -1, (pare_binding[]){{x, data}}, 1, &d), PARE_ERR_INTERNAL);
    assert_string_equal(d.where, "y");
    pare_exec_close(&e);
    pare_graph_node(g, PARE_OP_Erf, "erf", NULL, 0, 1, &sum, 1);
    assert_int_equal(pare_exec_open(g, &(pare_exec_opts){.backend = &toy_host}, &e, NULL), PARE_OK);
    d = (pare_diag){0};
    assert_int_equal(pare_exec_shape(e, (int64_t[]){2, 4, 0}, &d), PARE_ERR_UNSUPPORTED);
    assert_string_equal(d.where, "erf");
    pare_exec_close(&e);
    pare_graph_free(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_graphs),         cmocka_unit_test(random_graphs_on_a_device),
        cmocka_unit_test(memory_is_reused),      cmocka_unit_test(a_run_takes_no_memory),
        cmocka_unit_test(failing_allocations),   cmocka_unit_test(refusals),
        cmocka_unit_test(a_hook_changes_a_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
