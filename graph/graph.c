/* SPDX-License-Identifier: Apache-2.0
 *
 * Building a graph. Failures are sticky, so that a builder writes straight on and asks once at the end. */
#include "graph/graph_impl.h"

#include "core/status.h"

#include <assert.h>
#include <string.h>

pare_graph *pare_graph_new(void) {
    pare_graph *g = pare_calloc(1, sizeof *g);
    if (!g) return NULL;
    g->arena = pare_arena_new();
    if (!g->arena) {
        pare_free(g);
        return NULL;
    }
    return g;
}

void pare_graph_free(pare_graph **gp) {
    pare_graph *g = gp ? *gp : NULL;
    if (!g) return;
    for (size_t i = 0; i < g->n_owned; i++) pare_free(g->owned[i]);
    pare_free(g->owned);
    pare_free(g->values);
    pare_free(g->nodes);
    pare_free(g->stages);
    pare_arena_free(&g->arena);
    pare_free(g);
    *gp = NULL;
}

static pare_value fail(pare_graph *g, pare_status s, const char *what) {
    if (g->status == PARE_OK) g->status = s, g->failed = what;
    return PARE_NO_VALUE;
}

static const char *keep_name(pare_graph *g, const char *name) {
    char *p = pare_arena_strndup(g->arena, name, strlen(name));
    if (!p) fail(g, PARE_ERR_NOMEM, NULL);
    return p;
}

static pare_value add_value(pare_graph *g, const char *name, pare_value_kind kind, const pare_tensor *t, int node) {
    if (g->status != PARE_OK) return PARE_NO_VALUE;
    const char *kept = keep_name(g, name);
    if (!kept || pare_grow((void **)&g->values, &g->cap_values, g->n_values + 1, sizeof *g->values) != PARE_OK)
        return fail(g, PARE_ERR_NOMEM, NULL);
    g->values[g->n_values] = (pare_graph_value){kept, kind, t ? *t : (pare_tensor){0}, node, false};
    return (pare_value)g->n_values++;
}

static pare_value add_bound(pare_graph *g, const char *name, pare_value_kind kind, const pare_qtype *type, int ndim,
                            const int64_t *dims) {
    pare_tensor t = {.type = type, .ndim = ndim};
    assert(ndim >= 0 && ndim <= PARE_MAX_DIMS);
    for (int i = 0; i < ndim; i++) t.shape[i] = dims[i];
    return add_value(g, name, kind, &t, -1);
}

pare_value pare_graph_input(pare_graph *g, const char *name, const pare_qtype *type, int ndim, const int64_t *dims) {
    return add_bound(g, name, PARE_VALUE_INPUT, type, ndim, dims);
}

pare_value pare_graph_state(pare_graph *g, const char *name, const pare_qtype *type, int ndim, const int64_t *dims) {
    return add_bound(g, name, PARE_VALUE_STATE, type, ndim, dims);
}

pare_value pare_graph_weight(pare_graph *g, const char *name, const pare_tensor *t) {
    return add_value(g, name, PARE_VALUE_WEIGHT, t, -1);
}

static pare_value add_const(pare_graph *g, const char *name, const pare_qtype *type, int ndim, const int64_t *shape,
                            const void *data) {
    pare_tensor t = pare_tensor_make(type, ndim, shape, NULL);
    size_t bytes = pare_tensor_bytes(&t);
    t.data = pare_graph_own(g, bytes ? bytes : 1);
    if (!t.data) return PARE_NO_VALUE;
    memcpy(t.data, data, bytes);
    return add_value(g, name, PARE_VALUE_WEIGHT, &t, -1);
}

pare_value pare_graph_const_i64(pare_graph *g, const char *name, int n, const int64_t *v) {
    return add_const(g, name, &pare_qtype_i64, 1, (int64_t[]){n}, v);
}

pare_value pare_graph_const_f32(pare_graph *g, const char *name, int ndim, const int64_t *shape, const float *v) {
    return add_const(g, name, &pare_qtype_f32, ndim, shape, v);
}

static int current_stage(pare_graph *g) {
    if (!g->n_stages) pare_graph_stage(g, "all");
    return (int)g->n_stages - 1;
}

/* True when the node could be made of these operands; records why not. */
static bool operands_fit(pare_graph *g, pare_op op, const char *name, int n_in, const pare_value *in, int n_out) {
    const pare_op_info *info = pare_op_get(op);
    if (g->status != PARE_OK) return false;
    bool ok = info && n_in >= info->min_in && n_in <= info->max_in && n_out >= 1 && n_out <= info->max_out;
    for (int i = 0; ok && i < n_in; i++) {
        if (in[i] < 0 ? i < info->min_in : (size_t)in[i] >= g->n_values) ok = false;
    }
    if (!ok) {
        const char *kept = keep_name(g, name);
        fail(g, PARE_ERR_INPUT, kept);
    }
    return ok;
}

