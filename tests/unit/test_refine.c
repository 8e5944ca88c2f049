/* SPDX-License-Identifier: Apache-2.0
 *
 * Columns in another order, and passes over quantized rows: errors in double before and after, for every grid. */
#include "calib/linalg.h"
#include "calib/order.h"
#include "calib/refine.h"
#include "calib/sweep.h"
#include "core/rng.h"
#include "core/threads.h"
#include "harness.h"
#include "quant/method.h"

#define ROWS 70 /* more than one chunk */

typedef struct layer {
    const pare_qtype *qt;
    size_t n, bytes;
    float *w, *h, *u, *done;
    uint32_t *order;
    uint8_t *out;
} layer;

/* Inputs that depend on one another and differ in size, not in the order of columns. */
static layer make(const pare_qtype *qt, size_t n) {
    size_t tokens = 3 * n;
    layer l = {qt,
               n,
               ROWS * pare_row_bytes(qt, n),
               malloc(ROWS * n * 4),
               calloc(n * n, 4),
               malloc(n * n * 4),
               malloc(ROWS * n * 4),
               malloc(n * sizeof(uint32_t)),
               NULL};
    float *x = malloc(tokens * n * 4);
    pare_rng rng;
    pare_rng_seed(&rng, n + 5);
    for (size_t i = 0; i < ROWS * n; i++) l.w[i] = pare_rng_normal(&rng);
    for (size_t t = 0; t < tokens; t++) {
        float common = pare_rng_normal(&rng);
        for (size_t j = 0; j < n; j++) {
            float size = 0.2f + (float)(j * 7919 % 13) * (j * 104729 % 31 == 0 ? 3.0f : 0.3f);
            x[t * n + j] = size * (pare_rng_normal(&rng) + common);
        }
    }
    pare_gram_add(n, tokens, x, l.h);
    free(x);
    l.out = malloc(l.bytes);
    return l;
}
static void drop(layer *l) { free(l->w), free(l->h), free(l->u), free(l->done), free(l->order), free(l->out); }

static void sweep(layer *l, bool ordered) {
    double used;
    size_t g = l->qt->grid->group ? l->qt->grid->group : l->n;
    assert_true(pare_order_by_energy(l->n, l->h, g, g, l->order));
    assert_int_equal(pare_inverse_factor_ordered(l->n, l->h, ordered ? l->order : NULL, 0.01, l->u, &used, NULL),
                     PARE_OK);
    memcpy(l->done, l->w, ROWS * l->n * 4);
    const pare_sweep s = {.rows = ROWS,
                          .n = l->n,
                          .u = l->u,
                          .order = ordered ? l->order : NULL,
                          .type = l->qt,
                          .w = l->done,
                          .out = l->out};
    assert_int_equal(pare_sweep_run(&s, NULL), PARE_OK);
}

/* Of one row of what `out` decodes to; the moments damped as the methods damp them. */
static double error_of(const layer *l, size_t row) {
    float *e = malloc(l->n * 4);
    l->qt->decode(l->qt, l->out + row * pare_row_bytes(l->qt, l->n), e, l->n);
    double sum = 0, mean = 0;
    for (size_t j = 0; j < l->n; j++) mean += (double)l->h[j * l->n + j] / (double)l->n;
    for (size_t i = 0; i < l->n; i++) e[i] = l->w[row * l->n + i] - e[i];
    for (size_t i = 0; i < l->n; i++)
        for (size_t j = 0; j < l->n; j++) {
            double h = i > j ? l->h[i * l->n + j] : l->h[j * l->n + i];
            sum += (double)e[i] * (h + (i == j ? 0.01 * mean : 0)) * (double)e[j];
        }
    free(e);
    return sum;
}
static double total(const layer *l) {
    double sum = 0;
    for (size_t r = 0; r < ROWS; r++) sum += error_of(l, r);
    return sum;
}

static void order_is_by_energy(void **state) {
    float h[36] = {0};
    const float diagonal[6] = {1, 3, 5, 4, 2, 7};
    uint32_t order[6];
    for (int i = 0; i < 6; i++) h[i * 7] = diagonal[i];
    const uint32_t columns[6] = {5, 2, 3, 1, 4, 0}, pairs[6] = {5, 4, 2, 3, 1, 0}, threes[6] = {5, 3, 4, 2, 1, 0};
    assert_true(pare_order_by_energy(6, h, 6, 6, order));
    assert_memory_equal(order, columns, sizeof order);
    assert_true(pare_order_by_energy(6, h, 2, 2, order)); /* energies 4, 9, 9: equal ones by number */
    assert_memory_equal(order, ((const uint32_t[]){2, 3, 5, 4, 1, 0}), sizeof order);
    assert_true(pare_order_by_energy(6, h, 3, 3, order));
    assert_memory_equal(order, threes, sizeof order);
    h[0] = 0.5f, h[28] = 2.5f;
    assert_true(pare_order_by_energy(6, h, 2, 6, order));
    assert_memory_equal(order, pairs, sizeof order);
}

/* One of those that differ in the type of their scales alone. */
static bool chosen(const pare_qtype *qt) {
    return qt->grid && (!qt->int_format || qt->int_format->scale_type == &pare_qtype_f16);
}

