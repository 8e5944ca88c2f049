/* SPDX-License-Identifier: Apache-2.0
 *
 * Making a plan: shapes in node order, then aliases and lifetimes, then offsets, largest value first, each at the
 * lowest place where it meets no value that is alive at the same time (greedy by size, Pisarchyk and Lee 2020). */
#include "graph/memplan.h"

#include "core/status.h"
#include "core/threads.h"
#include "graph/shape.h"

#include <stdlib.h>
#include <string.h>

void pare_memplan_free(pare_memplan **pp) {
    pare_memplan *p = pp ? *pp : NULL;
    if (!p) return;
    pare_free(p->fallback);
    pare_free(p->values);
    pare_free(p->alias);
    pare_free(p->offset);
    pare_free(p->first);
    pare_free(p->last);
    pare_free(p->known);
    pare_free(p->dims);
    pare_free(p);
    *pp = NULL;
}

/* Shape's numbers are part of the plan, so that the operands they are for can be planned, too. */
static bool room_for_shapes(const pare_graph *g, pare_memplan *p) {
    size_t n = 0;
    for (size_t i = 0; i < g->n_nodes; i++) n += g->nodes[i].op == PARE_OP_Shape;
    if (!n) return true;
    p->known = pare_calloc(g->n_values, sizeof *p->known);
    p->dims = pare_calloc(n * PARE_MAX_DIMS, sizeof *p->dims);
    if (!p->known || !p->dims) return false;
    n = 0;
    for (size_t i = 0; i < g->n_nodes; i++)
        if (g->nodes[i].op == PARE_OP_Shape) p->known[g->nodes[i].out[0]] = p->dims + n++ * PARE_MAX_DIMS;
    return true;
}

static pare_memplan *plan_new(const pare_graph *g, const int64_t *sym, bool fallbacks) {
    pare_memplan *p = pare_calloc(1, sizeof *p);
    if (!p) return NULL;
    size_t n = g->n_values;
    p->values = pare_calloc(n, sizeof *p->values);
    p->alias = pare_calloc(n, sizeof *p->alias);
    p->offset = pare_calloc(n, sizeof *p->offset);
    p->first = pare_calloc(n, sizeof *p->first);
    p->last = pare_calloc(n, sizeof *p->last);
    if (fallbacks) p->fallback = pare_calloc(g->n_nodes + 1, sizeof *p->fallback);
    bool shapes = room_for_shapes(g, p);
    if (!shapes || (fallbacks && !p->fallback) || !p->values || !p->alias || !p->offset || !p->first || !p->last)
        pare_memplan_free(&p);
    for (size_t v = 0; p && v < n; v++) {
        p->values[v] = g->values[v].tensor;
        p->alias[v] = PARE_NO_VALUE;
        p->offset[v] = PARE_NO_OFFSET;
        p->first[v] = p->last[v] = g->values[v].node;
    }
    if (!p) return NULL;
    memcpy(p->sym, sym, sizeof p->sym);
    p->threads = pare_threads();
    return p;
}

void pare_memplan_call(const pare_graph *g, pare_memplan *p, int i, pare_act_round act, bool bf16, pare_op_call *call) {
    const pare_graph_node_t *n = &g->nodes[i];
    *call = (pare_op_call){.op = n->op, .attr = n->attr, .n_in = n->n_in, .n_out = n->n_out, .act = act, .bf16 = bf16};
    for (int k = 0; k < n->n_in; k++) {
        if (n->in[k] < 0) continue;
        call->in[k] = &p->values[n->in[k]];
        if (!p->fallback) continue; /* the backend has host memory, and no use for it */
        const pare_graph_value *v = &g->values[n->in[k]];
        if (v->kind == PARE_VALUE_WEIGHT) call->host[k] = v->tensor.data;
        else if (p->known && p->known[n->in[k]]) call->host[k] = p->known[n->in[k]];
    }
    for (int k = 0; k < n->n_out; k++) call->out[k] = &p->values[n->out[k]];
}

static pare_status bind_symbols(const pare_graph *g, pare_memplan *p, pare_diag *d) {
    for (size_t v = 0; v < g->n_values; v++) {
        const pare_graph_value *gv = &g->values[v];
        if (gv->kind != PARE_VALUE_INPUT && gv->kind != PARE_VALUE_STATE) continue;
        int64_t elems = 1;
        for (int k = 0; k < gv->tensor.ndim; k++) {
            int64_t dim = gv->tensor.shape[k];
            if (dim < 0) dim = p->sym[-dim - 1];
            p->values[v].shape[k] = dim;
            if (dim < 0 || __builtin_mul_overflow(elems, dim, &elems) || elems > INT64_MAX / 64)
                return pare_fail(d, PARE_ERR_INPUT, NULL, gv->name, "the sizes asked for are not possible");
        }
    }
    return PARE_OK;
}

