/* SPDX-License-Identifier: Apache-2.0
 *
 * Weights on a backend with memory of its own. They come with the first run of their stage and stay. When memory runs
 * out, the weight whose next use is farthest away goes first (Belady's rule, under the assumption that stages are
 * walked in order, over and over): of a model larger than the device the first stages stay and the rest is streamed.
 * A weight that several stages use counts by the nearest of them. */
#include "graph/exec_impl.h"

#include "core/status.h"

#include <limits.h>
#include <string.h>

#define RESERVE 32   /* weights leave one part in 32 of the memory free: larger plans, recordings, the driver's needs */
#define SMALL   4096 /* bytes; smaller ones (shapes, norms) go last and may take the reserve: they give little memory */

static bool is_weight(const pare_exec *e, pare_value v) { return v >= 0 && e->g->values[v].kind == PARE_VALUE_WEIGHT; }

/* The same bytes; a tied embedding is stored once and read as rows here, as a transposed matrix there. */
static bool same_weight(const pare_tensor *a, const pare_tensor *b) {
    return a->data == b->data && a->type == b->type && a->ndim == b->ndim &&
           memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof *a->shape) == 0;
}

pare_status pare_exec_open_weights(pare_exec *e) {
    const pare_graph *g = e->g;
    size_t n = g->n_values + 1;
    e->in_use = -1;
    e->mirror = pare_calloc(n, sizeof *e->mirror);
    e->mirror_bytes = pare_calloc(n, sizeof *e->mirror_bytes);
    e->home = pare_calloc(n, sizeof *e->home);
    e->next_use = pare_calloc(n, sizeof *e->next_use);
    e->held = pare_calloc(2 * n, sizeof *e->held);
    e->there = e->held + n;
    if (!e->mirror || !e->mirror_bytes || !e->home || !e->next_use || !e->held) return PARE_ERR_NOMEM;
    for (pare_value v = 0; (size_t)v < g->n_values; v++) {
        e->home[v] = v;
        for (pare_value w = 0; is_weight(e, v) && w < v && e->home[v] == v; w++)
            if (is_weight(e, w) && same_weight(&g->values[w].tensor, &g->values[v].tensor)) e->home[v] = w;
    }
    return PARE_OK;
}

void pare_exec_close_weights(pare_exec *e) {
    for (size_t v = 0; e->mirror && v < e->g->n_values; v++)
        if (e->mirror[v]) e->be->release(e->dev, e->mirror[v]);
    pare_free(e->mirror);
    pare_free(e->mirror_bytes);
    pare_free(e->home);
    pare_free(e->next_use);
    pare_free(e->held);
}

static void drop(pare_exec *e, pare_value v) {
    e->be->release(e->dev, e->mirror[v]);
    e->weights -= e->mirror_bytes[v];
    e->mirror[v] = NULL;
    e->mirror_bytes[v] = 0;
    e->generation++;
}

/* Stages until each weight is used again: 0 for those of the stage that is running, INT_MAX for never. */
static void find_next_uses(pare_exec *e) {
    for (size_t v = 0; v < e->g->n_values; v++) e->next_use[v] = INT_MAX;
    for (size_t i = 0; i < e->g->n_nodes; i++) {
        const pare_graph_node_t *n = &e->g->nodes[i];
        int wait = n->stage - e->in_use;
        if (wait < 0) wait += (int)e->g->n_stages;
        for (int k = 0; k < n->n_in && !(e->plan && e->plan->fallback[i]); k++) {
            if (!is_weight(e, n->in[k])) continue;
            int *use = &e->next_use[e->home[n->in[k]]];
            if (wait < *use) *use = wait;
        }
    }
}

/* The resident weight to drop first, PARE_NO_VALUE when all that is left is in use. */
static pare_value farthest(const pare_exec *e) {
    pare_value best = PARE_NO_VALUE;
    bool best_small = true;
    for (pare_value v = 0; (size_t)v < e->g->n_values; v++) {
        if (!is_weight(e, v) || !e->mirror[v] || e->held[v] || e->next_use[v] == 0) continue;
        bool small = e->mirror_bytes[v] < SMALL;
        if (best >= 0 && (small > best_small || (small == best_small && e->next_use[v] <= e->next_use[best]))) continue;
        best = v;
        best_small = small;
    }
    return best;
}

/* Bytes that may still be taken: of all memory, or of what weights may have. */
static size_t room(const pare_exec *e, bool for_weight) {
    size_t left = 0, total = 0, own = e->weights + e->block_bytes + e->workspace_bytes;
    e->be->memory(e->dev, &left, &total);
    if (!for_weight) return left;
    size_t reserve = total / RESERVE, taken = reserve + e->leave + own;
    left -= left < reserve ? left : reserve;
    size_t most = taken < total ? total - taken : 0;
    return left < most ? left : most;
}

