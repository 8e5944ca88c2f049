/* SPDX-License-Identifier: Apache-2.0
 *
 * Narrowed models against the original with the same channels silenced, which must compute the same; what is refused;
 * every allocation failing in turn. */
#include "tiny.h"

#include <jansson.h>
#include <math.h>

#include "api/narrow.h"
#include "models/lm.h"

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

static void narrow(const char *model, const char *out, pare_prune_opts o) {
    pare_job *job = NULL;
    pare_job_opts jo = {.force = true};
    pare_diag d = {0};
    o.method = strcmp(o.pattern, "layers") == 0 ? NULL : "magnitude";
    o.no_heal = true;
    pare_status s = pare_job_begin(&(pare_job_from){.path = at(0, model)}, at(1, out), &jo, &job, &d);
    if (s == PARE_OK) s = pare_job_narrow(job, &o, &d);
    if (s == PARE_OK) s = pare_job_plan_convert(job, &jo, &d);
    if (s == PARE_OK) s = pare_job_run(job, &d);
    if (s != PARE_OK) fail_msg("%s, %s: %s: %s", model, o.pattern, d.where, d.text);
    pare_job_close(&job);
}

static pare_source *source(const char *name) {
    pare_source *src;
    pare_diag d = {0};
    if (pare_source_open(at(0, name), &src, &d) != PARE_OK) fail_msg("%s", d.text);
    return src;
}

static void row(const pare_stored *t, int64_t r, float *out) {
    size_t cols = (size_t)t->shape[t->ndim - 1];
    memcpy(out, (const char *)t->data + (size_t)r * cols * 4, cols * 4);
}

/* Which rows of a are also in b, which has some of them, maybe with fewer columns: told by a sum over the columns that
 * both have. here: where each of a's rows is in b, or -1. */
static void rows_kept(const pare_stored *a, const pare_stored *b, const int *cols, int *here) {
    float x[128], y[128];
    int64_t next = 0;
    for (int64_t r = 0; r < a->shape[0]; r++) {
        row(a, r, x);
        here[r] = -1;
        if (next == b->shape[0]) continue;
        row(b, next, y);
        bool same = true;
        for (int64_t c = 0, k = 0; c < a->shape[1]; c++)
            if (!cols || cols[c] >= 0) same &= x[c] == y[k++];
        if (same) here[r] = (int)next++;
    }
    assert_int_equal(next, b->shape[0]);
}

typedef struct silence {
    const pare_arch *a;
    const pare_source *full, *small;
    pare_narrow_kind kind;
    int channels[128]; /* hidden: where each channel is in the small model, or -1 */
    int n_channels;
} silence;

static void silence_tensor(silence *z, pare_tensor_name n, const pare_stored *t, float *v) {
    int here[128];
    int64_t cols = t->ndim == 2 ? t->shape[1] : 1, rows = t->shape[0];
    pare_role writer = z->kind == PARE_NARROW_FFN ? PARE_ROLE_FFN_DOWN : PARE_ROLE_ATTN_OUT;
    if (z->kind == PARE_NARROW_HIDDEN) { /* nothing is written into channels that go; norms count fewer of them */
        bool table = n.role == PARE_ROLE_TOKEN_EMBD,
             norm = n.role == PARE_ROLE_ATTN_NORM || n.role == PARE_ROLE_FFN_NORM || n.role == PARE_ROLE_OUTPUT_NORM;
        bool writes = n.role == PARE_ROLE_ATTN_OUT || n.role == PARE_ROLE_FFN_DOWN;
        float f = sqrtf((float)z->n_channels / (float)z->a->dim);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < cols; c++) {
                int64_t channel = table ? c : r;
                if ((table || writes) && z->channels[channel] < 0) v[r * cols + c] = 0;
                if (norm) v[r * cols + c] *= f;
            }
    } else if (n.role == writer && !n.bias) { /* what goes is not read */
        pare_role maker = z->kind == PARE_NARROW_FFN ? PARE_ROLE_FFN_UP : PARE_ROLE_ATTN_Q;
        pare_arch b;
        pare_arch_read(z->small, &b, NULL);
        rows_kept(pare_arch_tensor(z->full, z->a, maker, n.layer, false),
                  pare_arch_tensor(z->small, &b, maker, n.layer, false), NULL, here);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t c = 0; c < cols; c++)
                if (here[c] < 0) v[r * cols + c] = 0;
    }
}

