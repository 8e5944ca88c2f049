/* SPDX-License-Identifier: Apache-2.0
 *
 * Jobs with every allocation failing in turn, and exact regrouping. The model is made here, of no known architecture.
 */
#include "harness.h"

#include "api/job.h"

#include <unistd.h>

static char dir[] = "/tmp/pare-test-jobs-XXXXXX";
static char model[64], gguf[64], out[64];

static void make(const char *path, pare_source_kind kind) {
    pare_out_tensor t[] = {{.name = "blk.0.up.weight", .type = &pare_qtype_f32, .ndim = 2, .shape = {24, 64}},
                           {.name = "blk.0.norm.weight", .type = &pare_qtype_f32, .ndim = 1, .shape = {64}}};
    pare_meta meta = {.key = "general.architecture", .type = PARE_META_STR, .v.str = {"other", 5}};
    pare_writer_opts o = {.kind = kind, .n_tensors = 2, .tensors = t, .n_meta = 1, .meta = &meta};
    pare_writer *w;
    float v[24 * 64];
    for (int i = 0; i < 24 * 64; i++) v[i] = (float)(i * 37 % 101 - 50) / 50;
    assert_int_equal(pare_writer_open(path, &o, &w, NULL), PARE_OK);
    assert_int_equal(pare_writer_put(w, 0, 0, v, sizeof v, NULL), PARE_OK);
    assert_int_equal(pare_writer_put(w, 1, 0, v, 64 * 4, NULL), PARE_OK);
    assert_int_equal(pare_writer_finish(w, NULL), PARE_OK);
    pare_writer_close(&w);
}

static int setup(void **state) {
    if (!mkdtemp(dir)) return 1;
    snprintf(model, sizeof model, "%s/model.safetensors", dir);
    snprintf(gguf, sizeof gguf, "%s/model.gguf", dir);
    make(model, PARE_SOURCE_SAFETENSORS);
    make(gguf, PARE_SOURCE_GGUF);
    pare_set_threads(1);
    return 0;
}

static int teardown(void **state) {
    unlink(model), unlink(gguf);
    return rmdir(dir);
}

typedef struct {
    const char *model, *out, *to, *layout;
} what;

static pare_status quantize(void *ctx) {
    const what *w = ctx;
    pare_job_opts o = {.to = w->to, .layout = w->layout, .force = true};
    pare_job *job = NULL;
    snprintf(out, sizeof out, "%s/%s", dir, w->out);
    pare_status s = pare_quantize_open(w->model, out, &o, &job, NULL);
    if (s == PARE_OK) s = pare_job_run(job, NULL);
    pare_job_close(&job);
    assert_int_equal(access(out, F_OK) == 0, s == PARE_OK);
    if (s == PARE_OK) unlink(out);
    return s;
}

static void allocations_fail(void **state) {
    what jobs[] = {{model, "o.safetensors", "int4:g32:asym", "ct"},
                   {model, "o.safetensors", "int4:g32", "gptq"},
                   {model, "o.safetensors", "int8", NULL},
                   {gguf, "o.gguf", "q4_k_m", NULL}};
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) harness_fail_every_alloc(quantize, &jobs[i]);
}

/* Codes and scales survive every move that is called possible; a scale with more bits than f16 has stops it. */
static void regrouping(void **state) {
    enum { ROWS = 2, COLS = 128 };
    float w[ROWS * COLS], a[ROWS * COLS], b[ROWS * COLS];
    for (int i = 0; i < ROWS * COLS; i++) w[i] = (float)(i * 61 % 251 - 125) / 64;
    static const struct {
        const char *from, *to;
        bool possible;
    } moves[] = {{"int4:g32", "q4_0", true},
                 {"q4_0", "int4:g32", true},
                 {"int4:g128", "q4_0", true},
                 {"int4:g128", "int4:g32", true},
                 {"int4", "int4:g64", true},
                 {"int8", "q8_0", true},
                 {"int8:g64", "q8_0", true},
                 {"q8_0", "int8:g32", true},
                 {"int4:g32", "int4:g64", false},
                 {"int4:g32:asym", "q4_0", false},
                 {"q4_0", "q8_0", false},
                 {"int8:g32", "int8", false},
                 {"int4:g128:asym", "int4:g32:asym", true},
                 {"q6_k", "q8_0", false}};
    for (size_t i = 0; i < sizeof moves / sizeof *moves; i++) {
        const pare_qtype *f = pare_qtype_by_name(moves[i].from), *t = pare_qtype_by_name(moves[i].to);
        assert_int_equal(pare_regroup_possible(f, t, COLS), moves[i].possible);
        if (!moves[i].possible) continue;
        uint8_t *x = malloc(ROWS * pare_row_bytes(f, COLS)), *y = malloc(ROWS * pare_row_bytes(t, COLS));
        f->grid->encode(f, w, COLS, NULL, ROWS, COLS, x, pare_row_bytes(f, COLS));
        assert_true(pare_regroup_rows(f, t, x, y, ROWS, COLS));
        for (int r = 0; r < ROWS; r++) {
            f->decode(f, x + (size_t)r * pare_row_bytes(f, COLS), a + r * COLS, COLS);
            t->decode(t, y + (size_t)r * pare_row_bytes(t, COLS), b + r * COLS, COLS);
        }
        for (int k = 0; k < ROWS * COLS; k++) /* folders' loaders round the product to f16, GGUF's do not */
            assert_true(pare_f32_to_f16(a[k]) == pare_f32_to_f16(b[k]));
        free(x), free(y);
    }
    const pare_qtype *wide = pare_qtype_int(8, 32, false, &pare_qtype_f32), *q8 = pare_qtype_by_name("q8_0");
    uint8_t row[256], moved[256];
    float scale = 1.0f / 3;
    memset(row, 1, sizeof row);
    memcpy(row, &scale, 4);
    assert_true(pare_regroup_possible(wide, q8, 32));
    assert_false(pare_regroup_rows(wide, q8, row, moved, 1, 32));
    scale = 0.25f;
    memcpy(row, &scale, 4);
    assert_true(pare_regroup_rows(wide, q8, row, moved, 1, 32));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(regrouping), cmocka_unit_test(allocations_fail)};
    return cmocka_run_group_tests_name("jobs", tests, setup, teardown);
}
