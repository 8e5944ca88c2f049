/* SPDX-License-Identifier: Apache-2.0
 *
 * models/lm: whole windows against cached steps, folders against GGUF files, a backend with memory of its own, padding,
 * memory in the decode loop, failing allocations, and what must be refused. Numbers against other implementations are
 * in the python steps. */
#include "tiny.h"

#include "far_device.h"

#include <math.h>

#include "core/threads.h"
#include "models/lm.h"

static tiny_dir dir;
static char path[128];
static const int64_t ids[24] = {1, 7, 33, 90, 2, 15, 64, 5, 5, 81, 17, 3, 40, 41, 42, 43, 9, 0, 95, 60, 61, 12, 13, 14};

static const char *at(const char *name) {
    snprintf(path, sizeof path, "%s/%s", dir.path, name);
    return path;
}

static int make_models(void **s) {
    dir = tiny_dir_new();
    static const char *const names[] = {"llama", "qwen2", "qwen3", "bert"};
    for (int i = 0; i < 4; i++) {
        char name[32];
        pare_arch a = tiny_arch(names[i]);
        a.tied = i == 2;
        a.pooling = 1;
        a.gelu_tanh = true; /* what GGUF means */
        tiny_write(at(names[i]), PARE_SOURCE_FOLDER, &a, NULL, NULL);
        snprintf(name, sizeof name, "%s.gguf", names[i]);
        tiny_write(at(name), PARE_SOURCE_GGUF, &a, NULL, NULL);
    }
    return 0;
}
static int remove_models(void **s) { return tiny_dir_remove(&dir), 0; }

typedef struct model {
    pare_source *src;
    pare_lm *lm;
} model;
static model open_model(const char *name, pare_lm_opts opts) {
    model m;
    pare_diag d = {0};
    if (pare_source_open(at(name), &m.src, &d) != PARE_OK || pare_lm_open(m.src, &opts, &m.lm, &d) != PARE_OK)
        fail_msg("%s: %s", d.where, d.text);
    return m;
}
static void close_model(model *m) {
    pare_lm_close(&m->lm);
    pare_source_close(&m->src);
}

/* Logits or hidden states [n, width] of the first n ids, to be freed. */
static float *window(model *m, int64_t n) {
    const pare_tensor *t;
    assert_int_equal(pare_lm_forward(m->lm, ids, NULL, 1, n, &t, NULL), PARE_OK);
    assert_int_equal(t->ndim, 3);
    assert_int_equal(t->shape[1], n);
    float *v = malloc(pare_tensor_bytes(t));
    memcpy(v, t->data, pare_tensor_bytes(t));
    return v;
}

static void close_to(const float *a, const float *b, size_t n, double tolerance) {
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)a[i] - (double)b[i]) <= tolerance))
            fail_msg("element %zu: %g against %g", i, (double)a[i], (double)b[i]);
}

static void steps_equal_windows(void **s) {
    static const char *const names[] = {"llama", "qwen2.gguf", "qwen3"};
    for (int k = 0; k < 3; k++) {
        model m = open_model(names[k], (pare_lm_opts){.capacity = 40});
        float *want = window(&m, 24);
        const float *logits;
        for (int round = 0; round < 2; round++) { /* the second over a cache full of other keys */
            int64_t past = round ? 3 : 9;
            assert_int_equal(pare_lm_step(m.lm, ids, past, 0, &logits, NULL), PARE_OK);
            for (;; past++) {
                close_to(logits, want + (past - 1) * 96, 96, 2e-5);
                if (past == 24) break;
                assert_int_equal(pare_lm_step(m.lm, ids + past, 1, past, &logits, NULL), PARE_OK);
            }
        }
        free(want);
        close_model(&m);
    }
}

static void folder_equals_gguf(void **s) {
    static const char *const names[] = {"llama", "qwen2", "qwen3", "bert"};
    for (int k = 0; k < 4; k++) {
        char gguf[32];
        snprintf(gguf, sizeof gguf, "%s.gguf", names[k]);
        model a = open_model(names[k], (pare_lm_opts){0}), b = open_model(gguf, (pare_lm_opts){0});
        float *x = window(&a, 24), *y = window(&b, 24);
        close_to(x, y, 24 * (k == 3 ? 32 : 96), 2e-5);
        free(x);
        free(y);
        close_model(&a);
        close_model(&b);
    }
}

