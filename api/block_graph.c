/* SPDX-License-Identifier: Apache-2.0
 *
 * Cutting a stage out of a graph (api/block_graph.h). */
#include "api/block_graph.h"

#include "core/status.h"
#include "graph/graph_impl.h"

#include <string.h>

static bool contains(const pare_value *v, int n, pare_value x) {
    for (int i = 0; i < n; i++)
        if (v[i] == x) return true;
    return false;
}

pare_status pare_borders_find(const pare_graph *g, int stage, pare_borders *b, pare_diag *d) {
    int first, end;
    bool several = false;
    pare_graph_stage_range(g, stage, &first, &end);
    *b = (pare_borders){.out = PARE_NO_VALUE};
    if (!(b->in = pare_calloc((size_t)(end - first) * PARE_OP_MAX_IN + 1, sizeof *b->in)))
        return pare_fail(d, PARE_ERR_NOMEM, NULL, pare_graph_stage_name(g, stage), "no memory for a list of values");
    for (int i = first; i < (int)g->n_nodes; i++)
        for (int k = 0; k < g->nodes[i].n_in; k++) {
            pare_value v = g->nodes[i].in[k];
            if (v < 0 || g->values[v].kind != PARE_VALUE_NODE) continue;
            int from = g->values[v].node;
            if (i < end && from < first && !contains(b->in, b->n_in, v)) b->in[b->n_in++] = v;
            if (i < end || from < first || from >= end) continue;
            several |= b->out >= 0 && b->out != v;
            b->out = v;
        }
    if (several)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, pare_graph_stage_name(g, stage),
                         "later stages read several values of it; what learns a stage at a time knows what one to aim "
                         "at");
    return PARE_OK;
}

void pare_borders_close(pare_borders *b) {
    pare_free(b->in);
    b->in = NULL;
}

/* The stage's nodes move to the front; what others made is made no longer. */
static void keep_nodes(pare_graph *g, int stage, int first, int end) {
    for (size_t v = 0; v < g->n_values; v++) {
        pare_graph_value *x = &g->values[v];
        if (x->kind != PARE_VALUE_NODE) continue;
        bool stays = x->node >= first && x->node < end;
        if (stays) x->node -= first;
        else x->kind = PARE_VALUE_INPUT, x->node = -1, x->output = false;
    }
    memmove(g->nodes, g->nodes + first, (size_t)(end - first) * sizeof *g->nodes);
    g->n_nodes = (size_t)(end - first);
    for (size_t i = 0; i < g->n_nodes; i++) g->nodes[i].stage = 0;
    g->stages[0] = g->stages[stage];
    g->n_stages = 1;
}

pare_status pare_graph_alone(pare_graph *g, int stage, int64_t dim, pare_value *in, pare_value *out, pare_diag *d) {
    pare_borders b;
    int first, end;
    pare_graph_stage_range(g, stage, &first, &end);
    pare_status s = pare_borders_find(g, stage, &b, d);
    if (s == PARE_OK && b.n_in > 1)
        s = pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, pare_graph_stage_name(g, stage),
                      "it reads several values of earlier stages; what learns a stage at a time can give it one");
    if (s == PARE_OK) {
        *in = b.n_in ? b.in[0] : PARE_NO_VALUE, *out = b.out;
        for (size_t v = 0; *out < 0 && v < g->n_values; v++)
            if (g->values[v].output && g->values[v].node >= first && g->values[v].node < end) *out = (pare_value)v;
        keep_nodes(g, stage, first, end);
        pare_graph_mark_output(g, *out);
    }
    if (s == PARE_OK && *in >= 0) {
        const int64_t shape[] = {PARE_SYM_BATCH, PARE_SYM_SEQ, dim};
        g->values[*in].tensor = pare_tensor_make(&pare_qtype_f32, 3, shape, NULL);
    }
    pare_borders_close(&b);
    return s;
}
