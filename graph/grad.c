/* SPDX-License-Identifier: Apache-2.0
 *
 * The walk: which values matter, their ranks, then the nodes in reverse, stage by stage. */
#include "graph/grad_impl.h"

#include "core/status.h"
#include "graph/shape.h"

#include <stdio.h>
#include <string.h>

static pare_grad_rule *const rules[PARE_OP_COUNT] = {
#define PARE_GRAD(op, rule) [PARE_OP_##op] = pare_grad_of_##rule,
#include "graph/grad_rules.def"
#undef PARE_GRAD
};

static void release(pare_grad *b) {
    pare_free(b->shapes);
    pare_free(b->needed);
    pare_free(b->home);
    pare_free(b->sum);
    pare_free(b->again);
}

static pare_status take(pare_grad *b, pare_graph *g) {
    size_t n = g->n_values + 1;
    b->g = g;
    b->n_values = g->n_values;
    b->shapes = pare_calloc(n, sizeof *b->shapes);
    b->needed = pare_calloc(n, sizeof *b->needed);
    b->home = pare_calloc(n, sizeof *b->home);
    b->sum = pare_calloc(n, sizeof *b->sum);
    b->again = pare_calloc(n, sizeof *b->again);
    if (!b->shapes || !b->needed || !b->home || !b->sum || !b->again) return PARE_ERR_NOMEM;
    for (size_t v = 0; v < g->n_values; v++) b->home[v] = (pare_value)v, b->sum[v] = b->again[v] = PARE_NO_VALUE;
    return PARE_OK;
}

/* Quadratic in the number of weights, which is small. */
static void find_homes(pare_grad *b) {
    const pare_graph_value *v = b->g->values;
    for (size_t i = 0; i < b->n_values; i++)
        for (size_t k = 0; v[i].kind == PARE_VALUE_WEIGHT && k < i; k++)
            if (v[k].kind == PARE_VALUE_WEIGHT && v[k].tensor.data == v[i].tensor.data &&
                v[k].tensor.type == v[i].tensor.type && pare_tensor_bytes(&v[k].tensor)) {
                b->home[i] = (pare_value)k;
                break;
            }
}

/* Sizes to tell broadcasting from chance: no two alike, none of them 1. */
static pare_status infer(pare_grad *b, pare_diag *d) {
    static const int64_t sizes[PARE_SYM_COUNT] = {2, 3, 5};
    const pare_graph *g = b->g;
    int64_t(*dims)[PARE_MAX_DIMS] = pare_calloc(g->n_nodes + 1, sizeof *dims);
    pare_status s = dims ? PARE_OK : PARE_ERR_NOMEM;
    for (size_t v = 0; v < b->n_values; v++) {
        b->shapes[v] = g->values[v].tensor;
        for (int k = 0; k < b->shapes[v].ndim; k++)
            if (b->shapes[v].shape[k] < 0) b->shapes[v].shape[k] = sizes[-b->shapes[v].shape[k] - 1];
    }
    for (size_t i = 0; s == PARE_OK && i < g->n_nodes; i++) {
        const pare_graph_node_t *n = &g->nodes[i];
        pare_op_call c = {.op = n->op, .attr = n->attr, .n_in = n->n_in, .n_out = n->n_out};
        pare_diag why = {0};
        for (int k = 0; k < n->n_in; k++) c.in[k] = n->in[k] < 0 ? NULL : &b->shapes[n->in[k]];
        for (int k = 0; k < n->n_out; k++) c.out[k] = &b->shapes[n->out[k]];
        s = pare_infer_shapes(&c, &why);
        if (s != PARE_OK) pare_fail(d, s, NULL, n->name, "%s", why.text);
        if (s == PARE_OK && n->op == PARE_OP_Shape) {
            pare_shape_extent(&c, dims[i]);
            c.out[0]->data = dims[i];
        }
    }
    for (size_t v = 0; v < b->n_values; v++)
        if (g->values[v].kind == PARE_VALUE_NODE) b->shapes[v].data = NULL;
    pare_free(dims);
    return s;
}