static void order_keeps_the_format(void **state) {
    double better = 0;
    size_t grids = 0;
    for (size_t i = 0; i < pare_qtype_count(); i++) {
        const pare_qtype *qt = pare_qtype_at(i);
        if (!chosen(qt)) continue;
        layer l = make(qt, qt->grid->group == 256 ? 512 : 192 + (qt->grid->group == 128 ? 64 : 0));
        float *decoded = malloc(l.n * 4);
        sweep(&l, false);
        double plain = total(&l);
        sweep(&l, true);
        for (size_t r = 0; r < ROWS; r++) {
            qt->decode(qt, l.out + r * pare_row_bytes(qt, l.n), decoded, l.n);
            if (memcmp(decoded, l.done + r * l.n, l.n * 4) != 0) fail_msg("%s: row %zu decodes otherwise", qt->name, r);
        }
        double ratio = total(&l) / plain;
        if (ratio > 1.1) fail_msg("%s: %.3f of the error in the order of the file", qt->name, ratio);
        better += ratio, grids++;
        free(decoded);
        drop(&l);
    }
    assert_true(better / (double)grids < 0.97);
}

static void passes_never_lose(void **state) {
    for (size_t i = 0; i < pare_qtype_count(); i++) {
        const pare_qtype *qt = pare_qtype_at(i);
        if (!chosen(qt) || !qt->grid->group) continue;
        layer l = make(qt, qt->grid->group == 256 ? 512 : 256);
        sweep(&l, true);
        double before[ROWS], sum = 0, after = 0;
        for (size_t r = 0; r < ROWS; r++) sum += before[r] = error_of(&l, r);
        uint8_t *again = malloc(l.bytes);
        memcpy(again, l.out, l.bytes);
        pare_refine refine = {ROWS, l.n, l.w, l.h, 0.01, qt, l.out, 2, NULL};
        assert_int_equal(pare_refine_run(&refine, NULL), PARE_OK);
        for (size_t r = 0; r < ROWS; r++) {
            double e = error_of(&l, r);
            after += e;
            if (e > before[r] * 1.0001) fail_msg("%s: row %zu: error %g, before %g", qt->name, r, e, before[r]);
        }
        if (!(after < 0.99 * sum)) fail_msg("%s: error %g, before %g", qt->name, after, sum);
        int threads = pare_threads();
        pare_set_threads(1);
        refine.out = again;
        assert_int_equal(pare_refine_run(&refine, NULL), PARE_OK);
        pare_set_threads(threads);
        if (memcmp(again, l.out, l.bytes) != 0) fail_msg("%s: other bytes with one thread", qt->name);
        free(again);
        drop(&l);
    }
}

/* A pruned layer through GPTQ, in the order of energy and with passes: with keep_zeros no zero is lost, without it some
 * are, so that there was something to lose. */
static void zeros_stay(void **state) {
    static const char *const grids[] = {"q8_0", "q4_0", "q6_k", "int8", "int4:g32:asym"};
    for (size_t i = 0; i < sizeof grids / sizeof *grids; i++) {
        const pare_qtype *qt = pare_qtype_by_name(grids[i]);
        layer l = make(qt, 256);
        size_t g = qt->grid->group ? qt->grid->group : l.n, lost[2] = {0};
        double used;
        for (size_t k = 0; k < ROWS * l.n; k++)
            if (k * 48271 % 7 < 3) l.w[k] = 0;
        pare_stats s = {.n = l.n, .tokens = 3 * l.n, .h = l.h, .c = calloc(l.n * l.n, 4)};
        for (size_t k = 0; k < l.n; k++) s.c[k * l.n + (k + 1) % l.n] = 0.01f * l.h[k * l.n + k]; /* moves targets */
        assert_true(pare_order_by_energy(l.n, l.h, g, g, l.order));
        assert_int_equal(pare_inverse_factor_ordered(l.n, l.h, l.order, 0.01, l.u, &used, NULL), PARE_OK);
        float *target = malloc(ROWS * l.n * 4);
        for (int keep = 0; keep < 2; keep++) {
            memcpy(target, l.w, ROWS * l.n * 4);
            const pare_method_layer m = {.type = qt,
                                         .rows = ROWS,
                                         .n = l.n,
                                         .w = l.w,
                                         .s = &s,
                                         .u = l.u,
                                         .damping = used,
                                         .passes = 2,
                                         .order = l.order,
                                         .out = l.out,
                                         .target = target,
                                         .keep_zeros = keep};
            assert_int_equal(pare_method_gptq.encode(&m, NULL), PARE_OK);
            for (size_t r = 0; r < ROWS; r++) {
                qt->decode(qt, l.out + r * pare_row_bytes(qt, l.n), l.done, l.n);
                for (size_t j = 0; j < l.n; j++) lost[keep] += l.w[r * l.n + j] == 0 && l.done[j] != 0;
            }
        }
        if (lost[1] || !lost[0]) fail_msg("%s: %zu zeros lost, without keeping %zu", qt->name, lost[1], lost[0]);
        free(target), free(s.c);
        drop(&l);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_is_by_energy),
        cmocka_unit_test(order_keeps_the_format),
        cmocka_unit_test(passes_never_lose),
        cmocka_unit_test(zeros_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