static void later_tokens_do_not_matter(void **s) {
    model m = open_model("llama", (pare_lm_opts){0});
    float *x = window(&m, 24), *y = window(&m, 10);
    close_to(x, y, 10 * 96, 1e-5);
    free(x);
    free(y);
    close_model(&m);
}

static void batches_and_padding(void **s) {
    model m = open_model("bert", (pare_lm_opts){0});
    const pare_tensor *t;
    int64_t batch[3 * 16], lengths[] = {16, 5, 9};
    for (int i = 0; i < 48; i++) batch[i] = i % 16 < lengths[i / 16] ? ids[i % 24] : 77;
    assert_int_equal(pare_lm_forward(m.lm, batch, lengths, 3, 16, &t, NULL), PARE_OK);
    float all[3 * 16 * 32];
    memcpy(all, t->data, sizeof all);
    for (int b = 0; b < 3; b++) {
        assert_int_equal(pare_lm_forward(m.lm, batch + b * 16, NULL, 1, lengths[b], &t, NULL), PARE_OK);
        close_to(t->data, all + b * 16 * 32, (size_t)lengths[b] * 32, 1e-5);
    }
    float e[3 * 32];
    assert_int_equal(pare_lm_embed(m.lm, batch, lengths, 3, 16, e, NULL), PARE_OK);
    for (int k = 0; k < 32; k++) {
        double mean = 0;
        for (int i = 0; i < 5; i++) mean += (double)all[(16 + i) * 32 + k] / 5;
        assert_true(fabs(mean - (double)e[32 + k]) < 1e-5);
    }
    close_model(&m);
    m = open_model("bert.gguf", (pare_lm_opts){0}); /* pooling mean: normalized */
    assert_true(pare_lm_describe(m.lm)->normalize && pare_lm_describe(m.lm)->pooling == 1);
    assert_int_equal(pare_lm_embed(m.lm, batch, lengths, 3, 16, e, NULL), PARE_OK);
    double norm = 0;
    for (int k = 0; k < 32; k++) norm += (double)e[64 + k] * (double)e[64 + k];
    assert_true(fabs(norm - 1) < 1e-6);
    close_model(&m);
}

/* Steps and a window of a model on the far device, the CPU's numbers bit for bit. */
static void on_device(const char *name, size_t limit, bool streamed, size_t fallbacks) {
    far.limit = limit;
    model a = open_model(name, (pare_lm_opts){.capacity = 32}),
          b = open_model(name, (pare_lm_opts){.capacity = 32, .backend = &far_device});
    const float *x, *y;
    assert_int_equal(pare_lm_step(a.lm, ids, 9, 0, &x, NULL), PARE_OK);
    assert_int_equal(pare_lm_step(b.lm, ids, 9, 0, &y, NULL), PARE_OK);
    assert_memory_equal(x, y, 96 * 4);
    size_t weights = far.weights, uploads = far.uploads;
    for (int64_t past = 9; past < 16; past++) {
        assert_int_equal(pare_lm_step(a.lm, ids + past, 1, past, &x, NULL), PARE_OK);
        assert_int_equal(pare_lm_step(b.lm, ids + past, 1, past, &y, NULL), PARE_OK);
        assert_memory_equal(x, y, 96 * 4);
    }
    assert_int_equal(far.weights > weights, streamed);
    assert_int_equal(pare_lm_streamed(b.lm), streamed);
    assert_int_equal(pare_lm_fallbacks(b.lm, NULL), fallbacks);
    if (!fallbacks) assert_int_equal(far.uploads - uploads, 7 * 4); /* ids, positions, past, length */
    assert_int_equal(far.begun, streamed || fallbacks ? 0 : 1);
    assert_int_equal(far.replays, streamed || fallbacks ? 0 : 6);
    far.limit = 0; /* a second graph has weights of its own */
    float *p = window(&a, 20), *q = window(&b, 20);
    assert_memory_equal(p, q, 20 * 96 * 4);
    free(p);
    free(q);
    close_model(&a);
    close_model(&b);
}

