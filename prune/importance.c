/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of importances, the statistics they share, and the choice of units. */
#include "prune/importance.h"

#include "core/status.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define PARE_IMPORTANCE(id) extern const pare_importance pare_importance_##id;
#include "prune/importances.def"
#undef PARE_IMPORTANCE

static const pare_importance *const all[] = {
#define PARE_IMPORTANCE(id) &pare_importance_##id,
#include "prune/importances.def"
#undef PARE_IMPORTANCE
};

const pare_importance *pare_importance_at(size_t i) { return i < sizeof all / sizeof *all ? all[i] : NULL; }

const pare_importance *pare_importance_by_name(const char *name) {
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcasecmp(all[i]->name, name) == 0) return all[i];
    return NULL;
}

void pare_weight_row(const pare_tensor *w, int64_t r, float *out) {
    size_t n = (size_t)pare_tensor_cols(w);
    w->type->decode(w->type, (const char *)w->data + (size_t)r * pare_row_bytes(w->type, n), out, n);
}

/* ---- statistics ---- */
static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "importance", "no memory for the statistics");
}

/* The last axis of the value that a reader reads. */
static const pare_slot *slot_of(const pare_dimension *dim, const pare_reader *r) {
    const pare_slot *last = NULL;
    for (size_t i = 0; i < dim->n; i++)
        if (dim->slots[i].value == r->input && (!last || dim->slots[i].axis > last->axis)) last = &dim->slots[i];
    return last;
}

pare_status pare_unit_watch_add(pare_unit_watch *w, const pare_graph *g, const pare_dimension *dim,
                                const pare_reader *readers, size_t n, pare_diag *d) {
    size_t cap = w->n, most = 0;
    w->g = g;
    if (pare_grow((void **)&w->v, &cap, w->n + n, sizeof *w->v) != PARE_OK) return no_memory(d);
    for (size_t i = 0; i < n; i++) {
        const pare_slot *s = slot_of(dim, &readers[i]);
        if (!s) continue;
        pare_unit_stats *u = &w->v[w->n++];
        *u = (pare_unit_stats){.dim = dim, .slot = s, .reads = &readers[i]};
        u->norm = pare_calloc((size_t)dim->units, sizeof *u->norm);
        u->square = pare_calloc((size_t)s->size, sizeof *u->square);
        u->mean = pare_calloc((size_t)s->size, sizeof *u->mean);
        u->taylor = pare_calloc((size_t)dim->units, sizeof *u->taylor);
        if (!u->norm || !u->square || !u->mean || !u->taylor) return no_memory(d);
    }
    for (size_t i = 0; i < w->n; i++)
        if ((size_t)w->v[i].dim->units > most) most = (size_t)w->v[i].dim->units;
    double *token = pare_realloc(w->token, (most + 1) * sizeof *token);
    if (!token) return no_memory(d);
    w->token = token;
    return PARE_OK;
}

void pare_unit_watch_free(pare_unit_watch *w) {
    for (size_t i = 0; i < w->n; i++) {
        pare_free(w->v[i].norm);
        pare_free(w->v[i].square);
        pare_free(w->v[i].mean);
        pare_free(w->v[i].taylor);
    }
    pare_free(w->v);
    pare_free(w->token);
    *w = (pare_unit_watch){0};
}

static bool add_token(pare_unit_stats *u, const float *x, double *token) {
    double all_of = 0;
    memset(token, 0, (size_t)u->dim->units * sizeof *token);
    for (int64_t c = 0; c < u->slot->size; c++) {
        double v = x[c], sq = v * v;
        u->mean[c] += v;
        u->square[c] += sq;
        all_of += sq;
        if (u->slot->unit[c] >= 0) token[u->slot->unit[c]] += sq;
    }
    for (int32_t k = 0; k < u->dim->units; k++) u->norm[k] += sqrt(token[k]);
    u->tokens++;
    return isfinite(all_of);
}

bool pare_unit_watch_hook(void *watch, int node, const char *name, pare_op op, const pare_tensor *out) {
    pare_unit_watch *w = watch;
    for (size_t i = 0; i < w->n; i++) {
        pare_unit_stats *u = &w->v[i];
        if (w->g->nodes[node].out[0] != u->slot->value) continue;
        size_t n = (size_t)u->slot->size, tokens = (size_t)pare_tensor_elems(out) / n;
        for (size_t t = 0; t < tokens; t++)
            if (!add_token(u, (const float *)out->data + t * n, w->token)) w->bad = name;
    }
    return false;
}

/* ---- choosing ---- */
typedef struct ranked {
    double score;
    int32_t unit;
} ranked;

static int by_score(const void *a, const void *b) { /* best first */
    const ranked *x = a, *y = b;
    if (x->score != y->score) return x->score < y->score ? 1 : -1;
    return x->unit < y->unit ? -1 : 1;
}

pare_status pare_units_choose(const pare_dimension *dim, const double *score, int32_t keep_n, bool *keep,
                              pare_diag *d) {
    ranked *r = pare_malloc(((size_t)dim->units + 1) * sizeof *r);
    if (!r) return no_memory(d);
    memset(keep, 0, (size_t)dim->units * sizeof *keep);
    for (int32_t set = 0; set < dim->sets; set++) {
        size_t n = 0;
        for (int32_t u = 0; u < dim->units; u++)
            if (dim->set[u] == set) r[n++] = (ranked){score[u], u};
        qsort(r, n, sizeof *r, by_score);
        for (size_t k = 0; k < n && k < (size_t)(keep_n / dim->sets); k++) keep[r[k].unit] = true;
    }
    pare_free(r);
    return PARE_OK;
}
