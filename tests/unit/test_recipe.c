/* SPDX-License-Identifier: Apache-2.0
 *
 * Recipes: what their JSON becomes, what is refused and where, and a chain with every allocation failing in turn. The
 * model is made here, of no known architecture. */
#include "harness.h"

#include "api/recipe.h"

#include <jansson.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/pare-test-recipe-XXXXXX";
static char model[64], file[64], out[64], steps_folder[80];

static void make(const char *path) {
    pare_out_tensor t[] = {{.name = "blk.0.up.weight", .type = &pare_qtype_f32, .ndim = 2, .shape = {24, 64}},
                           {.name = "blk.0.norm.weight", .type = &pare_qtype_f32, .ndim = 1, .shape = {64}}};
    pare_meta meta = {.key = "general.architecture", .type = PARE_META_STR, .v.str = {"other", 5}};
    pare_writer_opts o =
        {.kind = PARE_SOURCE_GGUF, .force = true, .n_tensors = 2, .tensors = t, .n_meta = 1, .meta = &meta};
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
    snprintf(model, sizeof model, "%s/model.gguf", dir);
    snprintf(file, sizeof file, "%s/recipe.json", dir);
    snprintf(out, sizeof out, "%s/out.gguf", dir);
    snprintf(steps_folder, sizeof steps_folder, "%s.pare-steps", out);
    make(model);
    pare_set_threads(1);
    return 0;
}

static int teardown(void **state) {
    unlink(model), unlink(file);
    return rmdir(dir);
}

