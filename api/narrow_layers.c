/* SPDX-License-Identifier: Apache-2.0
 *
 * Dropping whole layers: which, by their influence or as asked, and closing the gaps (api/narrow.h). */
#include "api/narrow.h"

#include "core/log.h"
#include "core/status.h"
#include "prune/depth.h"
#include "prune/heal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "layers", "no memory for a layer's statistics");
}

/* "3,20-22" */
static pare_status parse(pare_narrow *n, pare_diag *d) {
    for (const char *s = n->o->drop; *s;) {
        char *end;
        long a = strtol(s, &end, 10), b = a;
        if (end != s && *end == '-') {
            s = end + 1;
            b = strtol(s, &end, 10);
        }
        if (end == s || (*end && *end != ',') || a < 0 || b < a)
            return pare_fail(d, PARE_ERR_USAGE, NULL, "--drop", "`%s` should read like 3,20-22", n->o->drop);
        if (b >= n->arch.layers)
            return pare_fail(d, PARE_ERR_USAGE, NULL, "--drop", "there is no layer %ld; this model has 0 to %lld", b,
                             (long long)n->arch.layers - 1);
        for (long l = a; l <= b; l++) n->drop[l] = true;
        s = *end ? end + 1 : end;
    }
    return PARE_OK;
}

/* What leaves the last node of a stage: the residual stream. Stage 0 embeds, stage l + 1 is layer l. */
static pare_value stream(const pare_graph *g, int stage) {
    int first, end;
    pare_graph_stage_range(g, stage, &first, &end);
    return end > first ? g->nodes[end - 1].out[0] : PARE_NO_VALUE;
}

static pare_status by_influence(pare_narrow *n, int run, pare_diag *d) {
    int layers = (int)n->arch.layers;
    const pare_graph *g = n->run.m.g;
    pare_depth p = {0};
    pare_value *at = pare_malloc((size_t)(layers + 1) * sizeof *at);
    for (int l = 0; at && l <= layers; l++) at[l] = stream(g, l);
    pare_status s =
        at ? pare_depth_open(g, at, layers, run, (size_t)n->arch.dim, (size_t)n->data.ctx, &p, d) : no_memory(d);
    if (s == PARE_OK) p.last_token = n->arch.family == PARE_FAMILY_LLAMA;
    if (s == PARE_OK) s = pare_narrow_pass(n, pare_depth_hook, &p, "score", d);
    if (s == PARE_OK && p.nomem) s = no_memory(d);
    if (s == PARE_OK && p.bad)
        s = pare_fail(d, PARE_ERR_INPUT, n->job->src->path, p.bad,
                      "NaN or infinite activations on the calibration data");
    if (s == PARE_OK) {
        pare_depth_finish(&p);
        pare_depth_choose(&p, strcasecmp(n->o->method, "angular") == 0, n->drop);
        for (int l = 0; l < layers; l++)
            pare_log(PARE_LOG_DEBUG, "layer %d: influence %.4f, distance of the %d from here %.4f%s", l, p.influence[l],
                     run, p.distance[l], n->drop[l] ? ", goes" : "");
    }
    pare_depth_close(&p);
    pare_free(at);
    return s;
}

static pare_status fit_gap(const pare_gap *gap, const float *w, float *fit, bool *better, pare_diag *d) {
    double damping, step;
    uint32_t *keep = pare_malloc(gap->n * sizeof *keep);
    if (!keep) return no_memory(d);
    for (size_t c = 0; c < gap->n; c++) keep[c] = (uint32_t)c;
    pare_heal k = {gap->width, gap->n, gap->n, w, keep, {gap->h[0], NULL, gap->r[0]}, {gap->h[1], NULL, gap->r[1]}};
    pare_status s = pare_heal_fit(&k, fit, &damping, &step, d);
    *better = step > 0;
    pare_free(keep);
    return s;
}

/* The linear whose output ends layer `first` - 1; *l stays NULL where there is none to be refitted. */
static void before_gap(const pare_graph *g, const pare_linears *lin, int first, const pare_linear **l) {
    for (size_t i = 0; i < lin->n; i++)
        if (lin->v[i].stage == first && lin->v[i].residual >= 0) *l = &lin->v[i];
    if (!*l || g->values[(*l)->weight].tensor.type->kind == PARE_QK_FLOAT) return;
    pare_log(PARE_LOG_WARN, "%s: already rounded, so the gap after it is not healed; prune the original", (*l)->name);
    *l = NULL;
}

