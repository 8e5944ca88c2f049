/* SPDX-License-Identifier: Apache-2.0
 *
 * distill/: optimizers against their formulas in double, schedules, the order of windows, checkpoints. */
#include "harness.h"

#include <math.h>
#include <unistd.h>

#include "core/rng.h"
#include "core/threads.h"
#include "distill/order.h"
#include "distill/train.h"
#include "graph/exec.h"
#include "graph/grad.h"

#define N 40000 /* more than one run of the optimizer */

static const pare_optim base = {.steps = 100,
                                .warmup = 5,
                                .rate = 0.01,
                                .min_rate = 0.1,
                                .beta1 = 0.9,
                                .beta2 = 0.95,
                                .eps = 1e-8,
                                .momentum = 0.8,
                                .decay = 0.1,
                                .clip = 1};

static void fill(pare_rng *r, float *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = pare_rng_normal(r);
}

/* ---- optimizers ---- */

typedef struct model { /* in double */
    double w[N], m[N], v[N], ema[N];
} model;

static void step_in_double(const pare_optim *o, int64_t t, const float *g, double scale, model *x, bool decay) {
    double rate = pare_optim_rate(o, t), keep = fmin(o->ema, (1.0 + (double)t) / (10.0 + (double)t));
    for (size_t i = 0; i < N; i++) {
        double s = (double)g[i] * scale, step;
        if (o->kind == PARE_ADAMW) {
            x->m[i] = o->beta1 * x->m[i] + (1 - o->beta1) * s;
            x->v[i] = o->beta2 * x->v[i] + (1 - o->beta2) * s * s;
            step = x->m[i] / (1 - pow(o->beta1, (double)t + 1)) /
                   (sqrt(x->v[i] / (1 - pow(o->beta2, (double)t + 1))) + o->eps);
        } else step = x->v[i] = o->momentum * x->v[i] + s;
        x->w[i] -= rate * (step + (decay ? o->decay : 0) * x->w[i]);
        if (i % 7 == 3) x->w[i] = 0; /* masked */
        x->ema[i] = keep * x->ema[i] + (1 - keep) * x->w[i];
    }
}

static void one_optimizer(pare_optimizer kind) {
    static model x;
    static float w[2][N], grad[N];
    static uint8_t mask[N / 8 + 1];
    pare_optim o = base;
    o.kind = kind, o.ema = 0.99;
    for (int decay = 0; decay < 2; decay++) {
        pare_rng r;
        pare_rng_seed(&r, 5);
        fill(&r, w[0], N);
        memset(mask, 0, sizeof mask);
        for (size_t i = 3; i < N; i += 7) w[0][i] = 0, mask[i / 8] |= (uint8_t)(1u << i % 8);
        memcpy(w[1], w[0], sizeof *w);
        memset(&x, 0, sizeof x);
        for (size_t i = 0; i < N; i++) x.w[i] = x.ema[i] = (double)w[0][i];
        pare_trainer t[2];
        pare_param p[2];
        for (int k = 0; k < 2; k++) {
            p[k] = (pare_param){.name = "w", .w = w[k], .n = N, .decay = decay, .mask = mask};
            assert_int_equal(pare_trainer_open(&o, &p[k], 1, &t[k], NULL), PARE_OK);
        }
        for (int64_t step = 0; step < 12; step++) {
            const float *g = grad;
            double norm = 0;
            fill(&r, grad, N);
            for (size_t i = 0; i < N; i++) norm += i % 7 == 3 ? 0 : (double)grad[i] * (double)grad[i];
            for (int k = 0; k < 2; k++) { /* at one and two threads */
                pare_set_threads(k + 1);
                pare_trainer_add(&t[k], true, &g);
                assert_int_equal(pare_trainer_step(&t[k], 1.5, NULL, 0, NULL), PARE_OK);
            }
            assert_true(fabs(t[0].curve[step * PARE_CURVE + 1] - sqrt(norm)) < 1e-9 * sqrt(norm));
            step_in_double(&o, step, grad, 1 / sqrt(norm), &x, decay);
        }
        assert_memory_equal(w[0], w[1], sizeof *w);
        for (size_t i = 0; i < N; i++) {
            if (i % 7 == 3) assert_true(w[0][i] == 0);
            assert_true(fabs((double)w[0][i] - x.w[i]) < 2e-6);
            assert_true(fabs((double)p[0].ema[i] - x.ema[i]) < 2e-6);
        }
        pare_trainer_close(&t[0]);
        pare_trainer_close(&t[1]);
    }
    pare_set_threads(0);
}

