/* SPDX-License-Identifier: Apache-2.0
 *
 * Losses as graphs. Each is a sum over rows (positions of all sequences), one number without dimensions; the trainer
 * multiplies by one over the rows of the whole step, so that steps cut into parts have the same loss and gradient.
 *
 * fails:  PARE_NO_VALUE when the graph is out of memory or an operand is absent (pare_graph_status says so) */
#ifndef PARE_DISTILL_LOSS_H
#define PARE_DISTILL_LOSS_H

#include "graph/graph.h"

/* Which way the divergence of student S from teacher T is taken (Hinton et al. 2015; Gu et al. 2023, MiniLLM; Agarwal
 * et al. 2023, GKD): FORWARD  KL(T || S), covers what the teacher may say      REVERSE  KL(S || T), avoids what it
 * would not JS       (KL(T || M) + KL(S || M)) / 2, M their mean */
typedef enum pare_divergence { PARE_KL_FORWARD, PARE_KL_REVERSE, PARE_JS } pare_divergence;

/* Of distributions softmax(logits / temperature), times temperature squared, so that gradients keep their size (Hinton
 * et al. 2015, section 2.1). logits [.., vocab] of both. */
pare_value pare_loss_divergence(pare_graph *g, pare_divergence kind, pare_value student, pare_value teacher,
                                float temperature);
/* -log p(label). labels: i64 [n], element row * vocab + label for each row that counts. */
pare_value pare_loss_cross_entropy(pare_graph *g, pare_value logits, pare_value labels);
/* Mean over a row's elements of (x - y)^2. dim: elements of a row. */
pare_value pare_loss_mse(pare_graph *g, pare_value x, pare_value y, int64_t dim);
/* 1 - cosine of a row of x and y. */
pare_value pare_loss_cosine(pare_graph *g, pare_value x, pare_value y);
/* The same of rows [batch, seq, dim] that count by weights [batch, seq, 1]. */
pare_value pare_loss_mse_rows(pare_graph *g, pare_value x, pare_value y, int64_t dim, pare_value weights);
pare_value pare_loss_cosine_rows(pare_graph *g, pare_value x, pare_value y, pare_value weights);
/* x [batch, seq, dim] -> [batch, dim]: sums of rows times weights [batch, seq, 1] (one over a sequence's length for its
 * tokens, 0 for padding: mean pooling). */
pare_value pare_loss_pool(pare_graph *g, pare_value x, pare_value weights);
/* (cos(x_i, x_j) - cos(y_i, y_j))^2, over i the sum and over j the mean: who is like whom. x [batch, n], y [batch, m];
 * each: a number, one over the batch. (Similarity-preserving distillation, Tung and Mori 2019, with cosines.) */
pare_value pare_loss_similarity(pare_graph *g, pare_value x, pare_value y, pare_value each);
/* Each row of x [batch, n] has a partner that means the same, all others something else: the sum over i of -log
 * softmax_j(cos(x_i, x_j) / temperature) at the partner, over all j but i (NT-Xent: Chen et al. 2020, SimCLR, equation
 * 1). self [batch, batch]: large and negative on the diagonal, else 0. partner: i64 [batch], element row * batch +
 * partner. */
pare_value pare_loss_contrastive(pare_graph *g, pare_value x, pare_value self, pare_value partner, float temperature);
/* KL(R(y) || R(x)), R(x) = softmax(x_h x_h' / sqrt(d) + mask) for each relation head h: the sum over rows, the mean
 * over heads (MiniLMv2, Wang et al. 2021, equation 5). x [batch, seq, heads * d], y likewise with a d of its own:
 * widths and numbers of heads may differ. mask [.., seq] is added to the relations: large and negative for what no row
 * sees. weights [batch, seq, 1] of rows, or PARE_NO_VALUE. */
pare_value pare_loss_relation(pare_graph *g, pare_value x, int64_t x_dim, pare_value y, int64_t y_dim, int64_t heads,
                              pare_value mask, pare_value weights);
/* sum_i weight[i] term[i], times scale (a value of one number). */
pare_value pare_loss_total(pare_graph *g, int n, const pare_value *term, const float *weight, pare_value scale);

#endif
