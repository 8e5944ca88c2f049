/* SPDX-License-Identifier: Apache-2.0
 *
 * Gates, baselines and report files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/alloc.h"
#include "verify/gates.h"
#include "verify/metrics.h"

static pare_verify_report *sample(double kl, double top1) {
    pare_verify_report *r = pare_report_new(PARE_VERIFY_LM);
    if (!r) return NULL;
    pare_column a = {.model = "a.gguf", .role = "original", .device = "cpu", .act = "none", .arch = "llama"}, b = a;
    a.bytes = 1000, b.bytes = 250;
    b.model = "b <&> \"c\".gguf", b.role = "reduced";
    pare_report_column(r, &a);
    pare_report_column(r, &b);
    pare_report_note(r, "data_sha256", "00ff");
    pare_report_number(r, "context", 512);
    double lo = kl * 0.8, hi = kl * 1.2, lo1 = top1 - 0.01, hi1 = top1 + 0.01;
    pare_metric_put(r, PARE_M_LM_kl_mean, 1, kl, &lo, &hi);
    pare_metric_put(r, PARE_M_LM_top1, 1, top1, &lo1, &hi1);
    pare_metric_put(r, PARE_M_LM_ppl, 0, 10, NULL, NULL);
    pare_metric_put(r, PARE_M_LM_ppl, 1, 11, NULL, NULL);
    pare_metric_put(r, PARE_M_LM_sqnr, 1, INFINITY, NULL, NULL);
    pare_metric_put(r, PARE_M_LM_dp_mean, 1, -0.5, NULL, NULL); /* no direction: never a baseline gate */
    return r;
}

static void limits(void **state) {
    static const struct {
        pare_gate g;
        bool pass, strict_pass, straddles;
    } t[] = {{{"max-kl", "kl_mean", true, 0.2}, true, true, false},
             {{"max-kl", "kl_mean", true, 0.11}, true, false, true},
             {{"max-kl", "kl_mean", true, 0.09}, false, false, true},
             {{"max-kl", "kl_mean", true, 0.01}, false, false, false},
             {{"min-top1", "top1", false, 0.8}, true, true, false},
             {{"min-top1", "top1", false, 0.895}, true, false, true},
             {{"min-top1", "top1", false, 0.95}, false, false, false}};
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        for (int strict = 0; strict < 2; strict++) {
            pare_verify_report *r = sample(0.1, 0.9);
            assert_int_equal(pare_gates_judge(r, &t[i].g, 1, strict, NULL), PARE_OK);
            assert_int_equal(r->n_gates, 1);
            assert_int_equal(r->gates[0].pass, strict ? t[i].strict_pass : t[i].pass);
            assert_int_equal(r->gates[0].straddles, t[i].straddles);
            assert_int_equal(r->n_failed, !r->gates[0].pass);
            pare_report_free(&r);
        }
    pare_verify_report *r = sample(NAN, 0.9); /* NaN passes nothing */
    pare_gate up = {"max-kl", "kl_mean", true, 1e9}, down = {"x", "kl_mean", false, -1e9},
              no_range = {"max-ppl", "ppl", true, 20};
    assert_int_equal(pare_gates_judge(r, &up, 1, false, NULL), PARE_OK);
    assert_int_equal(pare_gates_judge(r, &down, 1, false, NULL), PARE_OK);
    assert_int_equal(r->n_failed, 2);
    assert_int_equal(pare_gates_judge(r, &no_range, 1, true, NULL), PARE_ERR_USAGE);
    pare_report_free(&r);
}

