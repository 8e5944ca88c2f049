/* SPDX-License-Identifier: Apache-2.0
 *
 * Learned scales of every format that has some: factors of 1 give the matrix as it decodes, the gradient is that of the
 * values, codes stay when factors are settled, and what is stored decodes to what was trained, up to the field's
 * rounding; the same bytes at 1 and 2 threads. */
#include "harness.h"

#include <math.h>

#include "api/distill.h"
#include "core/rng.h"
#include "core/threads.h"
#include "quant/rtn.h"

#define ROWS 6
#define COLS 512

static float w[ROWS * COLS], dw[ROWS * COLS], got[ROWS * COLS], moved[ROWS * COLS];

static void *rows_of(const pare_qtype *q, pare_rng *r) {
    size_t row = pare_row_bytes(q, COLS);
    char *p = malloc(ROWS * row), *scratch = malloc(pare_rtn_scratch_bytes(q, ROWS, COLS) + 64);
    for (size_t i = 0; i < ROWS * COLS; i++) w[i] = pare_rng_normal(r), dw[i] = pare_rng_normal(r);
    pare_rtn_encode(q, w, COLS, NULL, ROWS, COLS, (uint8_t *)p, row, scratch);
    for (size_t i = 0; i < ROWS; i++) q->decode(q, p + i * row, w + i * COLS, COLS);
    free(scratch);
    return p;
}

static void close_to(const char *what, const pare_qtype *q, const float *a, const float *b, double tolerance) {
    double most = 0, off = 0;
    for (size_t i = 0; i < ROWS * COLS; i++) {
        most = fmax(most, fabs((double)b[i]));
        off = fmax(off, fabs((double)a[i] - (double)b[i]));
    }
    if (off > tolerance * most) fail_msg("%s, %s: off by %g of %g", q->name, what, off, most);
}

static double loss(void) {
    double sum = 0;
    for (size_t i = 0; i < ROWS * COLS; i++) sum += (double)got[i] * (double)dw[i];
    return sum;
}

static void one_format(const pare_qtype *q, pare_rng *r) {
    void *rows = rows_of(q, r);
    pare_stored t = {.name = "w", .type = q, .ndim = 2, .shape = {ROWS, COLS}, .data = rows};
    pare_source src = {.path = "test"};
    pare_scales s;
    assert_true(pare_scales_known(q));
    t.bytes = ROWS * pare_row_bytes(q, COLS);
    assert_int_equal(pare_scales_open(&src, &t, ROWS, COLS, &s, NULL), PARE_OK);
    assert_int_equal(pare_scales_values(&s, got, NULL), PARE_OK);
    close_to("factors of 1", q, got, w, s.parts == 1 && !q->int_format ? 0 : 1e-3);
    assert_int_equal(pare_scales_gradient(&s, dw, NULL), PARE_OK);
    for (size_t k = 0; k < 20; k++) { /* the loss is linear in each factor */
        size_t i = (size_t)pare_rng_below(r, s.n);
        double at1 = (assert_int_equal(pare_scales_values(&s, got, NULL), PARE_OK), loss());
        s.factor[i] = 2;
        double slope = (assert_int_equal(pare_scales_values(&s, got, NULL), PARE_OK), loss()) - at1;
        s.factor[i] = 1;
        if (fabs(slope - (double)s.grad[i]) > 1e-4 * (1 + fabs(slope)))
            fail_msg("%s, factor %zu: slope %g, expected %g", q->name, i, (double)s.grad[i], slope);
    }
    for (size_t i = 0; i < s.n; i++) s.factor[i] = 1 + 0.1f * (float)pare_rng_unit(r);
    pare_set_threads(1);
    assert_int_equal(pare_scales_values(&s, got, NULL), PARE_OK);
    pare_set_threads(2);
    assert_int_equal(pare_scales_values(&s, moved, NULL), PARE_OK);
    assert_memory_equal(got, moved, sizeof got);
    pare_set_threads(0);
    pare_scales_settle(&s, moved);
    close_to("settled", q, moved, got, 2e-3 * (q->int_format && q->int_format->scale_type == &pare_qtype_bf16 ? 8 : 1));
    size_t changed = 0, fields = s.n * (q->int_format ? q->int_format->scale_type->block_bytes : 2);
    for (size_t i = 0; i < t.bytes; i++) changed += s.data[i] != ((uint8_t *)rows)[i];
    if (changed > fields || changed < s.n / 2) fail_msg("%s: %zu bytes changed of %zu", q->name, changed, fields);
    pare_scales_close(&s);
    free(rows);
}

static void every_format(void **state) {
    static const char *const names[] = {"q4_0",
                                        "q4_1",
                                        "q5_0",
                                        "q5_1",
                                        "q8_0",
                                        "iq4_nl",
                                        "iq4_xs",
                                        "q2_k",
                                        "q3_k",
                                        "q4_k",
                                        "q5_k",
                                        "q6_k",
                                        "int8",
                                        "int4:g32",
                                        "int4:g128:asym",
                                        "int4:g64:bf16",
                                        "int8:g32:asym:f32"};
    pare_rng r;
    pare_rng_seed(&r, 11);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const pare_qtype *q = pare_qtype_by_name(names[i]);
        if (!q) fail_msg("no format %s", names[i]);
        one_format(q, &r);
    }
    assert_false(pare_scales_known(&pare_qtype_f16));
    assert_false(pare_scales_known(pare_qtype_by_name("mxfp4")));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_format)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
