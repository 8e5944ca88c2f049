/* SPDX-License-Identifier: Apache-2.0
 *
 * Following dimensions through a graph (prune/structure.h): a worklist of reached dimensions, and a union-find over
 * their elements. */
#include "prune/structure_impl.h"

#include "core/status.h"
#include "graph/shape.h"

#include <string.h>

typedef struct reached {
    pare_value value;
    int axis;
    int64_t size;
    size_t first; /* of its elements in the union-find */
} reached;

struct pare_tracer {
    const pare_graph *g;
    pare_tensor *values; /* with shapes */
    int32_t *slot;       /* [value][axis]: number of the reached dimension, -1 = not reached */
    reached *list;
    size_t n, cap;
    uint32_t *parent;
    size_t n_elems, cap_elems;
    int32_t now;  /* the dimension in hand */
    bool covered; /* by the rule in hand */
    int32_t set_slot;
    int64_t set_block, set_per;
    bool nomem;
};

static uint32_t root(pare_tracer *t, uint32_t i) {
    while (t->parent[i] != i) i = t->parent[i] = t->parent[t->parent[i]];
    return i;
}

static void unite(pare_tracer *t, uint32_t a,
                  uint32_t b) { /* the smaller number stays: results do not depend on order */
    a = root(t, a), b = root(t, b);
    if (a < b) t->parent[b] = a;
    else t->parent[a] = b;
}

/* Number of dimension (v, axis), reached now if it was not before; -1 without memory. */
static int32_t reach(pare_tracer *t, pare_value v, int axis) {
    int32_t *s = &t->slot[(size_t)v * PARE_MAX_DIMS + (size_t)axis];
    if (*s >= 0) return *s;
    int64_t size = t->values[v].shape[axis];
    if (size > INT32_MAX / 4 || pare_grow((void **)&t->list, &t->cap, t->n + 1, sizeof *t->list) != PARE_OK ||
        pare_grow((void **)&t->parent, &t->cap_elems, t->n_elems + (size_t)size, sizeof *t->parent) != PARE_OK)
        return t->nomem = true, -1;
    for (size_t i = 0; i < (size_t)size; i++) t->parent[t->n_elems + i] = (uint32_t)(t->n_elems + i);
    t->list[t->n] = (reached){v, axis, size, t->n_elems};
    t->n_elems += (size_t)size;
    return *s = (int32_t)t->n++;
}

void pare_join(pare_rule_view *v, pare_value a, int axis_a, pare_step sa, pare_value b, int axis_b, pare_step sb,
               int64_t n) {
    pare_tracer *t = v->t;
    if (t->nomem || a < 0 || b < 0) return;
    int32_t ia = t->slot[(size_t)a * PARE_MAX_DIMS + (size_t)axis_a],
            ib = t->slot[(size_t)b * PARE_MAX_DIMS + (size_t)axis_b];
    if (ia != t->now && ib != t->now) return;
    t->covered = true;
    if ((ia = reach(t, a, axis_a)) < 0 || (ib = reach(t, b, axis_b)) < 0) return;
    for (int64_t i = 0; i < n; i++)
        unite(t, (uint32_t)(t->list[ia].first + (size_t)(i / sa.div * sa.mul + sa.off)),
              (uint32_t)(t->list[ib].first + (size_t)(i / sb.div * sb.mul + sb.off)));
}

void pare_join_sets(pare_rule_view *v, pare_value value, int axis, int64_t block, int64_t per) {
    int32_t s = v->t->slot[(size_t)value * PARE_MAX_DIMS + (size_t)axis];
    if (s < 0) return;
    v->t->set_slot = s, v->t->set_block = block, v->t->set_per = per;
}

