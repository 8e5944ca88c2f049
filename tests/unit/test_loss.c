/* SPDX-License-Identifier: Apache-2.0
 *
 * Losses against their definitions in double, and their gradients against central differences of these. */
#include "harness.h"

#include <math.h>

#include "core/rng.h"
#include "distill/loss.h"
#include "graph/exec.h"
#include "graph/grad.h"

static void fill(pare_rng *r, float *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = pare_rng_normal(r);
}

#define ROWS  3
#define VOCAB 7

static void log_softmax(const float *x, double t, double *out) {
    double max = -INFINITY, sum = 0;
    for (int i = 0; i < VOCAB; i++) max = fmax(max, (double)x[i] / t);
    for (int i = 0; i < VOCAB; i++) sum += exp((double)x[i] / t - max);
    for (int i = 0; i < VOCAB; i++) out[i] = (double)x[i] / t - max - log(sum);
}

enum { FORWARD, REVERSE, JS, CE, MSE, COSINE, KINDS };
static const int64_t label[ROWS] = {2, 6, 0};

static double by_definition(int kind, const float *x, const float *y) {
    double sum = 0, t = 1.5, s[VOCAB], p[VOCAB];
    for (int r = 0; r < ROWS; r++, x += VOCAB, y += VOCAB) {
        double dot = 0, xx = 0, yy = 0;
        log_softmax(x, kind == CE ? 1 : t, s);
        log_softmax(y, t, p);
        for (int i = 0; i < VOCAB; i++) {
            double m = log((exp(s[i]) + exp(p[i])) / 2), u = (double)x[i], v = (double)y[i];
            dot += u * v, xx += u * u, yy += v * v;
            if (kind == FORWARD) sum += t * t * exp(p[i]) * (p[i] - s[i]);
            if (kind == REVERSE) sum += t * t * exp(s[i]) * (s[i] - p[i]);
            if (kind == JS) sum += t * t / 2 * (exp(p[i]) * (p[i] - m) + exp(s[i]) * (s[i] - m));
            if (kind == CE && i == label[r]) sum -= s[i];
            if (kind == MSE) sum += (u - v) * (u - v) / VOCAB;
        }
        if (kind == COSINE) sum += 1 - dot / sqrt(xx * yy);
    }
    return sum;
}

static pare_value add_loss(pare_graph *g, int kind, pare_value x, pare_value y) {
    int64_t rows[ROWS], n = ROWS;
    for (int i = 0; i < ROWS; i++) rows[i] = i * VOCAB + label[i];
    pare_value labels = pare_graph_const_i64(g, "labels", (int)n, rows);
    return kind <= JS    ? pare_loss_divergence(g, (pare_divergence)kind, x, y, 1.5f)
           : kind == CE  ? pare_loss_cross_entropy(g, x, labels)
           : kind == MSE ? pare_loss_mse(g, x, y, VOCAB)
                         : pare_loss_cosine(g, x, y);
}

/* The loss and its gradient to x, computed. owns: pare_exec_close */
static pare_exec *run_with_gradient(pare_graph *g, pare_value loss, pare_value x, pare_value *grad) {
    const int64_t sym[PARE_SYM_COUNT] = {1, 1, 1};
    pare_exec *e = NULL;
    pare_diag d = {0};
    assert_int_equal(pare_grad_build(g, loss, 1, &x, NULL, grad, &d), PARE_OK);
    pare_graph_mark_output(g, loss);
    pare_graph_mark_output(g, *grad);
    assert_int_equal(pare_exec_open(g, NULL, &e, &d), PARE_OK);
    assert_int_equal(pare_exec_shape(e, sym, &d), PARE_OK);
    assert_int_equal(pare_exec_run(e, -1, NULL, 0, &d), PARE_OK);
    return e;
}