/* A copy of the full model in which what the small one lacks has no effect. */
static void write_silenced(silence *z, const char *out) {
    const pare_source *src = z->full;
    pare_out_tensor t[TINY_MAX];
    pare_meta meta[64];
    double eps = z->kind == PARE_NARROW_HIDDEN ? z->a->norm_eps * z->n_channels / (double)z->a->dim : z->a->norm_eps;
    for (size_t i = 0; i < src->n_tensors; i++) {
        t[i] = (pare_out_tensor){.name = src->tensors[i].name, .type = &pare_qtype_f32, .ndim = src->tensors[i].ndim};
        memcpy(t[i].shape, src->tensors[i].shape, sizeof t[i].shape);
    }
    pare_writer_opts o = {.kind = src->kind, .force = true, .n_tensors = src->n_tensors, .tensors = t};
    pare_out_file file = {"config.json", NULL, 0};
    json_t *config = src->config ? json_deep_copy(src->config) : NULL;
    char *text = NULL;
    if (config) {
        json_object_set_new(config, "rms_norm_eps", json_real(eps));
        file.bytes = text = json_dumps(config, 0);
        file.n_bytes = strlen(text);
        o.files = &file, o.n_files = 1;
    } else {
        for (size_t i = 0; i < src->n_meta; i++) {
            meta[i] = src->meta[i];
            if (strstr(meta[i].key, "rms_epsilon")) meta[i].v.f = eps;
        }
        o.meta = meta, o.n_meta = src->n_meta;
    }
    pare_writer *w;
    assert_int_equal(pare_writer_open(at(2, out), &o, &w, NULL), PARE_OK);
    for (size_t i = 0; i < src->n_tensors; i++) {
        pare_tensor_name n;
        float *v = malloc(src->tensors[i].bytes);
        memcpy(v, src->tensors[i].data, src->tensors[i].bytes);
        assert_true(pare_name_parse(z->a->family, src->kind, src->tensors[i].name, &n));
        silence_tensor(z, n, &src->tensors[i], v);
        assert_int_equal(pare_writer_put(w, i, 0, v, src->tensors[i].bytes, NULL), PARE_OK);
        free(v);
    }
    assert_int_equal(pare_writer_finish(w, NULL), PARE_OK);
    pare_writer_close(&w);
    free(text);
    json_decref(config);
}

static const int64_t ids[20] = {1, 7, 33, 90, 2, 15, 64, 5, 5, 81, 17, 3, 40, 41, 42, 43, 9, 0, 95, 60};

static float *outputs(const char *name, size_t *n) {
    pare_source *src = source(name);
    pare_lm *lm;
    const pare_tensor *y;
    pare_diag d = {0};
    if (pare_lm_open(src, &(pare_lm_opts){0}, &lm, &d) != PARE_OK) fail_msg("%s: %s", d.where, d.text);
    assert_int_equal(pare_lm_forward(lm, ids, NULL, 2, 10, &y, NULL), PARE_OK);
    float *v = malloc(pare_tensor_bytes(y));
    memcpy(v, y->data, pare_tensor_bytes(y));
    *n = (size_t)pare_tensor_elems(y);
    pare_lm_close(&lm);
    pare_source_close(&src);
    return v;
}

static void equal_outputs(const char *a, const char *b, double tolerance) {
    size_t n, m;
    float *x = outputs(a, &n), *y = outputs(b, &m);
    assert_int_equal(n, m);
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)x[i] - (double)y[i]) <= tolerance * (1 + fabs((double)x[i]))))
            fail_msg("%s and %s: element %zu: %g against %g", a, b, i, (double)x[i], (double)y[i]);
    free(x), free(y);
}

