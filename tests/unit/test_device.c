/* SPDX-License-Identifier: Apache-2.0
 *
 * graph/ on a device with memory of its own (far_device.h): a small decoder with a cache, a tied embedding and
 * quantized layers gives the CPU's numbers bit for bit, whatever is recorded, streamed or left to the CPU. */
#include "far_device.h"

#include "core/rng.h"
#include "graph/exec.h"

enum { DIM = 64, VOCAB = 40, LAYERS = 4, CAP = 16, LAYER_BYTES = DIM * (DIM / 32 * 34) };

typedef struct net {
    pare_graph *g;
    pare_value ids, past, length, kv[LAYERS], out;
} net;

static float table[VOCAB * DIM], scale[DIM];
static unsigned char layer[LAYERS][LAYER_BYTES];

static void make_weights(void) {
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

static pare_value weight(pare_graph *g, const char *name, const pare_qtype *type, int ndim, int64_t rows, void *data,
                         bool transposed) {
    const int64_t matrix[] = {rows, DIM}, vector[] = {DIM};
    pare_tensor t = pare_tensor_make(type, ndim, ndim == 2 ? matrix : vector, data);
    t.transposed = transposed;
    return pare_graph_weight(g, name, &t);
}

static pare_value reshape(pare_graph *g, const char *name, pare_value x, int64_t width) {
    pare_attr_reshape at = {0};
    pare_value in[] = {x, pare_graph_const_i64(g, "shape", 3, (int64_t[]){0, -1, width})};
    return pare_graph_node(g, PARE_OP_Reshape, name, &at, sizeof at, 2, in, 1);
}

static pare_value add_layer(net *m, int l, pare_value x) {
    char name[32];
    pare_graph *g = m->g;
    pare_attr_norm norm = {-1, 1e-5f};
    pare_attr_scatter cache = {-2, false};
    pare_attr_attention attn = {.is_causal = true, .q_num_heads = 2, .kv_num_heads = 2};
    pare_attr_softmax last = {-1};
    snprintf(name, sizeof name, "layer%d", l);
    pare_graph_stage(g, name);
    pare_value in[] = {x, weight(g, "scale", &pare_qtype_f32, 1, 1, scale, false)};
    pare_value h = pare_graph_node(g, PARE_OP_RMSNormalization, "norm", &norm, sizeof norm, 2, in, 1);
    m->kv[l] = pare_graph_state(g, "kv", &pare_qtype_f32, 3, (int64_t[]){PARE_SYM_BATCH, PARE_SYM_CACHE, DIM});
    pare_value put[] = {m->kv[l], h, m->past};
    pare_value k = pare_graph_node(g, PARE_OP_TensorScatter, "cache", &cache, sizeof cache, 3, put, 1);
    pare_value mul[] = {h, weight(g, name, pare_qtype_by_name("q8_0"), 2, DIM, layer[l], true)};
    pare_value q = pare_graph_node(g, PARE_OP_MatMul, "q", NULL, 0, 2, mul, 1), no = PARE_NO_VALUE;
    pare_value see[] = {q, k, k, no, no, no, m->length};
    pare_value y = pare_graph_node(g, PARE_OP_Attention, "attn", &attn, sizeof attn, 7, see, 1);
    y = reshape(g, "halves", y, DIM / 2);
    y = pare_graph_node(g, PARE_OP_Softmax, "soft", &last, sizeof last, 1, &y, 1);
    pare_value sum[] = {x, reshape(g, "whole", y, DIM)};
    return pare_graph_node(g, PARE_OP_Add, "sum", NULL, 0, 2, sum, 1);
}

static net build(void) {
    net m = {.g = pare_graph_new()};
    pare_attr_gather rows = {0};
    if (!m.g) return m;
    m.ids = pare_graph_input(m.g, "ids", &pare_qtype_i64, 2, (int64_t[]){PARE_SYM_BATCH, PARE_SYM_SEQ});
    m.past = pare_graph_input(m.g, "past", &pare_qtype_i64, 1, (int64_t[]){PARE_SYM_BATCH});
    m.length = pare_graph_input(m.g, "length", &pare_qtype_i64, 1, (int64_t[]){PARE_SYM_BATCH});
    pare_graph_stage(m.g, "embed");
    pare_value in[] = {weight(m.g, "table", &pare_qtype_f32, 2, VOCAB, table, false), m.ids};
    pare_value x = pare_graph_node(m.g, PARE_OP_Gather, "rows", &rows, sizeof rows, 2, in, 1);
    for (int l = 0; l < LAYERS; l++) x = add_layer(&m, l, x);
    pare_graph_stage(m.g, "head");
    pare_value head[] = {x, weight(m.g, "tied", &pare_qtype_f32, 2, VOCAB, table, true)};
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

static pare_status session_open(session *s, const pare_backend *be, pare_diag *d) {
    float zero[CAP * DIM] = {0};
    *s = (session){.m = build()};
    if (!s->m.g) return PARE_ERR_NOMEM;
    pare_status st = pare_exec_open(s->m.g, &(pare_exec_opts){.backend = be}, &s->e, d);
    for (int l = 0; l < LAYERS && st == PARE_OK; l++) {
        s->kv[l] = pare_exec_alloc(s->e, sizeof zero);
        st = s->kv[l] ? pare_exec_upload(s->e, s->kv[l], zero, sizeof zero, d) : PARE_ERR_NOMEM;
    }
    return st;
}

static void session_close(session *s) {
    for (int l = 0; l < LAYERS && s->e; l++) pare_exec_release(s->e, s->kv[l]);
    pare_exec_close(&s->e);
    pare_graph_free(&s->m.g);
}

/* n tokens at position past; all stages at once, or one by one. */
static pare_status step(session *s, int64_t n, int64_t past, bool stages, float *logits, pare_diag *d) {
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
static void both(session *cpu, session *dev, int64_t n, int64_t past, bool stages) {
    float want[CAP * VOCAB], got[CAP * VOCAB];
    pare_diag d = {0};
    assert_int_equal(step(cpu, n, past, stages, want, NULL), PARE_OK);
    if (step(dev, n, past, stages, got, &d) != PARE_OK) fail_msg("%s: %s", d.where, d.text);
    assert_memory_equal(want, got, (size_t)(n * VOCAB) * sizeof *want);
}

static void open_both(session *cpu, session *dev) {
    assert_int_equal(session_open(cpu, NULL, NULL), PARE_OK);
    assert_int_equal(session_open(dev, &far_device, NULL), PARE_OK);
}
static void close_both(session *cpu, session *dev) {
    session_close(cpu);
    session_close(dev);
}

static int reset(void **s) {
    memset(&far, 0, sizeof far);
    return 0;
}

/* table, scale (shared by all layers, as table is by its two readers), LAYERS matrices, two shapes a layer */
enum { WEIGHTS = 2 + LAYERS + 2 * LAYERS };

static void recorded_and_replayed(void **s) {
    session cpu, dev;
    open_both(&cpu, &dev);
    both(&cpu, &dev, 5, 0, false);
    assert_int_equal(far.weights, WEIGHTS);
    size_t a_run = far.runs;
    both(&cpu, &dev, 1, 5, false);
    assert_int_equal(far.runs, 2 * a_run);
    assert_int_equal(far.begun + far.replays, 0);
    both(&cpu, &dev, 1, 6, false);
    assert_int_equal(far.begun, 1);
    assert_int_equal(far.replays, 1);
    size_t uploads = far.uploads, allocs = far.allocs;
    for (int64_t past = 7; past < 12; past++) both(&cpu, &dev, 1, past, false);
    assert_int_equal(far.begun, 1);
    assert_int_equal(far.replays, 6);
    assert_int_equal(far.runs, 2 * a_run);
    assert_int_equal(far.uploads - uploads, 5 * 3); /* the inputs */
    assert_int_equal(far.allocs, allocs);
    both(&cpu, &dev, 5, 0, false); /* the other plan: recorded, too, and the first one's recording stays good */
    both(&cpu, &dev, 1, 5, false);
    assert_int_equal(far.begun, 2);
    assert_int_equal(far.replays, 8);
    assert_int_equal(far.weights, WEIGHTS);
    assert_false(pare_exec_streamed(dev.e));
    assert_int_equal(pare_exec_fallbacks(dev.e, NULL), 0);
    close_both(&cpu, &dev);
}

static void stage_by_stage(void **s) {
    session cpu, dev;
    open_both(&cpu, &dev);
    for (int64_t past = 0; past < 6; past++) both(&cpu, &dev, 1, past, true);
    assert_int_equal(far.begun, LAYERS + 2); /* weights come during the first walk: six recordings in the third */
    assert_int_equal(far.recordings, LAYERS + 2);
    assert_int_equal(far.weights, WEIGHTS);
    close_both(&cpu, &dev);
}

static void changed_addresses(void **s) {
    session cpu, dev;
    float cache[CAP * DIM];
    open_both(&cpu, &dev);
    for (int64_t past = 0; past < 4; past++) both(&cpu, &dev, 1, past, false);
    assert_int_equal(far.recordings, 1);
    void *moved = pare_exec_alloc(dev.e, sizeof cache); /* a state moves */
    assert_int_equal(far_download(NULL, cache, dev.kv[2], sizeof cache), PARE_OK);
    assert_int_equal(pare_exec_upload(dev.e, moved, cache, sizeof cache, NULL), PARE_OK);
    pare_exec_release(dev.e, dev.kv[2]);
    dev.kv[2] = moved;
    both(&cpu, &dev, 1, 4, false);
    assert_int_equal(far.recordings, 0);
    both(&cpu, &dev, 1, 5, false);
    assert_int_equal(far.begun, 2);
    both(&cpu, &dev, 9, 0, false); /* a larger plan: block and inputs move */
    both(&cpu, &dev, 1, 9, false);
    assert_int_equal(far.begun, 2);
    both(&cpu, &dev, 1, 10, false);
    assert_int_equal(far.begun, 3);
    pare_exec_drop_weights(dev.e, 3); /* weights move */
    size_t before = far.weights;
    both(&cpu, &dev, 1, 11, false);
    assert_int_equal(far.weights - before, 4); /* a matrix, the shared scale, two shapes */
    both(&cpu, &dev, 1, 12, false);
    assert_int_equal(far.begun, 4);
    both(&cpu, &dev, 1, 13, false);
    close_both(&cpu, &dev);
}

static void failing_recordings(void **s) {
    bool *const fails[] = {&far.fail_begin, &far.fail_end, &far.fail_recorded_run};
    for (int i = 0; i < 3; i++) {
        session cpu, dev;
        reset(NULL);
        *fails[i] = true;
        open_both(&cpu, &dev);
        for (int64_t past = 0; past < 5; past++) both(&cpu, &dev, 1, past, false);
        assert_int_equal(far.begun, 1); /* not tried again */
        *fails[i] = false;
        both(&cpu, &dev, 1, 5, false);
        assert_int_equal(far.begun, 1);
        both(&cpu, &dev, 2, 6, false); /* another plan is */
        both(&cpu, &dev, 2, 8, false);
        assert_int_equal(far.begun, 2);
        assert_int_equal(far.replays, 1);
        close_both(&cpu, &dev);
    }
}

static void what_the_device_refuses(void **s) {
    session cpu, dev;
    const char *const *names;
    far.refuses[PARE_OP_TensorScatter] = far.refuses[PARE_OP_MatMul] = far.refuses[PARE_OP_Gather] = true;
    open_both(&cpu, &dev);
    for (int64_t past = 0; past < 4; past++) both(&cpu, &dev, 1, past, false);
    both(&cpu, &dev, 6, 4, false);
    assert_int_equal(pare_exec_fallbacks(dev.e, &names), 2 * LAYERS + 2);
    assert_string_equal(names[0], "rows");
    assert_string_equal(names[1], "cache");
    assert_string_equal(names[2], "q");
    assert_string_equal(names[2 * LAYERS + 1], "logits");
    assert_int_equal(far.begun, 0);
    assert_int_equal(far.weights, WEIGHTS - 1 - LAYERS); /* the CPU reads table and matrices where they are */
    float x[CAP * DIM], *y = cpu.kv[1];
    assert_int_equal(far_download(NULL, x, dev.kv[1], sizeof x), PARE_OK);
    assert_memory_equal(x, y, sizeof x); /* the cache that the CPU wrote */
    close_both(&cpu, &dev);
}

static void nobody_can(void **s) {
    pare_graph *g = pare_graph_new();
    pare_exec *e;
    pare_diag d = {0};
    pare_value x = pare_graph_input(g, "x", &pare_qtype_i64, 1, (int64_t[]){4});
    pare_value y = pare_graph_node(g, PARE_OP_Erf, "erf", NULL, 0, 1, &x, 1);
    pare_graph_mark_output(g, y);
    assert_int_equal(pare_exec_open(g, &(pare_exec_opts){.backend = &far_device}, &e, NULL), PARE_OK);
    assert_int_equal(pare_exec_shape(e, (int64_t[]){1, 1, 1}, &d), PARE_ERR_UNSUPPORTED);
    assert_string_equal(d.where, "erf");
    pare_exec_close(&e);
    pare_graph_free(&g);
}

static int hooked;
static bool see(void *ctx, int node, const char *name, pare_op op, const pare_tensor *out) {
    hooked++;
    if (strcmp(name, "rows") == 0) /* x[0], changed on the way */
        ((float *)out->data)[0] = 3;
    return strcmp(name, "rows") == 0;
}

static void hooks(void **s) {
    session cpu, dev;
    open_both(&cpu, &dev);
    for (int64_t past = 0; past < 3; past++) both(&cpu, &dev, 1, past, false);
    assert_int_equal(far.replays, 2);
    pare_exec_set_hook(cpu.e, see, NULL);
    pare_exec_set_hook(dev.e, see, NULL);
    both(&cpu, &dev, 1, 3, false);
    assert_int_equal(hooked, 2 * (2 + 8 * LAYERS));
    assert_int_equal(far.replays, 2); /* a recording shows no nodes */
    pare_exec_set_hook(cpu.e, NULL, NULL);
    pare_exec_set_hook(dev.e, NULL, NULL);
    both(&cpu, &dev, 1, 4, false);
    assert_int_equal(far.begun, 1);
    assert_int_equal(far.replays, 3);
    close_both(&cpu, &dev);
}

/* ---- less memory than weights ---- */
static size_t memory_for_all(void) {
    session cpu, dev;
    reset(NULL);
    open_both(&cpu, &dev);
    both(&cpu, &dev, 5, 0, false);
    close_both(&cpu, &dev);
    size_t most = far.most;
    reset(NULL);
    return most;
}

/* Six walks with room for all but some layers; weights uploaded in each. */
static void walk_short_of(size_t layers, size_t all, size_t uploads[6]) {
    session cpu, dev;
    reset(NULL);
    far.limit = all - layers * LAYER_BYTES;
    open_both(&cpu, &dev);
    for (int64_t i = 0; i < 6; i++) {
        size_t before = far.weights;
        both(&cpu, &dev, i ? 1 : 5, i ? 4 + i : 0, i == 5);
        uploads[i] = far.weights - before;
    }
    assert_true(pare_exec_streamed(dev.e));
    assert_int_equal(far.begun, 0);
    assert_true(far.most <= far.limit);
    close_both(&cpu, &dev);
}

static void streamed(void **s) {
    size_t all = memory_for_all(), once[6], again[6];
    for (size_t layers = 1; layers <= 3; layers++) {
        walk_short_of(layers, all, once);
        walk_short_of(layers, all, again);
        assert_memory_equal(once, again, sizeof once);
        assert_in_range(once[0], WEIGHTS, WEIGHTS + 1);                           /* the table may have to come twice */
        for (int i = 1; i < 6; i++) assert_in_range(once[i], layers, layers + 2); /* the first stages stay */
    }
}

static void stage_too_large(void **s) {
    session dev;
    pare_diag d = {0};
    float logits[CAP * VOCAB];
    size_t others = memory_for_all() - sizeof table - LAYERS * LAYER_BYTES;
    far.limit = others + sizeof table / 2;
    assert_int_equal(session_open(&dev, &far_device, &d), PARE_OK);
    assert_int_equal(step(&dev, 5, 0, false, logits, &d), PARE_ERR_NOMEM);
    assert_string_equal(d.where, "embed");
    assert_non_null(strstr(d.text, "stage embed alone needs 10256 bytes of weights"));
    far.limit = 0; /* someone else gives memory back: the run can be had after all */
    d = (pare_diag){0};
    assert_int_equal(step(&dev, 1, 0, false, logits, &d), PARE_OK);
    session_close(&dev);
    far.limit = 1000; /* not even the cache */
    assert_int_equal(session_open(&dev, &far_device, NULL), PARE_ERR_NOMEM);
    session_close(&dev);
}

static void failing_upload(void **s) {
    session cpu, dev;
    pare_diag d = {0};
    float logits[CAP * VOCAB];
    far.fail_upload_after = 3;
    open_both(&cpu, &dev);
    assert_int_equal(step(&dev, 1, 0, false, logits, &d), PARE_ERR_DEVICE);
    assert_non_null(strstr(d.text, "copying this weight to far failed"));
    far.fail_upload_after = 0;
    both(&cpu, &dev, 1, 0, false);
    assert_int_equal(far.weights, WEIGHTS);
    close_both(&cpu, &dev);
}

/* ---- host memory ---- */
static void replays_take_no_memory(void **s) {
    session dev;
    float logits[CAP * VOCAB];
    harness_alloc_begin(SIZE_MAX);
    assert_int_equal(session_open(&dev, &far_device, NULL), PARE_OK);
    for (int64_t past = 0; past < 3; past++) assert_int_equal(step(&dev, 1, past, false, logits, NULL), PARE_OK);
    size_t before = harness_heap.calls;
    for (int64_t past = 3; past < CAP; past++) assert_int_equal(step(&dev, 1, past, false, logits, NULL), PARE_OK);
    assert_int_equal(harness_heap.calls, before);
    assert_int_equal(far.replays, CAP - 1);
    session_close(&dev);
    assert_int_equal(harness_alloc_end(), 0);
}

static pare_status open_and_step(void *ctx) {
    session dev;
    float logits[CAP * VOCAB];
    pare_status st = session_open(&dev, &far_device, NULL);
    for (int64_t past = 0; past < 3 && st == PARE_OK; past++) st = step(&dev, 1, past, false, logits, NULL);
    session_close(&dev);
    return st;
}

static void failing_allocations(void **s) {
    pare_set_threads(1);
    harness_fail_every_alloc(open_and_step, NULL);
    far.refuses[PARE_OP_Softmax] = true;
    harness_fail_every_alloc(open_and_step, NULL);
    pare_set_threads(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(recorded_and_replayed, reset),
        cmocka_unit_test_setup(stage_by_stage, reset),
        cmocka_unit_test_setup(changed_addresses, reset),
        cmocka_unit_test_setup(failing_recordings, reset),
        cmocka_unit_test_setup(what_the_device_refuses, reset),
        cmocka_unit_test_setup(nobody_can, reset),
        cmocka_unit_test_setup(hooks, reset),
        cmocka_unit_test_setup(streamed, reset),
        cmocka_unit_test_setup(stage_too_large, reset),
        cmocka_unit_test_setup(failing_upload, reset),
        cmocka_unit_test_setup(replays_take_no_memory, reset),
        cmocka_unit_test_setup(failing_allocations, reset),
    };
    make_weights();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