static void one_loss(int kind, pare_rng *r) {
    float x[ROWS * VOCAB], y[ROWS * VOCAB], scale = 0.5f, weight = 3;
    const int64_t shape[] = {ROWS, VOCAB};
    pare_graph *g = pare_graph_new();
    fill(r, x, ROWS * VOCAB);
    fill(r, y, ROWS * VOCAB);
    pare_tensor tx = pare_tensor_make(&pare_qtype_f32, 2, shape, x);
    pare_value vx = pare_graph_weight(g, "x", &tx), vy = pare_graph_const_f32(g, "y", 2, shape, y), grad;
    pare_value term = add_loss(g, kind, vx, vy);
    pare_value loss = pare_loss_total(g, 1, &term, &weight, pare_graph_const_f32(g, "scale", 0, NULL, &scale));
    pare_exec *e = run_with_gradient(g, loss, vx, &grad);
    double want = 1.5 * by_definition(kind, x, y), got = (double)*(float *)pare_exec_value(e, loss)->data;
    if (fabs(got - want) > 2e-6 * (1 + fabs(want))) fail_msg("loss %d: %g, expected %g", kind, got, want);
    float *dx = pare_exec_value(e, grad)->data;
    for (int i = 0; i < ROWS * VOCAB; i++) {
        float keep = x[i], above = keep + 0x1p-13f;
        x[i] = above;
        double up = by_definition(kind, x, y);
        x[i] = keep - 0x1p-13f;
        double slope = 1.5 * (up - by_definition(kind, x, y)) / ((double)above - (double)x[i]);
        x[i] = keep;
        if (fabs((double)dx[i] - slope) > 5e-6 * (1 + fabs(slope)))
            fail_msg("loss %d, element %d: slope %g, expected %g", kind, i, (double)dx[i], slope);
    }
    pare_exec_close(&e);
    pare_graph_free(&g);
}

/* ---- how rows lie to one another, by its definitions ---- */

enum { BATCH = 2, SEQ = 3, MINE = 4, THEIRS = 6, HEADS = 2 };
static const float seen[BATCH] = {3, 2}; /* tokens of each sequence */
#define WARMTH 0.25F
typedef enum way { RELATION, SIMILARITY, CONTRASTIVE, WAYS } way;

/* log softmax of row i of sequence b, head h */
static void relation_row(const float *x, int dim, int b, int h, int i, double out[SEQ]) {
    double sum = 0;
    int each = dim / HEADS, n = (int)seen[b];
    for (int j = 0; j < n; j++) {
        const float *p = x + (b * SEQ + i) * dim + h * each, *q = x + (b * SEQ + j) * dim + h * each;
        out[j] = 0;
        for (int k = 0; k < each; k++) out[j] += (double)p[k] * (double)q[k] / sqrt(each);
        sum += exp(out[j]);
    }
    for (int j = 0; j < n; j++) out[j] -= log(sum);
}

static double relation_by_definition(const float *x, const float *y) {
    double sum = 0, s[SEQ], t[SEQ];
    for (int b = 0; b < BATCH; b++)
        for (int h = 0; h < HEADS; h++)
            for (int i = 0; i < (int)seen[b]; i++) {
                relation_row(x, MINE, b, h, i, s);
                relation_row(y, THEIRS, b, h, i, t);
                for (int j = 0; j < (int)seen[b]; j++) sum += exp(t[j]) * (t[j] - s[j]) / (double)seen[b] / HEADS;
            }
    return sum;
}

static double row_cosine(const float *x, int dim, int i, int j) {
    double xy = 0, xx = 0, yy = 0;
    for (int k = 0; k < dim; k++) {
        double p = (double)x[i * dim + k], q = (double)x[j * dim + k];
        xy += p * q, xx += p * p, yy += q * q;
    }
    return xy / sqrt(xx * yy);
}

static double similarity_by_definition(const float *x, const float *y) {
    double sum = 0;
    for (int i = 0; i < BATCH * SEQ; i++)
        for (int j = 0; j < BATCH * SEQ; j++)
            sum += pow(row_cosine(x, MINE, i, j) - row_cosine(y, THEIRS, i, j), 2) / (BATCH * SEQ);
    return sum;
}

static double contrastive_by_definition(const float *x, const float *y) {
    double sum = 0;
    (void)y;
    for (int i = 0; i < BATCH * SEQ; i++) {
        double all = 0, partner = row_cosine(x, MINE, i, i ^ 1) / (double)WARMTH;
        for (int j = 0; j < BATCH * SEQ; j++)
            if (j != i) all += exp(row_cosine(x, MINE, i, j) / (double)WARMTH);
        sum += log(all) - partner;
    }
    return sum;
}