static void optimizers(void **s) {
    one_optimizer(PARE_ADAMW);
    one_optimizer(PARE_SGD);
}

static void schedules(void **s) {
    pare_optim o = base;
    assert_true(fabs(pare_optim_rate(&o, 0) - 0.01 / 6) < 1e-12);
    assert_true(fabs(pare_optim_rate(&o, 5) - 0.01) < 1e-12);
    assert_true(fabs(pare_optim_rate(&o, 52) - 0.01 * (0.1 + 0.9 * 0.5)) < 1e-12); /* halfway down */
    assert_true(fabs(pare_optim_rate(&o, 99) - 0.001) < 1e-12);
    o.schedule = PARE_LINEAR;
    assert_true(fabs(pare_optim_rate(&o, 52) - 0.01 * 0.55) < 1e-12);
    o.schedule = PARE_CONSTANT;
    assert_true(fabs(pare_optim_rate(&o, 99) - 0.01) < 1e-12);
    pare_trainer t;
    pare_diag d = {0};
    o.warmup = 100;
    assert_int_equal(pare_trainer_open(&o, NULL, 0, &t, &d), PARE_ERR_USAGE);
    assert_string_equal(d.where, "--warmup");
}

/* What is not finite stops the run, says where, and changes nothing. */
static void not_finite(void **s) {
    float a[3] = {1, 2, 3}, b[2] = {4, 5}, ga[3] = {0}, gb[2] = {0, NAN};
    const float *g[] = {ga, gb};
    pare_param p[] = {{.name = "a", .w = a, .n = 3}, {.name = "b", .w = b, .n = 2}};
    pare_trainer t;
    pare_diag d = {0};
    assert_int_equal(pare_trainer_open(&base, p, 2, &t, NULL), PARE_OK);
    pare_trainer_add(&t, true, g);
    assert_int_equal(pare_trainer_step(&t, 1, NULL, 0, &d), PARE_ERR_INPUT);
    assert_string_equal(d.where, "b");
    assert_non_null(strstr(d.text, "step 1"));
    gb[1] = 0;
    memset(&d, 0, sizeof d);
    pare_trainer_add(&t, true, g);
    assert_int_equal(pare_trainer_step(&t, INFINITY, NULL, 0, &d), PARE_ERR_INPUT);
    assert_string_equal(d.where, "loss");
    assert_true(a[0] == 1 && b[1] == 5 && t.done == 0);
    pare_trainer_close(&t);
}

/* ---- order ---- */

static void every_window_once(void **s) {
    static uint8_t seen[1000];
    for (uint64_t n = 1; n <= 1000; n += n < 40 ? 1 : 157)
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            uint64_t in_place = 0;
            memset(seen, 0, sizeof seen);
            for (uint64_t i = 0; i < n; i++) {
                uint64_t w = pare_order_at(7, n, epoch * n + i);
                assert_true(w < n && !seen[w]);
                seen[w] = 1;
                in_place += w == i;
            }
            if (n > 100) assert_true(in_place < n / 10);
        }
    int differ = 0;
    for (uint64_t i = 0; i < 100; i++)
        differ += pare_order_at(7, 100, i) != pare_order_at(8, 100, i) &&
                  pare_order_at(7, 100, i) != pare_order_at(7, 100, 100 + i);
    assert_true(differ > 90);
}

/* ---- checkpoints ---- */

static const char path[] = "/tmp/pare-test-distill.pare-train";

typedef struct small {
    float w[3][5], g[3][5];
    pare_param p[3];
    pare_trainer t;
} small;

static pare_status open_small(small *x) {
    pare_optim o = base;
    o.ema = 0.9;
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 5; k++) x->w[i][k] = (float)(i - k);
        x->p[i] = (pare_param){.name = "p", .w = x->w[i], .n = 5, .decay = i == 1};
    }
    return pare_trainer_open(&o, x->p, 3, &x->t, NULL);
}