/* Shapes of all values for small sizes that no other dimension is likely to have. */
static pare_status infer(pare_tracer *t, pare_diag *d) {
    static const int64_t sym[PARE_SYM_COUNT] = {3, 11, 13};
    const pare_graph *g = t->g;
    for (size_t v = 0; v < g->n_values; v++) {
        t->values[v] = g->values[v].tensor;
        for (int k = 0; k < t->values[v].ndim; k++)
            if (t->values[v].shape[k] < 0) t->values[v].shape[k] = sym[-t->values[v].shape[k] - 1];
    }
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pare_graph_node_t *n = &g->nodes[i];
        pare_op_call c = {.op = n->op, .attr = n->attr, .n_in = n->n_in, .n_out = n->n_out};
        for (int k = 0; k < n->n_in; k++) c.in[k] = n->in[k] < 0 ? NULL : &t->values[n->in[k]];
        for (int k = 0; k < n->n_out; k++) c.out[k] = &t->values[n->out[k]];
        pare_status s = pare_infer_shapes(&c, d);
        if (s != PARE_OK) return s;
    }
    return PARE_OK;
}

static pare_status refuse(const pare_tracer *t, const pare_graph_node_t *n, const reached *r, pare_diag *d) {
    return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, n->name,
                     "dimension %d of %s reaches this %s, and no rule says what else would have to shrink with it",
                     r->axis, t->g->values[r->value].name, pare_op_get(n->op)->name);
}

static bool touches(const pare_graph_node_t *n, pare_value v) {
    bool is = false;
    for (int k = 0; k < n->n_in; k++) is |= n->in[k] == v;
    for (int k = 0; k < n->n_out; k++) is |= n->out[k] == v;
    return is;
}

/* All nodes around dimension number `now`. */
static pare_status follow(pare_tracer *t, pare_head_mode mode, pare_diag *d) {
    const reached r = t->list[t->now];
    if (t->g->values[r.value].kind == PARE_VALUE_INPUT)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, t->g->values[r.value].name,
                         "dimension %d of this input would have to shrink", r.axis);
    for (size_t i = 0; i < t->g->n_nodes; i++) {
        const pare_graph_node_t *n = &t->g->nodes[i];
        if (!touches(n, r.value)) continue;
        pare_rule_fn *rule = pare_rule_of(n->op);
        if (!rule) return refuse(t, n, &r, d);
        pare_rule_view v = {.t = t, .node = n, .mode = mode};
        for (int k = 0; k < n->n_in; k++) v.in[k] = n->in[k] < 0 ? NULL : &t->values[n->in[k]];
        for (int k = 0; k < n->n_out; k++) v.out[k] = &t->values[n->out[k]];
        t->covered = false;
        rule(&v);
        if (t->nomem) return pare_fail(d, PARE_ERR_NOMEM, NULL, "structure", "no memory for the coupled dimensions");
        if (!t->covered) return refuse(t, n, &r, d);
    }
    return PARE_OK;
}

static pare_status result(pare_tracer *t, pare_dimension *out, pare_diag *d) {
    int32_t *number = pare_malloc((t->n_elems + 1) * sizeof *number);
    out->slots = pare_calloc(t->n, sizeof *out->slots);
    pare_status none = number && out->slots ? PARE_OK : PARE_ERR_NOMEM;
    if (none == PARE_OK) {
        memset(number, -1, t->n_elems * sizeof *number);
        for (size_t i = 0; i < (size_t)t->list[0].size; i++) {
            uint32_t r = root(t, (uint32_t)i); /* the start's elements come first */
            if (number[r] < 0) number[r] = out->units++;
        }
        out->sets = 1;
        out->set = pare_calloc((size_t)out->units, sizeof *out->set);
        if (!out->set) none = PARE_ERR_NOMEM;
    }
    for (size_t k = 0; none == PARE_OK && k < t->n; k++) {
        const reached *r = &t->list[k];
        pare_slot *s = &out->slots[k];
        *s = (pare_slot){r->value, r->axis, r->size, pare_malloc((size_t)r->size * sizeof *s->unit)};
        if (!s->unit) none = PARE_ERR_NOMEM;
        out->n = k + 1;
        for (int64_t i = 0; s->unit && i < r->size; i++) s->unit[i] = number[root(t, (uint32_t)(r->first + (size_t)i))];
    }
    if (none == PARE_OK && t->set_slot >= 0) {
        const pare_slot *s = &out->slots[t->set_slot];
        for (int64_t i = 0; i < s->size; i++) {
            int32_t set = (int32_t)(i / t->set_block / t->set_per);
            if (s->unit[i] >= 0) out->set[s->unit[i]] = set;
            if (set >= out->sets) out->sets = set + 1;
        }
    }
    pare_free(number);
    return none == PARE_OK ? PARE_OK : pare_fail(d, none, NULL, "structure", "no memory for the coupled dimensions");
}