static pare_status refit(pare_narrow *n, const pare_linear *l, pare_gap *gap, pare_diag *d) {
    size_t rows = (size_t)l->rows, cols = (size_t)l->cols;
    pare_tensor_name name;
    bool better = false;
    if (!pare_name_parse(n->arch.family, PARE_SOURCE_GGUF, l->name, &name)) return PARE_OK;
    float *w = pare_malloc(rows * cols * sizeof *w), *fit = pare_malloc(rows * cols * sizeof *fit);
    pare_status s = w && fit ? PARE_OK : no_memory(d);
    if (s == PARE_OK) {
        const pare_tensor *stored = &n->run.m.g->values[l->weight].tensor;
        for (size_t r = 0; r < rows; r++) pare_weight_row(stored, (int64_t)r, w + r * cols);
        s = fit_gap(gap, w, fit, &better, d);
    }
    if (s == PARE_OK && better) s = pare_narrow_refit(n, name, fit, l->rows, l->cols, NULL, d);
    if (s == PARE_OK && !better)
        pare_log(PARE_LOG_INFO, "%s: refitting it gains nothing on text that was not fitted; it stays", l->name);
    pare_free(w);
    pare_free(fit);
    return s;
}

/* Refits the linear before a gap, so that its residual stream comes close to that after layer `end` - 1 (as ReplaceMe
 * does with a matrix of the stream alone, arXiv 2505.02819). */
static pare_status close_gap(pare_narrow *n, int first, int end, pare_diag *d) {
    const pare_graph *g = n->run.m.g;
    pare_linears lin;
    const pare_linear *l = NULL;
    pare_gap gap = {0};
    PARE_TRY(pare_linears_find(g, &lin, d));
    before_gap(g, &lin, first, &l);
    pare_status s = PARE_OK;
    if (l) {
        s = pare_gap_open(g, stream(g, first), stream(g, end), l->input, (size_t)l->rows, (size_t)l->cols, &gap, d);
        if (s == PARE_OK) s = pare_narrow_pass(n, pare_gap_hook, &gap, "heal", d);
        if (s == PARE_OK && gap.nomem) s = no_memory(d);
        if (s == PARE_OK && gap.bad)
            s = pare_fail(d, PARE_ERR_INPUT, n->job->src->path, gap.bad,
                          "NaN or infinite activations on the calibration data");
        if (s == PARE_OK) s = refit(n, l, &gap, d);
    }
    pare_gap_close(&gap);
    pare_linears_free(&lin);
    return s;
}

static void tell(const pare_narrow *n) {
    char text[400] = "";
    for (int l = 0; l < (int)n->arch.layers; l++)
        if (n->drop[l] && strlen(text) < sizeof text - 16)
            snprintf(text + strlen(text), 16, "%s%d", text[0] ? ", " : "", l);
    pare_log(PARE_LOG_INFO, "layers that go: %s", text);
}

pare_status pare_narrow_layers(pare_narrow *n, pare_diag *d) {
    int layers = (int)n->arch.layers, gone = 0;
    if (n->o->drop) PARE_TRY(parse(n, d));
    else if (n->job->sizes_only)
        for (int l = (int)n->keep; l < layers; l++) n->drop[l] = true;
    else PARE_TRY(by_influence(n, layers - (int)n->keep, d));
    for (int l = 0; l < layers; l++) gone += n->drop[l];
    if (gone == layers || !gone)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--drop", "%d of %d layers would go", gone, layers);
    n->to.layers = layers - gone;
    if (n->job->sizes_only) return PARE_OK;
    tell(n);
    if (n->o->no_heal) return PARE_OK;
    if (n->arch.family == PARE_FAMILY_BERT) {
        pare_log(PARE_LOG_INFO, "gaps are not healed: a norm follows the sum in this architecture");
        return PARE_OK;
    }
    for (int l = 1; l < layers; l++) { /* nothing comes before a gap at layer 0 */
        int end = l;
        if (!n->drop[l] || n->drop[l - 1]) continue;
        while (end < layers && n->drop[end]) end++;
        PARE_TRY(close_gap(n, l, end, d));
    }
    return PARE_OK;
}
