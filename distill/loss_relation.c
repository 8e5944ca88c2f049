/* SPDX-License-Identifier: Apache-2.0
 *
 * Losses on how things lie to one another: sentences of a batch, tokens of a sequence. */
#include "distill/loss_impl.h"

#include <math.h>

static pare_value cosines(pare_graph *g, pare_value x) {
    pare_value unit = pare_ln_unit(g, x);
    return pare_ln_two(g, PARE_OP_MatMul, unit, pare_ln_turned(g, unit, 2, (int[]){1, 0}));
}

pare_value pare_loss_similarity(pare_graph *g, pare_value x, pare_value y, pare_value each) {
    pare_value d = pare_ln_two(g, PARE_OP_Sub, cosines(g, x), cosines(g, y));
    return pare_ln_sum_all(g, pare_ln_two(g, PARE_OP_Mul, pare_ln_two(g, PARE_OP_Mul, d, d), each));
}

pare_value pare_loss_contrastive(pare_graph *g, pare_value x, pare_value self, pare_value partner, float temperature) {
    pare_value s = pare_ln_times(g, cosines(g, x), 1 / temperature);
    return pare_loss_cross_entropy(g, pare_ln_two(g, PARE_OP_Add, s, self), partner);
}

/* Logarithms [batch, heads, seq, seq]. */
static pare_value relations(pare_graph *g, pare_value x, int64_t dim, int64_t heads, pare_value mask) {
    const int64_t each = dim / heads, split[] = {0, 0, heads, each};
    pare_value h = pare_ln_two(g, PARE_OP_Reshape, x, pare_graph_const_i64(g, "loss.heads", 4, split));
    pare_value rows = pare_ln_turned(g, h, 4, (int[]){0, 2, 1, 3}),
               columns = pare_ln_turned(g, h, 4, (int[]){0, 2, 3, 1});
    rows = pare_ln_times(g, rows, 1 / sqrtf((float)each));
    return pare_ln_log_softmax(g, pare_ln_two(g, PARE_OP_Add, pare_ln_two(g, PARE_OP_MatMul, rows, columns), mask));
}

pare_value pare_loss_relation(pare_graph *g, pare_value x, int64_t x_dim, pare_value y, int64_t y_dim, int64_t heads,
                              pare_value mask, pare_value weights) {
    pare_value s = relations(g, x, x_dim, heads, mask), t = relations(g, y, y_dim, heads, mask);
    pare_value kl = pare_ln_two(g, PARE_OP_Mul, pare_ln_one(g, PARE_OP_Exp, t), pare_ln_two(g, PARE_OP_Sub, t, s));
    if (weights >= 0) { /* [batch, seq, 1] -> [batch, 1, seq] */
        kl = pare_ln_sum_axis(g, kl, -1, false);
        kl = pare_ln_two(g, PARE_OP_Mul, kl, pare_ln_turned(g, weights, 3, (int[]){0, 2, 1}));
    }
    return pare_ln_times(g, pare_ln_sum_all(g, kl), 1 / (float)heads);
}
