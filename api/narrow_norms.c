/* SPDX-License-Identifier: Apache-2.0
 *
 * Layer norms when channels of what they read go (api/narrow.h). A mean and a deviation over fewer channels are others
 * in every token, which no factor undoes, as it does for RMS norms; scale and bias are chosen so that the channels that
 * stay come out as they did. */
#include "api/narrow.h"

#include "core/status.h"

#include <math.h>
#include <string.h>

typedef struct norm {
    int node;
    pare_value x, param[2]; /* of the original's graph: what it reads; scale, bias */
    double eps;
    float *was[2], *fit[2];  /* [all]; [those that stay] */
    double *z, *zz, *zy, *y; /* sums over the tokens, of the channels that stay */
    double tokens;
} norm;

struct pare_layer_norms {
    const pare_graph *g;
    size_t n, dim, nk;
    norm *v;
    uint32_t *keep;
    float *one, *zero; /* [dim] */
    const char *bad;   /* a node with NaN or Inf */
};

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "healing", "no memory for the layer norms");
}

/* Mean and 1 / deviation of those channels of a token; keep NULL: all. */
static void moments(const float *x, const uint32_t *keep, size_t n, double eps, double *mean, double *inverse) {
    double sum = 0, square = 0;
    for (size_t c = 0; c < n; c++) sum += x[keep ? keep[c] : c];
    *mean = sum / (double)n;
    for (size_t c = 0; c < n; c++) {
        double off = x[keep ? keep[c] : c] - *mean;
        square += off * off;
    }
    *inverse = 1 / sqrt(square / (double)n + eps);
}

static void add_token(const pare_layer_norms *l, norm *v, const float *x) {
    double mean[2], inverse[2]; /* of all, of those that stay */
    moments(x, NULL, l->dim, v->eps, &mean[0], &inverse[0]);
    moments(x, l->keep, l->nk, v->eps, &mean[1], &inverse[1]);
    for (size_t k = 0; k < l->nk; k++) {
        uint32_t c = l->keep[k];
        double y = (x[c] - mean[0]) * inverse[0] * v->was[0][c] + v->was[1][c], z = (x[c] - mean[1]) * inverse[1];
        v->z[k] += z, v->zz[k] += z * z, v->zy[k] += z * y, v->y[k] += y;
    }
    v->tokens++;
}

/* What goes into the norms of the original. */
static bool look(void *ctx, int node, const char *name, pare_op op, const pare_tensor *out) {
    pare_layer_norms *l = ctx;
    for (size_t i = 0; i < l->n; i++) {
        norm *v = &l->v[i];
        if (l->g->nodes[node].out[0] != v->x) continue;
        const float *x = out->data;
        size_t tokens = (size_t)pare_tensor_elems(out) / l->dim;
        for (size_t t = 0; t < tokens; t++) add_token(l, v, x + t * l->dim);
        if (!isfinite(v->y[0])) l->bad = name;
    }
    return false;
}

static void solve(const pare_layer_norms *l, norm *v) {
    for (size_t k = 0; k < l->nk; k++) {
        double t = v->tokens, z = v->z[k] / t, y = v->y[k] / t, variance = v->zz[k] / t - z * z;
        double scale = v->was[0][l->keep[k]];
        if (variance > 1e-9) scale = (v->zy[k] / t - z * y) / variance; /* z has variance 1 over the channels */
        v->fit[0][k] = (float)scale;
        v->fit[1][k] = (float)(y - scale * z);
    }
}

static bool room(pare_layer_norms *l, norm *v) {
    double *sums = v->z = pare_calloc(4 * l->nk, sizeof *sums);
    if (sums) v->zz = sums + l->nk, v->zy = sums + 2 * l->nk, v->y = sums + 3 * l->nk;
    bool ok = sums;
    for (int i = 0; i < 2; i++) {
        v->was[i] = pare_malloc(l->dim * sizeof *v->was[i]);
        v->fit[i] = pare_malloc(l->nk * sizeof *v->fit[i]);
        ok &= v->was[i] && v->fit[i];
    }
    return ok;
}

static pare_status add(pare_narrow *n, pare_layer_norms *l, const pare_reader *at, pare_diag *d) {
    const pare_graph_node_t *x = &l->g->nodes[at->node];
    norm *v = &l->v[l->n++];
    const pare_attr_norm *attr = x->attr;
    *v = (norm){.node = at->node, .x = at->input, .param = {x->in[1], x->in[2]}, .eps = attr->epsilon};
    if (!room(l, v)) return no_memory(d);
    for (int i = 0; i < 2; i++) {
        pare_tensor_name name;
        int64_t size = 0;
        const char *text = l->g->values[v->param[i]].name;
        bool known = pare_name_parse(n->arch.family, PARE_SOURCE_GGUF, text, &name);
        const float *was = known ? pare_weights_floats(n->w, name.role, name.layer, name.bias, &size) : NULL;
        if (!was || (size_t)size != l->dim) return no_memory(d);
        memcpy(v->was[i], was, l->dim * sizeof *was);
    }
    return PARE_OK;
}