static void write_recipe(const char *text) {
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static pare_status read_recipe(const char *text, pare_recipe *r, pare_diag *d) {
    write_recipe(text);
    *r = (pare_recipe){.arena = pare_arena_new(), .path = file, .folder = "at/", .lock = -1};
    *d = (pare_diag){0};
    return pare_recipe_read(r, d);
}

static void done(pare_recipe *r) {
    json_decref(r->json);
    pare_arena_free(&r->arena);
}

static void values(void **state) {
    pare_recipe r;
    pare_diag d;
    assert_int_equal(
        read_recipe("{\"about\": 1, \"model\": \"m\", \"output\": \"/o\", \"calib\": {\"text\": \"t\", \"windows\": 3, "
                    "\"ctx\": 9}, \"keep\": [\"a\", \"b\"], \"max_shard_size\": \"1.5MB\", \"steps\": ["
                    "{\"do\": \"prune\", \"sparsity\": 1, \"stay\": 4, \"no_heal\": true, \"tensor\": \"x=0.1\"},"
                    "{\"do\": \"quantize\", \"to\": \"q8_0\", \"imatrix\": \"im\", \"keep_zeros\": false},"
                    "{\"do\": \"verify\", \"gates\": {\"max-kl\": 2, \"min-kl_p99\": 0.5}}]}",
                    &r, &d),
        PARE_OK);
    assert_string_equal(r.model, "at/m"); /* beside the recipe */
    assert_string_equal(r.out, "/o");
    assert_string_equal(r.calib, "at/t");
    assert_int_equal(r.calib_windows, 3);
    assert_int_equal(r.calib_ctx, 9);
    assert_int_equal(r.n_keep, 2);
    assert_string_equal(r.keep[1], "b");
    assert_int_equal(r.max_shard_bytes, 1500000);
    assert_int_equal(r.n, 3);
    const pare_prune_opts *p = r.steps[0].opts;
    assert_true(p->sparsity == 1 && p->stay == 4 && p->no_heal && p->n_tensor == 1);
    assert_string_equal(p->tensor[0], "x=0.1"); /* one word for a list of one */
    const pare_job_opts *q = r.steps[1].opts;
    assert_string_equal(q->imatrix, "at/im");
    assert_string_equal(q->to, "q8_0");
    const pare_verify_opts *v = r.steps[2].opts;
    assert_int_equal(v->n_gates, 2);
    assert_string_equal(v->gates[0].key, "kl_mean");
    assert_true(v->gates[0].upper && v->gates[0].limit == 2);
    assert_string_equal(v->gates[1].key, "kl_p99");
    assert_true(!v->gates[1].upper && v->gates[1].limit == 0.5);
    done(&r);
}

static void refusals(void **state) {
    static const struct {
        const char *text, *where, *says;
    } bad[] = {
        {"[]", "", "an object"},
        {"{\n\n \"model\" 5}", "line 3, column 10", "not JSON"},
        {"{\"modle\": \"x\"}", "modle", "did you mean `model`"},
        {"{\"zzzzzzzz\": 1}", "zzzzzzzz", "there are about, calib, steps, model"},
        {"{\"model\": \"\"}", "model", "the name of a file"},
        {"{\"calib\": \"text\"}", "calib", "an object"},
        {"{\"calib\": {\"windows\": 0}}", "calib.windows", "from 1 on"},
        {"{\"calib\": {\"windows\": 2.5}}", "calib.windows", "a whole number"},
        {"{\"max_shard_size\": \"5XB\"}", "max_shard_size", "a size"},
        {"{\"max_shard_size\": -5}", "max_shard_size", "a size"},
        {"{\"steps\": {}}", "steps", "a list"},
        {"{\"steps\": [5]}", "steps[0]", "an object"},
        {"{\"steps\": [{\"do\": \"prunes\"}]}", "steps[0].do", "did you mean `prune`"},
        {"{\"steps\": [{\"do\": \"prune\"}, {\"do\": \"prune\", \"no_heal\": 1}]}", "steps[1].no_heal",
         "true or false"},
        {"{\"steps\": [{\"do\": \"prune\", \"tensor\": [\"a\", 5]}]}", "steps[0].tensor[1]", "a word"},
        {"{\"steps\": [{\"do\": \"quantize\", \"keep_zeros\": \"no\"}]}", "steps[0].keep_zeros", "true or false"},
        {"{\"steps\": [{\"do\": \"quantize\"}, {\"do\": \"verify\", \"gates\": [1]}]}", "steps[1].gates", "an object"},
        {"{\"steps\": [{\"do\": \"quantize\"}, {\"do\": \"verify\", \"gates\": {\"max-kl\": \"1\"}}]}",
         "steps[1].gates.max-kl", "a number"},
        {"{\"steps\": [{\"do\": \"quantize\"}, {\"do\": \"verify\", \"gates\": {\"max-top\": 1}}]}",
         "steps[1].gates.max-top", "no gate `max-top`"},
        {"{\"steps\": [{\"do\": \"verify\"}]}", "steps[0]", "nothing to look at"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pare_recipe r;
        pare_diag d;
        assert_int_equal(read_recipe(bad[i].text, &r, &d), PARE_ERR_INPUT);
        assert_string_equal(d.file, file);
        assert_string_equal(d.where, bad[i].where);
        if (!strstr(d.text, bad[i].says)) fail_msg("case %zu: %s", i, d.text);
        done(&r);
    }
}

static const char chain[] = "{\"model\": \"model.gguf\", \"output\": \"out.gguf\", \"steps\": ["
                            "{\"do\": \"prune\", \"method\": \"magnitude\", \"pattern\": \"2:4\"},"
                            "{\"do\": \"quantize\", \"to\": \"q8_0\"},"
                            "{\"do\": \"verify\", \"gates\": {\"min-sqnr\": 1}}]}";

static pare_status run_chain(void *ctx) {
    size_t *upto = ctx;
    pare_recipe *r = NULL;
    pare_status s = pare_recipe_open(file, &(pare_recipe_opts){.force = true}, &r, NULL);
    size_t n = r ? pare_recipe_describe(r).n_steps : 0;
    for (size_t i = 0; s == PARE_OK && i < n && i < *upto; i++) s = pare_recipe_run(r, i, NULL);
    if (s == PARE_OK && *upto < n) s = pare_recipe_keep(r, 0, "noted", NULL);
    if (s == PARE_OK && *upto >= n) {
        pare_recipe_at last = pare_recipe_step_at(r, n - 1);
        assert_true(last.reused ? !last.report : last.report->n_gates == 1);
        pare_recipe_finish(r);
    }
    pare_recipe_close(&r);
    return s;
}

static void resumed(void **state) {
    size_t one = 1, all = 9;
    pare_recipe *r = NULL;
    write_recipe(chain);
    assert_int_equal(run_chain(&one), PARE_OK);
    assert_int_equal(access(out, F_OK), -1);
    assert_int_equal(pare_recipe_open(file, &(pare_recipe_opts){0}, &r, NULL), PARE_OK);
    pare_recipe_at s = pare_recipe_step_at(r, 0);
    assert_true(s.done && s.reused);
    assert_string_equal(s.note, "noted");
    assert_false(pare_recipe_step_at(r, 1).done);
    pare_recipe_close(&r);
    make(model); /* the same bytes, written again: another model as far as anyone can know */
    assert_int_equal(pare_recipe_open(file, &(pare_recipe_opts){0}, &r, NULL), PARE_OK);
    assert_false(pare_recipe_step_at(r, 0).done);
    pare_recipe_close(&r);
    assert_int_equal(run_chain(&all), PARE_OK);
    assert_int_equal(access(out, F_OK), 0);
    assert_int_equal(access(steps_folder, F_OK), -1);
    unlink(out);
}

static void allocations_fail(void **state) {
    size_t all = 9;
    write_recipe(chain);
    harness_fail_every_alloc(run_chain, &all);
    unlink(out);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(values), cmocka_unit_test(refusals), cmocka_unit_test(resumed),
                                       cmocka_unit_test(allocations_fail)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