pare_status pare_structure_find(const pare_graph *g, pare_value start, int axis, pare_head_mode mode,
                                pare_dimension *out, pare_diag *d) {
    pare_tracer t = {.g = g, .set_slot = -1};
    *out = (pare_dimension){0};
    t.values = pare_calloc(g->n_values, sizeof *t.values);
    t.slot = pare_malloc(g->n_values * PARE_MAX_DIMS * sizeof *t.slot);
    pare_status s =
        t.values && t.slot ? infer(&t, d) : pare_fail(d, PARE_ERR_NOMEM, NULL, "structure", "no memory for the graph");
    if (s == PARE_OK) {
        memset(t.slot, -1, g->n_values * PARE_MAX_DIMS * sizeof *t.slot);
        if (reach(&t, start, axis) < 0) s = pare_fail(d, PARE_ERR_NOMEM, NULL, "structure", "no memory for the graph");
    }
    for (t.now = 0; s == PARE_OK && (size_t)t.now < t.n; t.now++) s = follow(&t, mode, d);
    if (s == PARE_OK) s = result(&t, out, d);
    if (s != PARE_OK) pare_dimension_free(out);
    pare_free(t.values);
    pare_free(t.slot);
    pare_free(t.list);
    pare_free(t.parent);
    return s;
}

void pare_dimension_free(pare_dimension *dim) {
    for (size_t i = 0; i < dim->n; i++) pare_free(dim->slots[i].unit);
    pare_free(dim->slots);
    pare_free(dim->set);
    *dim = (pare_dimension){0};
}

const pare_slot *pare_dimension_slot(const pare_dimension *dim, pare_value v, int axis) {
    for (size_t i = 0; i < dim->n; i++)
        if (dim->slots[i].value == v && dim->slots[i].axis == axis) return &dim->slots[i];
    return NULL;
}

size_t pare_slot_kept(const pare_slot *s, const bool *keep, uint32_t *index) {
    size_t n = 0;
    for (int64_t i = 0; i < s->size; i++) {
        if (s->unit[i] >= 0 && !keep[s->unit[i]]) continue;
        if (index) index[n] = (uint32_t)i;
        n++;
    }
    return n;
}

static bool reads(const pare_graph *g, const pare_dimension *dim, const pare_graph_node_t *x, bool norms) {
    bool norm = x->op == PARE_OP_RMSNormalization || x->op == PARE_OP_LayerNormalization;
    if (norms != norm || (!norm && x->op != PARE_OP_MatMul) || g->values[x->in[1]].kind != PARE_VALUE_WEIGHT)
        return false;
    const pare_tensor *w = &g->values[x->in[1]].tensor;
    return norm ? w->ndim == 1 && pare_dimension_slot(dim, x->in[1], 0)
                : w->transposed && w->ndim == 2 && pare_dimension_slot(dim, x->in[1], 1);
}

static pare_status list_readers(const pare_graph *g, const pare_dimension *dim, bool norms, pare_reader **out,
                                size_t *n, pare_diag *d) {
    *n = 0;
    *out = pare_calloc(g->n_nodes + 1, sizeof **out);
    if (!*out) return pare_fail(d, PARE_ERR_NOMEM, NULL, "structure", "no memory for the list of readers");
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pare_graph_node_t *x = &g->nodes[i];
        if (reads(g, dim, x, norms)) (*out)[(*n)++] = (pare_reader){(int)i, x->in[0], x->in[1]};
    }
    return PARE_OK;
}

pare_status pare_dimension_readers(const pare_graph *g, const pare_dimension *dim, pare_reader **out, size_t *n,
                                   pare_diag *d) {
    return list_readers(g, dim, false, out, n, d);
}

pare_status pare_dimension_norms(const pare_graph *g, const pare_dimension *dim, pare_reader **out, size_t *n,
                                 pare_diag *d) {
    return list_readers(g, dim, true, out, n, d);
}