static void smaller_equals_silenced(const char *model, pare_narrow_kind kind, pare_prune_opts o) {
    bool file = strstr(model, ".gguf") != NULL;
    const char *small = file ? "small.gguf" : "small", *silent = file ? "silent.gguf" : "silent";
    pare_arch a, b;
    narrow(model, small, o);
    silence z = {.a = &a, .full = source(model), .small = source(small), .kind = kind};
    assert_int_equal(pare_arch_read(z.full, &a, NULL), PARE_OK);
    assert_int_equal(pare_arch_read(z.small, &b, NULL), PARE_OK);
    if (kind == PARE_NARROW_HIDDEN) { /* the channels that stay, told by the norm that all of them pass */
        const pare_stored *x = pare_arch_tensor(z.full, &a, PARE_ROLE_OUTPUT_NORM, -1, false),
                          *y = pare_arch_tensor(z.small, &b, PARE_ROLE_OUTPUT_NORM, -1, false);
        const float *p = x->data, *q = y->data;
        for (int c = 0; c < 32; c++)
            z.channels[c] = z.n_channels < y->shape[0] && p[c] == q[z.n_channels] ? z.n_channels++ : -1;
        assert_int_equal(z.n_channels, o.stay);
    }
    write_silenced(&z, silent);
    pare_source_close((pare_source **)(void *)&z.full);
    pare_source_close((pare_source **)(void *)&z.small);
    equal_outputs(silent, small, 2e-5);
}

static void narrowed_models_compute_the_same(void **s) {
    static const char *const models[] = {"llama", "qwen2", "qwen3", "llama.gguf", "qwen2.gguf", "qwen3.gguf"};
    for (int i = 0; i < 6; i++) {
        smaller_equals_silenced(models[i], PARE_NARROW_FFN,
                                (pare_prune_opts){.pattern = "ffn", .stay = 32, .multiple = 16});
        smaller_equals_silenced(models[i], PARE_NARROW_FFN,
                                (pare_prune_opts){.pattern = "ffn", .stay = 7, .multiple = 1});
        smaller_equals_silenced(models[i], PARE_NARROW_HEADS, (pare_prune_opts){.pattern = "heads", .stay = 1});
        smaller_equals_silenced(models[i], PARE_NARROW_QUERY, (pare_prune_opts){.pattern = "query-heads", .stay = 2});
        smaller_equals_silenced(models[i], PARE_NARROW_HIDDEN,
                                (pare_prune_opts){.pattern = "hidden", .stay = 24, .multiple = 8});
    }
}

/* Layers that go leave the others as they were: bert's first and last layer, one after the other. */
static void layers_go(void **s) {
    static const char *const models[] = {"llama", "qwen3.gguf", "bert", "bert.gguf"};
    for (int i = 0; i < 4; i++) {
        bool file = strstr(models[i], ".gguf") != NULL;
        const char *out = file ? "one.gguf" : "one";
        for (int gone = 0; gone < 2; gone++) {
            narrow(models[i], out, (pare_prune_opts){.pattern = "layers", .drop = gone ? "1" : "0"});
            pare_source *full = source(models[i]), *small = source(out);
            pare_arch a, b;
            assert_int_equal(pare_arch_read(full, &a, NULL), PARE_OK);
            assert_int_equal(pare_arch_read(small, &b, NULL), PARE_OK);
            assert_int_equal(b.layers, 1);
            pare_role role = a.family == PARE_FAMILY_BERT ? PARE_ROLE_BERT_DOWN : PARE_ROLE_FFN_DOWN;
            const pare_stored *x = pare_arch_tensor(full, &a, role, 1 - gone, false),
                              *y = pare_arch_tensor(small, &b, role, 0, false);
            assert_memory_equal(x->data, y->data, x->bytes);
            pare_source_close(&full);
            pare_source_close(&small);
        }
    }
}

