/* SPDX-License-Identifier: Apache-2.0
 *
 * Gradients are graphs: reverse accumulation (Griewank and Walther, Evaluating Derivatives, 2008, algorithm 3.2) as
 * ordinary nodes behind the forward ones, so that the same executor, planner and backends run them. Rules are listed in
 * graph/grad_rules.def, one per operator.
 *
 * op:     out[i] = d loss / d wanted[i]
 * shape:  loss has one element; out[i] has the shape of wanted[i] (of a `transposed` weight: the stored one)
 * layout: backward stages follow the forward ones in reverse order, each named "grad." and its stage; a loss that is
 *         made in the last stage keeps that stage's values
 * pre:    nodes up to the loss are there; symbols stand for sizes that are not 1 everywhere (a dimension that
 *         broadcasts is a number). Weights of the same memory and format are one variable: their gradients are added,
 *         and each of them, when wanted, has the sum
 * equal:  the gradient of the function that the graph computes, each operator's to f32 rounding
 * fails:  PARE_ERR_UNSUPPORTED naming the node whose operator has no rule, or has one not for these operands;
 *         PARE_ERR_INPUT when shapes do not fit; PARE_ERR_NOMEM. A graph so left half-made is of no use
 * owns:   the graph owns what is added; outputs are not marked as graph outputs */
#ifndef PARE_GRAPH_GRAD_H
#define PARE_GRAPH_GRAD_H

#include "graph/graph.h"

typedef struct pare_grad_opts {
    /* Activation checkpointing (Chen et al. 2016): only what crosses stages is kept until the backward pass; the rest
     * of a stage is computed again in its backward stage. One more forward pass, memory of one stage. */
    bool recompute;
} pare_grad_opts;

/* opts NULL: none. out[i] is PARE_NO_VALUE where the loss does not depend on wanted[i]. */
pare_status pare_grad_build(pare_graph *g, pare_value loss, int n, const pare_value *wanted, const pare_grad_opts *opts,
                            pare_value *out, pare_diag *d);

#endif