/* Node i goes to the CPU: room for its operands and results in host memory. */
static void fall_back(pare_memplan *p, const pare_memplan_on *on, int i, const pare_op_call *call) {
    size_t bytes = 0, ws = on->cpu->workspace_bytes(on->cpu_dev, call);
    for (int k = 0; k < call->n_in; k++)
        if (call->in[k] && !call->host[k]) bytes += pare_memplan_round(pare_tensor_bytes(call->in[k]));
    for (int k = 0; k < call->n_out; k++) bytes += pare_memplan_round(pare_tensor_bytes(call->out[k]));
    if (bytes > p->staging_bytes) p->staging_bytes = bytes;
    if (ws > p->cpu_workspace_bytes) p->cpu_workspace_bytes = ws;
    p->fallback[i] = true;
    p->n_fallbacks++;
}

static pare_status infer(const pare_graph *g, pare_memplan *p, const pare_memplan_on *on, pare_diag *d) {
    for (size_t i = 0; i < g->n_nodes; i++) {
        pare_op_call call;
        pare_diag why = {0};
        pare_memplan_call(g, p, (int)i, on->act, on->bf16, &call);
        pare_status s = pare_infer_shapes(&call, &why);
        if (s != PARE_OK) return pare_fail(d, s, NULL, g->nodes[i].name, "%s", why.text);
        if (call.op == PARE_OP_Shape) {
            call.out[0]->data = p->known[g->nodes[i].out[0]];
            pare_shape_extent(&call, call.out[0]->data);
            continue;
        }
        if (on->be->supports(on->dev, &call)) {
            size_t ws = on->be->workspace_bytes(on->dev, &call);
            if (ws > p->workspace_bytes) p->workspace_bytes = ws;
        } else if (on->cpu && on->cpu->supports(on->cpu_dev, &call)) {
            fall_back(p, on, (int)i, &call);
        } else {
            return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, g->nodes[i].name,
                             "%s with these operands cannot be run on %s", pare_op_get(call.op)->name, on->be->name);
        }
    }
    return PARE_OK;
}

/* last[v] becomes v's own last use; aliases extend it later. */
static void find_last_uses(const pare_graph *g, pare_memplan *p) {
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pare_graph_node_t *n = &g->nodes[i];
        int stage_first, stage_end;
        pare_graph_stage_range(g, n->stage, &stage_first, &stage_end);
        for (int k = 0; k < n->n_in && n->op != PARE_OP_Shape; k++) { /* Shape reads no data */
            if (n->in[k] < 0) continue;
            bool crosses = g->values[n->in[k]].kind == PARE_VALUE_NODE && g->values[n->in[k]].node < stage_first;
            int use = crosses ? stage_end : (int)i; /* beyond the stage: not even its last node may write over it */
            if (use > p->last[n->in[k]]) p->last[n->in[k]] = use;
        }
    }
    for (size_t v = 0; v < g->n_values; v++)
        if (g->values[v].output) p->last[v] = (int)g->n_nodes;
}

static pare_value root_of(const pare_memplan *p, pare_value v) {
    while (p->alias[v] >= 0) v = p->alias[v];
    return v;
}

static bool elementwise(pare_op op) {
    switch (op) {
    case PARE_OP_Add:
    case PARE_OP_Sub:
    case PARE_OP_Mul:
    case PARE_OP_Div:
    case PARE_OP_Sqrt:
    case PARE_OP_Erf:
    case PARE_OP_Exp:
    case PARE_OP_Log:
    case PARE_OP_Sign:
    case PARE_OP_Sigmoid:
    case PARE_OP_Tanh:
    case PARE_OP_Relu:
    case PARE_OP_Gelu:
    case PARE_OP_Swish:
    case PARE_OP_GeluGrad:
    case PARE_OP_SwishGrad: return true;
    default: return false;
    }
}

/* The operand over which node i may write its result, or PARE_NO_VALUE. Elementwise kernels read element i of an
 * operand of the result's size before they write it; an operand that broadcasts out of the same memory would not do. */
