/* SPDX-License-Identifier: Apache-2.0
 *
 * graph/: gradients of every operator that has one, on random shapes, against central differences of fourth order (the
 * loss summed in double); the same bytes at 1 and 2 threads, when a stage is computed again, on a device with memory of
 * its own and left by it to the CPU; refusals; allocation failures at every point. */
#include "far_device.h"

#include <math.h>

#include "core/status.h"
#include "core/threads.h"
#include "grad_cases.h"
#include "graph/exec.h"
#include "graph/grad.h"

#define SEEDS 8

static const int64_t sym[PARE_SYM_COUNT] = {1, 1, 1};

static pare_exec *opened_on(pare_graph *g, const pare_backend *be) {
    pare_exec *e = NULL;
    pare_diag d = {0};
    const pare_exec_opts opts = {.backend = be};
    if (pare_graph_status(g, &d) != PARE_OK || pare_exec_open(g, &opts, &e, &d) != PARE_OK ||
        pare_exec_shape(e, sym, &d) != PARE_OK)
        fail_msg("%s: %s", d.where, d.text);
    return e;
}

static pare_exec *opened(pare_graph *g) { return opened_on(g, NULL); }

static void run(pare_exec *e) {
    pare_diag d = {0};
    if (pare_exec_run(e, -1, NULL, 0, &d) != PARE_OK) fail_msg("%s: %s", d.where, d.text);
}

/* The result's shape, from a run without gradients; r gets as many random weights. */
static pare_tensor weights_for(size_t which, uint64_t seed, float **r) {
    gc c;
    pare_value y = gc_make(&c, which, seed);
    pare_graph_mark_output(c.g, y);
    pare_exec *e = opened(c.g);
    run(e);
    pare_tensor t = *pare_exec_value(e, y);
    int64_t n = pare_tensor_elems(&t);
    *r = malloc((size_t)n * sizeof **r);
    for (int64_t i = 0; i < n; i++) (*r)[i] = -1 + 2 * (float)pare_rng_unit(&c.rng);
    pare_exec_close(&e);
    pare_graph_free(&c.g);
    return t;
}

/* sum(y r), with its gradients as outputs. */
static pare_status with_loss(gc *c, pare_value y, const pare_tensor *shape, const float *r, bool recompute,
                             pare_value *grad, pare_diag *d) {
    const pare_grad_opts opts = {recompute};
    pare_value wanted[16], out[16];
    int n = 0;
    pare_graph_stage(c->g, "loss");
    pare_value w = pare_graph_const_f32(c->g, "r", shape->ndim, shape->shape, r);
    pare_value loss = gc_1(c, PARE_OP_ReduceSum, gc_2(c, PARE_OP_Mul, y, w));
    for (int i = 0; i < c->n; i++)
        if (c->wanted[i]) wanted[n++] = c->var[i];
    PARE_TRY(pare_grad_build(c->g, loss, n, wanted, &opts, out, d));
    n = 0;
    for (int i = 0; i < c->n; i++) {
        grad[i] = c->wanted[i] ? out[n++] : PARE_NO_VALUE;
        if (grad[i] >= 0) pare_graph_mark_output(c->g, grad[i]);
    }
    return pare_graph_status(c->g, d);
}

static float *analytic(size_t which, uint64_t seed, const pare_tensor *shape, const float *r, bool recompute,
                       const pare_backend *be, size_t *n) {
    gc c;
    pare_diag d = {0};
    pare_value grad[16], y = gc_make(&c, which, seed);
    if (with_loss(&c, y, shape, r, recompute, grad, &d) != PARE_OK) fail_msg("%s: %s", gc_cases[which].name, d.text);
    pare_exec *e = opened_on(c.g, be);
    run(e);
    float *all = NULL;
    *n = 0;
    for (int i = 0; i < c.n; i++) {
        if (!c.wanted[i]) continue;
        const pare_tensor *t = pare_exec_value(e, grad[i]);
        size_t m = (size_t)pare_tensor_elems(&c.t[i]);
        assert_non_null(t);
        assert_int_equal(t->ndim, c.t[i].ndim);
        for (int k = 0; k < t->ndim; k++) assert_int_equal(t->shape[k], c.t[i].shape[k]);
        all = realloc(all, (*n + m) * sizeof *all);
        memcpy(all + *n, t->data, m * sizeof *all);
        *n += m;
    }
    pare_exec_close(&e);
    pare_graph_free(&c.g);
    return all;
}

static double loss_at(pare_exec *e, pare_value y, const float *r) {
    run(e);
    const pare_tensor *t = pare_exec_value(e, y);
    double sum = 0;
    for (int64_t i = 0; i < pare_tensor_elems(t); i++) sum += (double)((float *)t->data)[i] * (double)r[i];
    return sum;
}