/* attr is the graph's own. */
static pare_value add_node(pare_graph *g, pare_op op, const char *name, const void *attr, int n_in,
                           const pare_value *in, int n_out) {
    if (!operands_fit(g, op, name, n_in, in, n_out)) return PARE_NO_VALUE;
    pare_graph_node_t n = {.op = op, .attr = attr, .n_in = n_in, .n_out = n_out, .stage = current_stage(g)};
    n.name = keep_name(g, name);
    for (int i = 0; i < n_in; i++) n.in[i] = in[i] < 0 ? PARE_NO_VALUE : in[i];
    int index = (int)g->n_nodes;
    for (int i = 0; i < n_out; i++) n.out[i] = add_value(g, name, PARE_VALUE_NODE, NULL, index);
    if (g->status != PARE_OK) return PARE_NO_VALUE;
    if (pare_grow((void **)&g->nodes, &g->cap_nodes, g->n_nodes + 1, sizeof *g->nodes) != PARE_OK)
        return fail(g, PARE_ERR_NOMEM, NULL);
    g->nodes[g->n_nodes++] = n;
    return n.out[0];
}

pare_value pare_graph_node(pare_graph *g, pare_op op, const char *name, const void *attr, size_t attr_bytes, int n_in,
                           const pare_value *in, int n_out) {
    void *copy = NULL;
    if (attr_bytes && g->status == PARE_OK) {
        copy = pare_arena_alloc(g->arena, attr_bytes);
        if (!copy) return fail(g, PARE_ERR_NOMEM, NULL);
        memcpy(copy, attr, attr_bytes);
    }
    return add_node(g, op, name, copy, n_in, in, n_out);
}

pare_value pare_graph_node_like(pare_graph *g, int i, const char *name, const pare_value *in) {
    const pare_graph_node_t *n = &g->nodes[i];
    return add_node(g, n->op, name, n->attr, n->n_in, in, n->n_out);
}

pare_value pare_graph_output(const pare_graph *g, pare_value v, int i) {
    if (v < 0 || (size_t)v >= g->n_values || g->values[v].node < 0) return PARE_NO_VALUE;
    const pare_graph_node_t *n = &g->nodes[g->values[v].node];
    return i >= 0 && i < n->n_out ? n->out[i] : PARE_NO_VALUE;
}

pare_value pare_graph_find(const pare_graph *g, const char *name) {
    for (size_t i = 0; i < g->n_values; i++)
        if (strcmp(g->values[i].name, name) == 0) return (pare_value)i;
    return PARE_NO_VALUE;
}

pare_value pare_graph_weight_at(const pare_graph *g, const void *data) {
    for (size_t v = 0; v < g->n_values; v++)
        if (g->values[v].kind == PARE_VALUE_WEIGHT && g->values[v].tensor.data == data) return (pare_value)v;
    return PARE_NO_VALUE;
}

void pare_graph_mark_output(pare_graph *g, pare_value v) {
    if (v >= 0 && (size_t)v < g->n_values) g->values[v].output = true;
    else fail(g, PARE_ERR_INPUT, "graph output");
}

void pare_graph_stage(pare_graph *g, const char *name) {
    const char *kept = keep_name(g, name);
    if (!kept || pare_grow((void **)&g->stages, &g->cap_stages, g->n_stages + 1, sizeof *g->stages) != PARE_OK) {
        fail(g, PARE_ERR_NOMEM, NULL);
        return;
    }
    g->stages[g->n_stages++] = kept;
}

int pare_graph_stages(const pare_graph *g) { return (int)g->n_stages; }
const char *pare_graph_stage_name(const pare_graph *g, int stage) {
    return stage >= 0 && (size_t)stage < g->n_stages ? g->stages[stage] : NULL;
}

pare_status pare_graph_status(const pare_graph *g, pare_diag *d) {
    if (g->status == PARE_OK) return PARE_OK;
    return pare_fail(d, g->status, NULL, g->failed,
                     g->status == PARE_ERR_NOMEM ? "not enough memory for the graph"
                                                 : "the operands do not fit the operator");
}

void *pare_graph_own(pare_graph *g, size_t bytes) {
    if (pare_grow((void **)&g->owned, &g->cap_owned, g->n_owned + 1, sizeof *g->owned) != PARE_OK) {
        fail(g, PARE_ERR_NOMEM, NULL);
        return NULL;
    }
    void *p = pare_malloc_aligned(bytes);
    if (p) g->owned[g->n_owned++] = p;
    else fail(g, PARE_ERR_NOMEM, NULL);
    return p;
}