/* Reduced columns of both devices; parity of both models; what an older report of one device asks for. */
static void two_devices(void **state) {
    pare_verify_report *one = sample(0.1, 0.9), *r = sample(0.1, 0.9);
    pare_column c = {.model = "a.gguf", .role = "original", .device = "cuda", .act = "none", .arch = "llama"};
    pare_report_column(r, &c);
    c.role = "reduced";
    pare_report_column(r, &c);
    double parity[2] = {99, 55},
           kl[2] = {0.5, 0.2}; /* the original's own KL on the second device is no gate's business */
    for (int i = 0; i < 2; i++) {
        pare_metric_put(r, PARE_M_LM_kl_mean, 2 + i, kl[i], NULL, NULL);
        pare_metric_put(r, PARE_M_LM_parity, 2 + i, parity[i], &parity[i], &parity[i]);
    }
    pare_gate g[] = {{"max-kl", "kl_mean", true, 0.15}, {"min-parity", "parity", false, 60}};
    assert_int_equal(pare_gates_check(&g[1], 1, PARE_VERIFY_LM, PARE_HAVE_TWO_DEVICES, NULL), PARE_OK);
    assert_int_equal(pare_gates_judge(r, g, 2, false, NULL), PARE_OK);
    static const struct {
        int column;
        bool pass;
    } want[] = {{1, true}, {3, false}, {2, true}, {3, false}};
    assert_int_equal(r->n_gates, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(r->gates[i].column, want[i].column);
        assert_int_equal(r->gates[i].pass, want[i].pass);
    }
    const char *json;
    size_t n;
    assert_int_equal(pare_report_render(one, PARE_VERIFY_JSON, &json, &n, NULL), PARE_OK);
    size_t before = r->n_gates;
    assert_int_equal(pare_gates_baseline(r, json, n, "old.json", 0, false, NULL), PARE_OK);
    assert_true(r->n_gates > before);
    for (size_t i = before; i < r->n_gates; i++) assert_true(r->gates[i].column == 1 && r->gates[i].pass);
    pare_diag d = {0};
    pare_verify_report *fresh = sample(0.1, 0.9);
    assert_int_equal(pare_report_render(r, PARE_VERIFY_JSON, &json, &n, NULL), PARE_OK);
    assert_int_equal(pare_gates_baseline(fresh, json, n, "old.json", 0, false, &d), PARE_ERR_MISMATCH);
    assert_int_equal(pare_gates_check(&g[1], 1, PARE_VERIFY_LM, PARE_HAVE_PAIRS, &d), PARE_ERR_USAGE);
    pare_report_free(&fresh);
    pare_report_free(&one);
    pare_report_free(&r);
}

static void usage(void **state) {
    pare_gate ok = {"max-kl", "kl_mean", true, 1}, share = {"min-top1", "top1", false, 95},
              inf = {"max-kl", "kl_mean", true, INFINITY}, wrong = {"min-overlap", "overlap", false, 0.5},
              gold = {"min-spearman", "spearman", false, 0.5};
    pare_diag d = {0};
    assert_int_equal(pare_gates_check(&ok, 1, PARE_VERIFY_LM, false, NULL), PARE_OK);
    assert_int_equal(pare_gates_check(&share, 1, PARE_VERIFY_LM, false, NULL), PARE_ERR_USAGE);
    assert_int_equal(pare_gates_check(&inf, 1, PARE_VERIFY_LM, false, NULL), PARE_ERR_USAGE);
    assert_int_equal(pare_gates_check(&wrong, 1, PARE_VERIFY_LM, false, &d), PARE_ERR_USAGE);
    assert_string_equal(d.where, "min-overlap");
    assert_non_null(strstr(d.text, "kl_p99"));
    assert_int_equal(pare_gates_check(&gold, 1, PARE_VERIFY_ENCODER, true, NULL), PARE_OK);
    assert_int_equal(pare_gates_check(&gold, 1, PARE_VERIFY_ENCODER, false, NULL), PARE_ERR_USAGE);
    assert_int_equal(pare_gates_check(&ok, 1, PARE_VERIFY_WEIGHTS, false, NULL), PARE_ERR_USAGE);
}

static pare_status against(const char *json, size_t n, double kl, double top1, double tolerance, size_t *failed,
                           pare_diag *d) {
    pare_verify_report *r = sample(kl, top1);
    pare_status s = pare_gates_baseline(r, json, n, "old.json", tolerance, false, d);
    *failed = r->n_failed;
    if (s == PARE_OK) assert_int_equal(r->n_gates, 4); /* kl_mean top1 ppl sqnr */
    pare_report_free(&r);
    return s;
}