/* What depends on something wanted; whole numbers have no gradient. */
static void find_needed(pare_grad *b, int n, const pare_value *wanted) {
    for (size_t v = 0; v < b->n_values; v++)
        for (int i = 0; i < n; i++)
            if (b->home[wanted[i]] == b->home[v]) b->needed[v] = true;
    for (size_t i = 0; i < b->g->n_nodes; i++) {
        const pare_graph_node_t *node = &b->g->nodes[i];
        bool any = false;
        for (int k = 0; k < node->n_in; k++) any |= node->in[k] >= 0 && b->needed[node->in[k]];
        if (node->op == PARE_OP_Shape) any = false;
        for (int k = 0; k < node->n_out; k++)
            b->needed[node->out[k]] |= any && b->shapes[node->out[k]].type == &pare_qtype_f32;
    }
}

static void one_node(pare_grad *b, int i) {
    const pare_graph_node_t n = b->g->nodes[i]; /* a copy: the array grows */
    b->what = n.name;
    for (int k = 1; k < n.n_out; k++)
        if (b->sum[n.out[k]] >= 0) pare_grad_refuse(b, "its second output is used");
    if (!rules[n.op]) pare_grad_refuse(b, "the operator has no gradient here");
    else if (b->status == PARE_OK) rules[n.op](b, &n, b->sum[n.out[0]]);
}

static bool has_gradient(const pare_grad *b, const pare_graph_node_t *n) {
    for (int k = 0; k < n->n_out; k++)
        if (b->needed[n->out[k]] && b->sum[n->out[k]] >= 0) return true;
    return false;
}

/* Forward nodes last .. 0, in reverse; a backward stage begins where a forward one ends. */
static void walk(pare_grad *b, int last) {
    int last_stage = b->g->nodes[last].stage;
    b->stage = -1;
    for (int i = last; i >= 0 && b->status == PARE_OK && b->g->status == PARE_OK; i--) {
        const pare_graph_node_t *n = &b->g->nodes[i];
        if (!has_gradient(b, n)) continue;
        if (n->stage != b->stage) {
            char name[200];
            int end;
            b->stage = n->stage;
            pare_graph_stage_range(b->g, b->stage, &b->stage_first, &end);
            for (size_t v = 0; v < b->n_values; v++) b->again[v] = PARE_NO_VALUE;
            snprintf(name, sizeof name, "grad.%s", pare_graph_stage_name(b->g, b->stage));
            pare_graph_stage(b->g, name);
        }
        if (b->stage == last_stage) b->stage_first = last + 1; /* just computed: nothing there is done again */
        one_node(b, i);
    }
}

static pare_status build(pare_grad *b, pare_value loss, int n, const pare_value *wanted, pare_value *out,
                         pare_diag *d) {
    find_homes(b);
    PARE_TRY(infer(b, d));
    int last = b->g->values[loss].node;
    if (last < 0 || b->shapes[loss].type != &pare_qtype_f32 || pare_tensor_elems(&b->shapes[loss]) != 1)
        return pare_fail(d, PARE_ERR_INPUT, NULL, b->g->values[loss].name, "a loss is one number made by a node");
    find_needed(b, n, wanted);
    float one = 1;
    b->sum[loss] = pare_graph_const_f32(b->g, "grad.loss", b->shapes[loss].ndim, b->shapes[loss].shape, &one);
    walk(b, last);
    if (b->status != PARE_OK)
        return pare_fail(d, b->status, NULL, b->what, "no gradient through this node: %s", b->failed);
    for (int i = 0; i < n; i++) out[i] = b->sum[b->home[wanted[i]]];
    return pare_graph_status(b->g, d);
}

pare_status pare_grad_build(pare_graph *g, pare_value loss, int n, const pare_value *wanted, const pare_grad_opts *opts,
                            pare_value *out, pare_diag *d) {
    PARE_TRY(pare_graph_status(g, d));
    for (int i = -1; i < n; i++) {
        pare_value v = i < 0 ? loss : wanted[i];
        if (v < 0 || (size_t)v >= g->n_values)
            return pare_fail(d, PARE_ERR_INPUT, NULL, "gradient", "value %d is not in the graph", (int)v);
    }
    pare_grad b = {.recompute = opts && opts->recompute};
    pare_status s = take(&b, g);
    if (s == PARE_OK) s = build(&b, loss, n, wanted, out, d);
    if (s == PARE_ERR_NOMEM) pare_fail(d, s, NULL, NULL, "not enough memory for the gradient's graph");
    release(&b);
    return s;
}