static void refusals(void **s) {
    static const struct {
        const char *model, *out;
        pare_prune_opts o;
        pare_status status;
        const char *where;
    } bad[] = {
        {"llama", "bad", {.pattern = "ffn", .sparsity = 0.01}, PARE_ERR_USAGE, "--sparsity"},
        {"llama", "bad", {.pattern = "ffn", .stay = 33}, PARE_ERR_USAGE, "--stay"},
        {"llama", "bad", {.pattern = "ffn", .sparsity = 1}, PARE_ERR_USAGE, "--sparsity"},
        {"llama", "bad", {.pattern = "heads", .stay = 2}, PARE_ERR_USAGE, "--stay"},
        {"llama", "bad", {.pattern = "query-heads", .stay = 3}, PARE_ERR_USAGE, "--stay"},
        {"llama", "bad", {.pattern = "layers", .drop = "0-1"}, PARE_ERR_USAGE, "--drop"},
        {"llama", "bad", {.pattern = "layers", .drop = "2"}, PARE_ERR_USAGE, "--drop"},
        {"llama", "bad", {.pattern = "layers", .drop = "x"}, PARE_ERR_USAGE, "--drop"},
        {"llama", "bad", {.pattern = "ffn", .sparsity = 0.5, .method = "best"}, PARE_ERR_USAGE, "--method"},
        {"llama", "bad.safetensors", {.pattern = "ffn", .sparsity = 0.5}, PARE_ERR_UNSUPPORTED, "-o"},
        {"bert", "bad", {.pattern = "heads", .stay = 2}, PARE_ERR_UNSUPPORTED, "num_attention_heads"},
        {"bert", "bad", {.pattern = "hidden", .stay = 16, .multiple = 16}, PARE_ERR_UNSUPPORTED, "hidden_size"},
        {"bert", "bad", {.pattern = "width", .sparsity = 0.1}, PARE_ERR_USAGE, "--sparsity"},
        {"llama", "bad", {.pattern = "hidden", .stay = 6, .multiple = 2}, PARE_ERR_UNSUPPORTED, "num_attention_heads"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pare_job *job = NULL;
        pare_job_opts jo = {.force = true};
        pare_diag d = {0};
        pare_prune_opts o = bad[i].o;
        o.no_heal = true;
        if (!o.method && strcmp(o.pattern, "layers") != 0) o.method = "magnitude";
        assert_int_equal(pare_job_begin(&(pare_job_from){.path = at(0, bad[i].model)}, at(1, bad[i].out), &jo, &job,
                                        &d),
                         PARE_OK);
        pare_status st = pare_job_narrow(job, &o, &d);
        if (st != bad[i].status || strcmp(d.where, bad[i].where) != 0)
            fail_msg("case %zu: status %d at `%s`: %s", i, (int)st, d.where, d.text);
        pare_job_close(&job);
    }
}

static pare_status whole_job(void *ctx) {
    pare_job *job = NULL;
    pare_job_opts jo = {.force = true};
    pare_prune_opts o = *(pare_prune_opts *)ctx;
    pare_status s =
        pare_job_begin(&(pare_job_from){.path = at(0, "qwen3.gguf")}, at(1, "memory.gguf"), &jo, &job, NULL);
    if (s == PARE_OK) s = pare_job_narrow(job, &o, NULL);
    if (s == PARE_OK) s = pare_job_plan_convert(job, &jo, NULL);
    if (s == PARE_OK) s = pare_job_run(job, NULL);
    pare_job_close(&job);
    return s;
}

static void allocations_fail(void **s) {
    pare_prune_opts o[] = {{.pattern = "heads", .stay = 1, .method = "magnitude", .no_heal = true},
                           {.pattern = "layers", .drop = "0", .no_heal = true}};
    pare_set_threads(1);
    for (int i = 0; i < 2; i++) harness_fail_every_alloc(whole_job, &o[i]);
    pare_set_threads(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(narrowed_models_compute_the_same), cmocka_unit_test(layers_go),
                                       cmocka_unit_test(refusals), cmocka_unit_test(allocations_fail)};
    return cmocka_run_group_tests_name("narrow", tests, make_models, remove_models);
}