static void baseline(void **state) {
    pare_verify_report *old = sample(0.1, 0.9);
    const char *json;
    size_t n, failed;
    assert_int_equal(pare_report_render(old, PARE_VERIFY_JSON, &json, &n, NULL), PARE_OK);
    assert_int_equal(against(json, n, 0.1, 0.9, 0, &failed, NULL), PARE_OK);
    assert_int_equal(failed, 0);
    assert_int_equal(against(json, n, 0.11, 0.9, 0.02, &failed, NULL), PARE_OK);
    assert_int_equal(failed, 1);
    assert_int_equal(against(json, n, 0.11, 0.88, 0.02, &failed, NULL), PARE_OK);
    assert_int_equal(failed, 2);
    assert_int_equal(against(json, n, 0.11, 0.89, 0.15, &failed, NULL), PARE_OK);
    assert_int_equal(failed, 0);
    assert_int_equal(against(json, n, 0.05, 0.95, 0, &failed, NULL), PARE_OK); /* better is fine */
    assert_int_equal(failed, 0);
    pare_diag d = {0};
    assert_int_equal(against("{}", 2, 0.1, 0.9, 0, &failed, &d), PARE_ERR_INPUT);
    assert_int_equal(against(json, n - 3, 0.1, 0.9, 0, &failed, NULL), PARE_ERR_INPUT);
    char *other = strdup(json), *at = strstr(other, "00ff");
    at[0] = '1';
    memset(&d, 0, sizeof d);
    assert_int_equal(against(other, n, 0.1, 0.9, 0, &failed, &d), PARE_ERR_MISMATCH);
    assert_string_equal(d.where, "data_sha256");
    free(other);
    pare_report_free(&old);
}

static void files(void **state) {
    char dir[] = "/tmp/pare-report-XXXXXX", path[64], got[64] = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/out.xml", dir);
    assert_int_equal(pare_write_file_atomic(path, "one", 3, NULL), PARE_OK);
    assert_int_equal(pare_write_file_atomic(path, "second", 6, NULL), PARE_OK);
    FILE *f = fopen(path, "r");
    assert_int_equal(fread(got, 1, sizeof got, f), 6);
    fclose(f);
    assert_string_equal(got, "second");
    pare_diag d = {0};
    assert_int_equal(pare_exit_status(pare_write_file_atomic(dir, "x", 1, &d)), 4);
    assert_int_equal(pare_write_file_atomic("/dev/full", "x", 1, NULL), PARE_ERR_NOSPACE);
    assert_int_equal(pare_write_file_atomic("/nonexistent-folder/x", "x", 1, NULL), PARE_ERR_IO);
    unlink(path);
    assert_int_equal(rmdir(dir), 0); /* no temporary name is left */

    pare_verify_report *r = sample(0.1, 0.9);
    pare_gate g[] = {{"max-kl", "kl_mean", true, 0.2}, {"min <top1>", "top1", false, 0.99}};
    assert_int_equal(pare_gates_judge(r, g, 2, false, NULL), PARE_OK);
    const char *text;
    size_t n;
    assert_int_equal(pare_report_render(r, PARE_VERIFY_JUNIT, &text, &n, NULL), PARE_OK);
    assert_non_null(strstr(text, "tests=\"2\" failures=\"1\""));
    assert_non_null(strstr(text, "min &lt;top1&gt;"));
    assert_null(strstr(text, "<&>"));
    assert_int_equal(pare_report_render(r, PARE_VERIFY_HTML, &text, &n, NULL), PARE_OK);
    assert_non_null(strstr(text, "1 of 2 gates failed"));
    pare_report_free(&r);
}

/* The k-th allocation fails, for every k: an error comes back, nothing leaks (the sanitizer build sees) or crashes. */
static size_t countdown;
static void *alloc_k(void *ctx, size_t bytes, size_t align) {
    return countdown && --countdown ? aligned_alloc(align, (bytes + align - 1) / align * align) : NULL;
}
static void *resize_k(void *ctx, void *p, size_t bytes) { return countdown && --countdown ? realloc(p, bytes) : NULL; }
static void release_k(void *ctx, void *p) { free(p); }

static void no_memory(void **state) {
    pare_allocator a = {alloc_k, resize_k, release_k, NULL};
    bool whole = false;
    for (size_t k = 1; !whole && k < 10000; k++) {
        pare_set_allocator(&a);
        countdown = k;
        pare_verify_report *r = sample(0.1, 0.9);
        pare_gate g = {"max-kl", "kl_mean", true, 0.2};
        const char *text;
        size_t n;
        bool ok = r && pare_report_status(r, NULL) == PARE_OK;
        ok = ok && pare_gates_judge(r, &g, 1, false, NULL) == PARE_OK;
        for (int f = 0; ok && f < 3; f++) ok = pare_report_render(r, (pare_verify_format)f, &text, &n, NULL) == PARE_OK;
        whole = ok && countdown > 1;
        pare_report_free(&r);
        pare_set_allocator(NULL);
    }
    assert_true(whole);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(limits), cmocka_unit_test(two_devices),
                                       cmocka_unit_test(usage),  cmocka_unit_test(baseline),
                                       cmocka_unit_test(files),  cmocka_unit_test(no_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