static void numeric(size_t which, uint64_t seed, const float *r, const float *want, size_t n) {
    gc c;
    pare_value y = gc_make(&c, which, seed);
    pare_graph_mark_output(c.g, y);
    pare_exec *e = opened(c.g);
    size_t at = 0;
    for (int i = 0; i < c.n; i++) {
        if (!c.wanted[i]) continue;
        for (int64_t k = 0; k < pare_tensor_elems(&c.t[i]); k++, at++) {
            float *x = (float *)c.t[i].data + k, x0 = *x, h = 0x1p-5f;
            double f[4];
            static const float steps[4] = {-2, -1, 1, 2};
            for (int j = 0; j < 4; j++) {
                *x = x0 + steps[j] * h;
                f[j] = loss_at(e, y, r);
            }
            *x = x0;
            double slope = (8 * (f[2] - f[1]) - (f[3] - f[0])) / (12 * (double)h);
            assert_true(at < n);
            if (fabs(slope - (double)want[at]) > 2e-4 * (1 + fabs(slope)) + 5e-5 * sqrt((double)n))
                fail_msg("%s, seed %llu, operand %d, element %lld: %g, differences say %g", gc_cases[which].name,
                         (unsigned long long)seed, i, (long long)k, (double)want[at], slope);
        }
    }
    assert_int_equal(at, n);
    pare_exec_close(&e);
    pare_graph_free(&c.g);
}

static void one_case(size_t which, uint64_t seed) {
    static const char *const how[] = {"", "at two threads", "when computed again", "on a device", "left to the CPU"};
    float *r, *g[5];
    size_t n[5];
    pare_tensor shape = weights_for(which, seed, &r);
    for (int i = 0; i < 5; i++) {
        pare_set_threads(i == 1 ? 2 : 1);
        for (int op = 0; op < PARE_OP_COUNT; op++) far.refuses[op] = i == 4;
        g[i] = analytic(which, seed, &shape, r, i == 2, i < 3 ? NULL : &far_device, &n[i]);
    }
    pare_set_threads(0);
    for (int i = 1; i < 5; i++) {
        assert_int_equal(n[i], n[0]);
        if (memcmp(g[0], g[i], n[0] * sizeof **g) != 0)
            fail_msg("%s, seed %llu: other bytes %s", gc_cases[which].name, (unsigned long long)seed, how[i]);
    }
    numeric(which, seed, r, g[0], n[0]);
    for (int i = 0; i < 5; i++) free(g[i]);
    free(r);
}

static void differences(void **s) {
    for (size_t which = 0; which < GC_COUNT; which++)
        for (uint64_t seed = 1; seed <= SEEDS; seed++) one_case(which, seed);
}

/* ---- what cannot be differentiated is said, with the node's name ---- */

static void refused(void **s) {
    pare_diag d = {0};
    pare_graph *g = pare_graph_new();
    const int64_t dims[] = {2, 3}, one[] = {1}, two[] = {2}, first[] = {0};
    float data[6] = {0};
    pare_value w = pare_graph_const_f32(g, "w", 2, dims, data), out;
    pare_value in[] = {w, pare_graph_const_i64(g, "a", 1, first), pare_graph_const_i64(g, "b", 1, one)};
    pare_value y = pare_graph_node(g, PARE_OP_Slice, "cut", NULL, 0, 3, in, 1);
    pare_value loss = pare_graph_node(g, PARE_OP_ReduceSum, "sum", NULL, 0, 1, &y, 1);
    assert_int_equal(pare_grad_build(g, y, 1, &w, NULL, &out, &d), PARE_ERR_INPUT); /* three numbers are no loss */
    assert_int_equal(pare_grad_build(g, loss, 1, &w, NULL, &out, &d), PARE_ERR_UNSUPPORTED);
    assert_string_equal(d.where, "cut");
    assert_int_equal(pare_grad_build(g, 99, 1, &w, NULL, &out, &d), PARE_ERR_INPUT);
    pare_graph_free(&g);
    g = pare_graph_new();
    w = pare_graph_const_f32(g, "w", 2, dims, data);
    pare_value other = pare_graph_const_f32(g, "v", 1, two, data);
    loss = pare_graph_node(g, PARE_OP_ReduceSum, "sum", NULL, 0, 1, &other, 1);
    assert_int_equal(pare_grad_build(g, loss, 1, &w, NULL, &out, &d), PARE_OK);
    assert_int_equal(out, PARE_NO_VALUE); /* the loss does not depend on it */
    pare_graph_free(&g);
}

static size_t failing;
static pare_status build_all(void *ctx) {
    gc c;
    pare_diag d = {0};
    pare_value grad[16], y;
    static const float r[4096];
    memset(&c, 0, sizeof c);
    pare_rng_seed(&c.rng, failing);
    if (!(c.g = pare_graph_new())) return PARE_ERR_NOMEM;
    y = gc_Tied(&c);
    pare_status st = pare_graph_status(c.g, &d);
    const pare_tensor scalar = pare_tensor_make(&pare_qtype_f32, 0, NULL, NULL);
    if (st == PARE_OK) st = with_loss(&c, y, &scalar, r, true, grad, &d);
    pare_graph_free(&c.g);
    return st;
}

static void allocation_failures(void **s) {
    pare_set_threads(1);
    for (failing = 1; failing < 3; failing++) harness_fail_every_alloc(build_all, NULL);
    pare_set_threads(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(differences),
        cmocka_unit_test(refused),
        cmocka_unit_test(allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