static pare_value add_relation(pare_graph *g, pare_value x, pare_value y) {
    float mask[BATCH * SEQ], weight[BATCH * SEQ];
    for (int i = 0; i < BATCH * SEQ; i++) {
        bool in = (float)(i % SEQ) < seen[i / SEQ];
        mask[i] = in ? 0 : -1e9F, weight[i] = in ? 1 / seen[i / SEQ] : 0;
    }
    return pare_loss_relation(g, x, MINE, y, THEIRS, HEADS,
                              pare_graph_const_f32(g, "mask", 4, (int64_t[]){BATCH, 1, 1, SEQ}, mask),
                              pare_graph_const_f32(g, "weight", 3, (int64_t[]){BATCH, SEQ, 1}, weight));
}

static pare_value add_contrastive(pare_graph *g, pare_value x) {
    enum { N = BATCH * SEQ };
    float self[N * N] = {0};
    int64_t partner[N];
    for (int i = 0; i < N; i++) self[i * N + i] = -1e9F, partner[i] = i * N + (i ^ 1);
    return pare_loss_contrastive(g, x, pare_graph_const_f32(g, "self", 2, (int64_t[]){N, N}, self),
                                 pare_graph_const_i64(g, "partner", N, partner), WARMTH);
}

static void one_way(way kind, pare_rng *r) {
    static double (*const definitions[WAYS])(const float *, const float *) = {relation_by_definition,
                                                                              similarity_by_definition,
                                                                              contrastive_by_definition};
    float x[BATCH * SEQ * MINE], y[BATCH * SEQ * THEIRS], one = 1, each = 1.0F / (BATCH * SEQ);
    double (*definition)(const float *, const float *) = definitions[kind];
    bool relation = kind == RELATION;
    const int64_t of_x[] = {BATCH, SEQ, MINE}, of_y[] = {BATCH, SEQ, THEIRS}, rows_x[] = {BATCH * SEQ, MINE},
                  rows_y[] = {BATCH * SEQ, THEIRS};
    pare_graph *g = pare_graph_new();
    fill(r, x, BATCH * SEQ * MINE);
    fill(r, y, BATCH * SEQ * THEIRS);
    pare_tensor tx = pare_tensor_make(&pare_qtype_f32, relation ? 3 : 2, relation ? of_x : rows_x, x);
    pare_value vx = pare_graph_weight(g, "x", &tx), grad,
               vy = pare_graph_const_f32(g, "y", relation ? 3 : 2, relation ? of_y : rows_y, y);
    pare_value term = relation ? add_relation(g, vx, vy)
                      : kind == SIMILARITY
                          ? pare_loss_similarity(g, vx, vy, pare_graph_const_f32(g, "each", 0, NULL, &each))
                          : add_contrastive(g, vx);
    pare_value loss = pare_loss_total(g, 1, &term, &one, pare_graph_const_f32(g, "scale", 0, NULL, &one));
    pare_exec *e = run_with_gradient(g, loss, vx, &grad);
    double want = definition(x, y), got = (double)*(float *)pare_exec_value(e, loss)->data;
    if (fabs(got - want) > 2e-6 * (1 + fabs(want))) fail_msg("way %d: %g, expected %g", kind, got, want);
    float *dx = pare_exec_value(e, grad)->data;
    for (int i = 0; i < BATCH * SEQ * MINE; i++) {
        float keep = x[i], above = keep + 0x1p-13F;
        x[i] = above;
        double up = definition(x, y);
        x[i] = keep - 0x1p-13F;
        double slope = (up - definition(x, y)) / ((double)above - (double)x[i]);
        x[i] = keep;
        if (fabs((double)dx[i] - slope) > 1e-5 * (1 + fabs(slope)))
            fail_msg("way %d, element %d: slope %g, expected %g", kind, i, (double)dx[i], slope);
    }
    pare_exec_close(&e);
    pare_graph_free(&g);
}

static void losses_of_many_rows(void **s) {
    pare_rng r;
    pare_rng_seed(&r, 4);
    for (int round = 0; round < 5; round++)
        for (int kind = 0; kind < WAYS; kind++) one_way((way)kind, &r);
}

static void losses(void **s) {
    pare_rng r;
    pare_rng_seed(&r, 3);
    for (int round = 0; round < 5; round++)
        for (int kind = 0; kind < KINDS; kind++) one_loss(kind, &r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(losses),
        cmocka_unit_test(losses_of_many_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