static void on_a_device(void **s) {
    pare_set_threads(1); /* workspaces, and so what the limit leaves, grow with threads */
    static const char *const names[] = {"llama", "qwen2.gguf", "qwen3"};
    for (int i = 0; i < 3; i++) {
        memset(&far, 0, sizeof far);
        on_device(names[i], 0, false, 0);
    }
    memset(&far, 0, sizeof far);
    far.refuses[PARE_OP_RotaryEmbedding] = true;
    on_device("llama", 0, false, 4); /* two a layer */
    memset(&far, 0, sizeof far);
    on_device("llama", 120000, true, 0);
    pare_set_threads(0);
}

static void decoding_takes_no_memory(void **s) {
    harness_alloc_begin(SIZE_MAX);
    model m = open_model("llama", (pare_lm_opts){.capacity = 64});
    const float *logits;
    assert_int_equal(pare_lm_step(m.lm, ids, 8, 0, &logits, NULL), PARE_OK);
    assert_int_equal(pare_lm_step(m.lm, ids, 1, 8, &logits, NULL), PARE_OK);
    size_t before = harness_heap.calls;
    for (int64_t past = 9; past < 64; past++)
        assert_int_equal(pare_lm_step(m.lm, ids, 1, past, &logits, NULL), PARE_OK);
    assert_int_equal(harness_heap.calls, before);
    close_model(&m);
    assert_int_equal(harness_alloc_end(), 0);
}

static pare_status open_and_run(void *ctx) {
    pare_source *src = NULL;
    pare_lm *lm = NULL;
    const float *logits;
    const pare_tensor *t;
    pare_lm_opts opts = {.capacity = 16};
    pare_status s = pare_source_open(at(ctx), &src, NULL);
    if (s == PARE_OK) s = pare_lm_open(src, &opts, &lm, NULL);
    bool decoder = lm && pare_lm_describe(lm)->decoder;
    if (s == PARE_OK && decoder) s = pare_lm_step(lm, ids, 3, 0, &logits, NULL);
    if (s == PARE_OK) s = pare_lm_forward(lm, ids, NULL, 2, 5, &t, NULL);
    pare_lm_close(&lm);
    pare_source_close(&src);
    return s;
}

static void failing_allocations(void **s) {
    pare_set_threads(1);
    harness_fail_every_alloc(open_and_run, "qwen3.gguf");
    harness_fail_every_alloc(open_and_run, "bert.gguf");
    pare_set_threads(0);
}

static void same_at_every_thread_count(void **s) {
    model m = open_model("qwen2", (pare_lm_opts){0});
    pare_set_threads(1);
    float *x = window(&m, 24);
    pare_set_threads(3);
    float *y = window(&m, 24);
    pare_set_threads(0);
    assert_memory_equal(x, y, 24 * 96 * 4);
    free(x);
    free(y);
    close_model(&m);
}

static void refusals(void **s) {
    model m = open_model("llama", (pare_lm_opts){.capacity = 16});
    const float *logits;
    const pare_tensor *t;
    int64_t many[80] = {0};
    pare_diag d = {0};
    assert_int_equal(pare_lm_step(m.lm, ids, 10, 7, &logits, &d), PARE_ERR_USAGE);
    assert_non_null(strstr(d.text, "16"));
    assert_int_equal(pare_lm_forward(m.lm, many, NULL, 1, 65, &t, NULL), PARE_ERR_USAGE);
    many[3] = 96;
    assert_int_equal(pare_lm_forward(m.lm, many, NULL, 1, 8, &t, NULL), PARE_ERR_MISMATCH);
    many[3] = -1;
    assert_int_equal(pare_lm_step(m.lm, many, 8, 0, &logits, NULL), PARE_ERR_MISMATCH);
    close_model(&m);
    m = open_model("bert", (pare_lm_opts){0});
    int64_t lengths[] = {3, 9};
    assert_int_equal(pare_lm_forward(m.lm, ids, lengths, 2, 8, &t, NULL), PARE_ERR_USAGE);
    close_model(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_equal_windows),
        cmocka_unit_test(folder_equals_gguf),
        cmocka_unit_test(later_tokens_do_not_matter),
        cmocka_unit_test(batches_and_padding),
        cmocka_unit_test(on_a_device),
        cmocka_unit_test(decoding_takes_no_memory),
        cmocka_unit_test(failing_allocations),
        cmocka_unit_test(same_at_every_thread_count),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, make_models, remove_models);
}
