/* SPDX-License-Identifier: Apache-2.0
 *
 * Finding linear layers and what they add to (calib/linears.h). */
#include "calib/linears.h"

#include "core/status.h"

#include <stdlib.h>

static bool is_weight(const pare_graph *g, pare_value v) { return v >= 0 && g->values[v].kind == PARE_VALUE_WEIGHT; }

static int uses(const pare_graph *g, pare_value v) {
    int n = 0;
    for (size_t i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_in; k++) n += g->nodes[i].in[k] == v;
    return n;
}

/* The only node that reads v, or -1. */
static int reader(const pare_graph *g, pare_value v) {
    int found = -1;
    for (size_t i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_in; k++) {
            if (g->nodes[i].in[k] != v) continue;
            if (found >= 0) return -1;
            found = (int)i;
        }
    return found;
}

/* x + linear(..), possibly with a bias in between: x. */
static pare_value residual_of(const pare_graph *g, pare_value out) {
    for (int hops = 0; hops < 2; hops++) {
        int i = reader(g, out);
        if (i < 0 || g->nodes[i].op != PARE_OP_Add || g->nodes[i].n_in != 2) return PARE_NO_VALUE;
        pare_value other = g->nodes[i].in[g->nodes[i].in[0] == out];
        if (!is_weight(g, other)) return other;
        out = g->nodes[i].out[0];
    }
    return PARE_NO_VALUE;
}

static bool is_linear(const pare_graph *g, const pare_graph_node_t *n) {
    if (n->op != PARE_OP_MatMul || n->n_in != 2 || !is_weight(g, n->in[1])) return false;
    const pare_tensor *w = &g->values[n->in[1]].tensor;
    return w->transposed && w->ndim == 2 && !is_weight(g, n->in[0]) && uses(g, n->in[1]) == 1;
}

static int by_order(const void *a, const void *b) {
    const pare_linear *x = a, *y = b;
    if (x->stage != y->stage) return x->stage < y->stage ? -1 : 1;
    if (x->group != y->group) return x->group < y->group ? -1 : 1;
    return x->node < y->node ? -1 : x->node > y->node;
}

pare_status pare_linears_find(const pare_graph *g, pare_linears *out, pare_diag *d) {
    size_t n = 0;
    *out = (pare_linears){0};
    for (size_t i = 0; i < g->n_nodes; i++) n += is_linear(g, &g->nodes[i]);
    out->v = pare_calloc(n ? n : 1, sizeof *out->v);
    if (!out->v) return pare_fail(d, PARE_ERR_NOMEM, NULL, "calibration", "no memory for the list of linear layers");
    int groups = 0;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pare_graph_node_t *node = &g->nodes[i];
        if (!is_linear(g, node)) continue;
        const pare_tensor *w = &g->values[node->in[1]].tensor;
        pare_linear *l = &out->v[out->n];
        *l = (pare_linear){.name = g->values[node->in[1]].name,
                           .node = (int)i,
                           .stage = node->stage,
                           .weight = node->in[1],
                           .input = node->in[0],
                           .residual = residual_of(g, node->out[0]),
                           .group = -1,
                           .rows = w->shape[0],
                           .cols = w->shape[1]};
        for (size_t k = 0; k < out->n && l->group < 0; k++)
            if (out->v[k].stage == l->stage && out->v[k].input == l->input) l->group = out->v[k].group;
        if (l->group < 0) l->group = groups++;
        out->n++;
    }
    qsort(out->v, out->n, sizeof *out->v, by_order);
    int stage = -1, last = -1, k = -1; /* numbers from 0 in each stage */
    for (size_t i = 0; i < out->n; i++) {
        pare_linear *l = &out->v[i];
        if (l->stage != stage) stage = l->stage, last = -1, k = -1;
        if (l->group != last) last = l->group, k++;
        l->group = k;
    }
    return PARE_OK;
}

void pare_linears_free(pare_linears *l) {
    pare_free(l->v);
    *l = (pare_linears){0};
}