static pare_value writes_over(const pare_graph *g, const pare_memplan *p, int i) {
    const pare_graph_node_t *n = &g->nodes[i];
    pare_value out = n->out[0];
    if (n->op == PARE_OP_Reshape) { /* a device may keep a weight in another order, or drop it */
        bool weight = g->values[root_of(p, n->in[0])].kind == PARE_VALUE_WEIGHT;
        return weight && p->fallback ? PARE_NO_VALUE : n->in[0];
    }
    if (n->op == PARE_OP_TensorScatter || n->op == PARE_OP_ScatterND) {
        pare_value r = root_of(p, n->in[0]);
        pare_value_kind kind = g->values[r].kind;
        bool dies =
            p->last[r] == i && root_of(p, n->in[1]) != r && (n->n_in < 3 || n->in[2] < 0 || root_of(p, n->in[2]) != r);
        return dies && (kind == PARE_VALUE_STATE || kind == PARE_VALUE_NODE) ? n->in[0] : PARE_NO_VALUE;
    }
    if (!elementwise(n->op)) return PARE_NO_VALUE;
    int64_t elems = pare_tensor_elems(&p->values[out]);
    for (int k = 0; k < n->n_in; k++) {
        pare_value x = n->in[k], r = root_of(p, x);
        if (g->values[r].kind != PARE_VALUE_NODE || p->last[r] != i || pare_tensor_elems(&p->values[x]) != elems ||
            p->values[x].type != p->values[out].type)
            continue;
        bool alone = true;
        for (int o = 0; o < n->n_in; o++)
            if (root_of(p, n->in[o]) == r && pare_tensor_elems(&p->values[n->in[o]]) != elems) alone = false;
        if (alone) return x;
    }
    return PARE_NO_VALUE;
}

static void find_aliases(const pare_graph *g, pare_memplan *p) {
    for (size_t i = 0; i < g->n_nodes; i++) {
        pare_value x = writes_over(g, p, (int)i), out = g->nodes[i].out[0];
        if (x < 0) continue;
        p->alias[out] = x;
        pare_value r = root_of(p, x);
        if (p->last[out] > p->last[r]) p->last[r] = p->last[out];
    }
}

typedef struct room {
    size_t bytes, offset;
    int first, last;
    pare_value v;
} room;

static int larger_first(const void *a, const void *b) {
    const room *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return (x->v > y->v) - (x->v < y->v);
}

static int lower_first(const void *a, const void *b) {
    const room *const *x = a, *const *y = b;
    return ((*x)->offset > (*y)->offset) - ((*x)->offset < (*y)->offset);
}

/* Lowest offset for r among the n rooms already placed; scratch has space for n pointers. */
static size_t lowest(const room *r, room *placed, size_t n, room **scratch) {
    size_t m = 0, at = 0;
    for (size_t i = 0; i < n; i++)
        if (placed[i].first <= r->last && r->first <= placed[i].last) scratch[m++] = &placed[i];
    qsort(scratch, m, sizeof *scratch, lower_first);
    for (size_t i = 0; i < m; i++) {
        if (scratch[i]->offset >= at + r->bytes) break;
        size_t end = scratch[i]->offset + scratch[i]->bytes;
        if (end > at) at = end;
    }
    return at;
}

static pare_status place(const pare_graph *g, pare_memplan *p, pare_diag *d) {
    room *rooms = pare_calloc(g->n_values + 1, sizeof *rooms),
         **scratch = pare_calloc(g->n_values + 1, sizeof *scratch);
    size_t n = 0;
    if (!rooms || !scratch) {
        pare_free(rooms);
        pare_free(scratch);
        return PARE_ERR_NOMEM;
    }
    for (size_t v = 0; v < g->n_values; v++) {
        if (g->values[v].kind != PARE_VALUE_NODE || p->alias[v] >= 0 || (p->known && p->known[v])) continue;
        size_t bytes = pare_memplan_round(pare_tensor_bytes(&p->values[v]));
        rooms[n++] = (room){bytes ? bytes : PARE_MEMPLAN_ALIGN, 0, p->first[v], p->last[v], (pare_value)v};
    }
    qsort(rooms, n, sizeof *rooms, larger_first);
    for (size_t i = 0; i < n; i++) {
        rooms[i].offset = lowest(&rooms[i], rooms, i, scratch);
        size_t end = rooms[i].offset + rooms[i].bytes;
        p->offset[rooms[i].v] = rooms[i].offset;
        if (end > p->block_bytes) p->block_bytes = end;
    }
    pare_free(rooms);
    pare_free(scratch);
    return PARE_OK;
}

pare_status pare_memplan_make(const pare_graph *g, const int64_t sym[PARE_SYM_COUNT], const pare_memplan_on *on,
                              pare_memplan **out, pare_diag *d) {
    pare_memplan *p = plan_new(g, sym, on->cpu != NULL);
    *out = NULL;
    pare_status s = p ? bind_symbols(g, p, d) : PARE_ERR_NOMEM;
    if (s == PARE_OK) s = infer(g, p, on, d);
    if (s == PARE_OK) {
        find_last_uses(g, p);
        find_aliases(g, p);
        s = place(g, p, d);
    }
    if (s == PARE_ERR_NOMEM) pare_fail(d, s, NULL, NULL, "not enough memory to plan the run");
    if (s != PARE_OK) pare_memplan_free(&p);
    *out = p;
    return s;
}
