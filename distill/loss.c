/* SPDX-License-Identifier: Apache-2.0
 *
 * Losses in ONNX's words. */
#include "distill/loss_impl.h"

/* sum exp(p) (p - q) of logarithms */
static pare_value kl(pare_graph *g, pare_value log_p, pare_value log_q) {
    return pare_ln_sum_all(g, pare_ln_two(g, PARE_OP_Mul, pare_ln_one(g, PARE_OP_Exp, log_p),
                                          pare_ln_two(g, PARE_OP_Sub, log_p, log_q)));
}

pare_value pare_loss_divergence(pare_graph *g, pare_divergence kind, pare_value student, pare_value teacher,
                                float temperature) {
    pare_value s = pare_ln_log_softmax(g, pare_ln_times(g, student, 1 / temperature)),
               t = pare_ln_log_softmax(g, pare_ln_times(g, teacher, 1 / temperature)), loss;
    if (kind == PARE_JS) {
        pare_value both = pare_ln_two(g, PARE_OP_Add, pare_ln_one(g, PARE_OP_Exp, s), pare_ln_one(g, PARE_OP_Exp, t));
        pare_value m = pare_ln_one(g, PARE_OP_Log, pare_ln_times(g, both, 0.5f));
        loss = pare_ln_times(g, pare_ln_two(g, PARE_OP_Add, kl(g, t, m), kl(g, s, m)), 0.5f);
    } else loss = kind == PARE_KL_FORWARD ? kl(g, t, s) : kl(g, s, t);
    return pare_ln_times(g, loss, temperature * temperature);
}

pare_value pare_loss_cross_entropy(pare_graph *g, pare_value logits, pare_value labels) {
    const int64_t column[] = {-1, 1};
    const pare_attr_gather rows = {.axis = 0};
    pare_value p = pare_ln_log_softmax(g, logits);
    p = pare_ln_two(g, PARE_OP_Reshape, p, pare_graph_const_i64(g, "loss.column", 2, column));
    return pare_ln_times(g,
                         pare_ln_sum_all(g,
                                         pare_ln(g, PARE_OP_Gather, &rows, sizeof rows, 2, (pare_value[]){p, labels})),
                         -1);
}

/* Rows times their weights, where there are some. */
static pare_value weighted(pare_graph *g, pare_value rows, const pare_value *weights) {
    return weights ? pare_ln_two(g, PARE_OP_Mul, rows, *weights) : rows;
}

static pare_value mse(pare_graph *g, pare_value x, pare_value y, int64_t dim, const pare_value *weights) {
    pare_value d = pare_ln_two(g, PARE_OP_Sub, x, y);
    return pare_ln_times(g, pare_ln_sum_all(g, weighted(g, pare_ln_two(g, PARE_OP_Mul, d, d), weights)),
                         1 / (float)dim);
}

pare_value pare_loss_mse(pare_graph *g, pare_value x, pare_value y, int64_t dim) { return mse(g, x, y, dim, NULL); }
pare_value pare_loss_mse_rows(pare_graph *g, pare_value x, pare_value y, int64_t dim, pare_value weights) {
    return mse(g, x, y, dim, &weights);
}

static pare_value cosine(pare_graph *g, pare_value x, pare_value y, const pare_value *weights) {
    pare_value dot = pare_ln_sum_axis(g, pare_ln_two(g, PARE_OP_Mul, x, y), -1, true);
    pare_value c =
        pare_ln_two(g, PARE_OP_Div, dot, pare_ln_two(g, PARE_OP_Mul, pare_ln_length(g, x), pare_ln_length(g, y)));
    return pare_ln_sum_all(g, weighted(g, pare_ln_two(g, PARE_OP_Sub, pare_ln_number(g, 1), c), weights));
}

pare_value pare_loss_cosine(pare_graph *g, pare_value x, pare_value y) { return cosine(g, x, y, NULL); }
pare_value pare_loss_cosine_rows(pare_graph *g, pare_value x, pare_value y, pare_value weights) {
    return cosine(g, x, y, &weights);
}

pare_value pare_loss_pool(pare_graph *g, pare_value x, pare_value weights) {
    return pare_ln_sum_axis(g, pare_ln_two(g, PARE_OP_Mul, x, weights), 1, false);
}

pare_value pare_loss_total(pare_graph *g, int n, const pare_value *term, const float *weight, pare_value scale) {
    pare_value sum = PARE_NO_VALUE;
    for (int i = 0; i < n; i++) {
        pare_value x = pare_ln_times(g, term[i], weight[i]);
        sum = sum < 0 ? x : pare_ln_two(g, PARE_OP_Add, sum, x);
    }
    return pare_ln_two(g, PARE_OP_Mul, sum, scale);
}
