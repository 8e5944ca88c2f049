/* SPDX-License-Identifier: Apache-2.0
 *
 * Weight times activation (Wanda, arXiv 2306.11695, for whole units as in FLAP and Wanda-sp): the expected squared
 * change of a reader's outputs when the unit's channels become zero and do not correlate,
 *   sum over channels c of the unit: E[x_c^2] |W[:, c]|^2. */
#include "prune/importance.h"

#include "core/status.h"

static pare_status score(const pare_graph *g, const pare_unit_stats *s, size_t n, double *out, pare_diag *d) {
    for (size_t i = 0; i < n; i++) {
        const pare_tensor *w = &g->values[s[i].reads->weight].tensor;
        size_t cols = (size_t)pare_tensor_cols(w);
        float *row = pare_malloc(cols * sizeof *row);
        double *column = pare_calloc(cols, sizeof *column);
        if (row && column)
            for (int64_t r = 0; r < pare_tensor_rows(w); r++) {
                pare_weight_row(w, r, row);
                for (size_t c = 0; c < cols; c++) column[c] += (double)row[c] * (double)row[c];
            }
        for (size_t c = 0; row && column && s[i].tokens > 0 && c < cols; c++)
            if (s[i].slot->unit[c] >= 0) out[s[i].slot->unit[c]] += s[i].square[c] / s[i].tokens * column[c];
        bool ok = row && column;
        pare_free(row);
        pare_free(column);
        if (!ok) return pare_fail(d, PARE_ERR_NOMEM, NULL, "importance", "no memory for the scores");
    }
    return PARE_OK;
}

const pare_importance pare_importance_wanda = {"wanda", "squared activation times squared weight of what reads it",
                                               PARE_UNITS_ACTIVATIONS, score};
