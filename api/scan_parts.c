/* SPDX-License-Identifier: Apache-2.0
 *
 * Sensitivity of structured pruning (api/scan.h). A part that goes says nothing: its columns are zero in the matrices
 * that read it, which gives the outputs of the smaller model before anything is refitted. A layer that goes adds
 * nothing to the residual stream. */
#include "api/gradients.h"
#include "api/scan.h"

#include "core/status.h"

#include <math.h>
#include <string.h>
#include <strings.h>

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "sensitivity", "no memory for the weights of a layer");
}

/* Linear i with the columns of parts that go at zero (stays NULL: all). */
static pare_status silence(pare_scan *s, size_t i, size_t k, const pare_slot *slot, const bool *stays, pare_diag *d) {
    const pare_linear *l = &s->lin.v[i];
    const pare_tensor *t = &s->probe.views[l->weight];
    size_t rows = (size_t)l->rows, n = (size_t)l->cols;
    float *w = pare_malloc_aligned(rows * n * sizeof *w);
    if (!w) return no_memory(d);
    for (size_t r = 0; r < rows; r++) {
        pare_weight_row(t, (int64_t)r, w + r * n);
        for (size_t c = 0; c < n; c++)
            if (!stays || (slot->unit[c] >= 0 && !stays[slot->unit[c]])) w[r * n + c] = 0;
    }
    pare_scan_put(s, i, k, &pare_qtype_f32, w);
    return PARE_OK;
}

static pare_status whole_layers(pare_scan *s, pare_diag *d) {
    for (int stage = 1; stage <= (int)s->out->n_layers; stage++) {
        for (size_t i = 0; i < s->lin.n; i++)
            if (s->lin.v[i].stage == stage && s->lin.v[i].residual >= 0) PARE_TRY(silence(s, i, 0, NULL, NULL, d));
        PARE_TRY(pare_scan_measure(s, stage, d));
    }
    return PARE_OK;
}

typedef struct layer { /* the parts of one */
    pare_dimension dim;
    pare_reader *readers;
    size_t n_readers, first, end; /* of the watch */
} layer;

static pare_status find(pare_scan *s, size_t number, layer *l, pare_unit_watch *watch, pare_diag *d) {
    const pare_arch *a = pare_weights_arch(s->w);
    const pare_graph *g = s->probe.run.m.g;
    bool ffn = strcasecmp(s->o->pattern, "ffn") == 0, bert = a->family == PARE_FAMILY_BERT;
    pare_role role = !ffn ? PARE_ROLE_ATTN_OUT : bert ? PARE_ROLE_BERT_DOWN : PARE_ROLE_FFN_DOWN;
    pare_head_mode mode = strcasecmp(s->o->pattern, "query-heads") == 0 ? PARE_HEADS_QUERY : PARE_HEADS_GROUPS;
    char name[160];
    pare_name_format(a->family, PARE_SOURCE_GGUF, (pare_tensor_name){role, (int)number, false}, name, sizeof name);
    pare_value v = pare_graph_find(g, name);
    if (v < 0) return pare_fail(d, PARE_ERR_INTERNAL, s->job->src->path, name, "the graph does not have it");
    PARE_TRY(pare_structure_find(g, v, 1, mode, &l->dim, d));
    PARE_TRY(pare_dimension_readers(g, &l->dim, &l->readers, &l->n_readers, d));
    l->first = watch->n;
    PARE_TRY(pare_unit_watch_add(watch, g, &l->dim, l->readers, l->n_readers, d));
    l->end = watch->n;
    return PARE_OK;
}

/* One pass of the original over the calibration text, hooked. */
static pare_status look(pare_scan *s, pare_unit_watch *watch, pare_diag *d) {
    pare_lm_run *r = &s->probe.run;
    pare_status st = PARE_OK;
    pare_exec_set_hook(r->e, pare_unit_watch_hook, watch);
    st = pare_lm_run_go(r, s->few.ids, true, d);
    pare_exec_set_hook(r->e, NULL, NULL);
    if (st == PARE_OK && watch->bad)
        st = pare_fail(d, PARE_ERR_INPUT, s->job->src->path, watch->bad, "NaN or infinite activations");
    return st;
}

/* The nearest number of parts that can stay: some go, some stay, of every set as many. */
static int32_t staying(const pare_dimension *dim, double goes) {
    int32_t of_set = dim->units / dim->sets, keep = (int32_t)floor((double)of_set * (1 - goes) + 0.5);
    if (keep >= of_set) keep = of_set - 1;
    return (keep < 1 ? 1 : keep) * dim->sets;
}

static pare_status measure(pare_scan *s, size_t number, const layer *l, const pare_unit_watch *watch,
                           const pare_importance *importance, pare_diag *d) {
    size_t units = (size_t)l->dim.units;
    double *score = pare_calloc(units, sizeof *score);
    bool *stays = pare_calloc(units, sizeof *stays);
    pare_status st = score && stays ? PARE_OK : no_memory(d);
    if (st == PARE_OK) st = importance->score(watch->g, watch->v + l->first, l->end - l->first, score, d);
    for (size_t k = 0; st == PARE_OK && k < s->out->n_amounts; k++) {
        int32_t keep = staying(&l->dim, s->out->amounts[k]);
        st = pare_units_choose(&l->dim, score, keep, stays, d);
        for (size_t r = 0; st == PARE_OK && r < l->n_readers; r++)
            for (size_t i = 0; st == PARE_OK && i < s->lin.n; i++)
                if (s->lin.v[i].weight == l->readers[r].weight)
                    st = silence(s, i, k, pare_dimension_slot(&l->dim, l->readers[r].weight, 1), stays, d);
    }
    pare_free(score);
    pare_free(stays);
    return st == PARE_OK ? pare_scan_measure(s, (int)number + 1, d) : st;
}

pare_status pare_scan_parts(pare_scan *s, pare_diag *d) {
    size_t n = s->out->n_layers, found = 0;
    const pare_importance *importance = pare_importance_by_name(s->out->method);
    if (strcasecmp(s->o->pattern, "layers") == 0) return whole_layers(s, d);
    if (strcasecmp(s->o->pattern, "hidden") == 0 || strcasecmp(s->o->pattern, "width") == 0)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--pattern",
                         "channels of the residual stream belong to all layers: there is no sensitivity of one");
    if (!importance) return pare_fail(d, PARE_ERR_USAGE, NULL, "--method", "`%s` does not judge parts", s->out->method);
    layer *l = pare_calloc(n, sizeof *l);
    pare_unit_watch watch = {0};
    pare_status st = l ? PARE_OK : no_memory(d);
    for (; st == PARE_OK && found < n; found++) st = find(s, found, &l[found], &watch, d);
    if (st == PARE_OK && importance->needs & PARE_UNITS_ACTIVATIONS) st = look(s, &watch, d);
    if (st == PARE_OK && importance->needs & PARE_UNITS_GRADIENTS) st = pare_gradients_units(s->w, &s->few, &watch, d);
    for (size_t i = 0; st == PARE_OK && i < n; i++) st = measure(s, i, &l[i], &watch, importance, d);
    for (size_t i = 0; l && i < n; i++) {
        pare_free(l[i].readers);
        pare_dimension_free(&l[i].dim);
    }
    pare_unit_watch_free(&watch);
    pare_free(l);
    return st;
}
