/* SPDX-License-Identifier: Apache-2.0
 *
 * Magnitude: the sum of squares of all weights that would go with a unit, matrices only (norms are near 1 whatever
 * they do). Needs no data. */
#include "prune/importance.h"

#include "core/status.h"

/* Adds the squares of matrix w by the units of dimension `axis`. */
static pare_status add_matrix(const pare_tensor *w, const pare_slot *s, double *out, pare_diag *d) {
    size_t cols = (size_t)pare_tensor_cols(w);
    float *row = pare_malloc(cols * sizeof *row);
    if (!row) return pare_fail(d, PARE_ERR_NOMEM, NULL, "importance", "no memory for the scores");
    for (int64_t r = 0; r < pare_tensor_rows(w); r++) {
        pare_weight_row(w, r, row);
        for (size_t c = 0; c < cols; c++) {
            int32_t u = s->unit[s->axis == 0 ? (size_t)r : c];
            if (u >= 0) out[u] += (double)row[c] * (double)row[c];
        }
    }
    pare_free(row);
    return PARE_OK;
}

static pare_status score(const pare_graph *g, const pare_unit_stats *s, size_t n, double *out, pare_diag *d) {
    if (!n) return PARE_OK;
    const pare_dimension *dim = s[0].dim;
    for (size_t i = 0; i < dim->n; i++) {
        const pare_graph_value *v = &g->values[dim->slots[i].value];
        if (v->kind != PARE_VALUE_WEIGHT || v->tensor.ndim != 2) continue;
        pare_status st = add_matrix(&v->tensor, &dim->slots[i], out, d);
        if (st != PARE_OK) return st;
    }
    return PARE_OK;
}

const pare_importance pare_importance_magnitude = {"magnitude", "squares of the unit's weights", 0, score};
