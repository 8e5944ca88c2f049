/* SPDX-License-Identifier: Apache-2.0
 *
 * Node by node comparison through the executor's hook. */
#include "verify/layer_metrics.h"

#include "core/alloc.h"
#include "core/status.h"
#include "verify/diff.h"

#include <string.h>

#define RUN_ELEMS 256u /* a sample is made of runs of this many neighbours */

typedef struct node {
    char *name;
    pare_op op;
    size_t n, kept;
    float *sample;
    pare_diff diff;
    bool compared;
} node;

struct pare_layers {
    pare_layers_phase phase;
    size_t budget_elems, n_counted, next;
    node *nodes;
    size_t n, cap;
    bool failed;
    pare_layers_applies_fn *applies;
    const uint32_t *order;
    size_t head_dim;
};

pare_layers *pare_layers_new(size_t budget_bytes) {
    pare_layers *l = pare_calloc(1, sizeof *l);
    if (l) l->budget_elems = budget_bytes / sizeof(float);
    return l;
}

void pare_layers_free(pare_layers **lp) {
    pare_layers *l = lp ? *lp : NULL;
    if (!l) return;
    for (size_t i = 0; i < l->n; i++) {
        pare_free(l->nodes[i].name);
        pare_free(l->nodes[i].sample);
    }
    pare_free(l->nodes);
    pare_free(l);
    *lp = NULL;
}

pare_status pare_layers_start(pare_layers *l, pare_layers_phase phase, pare_diag *d) {
    l->phase = phase;
    l->next = 0;
    if (phase == PARE_LAYERS_COUNT) l->n_counted = 0;
    return l->failed ? pare_fail(d, PARE_ERR_NOMEM, NULL, "layers", "no memory for the layer view") : PARE_OK;
}

void pare_layers_reorder(pare_layers *l, pare_layers_applies_fn *applies, const uint32_t *order, size_t head_dim) {
    l->applies = applies, l->order = order, l->head_dim = head_dim;
}

/* First element of run `i` of a sample of `kept` elements out of n (both multiples are not needed: the last run ends at
 * n). */
static size_t run_start(size_t i, size_t kept, size_t n) {
    size_t runs = (kept + RUN_ELEMS - 1) / RUN_ELEMS;
    return runs < 2 ? 0 : (size_t)((unsigned __int128)i * (n - RUN_ELEMS) / (runs - 1));
}

static void record(pare_layers *l, const char *name, pare_op op, const float *x, size_t n) {
    size_t quota = l->n_counted ? l->budget_elems / l->n_counted / RUN_ELEMS * RUN_ELEMS : 0;
    if (quota < RUN_ELEMS) quota = RUN_ELEMS;
    if (pare_grow((void **)&l->nodes, &l->cap, l->n + 1, sizeof *l->nodes) != PARE_OK) {
        l->failed = true;
        return;
    }
    node *v = &l->nodes[l->n];
    *v = (node){.op = op, .n = n, .kept = n < quota ? n : quota};
    v->name = pare_strdup(name);
    v->sample = pare_malloc(v->kept * sizeof(float));
    if (!v->name || !v->sample) {
        pare_free(v->name);
        pare_free(v->sample);
        l->failed = true;
        return;
    }
    l->n++;
    if (v->kept == n) memcpy(v->sample, x, n * sizeof *x);
    else
        for (size_t i = 0; i * RUN_ELEMS < v->kept; i++)
            memcpy(v->sample + i * RUN_ELEMS, x + run_start(i, v->kept, n), RUN_ELEMS * sizeof *x);
}

/* Elements start .. start + n of the reduced model's output x, against the sample; in the original's order. */
static void add_run(const pare_layers *l, node *v, size_t sample_at, const float *x, size_t start, size_t n,
                    bool reorder) {
    float in_order[RUN_ELEMS];
    if (!reorder) {
        pare_diff_add(&v->diff, v->sample + sample_at, x + start, n);
        return;
    }
    for (size_t i = 0; i < n; i += RUN_ELEMS) {
        size_t m = n - i < RUN_ELEMS ? n - i : RUN_ELEMS;
        for (size_t k = 0; k < m; k++) {
            size_t e = start + i + k;
            in_order[k] = x[e - e % l->head_dim + l->order[e % l->head_dim]];
        }
        pare_diff_add(&v->diff, v->sample + sample_at + i, in_order, m);
    }
}

static void compare(pare_layers *l, const char *name, const float *x, size_t n) {
    for (size_t k = 0; k < l->n; k++) { /* nodes come in the same order as a rule */
        node *v = &l->nodes[(l->next + k) % l->n];
        if (v->compared || strcmp(v->name, name) != 0) continue;
        l->next = (l->next + k + 1) % l->n;
        if (v->n != n) return;
        bool reorder = l->applies && l->applies(name) && n % l->head_dim == 0;
        v->compared = true;
        pare_diff_init(&v->diff);
        if (v->kept == n) add_run(l, v, 0, x, 0, n, reorder);
        else
            for (size_t i = 0; i * RUN_ELEMS < v->kept; i++)
                add_run(l, v, i * RUN_ELEMS, x, run_start(i, v->kept, n), RUN_ELEMS, reorder);
        return;
    }
}

bool pare_layers_hook(void *layers, int index, const char *name, pare_op op, const pare_tensor *out) {
    pare_layers *l = layers;
    if (out->type != &pare_qtype_f32 || l->failed) return false;
    size_t n = (size_t)pare_tensor_elems(out);
    if (!n) return false;
    if (l->phase == PARE_LAYERS_COUNT) l->n_counted++;
    else if (l->phase == PARE_LAYERS_RECORD) record(l, name, op, out->data, n);
    else if (l->n) compare(l, name, out->data, n);
    return false;
}

pare_status pare_layers_finish(pare_layers *l, pare_verify_report *r, pare_diag *d) {
    if (l->failed) return pare_fail(d, PARE_ERR_NOMEM, NULL, "layers", "no memory for the layer view");
    size_t unmatched = 0;
    for (size_t i = 0; i < l->n; i++) {
        const node *v = &l->nodes[i];
        if (!v->compared) {
            unmatched++;
            continue;
        }
        if (v->diff.bad >= 0)
            return pare_fail(d, PARE_ERR_INPUT, NULL, v->name, "NaN or infinite output of this node in the %s model",
                             v->diff.bad ? "reduced" : "original");
        pare_part p = {v->name,
                       pare_op_get(v->op)->name,
                       pare_diff_sqnr_db(&v->diff),
                       pare_diff_cosine(&v->diff),
                       v->diff.max_error,
                       false};
        pare_report_layer(r, &p);
        if (v->diff.diff2 > 0 && !r->first_differing) r->first_differing = pare_report_str(r, v->name);
    }
    if (l->n && unmatched == l->n)
        return pare_fail(d, PARE_ERR_MISMATCH, NULL, "layers",
                         "the two models have no node of the same name and shape");
    if (unmatched) pare_report_number(r, "nodes_without_counterpart", (double)unmatched);
    PARE_TRY(pare_report_status(r, d));
    return pare_parts_flag(r->layers, r->n_layers, d);
}
