/* SPDX-License-Identifier: Apache-2.0
 *
 * Influence of layers, and the statistics for closing a gap (prune/depth.h). */
#include "prune/depth.h"

#include "calib/linalg.h"
#include "core/status.h"

#include <math.h>
#include <string.h>

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "layers", "no memory for the activations between layers");
}

pare_status pare_depth_open(const pare_graph *g, const pare_value *stream, int layers, int run, size_t width,
                            size_t window, pare_depth *p, pare_diag *d) {
    *p = (pare_depth){.g = g, .layers = layers, .run = run, .width = width, .window = window, .last_token = true};
    p->stream = pare_malloc((size_t)(layers + 1) * sizeof *p->stream);
    p->influence = pare_calloc((size_t)layers, sizeof *p->influence);
    p->distance = pare_calloc((size_t)layers, sizeof *p->distance);
    p->kept = pare_calloc((size_t)run + 1, sizeof *p->kept);
    p->kept_tokens = pare_calloc((size_t)run + 1, sizeof *p->kept_tokens);
    if (!p->stream || !p->influence || !p->distance || !p->kept || !p->kept_tokens) return no_memory(d);
    memcpy(p->stream, stream, (size_t)(layers + 1) * sizeof *p->stream);
    return PARE_OK;
}

void pare_depth_close(pare_depth *p) {
    for (int i = 0; p->kept && i <= p->run; i++) pare_free(p->kept[i]);
    void *all[] = {p->stream, p->influence, p->distance, p->kept, p->kept_tokens};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) pare_free(all[i]);
    *p = (pare_depth){0};
}

static double cosine(const float *a, const float *b, size_t n) {
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) ab += (double)a[i] * b[i], aa += (double)a[i] * a[i], bb += (double)b[i] * b[i];
    double c = ab / sqrt(aa * bb);
    return aa == 0 || bb == 0 ? 0 : c > 1 ? 1 : c < -1 ? -1 : c; /* NaN stays */
}

/* The stream before layer l has been kept in the ring; x is that before layer `at`. */
static void compare(pare_depth *p, int at, const float *x, size_t tokens) {
    int l = at - 1, far = at - p->run;
    size_t w = p->width;
    for (size_t t = 0; l >= 0 && t < tokens; t++) {
        double c = cosine(p->kept[l % (p->run + 1)] + t * w, x + t * w, w);
        if (isnan(c)) p->bad = p->g->values[p->stream[at]].name;
        p->influence[l] += 1 - c;
    }
    if (l == 0) p->tokens += (double)tokens;
    for (size_t t = 0; far >= 0 && t < tokens; t++)
        if (!p->last_token || t % p->window == p->window - 1) {
            p->distance[far] += acos(cosine(p->kept[far % (p->run + 1)] + t * w, x + t * w, w)) / M_PI;
            if (far == 0) p->last++;
        }
}

bool pare_depth_hook(void *depth, int node, const char *name, pare_op op, const pare_tensor *out) {
    pare_depth *p = depth;
    pare_value v = p->g->nodes[node].out[0];
    int at = 0;
    while (at <= p->layers && p->stream[at] != v) at++;
    if (at > p->layers || p->nomem) return false;
    size_t n = (size_t)pare_tensor_elems(out);
    if (at > 0) compare(p, at, out->data, n / p->width);
    int k = at % (p->run + 1);
    if (n > p->kept_tokens[k]) {
        pare_free(p->kept[k]);
        p->kept[k] = pare_malloc(n * sizeof(float));
        p->kept_tokens[k] = p->kept[k] ? n : 0;
        if (!p->kept[k]) return p->nomem = true, false;
    }
    memcpy(p->kept[k], out->data, n * sizeof(float));
    return false;
}

void pare_depth_finish(pare_depth *p) {
    for (int l = 0; l < p->layers; l++) {
        p->influence[l] /= p->tokens > 0 ? p->tokens : 1;
        p->distance[l] /= p->last > 0 ? p->last : 1;
    }
}

void pare_depth_choose(const pare_depth *p, bool consecutive, bool *drop) {
    memset(drop, 0, (size_t)p->layers * sizeof *drop);
    if (consecutive) {
        int best = 0;
        for (int l = 1; l + p->run <= p->layers; l++)
            if (p->distance[l] < p->distance[best]) best = l;
        for (int l = best; l < best + p->run; l++) drop[l] = true;
        return;
    }
    for (int k = 0; k < p->run; k++) {
        int best = -1;
        for (int l = 0; l < p->layers; l++)
            if (!drop[l] && (best < 0 || p->influence[l] < p->influence[best])) best = l;
        drop[best] = true;
    }
}

/* ---- closing a gap ---- */
pare_status pare_gap_open(const pare_graph *g, pare_value before, pare_value after, pare_value input, size_t width,
                          size_t n, pare_gap *p, pare_diag *d) {
    *p = (pare_gap){.g = g, .before = before, .after = after, .input = input, .width = width, .n = n};
    for (int k = 0; k < 2; k++) {
        p->h[k] = pare_calloc(n * n, sizeof(float));
        p->r[k] = pare_calloc(width * n, sizeof(float));
        if (!p->h[k] || !p->r[k]) return no_memory(d);
    }
    return PARE_OK;
}

void pare_gap_close(pare_gap *p) {
    void *all[] = {p->h[0], p->h[1], p->r[0], p->r[1], p->x, p->x0, p->diff};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) pare_free(all[i]);
    *p = (pare_gap){0};
}

static bool room(pare_gap *p, size_t tokens) {
    if (tokens <= p->cap) return true;
    pare_free(p->x);
    pare_free(p->x0);
    pare_free(p->diff);
    p->x = pare_malloc(tokens * p->n * sizeof *p->x);
    p->x0 = pare_malloc(tokens * p->width * sizeof *p->x0);
    p->diff = pare_malloc(tokens * p->width * sizeof *p->diff);
    p->cap = tokens;
    return p->x && p->x0 && p->diff;
}

bool pare_gap_hook(void *gap, int node, const char *name, pare_op op, const pare_tensor *out) {
    pare_gap *p = gap;
    pare_value v = p->g->nodes[node].out[0];
    if (p->nomem || (v != p->input && v != p->before && v != p->after)) return false;
    size_t elems = (size_t)pare_tensor_elems(out), tokens = elems / (v == p->input ? p->n : p->width);
    if (!room(p, tokens)) return p->nomem = true, false;
    if (v != p->after) {
        memcpy(v == p->input ? p->x : p->x0, out->data, elems * sizeof(float));
        return false;
    }
    const float *y = out->data;
    double sum = 0;
    for (size_t i = 0; i < elems; i++) sum += p->diff[i] = y[i] - p->x0[i];
    if (!isfinite(sum)) p->bad = name;
    size_t first = tokens - tokens / 4;
    pare_gram_add(p->n, first, p->x, p->h[0]);
    pare_cross_add(p->width, p->n, first, p->diff, p->x, p->r[0]);
    pare_gram_add(p->n, tokens - first, p->x + first * p->n, p->h[1]);
    pare_cross_add(p->width, p->n, tokens - first, p->diff + first * p->width, p->x + first * p->n, p->r[1]);
    return false;
}