static pare_status open(pare_narrow *n, pare_layer_norms *l, pare_diag *d) {
    pare_reader *norms;
    size_t count;
    l->g = n->run.m.g;
    l->dim = (size_t)n->arch.dim, l->nk = (size_t)n->to.dim;
    PARE_TRY(pare_dimension_norms(l->g, &n->dims[0], &norms, &count, d));
    l->v = pare_calloc(count + 1, sizeof *l->v);
    l->keep = pare_malloc(l->dim * sizeof *l->keep);
    l->one = pare_malloc(l->dim * sizeof *l->one);
    l->zero = pare_calloc(l->dim, sizeof *l->zero);
    pare_status s = l->v && l->keep && l->one && l->zero ? PARE_OK : no_memory(d);
    if (s == PARE_OK) pare_slot_kept(&n->dims[0].slots[0], n->stays[0], l->keep);
    for (size_t c = 0; s == PARE_OK && c < l->dim; c++) l->one[c] = 1;
    for (size_t i = 0; s == PARE_OK && i < count; i++) s = add(n, l, &norms[i], d);
    pare_free(norms);
    return s;
}

pare_status pare_layer_norms_fit(pare_narrow *n, pare_layer_norms **out, pare_diag *d) {
    pare_layer_norms *l = *out = pare_calloc(1, sizeof *l);
    if (!l) return no_memory(d);
    PARE_TRY(open(n, l, d));
    PARE_TRY(pare_narrow_pass(n, look, l, "norms", d));
    if (l->bad)
        return pare_fail(d, PARE_ERR_INPUT, n->job->src->path, l->bad,
                         "NaN or infinite activations on the calibration data");
    for (size_t i = 0; i < l->n; i++) solve(l, &l->v[i]);
    return PARE_OK;
}

void pare_layer_norms_use(const pare_layer_norms *l, pare_exec *e) {
    for (size_t i = 0; i < l->n; i++)
        for (int k = 0; k < 2; k++) {
            pare_tensor view = l->g->values[l->v[i].param[k]].tensor;
            view.type = &pare_qtype_f32, view.data = k ? l->zero : l->one;
            pare_exec_replace_weight(e, l->v[i].param[k], &view);
        }
}

/* The norm of all channels is linear in what it reads, token by token: its own norm over those that stay is theirs
 * (but for epsilon, which is nothing beside a variance near 1). */
bool pare_layer_norms_amend(void *norms, int node, const char *name, pare_op op, const pare_tensor *out) {
    const pare_layer_norms *l = norms;
    const norm *v = l->v, *end = v + l->n;
    while (v < end && v->node != node) v++;
    if (v == end) return false;
    size_t tokens = (size_t)pare_tensor_elems(out) / l->dim;
    for (size_t t = 0; t < tokens; t++) {
        float *x = (float *)out->data + t * l->dim;
        double mean, inverse;
        moments(x, l->keep, l->nk, v->eps, &mean, &inverse);
        size_t k = 0;
        for (size_t c = 0; c < l->dim; c++) {
            bool stays = k < l->nk && l->keep[k] == c;
            x[c] = stays ? (float)((x[c] - mean) * inverse * v->fit[0][k] + v->fit[1][k]) : 0;
            k += stays;
        }
    }
    return true;
}

pare_status pare_layer_norms_refit(pare_narrow *n, const pare_layer_norms *l, pare_diag *d) {
    for (size_t i = 0; i < l->n; i++)
        for (int k = 0; k < 2; k++) {
            pare_tensor_name name;
            if (pare_name_parse(n->arch.family, PARE_SOURCE_GGUF, l->g->values[l->v[i].param[k]].name, &name))
                PARE_TRY(pare_narrow_refit(n, name, l->v[i].fit[k], 1, (int64_t)l->nk, NULL, d));
        }
    return PARE_OK;
}

void pare_layer_norms_free(pare_layer_norms **lp) {
    pare_layer_norms *l = *lp;
    if (!l) return;
    for (size_t i = 0; i < l->n; i++) {
        for (int k = 0; k < 2; k++) pare_free(l->v[i].was[k]), pare_free(l->v[i].fit[k]);
        pare_free(l->v[i].z);
    }
    pare_free(l->v);
    pare_free(l->keep);
    pare_free(l->one);
    pare_free(l->zero);
    pare_free(l);
    *lp = NULL;
}