static void *make_room(pare_exec *e, size_t bytes, bool for_weight) {
    for (bool known = false;; known = true) {
        void *p = bytes <= room(e, for_weight) ? e->be->alloc(e->dev, bytes) : NULL;
        if (p) return p;
        if (!known) {
            find_next_uses(e);
            if (e->be->sync(e->dev) != PARE_OK) return NULL; /* nothing queued may still read what goes */
        }
        pare_value last = farthest(e);
        if (last < 0) return e->be->alloc(e->dev, bytes); /* one stage may take it all */
        drop(e, last);
        e->streamed = true;
    }
}

void *pare_exec_take(pare_exec *e, size_t bytes) {
    bytes = bytes ? bytes : 1;
    return e->be->host_memory || !e->be->memory ? e->be->alloc(e->dev, bytes) : make_room(e, bytes, false);
}

static size_t weight_bytes(const pare_exec *e, pare_value v) {
    const pare_tensor *w = &e->g->values[v].tensor;
    size_t bytes = e->be->weight_bytes ? e->be->weight_bytes(e->dev, w) : pare_tensor_bytes(w);
    return bytes ? bytes : 1;
}

static pare_status too_large(pare_exec *e, int stage, pare_diag *d) {
    size_t need = 0, left = 0, total = 0;
    find_next_uses(e);
    for (pare_value v = 0; (size_t)v < e->g->n_values; v++) {
        if (!is_weight(e, v) || e->home[v] != v || e->next_use[v] != 0) continue;
        need += weight_bytes(e, v);
        left += e->mirror_bytes[v];
    }
    if (e->be->memory) {
        size_t more = 0;
        e->be->memory(e->dev, &more, &total);
        left += more;
    }
    const char *name = e->g->stages[stage];
    if (!total)
        return pare_fail(d, PARE_ERR_NOMEM, NULL, name, "%s has no memory for the %zu bytes of weights of stage %s",
                         e->be->name, need, name);
    return pare_fail(d, PARE_ERR_NOMEM, NULL, name,
                     "stage %s alone needs %zu bytes of weights, %s has %zu left for them; take a smaller format, "
                     "batch "
                     "or context",
                     name, need, e->be->name, left);
}

pare_status pare_exec_upload_weight(pare_exec *e, pare_value v, pare_diag *d) {
    const pare_tensor *w = &e->g->values[v].tensor;
    size_t bytes = weight_bytes(e, v);
    void *p = e->be->memory ? make_room(e, bytes, bytes >= SMALL) : e->be->alloc(e->dev, bytes);
    if (!p) return too_large(e, e->in_use, d);
    pare_status s = e->be->upload_weight ? e->be->upload_weight(e->dev, p, w, d)
                                         : e->be->upload(e->dev, p, w->data, pare_tensor_bytes(w));
    if (s != PARE_OK) {
        (void)e->be->sync(e->dev); /* part of it may be under way */
        e->be->release(e->dev, p);
        return pare_fail(d, s, NULL, e->g->values[v].name, "copying this weight to %s failed", e->be->name);
    }
    e->mirror[v] = p;
    e->mirror_bytes[v] = bytes;
    e->weights += bytes;
    return PARE_OK;
}

/* The first weight that node i needs and the backend lacks. */
static pare_value missing(const pare_exec *e, int i) {
    const pare_graph_node_t *n = &e->g->nodes[i];
    for (int k = 0; k < n->n_in && !e->plan->fallback[i]; k++)
        if (is_weight(e, n->in[k]) && !e->mirror[e->home[n->in[k]]]) return e->home[n->in[k]];
    return PARE_NO_VALUE;
}

pare_status pare_exec_stage_weights(pare_exec *e, int i, int end, pare_diag *d) {
    e->in_use = e->g->nodes[i].stage;
    for (; i < end && e->g->nodes[i].stage == e->in_use; i++)
        for (pare_value v; (v = missing(e, i)) >= 0;) PARE_TRY(pare_exec_upload_weight(e, v, d));
    return PARE_OK;
}

bool pare_exec_weights_resident(const pare_exec *e, int first, int end) {
    for (int i = first; i < end; i++)
        if (missing(e, i) >= 0) return false;
    return true;
}

void pare_exec_drop_weights(pare_exec *e, int stage) {
    int first, end;
    if (e->be->host_memory) return;
    (void)e->be->sync(e->dev); /* a failed device says so at the next run */
    pare_graph_stage_range(e->g, stage, &first, &end);
    for (int i = first; i < end; i++)
        for (int k = 0; k < e->g->nodes[i].n_in; k++) {
            pare_value v = e->g->nodes[i].in[k];
            if (is_weight(e, v) && e->mirror[e->home[v]] && !e->held[e->home[v]]) drop(e, e->home[v]);
        }
}

bool pare_exec_streamed(const pare_exec *e) { return e->streamed; }

size_t pare_exec_device_bytes(const pare_exec *e) {
    if (e->be->host_memory) return 0;
    size_t sum = e->block_bytes + e->workspace_bytes;
    for (size_t v = 0; v < e->g->n_values; v++) sum += e->mirror_bytes[v];
    return sum;
}