static void go(small *x, int steps) {
    for (int s = 0; s < steps; s++) {
        pare_rng r;
        pare_rng_seed(&r, (uint64_t)x->t.done);
        for (int i = 0; i < 3; i++) fill(&r, x->g[i], 5);
        pare_trainer_add(&x->t, true, (const float *const[]){x->g[0], x->g[1], x->g[2]});
        assert_int_equal(pare_trainer_step(&x->t, 0.5 * s, (double[]){1, 2}, 2, NULL), PARE_OK);
    }
}

static void goes_on_exactly(void **s) {
    static small a, b;
    bool found;
    unlink(path);
    assert_int_equal(open_small(&a), PARE_OK);
    assert_int_equal(open_small(&b), PARE_OK);
    assert_int_equal(pare_trainer_load(&b.t, 9, path, &found, NULL), PARE_OK);
    assert_false(found);
    go(&a, 7);
    assert_int_equal(pare_trainer_save(&a.t, 9, path, NULL), PARE_OK);
    go(&a, 6);
    assert_int_equal(pare_trainer_load(&b.t, 9, path, &found, NULL), PARE_OK);
    assert_true(found && b.t.done == 7);
    go(&b, 6);
    assert_memory_equal(a.w, b.w, sizeof a.w);
    assert_memory_equal(a.t.curve, b.t.curve, 7 * PARE_CURVE * sizeof(double));
    for (int i = 0; i < 3; i++) assert_memory_equal(a.p[i].ema, b.p[i].ema, sizeof a.w[i]);
    pare_trainer_close(&a.t);
    pare_trainer_close(&b.t);
}

static void damage(long at, bool cut) {
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    if (cut) assert_int_equal(ftruncate(fileno(f), at), 0);
    else {
        fseek(f, at, SEEK_SET);
        int c = fgetc(f);
        fseek(f, at, SEEK_SET);
        fputc(c ^ 1, f);
    }
    fclose(f);
}

static void what_is_no_checkpoint_of_ours(void **s) {
    static small a, fresh;
    bool found;
    assert_int_equal(open_small(&a), PARE_OK);
    assert_int_equal(open_small(&fresh), PARE_OK);
    go(&a, 3);
    assert_int_equal(pare_trainer_save(&a.t, 9, path, NULL), PARE_OK);
    assert_int_equal(pare_trainer_load(&fresh.t, 8, path, &found, NULL), PARE_ERR_EXISTS);
    FILE *f = fopen(path, "rb");
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    fclose(f);
    static const long places[] = {0, 24, 40, 60, 200, 300};
    for (size_t i = 0; i <= sizeof places / sizeof *places; i++) {
        bool cut = i == sizeof places / sizeof *places;
        assert_int_equal(pare_trainer_save(&a.t, 9, path, NULL), PARE_OK);
        damage(cut ? size - 1 : places[i], cut);
        assert_int_equal(pare_trainer_load(&fresh.t, 9, path, &found, NULL), PARE_ERR_INPUT);
        assert_false(found);
        for (int k = 0; k < 5; k++) assert_true(fresh.w[1][k] == (float)(1 - k)); /* untouched */
        assert_int_equal(fresh.t.done, 0);
    }
    pare_diag d = {0};
    assert_int_not_equal(pare_trainer_save(&a.t, 9, "/nonexistent/x", &d), PARE_OK);
    assert_non_null(strstr(d.text, "stays"));
    unlink(path);
    pare_trainer_close(&a.t);
    pare_trainer_close(&fresh.t);
}

static pare_status open_close(void *ctx) {
    static small a;
    memset(&a, 0, sizeof a);
    pare_status st = open_small(&a);
    pare_trainer_close(&a.t);
    return st;
}

static void allocation_failures(void **s) {
    pare_set_threads(1);
    harness_fail_every_alloc(open_close, NULL);
    pare_set_threads(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(optimizers),          cmocka_unit_test(schedules),
        cmocka_unit_test(not_finite),          cmocka_unit_test(every_window_once),
        cmocka_unit_test(goes_on_exactly),     cmocka_unit_test(what_is_no_checkpoint_of_ours),
        cmocka_unit_test(allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
