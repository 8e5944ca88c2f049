/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of patterns, and selection of the smallest scores. */
#include "prune/pattern.h"

#include "core/status.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const pare_pattern *const all[] = {
#define PARE_PATTERN(sym) &sym,
#include "prune/patterns.def"
#undef PARE_PATTERN
};

const pare_pattern *pare_pattern_at(size_t i) { return i < sizeof all / sizeof *all ? all[i] : NULL; }

pare_status pare_pattern_parse(const char *text, pare_pattern_spec *out, pare_diag *d) {
    char list[256] = "";
    *out = (pare_pattern_spec){.unit_rows = 1, .unit_cols = 1, .ratio = -1, .together = true};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i]->claims(text)) {
            out->kind = all[i];
            PARE_TRY(all[i]->parse(text, out, d));
            snprintf(out->text, sizeof out->text, "%s", text);
            return PARE_OK;
        }
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", all[i]->name);
    }
    return pare_fail(d, PARE_ERR_USAGE, NULL, "--pattern", "`%s` is no pattern; there are %s", text, list);
}

pare_status pare_pattern_check(const pare_pattern_spec *s, size_t rows, size_t cols, double sparsity, bool by_row,
                               const char *name, pare_diag *d) {
    if (cols % s->unit_cols)
        return pare_fail(d, PARE_ERR_USAGE, NULL, name,
                         "%s wants rows that are multiples of %zu columns, and these have %zu; leave the tensor out "
                         "with --keep",
                         s->text, s->unit_cols, cols);
    if (rows % s->unit_rows)
        return pare_fail(d, PARE_ERR_USAGE, NULL, name,
                         "%s wants a multiple of %zu rows, and there are %zu; leave the tensor out with --keep",
                         s->text, s->unit_rows, rows);
    size_t per_row = cols / s->unit_cols, down = rows / s->unit_rows;
    double units = (double)per_row * (double)(by_row ? 1 : down);
    if (s->together && units * (1 - sparsity) < 1 - 1e-9)
        return pare_fail(d, PARE_ERR_USAGE, NULL, name,
                         "a sparsity of %g leaves nothing of %s of %g %s; choose a lower one", sparsity,
                         by_row ? "a row" : "the layer", units, s->unit_rows * s->unit_cols > 1 ? "blocks" : "weights");
    return PARE_OK;
}

size_t pare_zeros_of(double sparsity, size_t n) { return (size_t)floor(sparsity * (double)n + 1e-6); }

/* The value that would be at place k of the n values in order; v is reordered (Hoare's selection). */
static float select_kth(float *v, size_t n, size_t k) {
    size_t lo = 0, hi = n - 1;
    while (lo < hi) {
        float a = v[lo], b = v[lo + (hi - lo) / 2], c = v[hi];
        float pivot = a < b ? (b < c ? b : a < c ? c : a) : a < c ? a : b < c ? c : b;
        size_t i = lo, j = hi;
        for (;;) {
            while (v[i] < pivot) i++;
            while (v[j] > pivot) j--;
            if (i >= j) break;
            float t = v[i];
            v[i++] = v[j];
            v[j--] = t;
        }
        if (k <= j) hi = j; /* all up to j are <= pivot, all behind are >= pivot */
        else lo = j + 1;
    }
    return v[k];
}

void pare_mark_smallest(const float *score, size_t n, size_t k, float *scratch, uint8_t *mark) {
    if (!k) return;
    if (k >= n) {
        memset(mark, 1, n);
        return;
    }
    memcpy(scratch, score, n * sizeof *score);
    float limit = select_kth(scratch, n, k - 1);
    size_t ties = k;
    for (size_t i = 0; i < n; i++) ties -= score[i] < limit;
    for (size_t i = 0; i < n; i++) {
        bool tie = score[i] == limit && ties;
        ties -= tie;
        mark[i] = score[i] < limit || tie;
    }
}
