/* SPDX-License-Identifier: Apache-2.0
 *
 * The executor: one block of memory and one workspace, sized for the largest plan so far, shared by all plans.
 * Backends with memory of their own have their weights in exec_weights.c, what they leave to the CPU in
 * exec_fallback.c, recordings in exec_record.c. */
#include "graph/exec_impl.h"

#include "core/status.h"
#include "core/threads.h"

#include <stdio.h>
#include <string.h>

#define MAX_PLANS 32 /* beyond it the one unused for longest goes; a decoder needs two or three */

/* What only a backend with memory of its own needs. */
static pare_status open_apart(pare_exec *e, pare_diag *d) {
    const pare_backend *cpu;
    if (pare_exec_open_weights(e) != PARE_OK)
        return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "not enough memory for the executor");
    PARE_TRY(pare_backend_find("cpu", &cpu, d));
    PARE_TRY(cpu->open(&e->cpu_dev, d));
    e->cpu = cpu;
    return PARE_OK;
}

pare_status pare_exec_open(pare_graph *g, const pare_exec_opts *opts, pare_exec **out, pare_diag *d) {
    *out = NULL;
    PARE_TRY(pare_graph_status(g, d));
    const pare_backend *be = opts ? opts->backend : NULL;
    if (!be) PARE_TRY(pare_backend_find("cpu", &be, d));
    if (be->abi != PARE_BACKEND_ABI)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, "backend", "this build has no backend that fits");
    pare_exec *e = pare_calloc(1, sizeof *e);
    if (!e) return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "not enough memory for the executor");
    e->g = g;
    e->be = be;
    e->generation = 1;
    if (opts)
        e->act = opts->act, e->bf16 = opts->bf16, e->hook = opts->hook, e->hook_ctx = opts->hook_ctx,
        e->leave = opts->leave_bytes;
    e->plans = pare_calloc(MAX_PLANS, sizeof *e->plans);
    e->bound = pare_calloc(g->n_values + 1, sizeof *e->bound);
    e->host = pare_calloc(g->n_values + 1, sizeof *e->host);
    e->host_bytes = pare_calloc(g->n_values + 1, sizeof *e->host_bytes);
    pare_status s = e->plans && e->bound && e->host && e->host_bytes ? PARE_OK : PARE_ERR_NOMEM;
    if (s != PARE_OK) pare_fail(d, s, NULL, NULL, "not enough memory for the executor");
    else {
        s = be->open(&e->dev, d);
        e->opened = s == PARE_OK;
    }
    if (s == PARE_OK && !be->host_memory) s = open_apart(e, d);
    if (s != PARE_OK) pare_exec_close(&e);
    *out = e;
    return s;
}

void pare_exec_close(pare_exec **ep) {
    pare_exec *e = ep ? *ep : NULL;
    if (!e) return;
    pare_exec_forget(e, NULL);
    pare_exec_close_weights(e);
    pare_exec_close_fallback(e);
    if (e->opened) {
        if (e->block) e->be->release(e->dev, e->block);
        if (e->workspace) e->be->release(e->dev, e->workspace);
        e->be->close(e->dev);
    }
    for (size_t v = 0; e->host && v < e->g->n_values; v++) pare_free(e->host[v]);
    for (size_t i = 0; i < e->n_plans; i++) pare_memplan_free(&e->plans[i]);
    pare_free(e->plans);
    pare_free(e->bound);
    pare_free(e->host);
    pare_free(e->host_bytes);
    pare_free(e);
    *ep = NULL;
}

void pare_exec_set_hook(pare_exec *e, pare_node_hook *hook, void *ctx) { e->hook = hook, e->hook_ctx = ctx; }
int pare_exec_stages(const pare_exec *e) { return (int)e->g->n_stages; }
size_t pare_exec_memory_bytes(const pare_exec *e) {
    return e->plan ? e->plan->block_bytes + e->plan->workspace_bytes : 0;
}
void *pare_exec_alloc(pare_exec *e, size_t bytes) { return pare_exec_take(e, bytes); }
void pare_exec_release(pare_exec *e, void *p) {
    if (p) e->be->release(e->dev, p);
}
pare_status pare_exec_upload(pare_exec *e, void *dst, const void *src, size_t bytes, pare_diag *d) {
    pare_status s = e->be->upload(e->dev, dst, src, bytes);
    return s == PARE_OK ? s : pare_fail(d, s, NULL, e->be->name, "copying to the device failed");
}

/* Grows a buffer of the backend; its contents are not kept. */
static pare_status reserve(pare_exec *e, void **p, size_t *have, size_t want, pare_diag *d) {
    if (want <= *have) return PARE_OK;
    if (*p) e->be->release(e->dev, *p);
    *have = 0;
    e->generation++;
    *p = pare_exec_take(e, want);
    if (!*p)
        return pare_fail(d, PARE_ERR_NOMEM, NULL, e->be->name, "%zu bytes of activations do not fit into memory", want);
    *have = want;
    return PARE_OK;
}

static pare_memplan *find_plan(pare_exec *e, const int64_t *sym) {
    for (size_t i = 0; i < e->n_plans; i++)
        if (e->plans[i]->threads == pare_threads() && memcmp(e->plans[i]->sym, sym, sizeof e->plans[i]->sym) == 0)
            return e->plans[i];
    return NULL;
}

static void keep_plan(pare_exec *e, pare_memplan *p) {
    size_t slot = e->n_plans;
    if (slot < MAX_PLANS) e->n_plans++;
    else {
        slot = 0;
        for (size_t i = 1; i < MAX_PLANS; i++)
            if (e->plans[i]->used < e->plans[slot]->used) slot = i;
        pare_exec_forget(e, e->plans[slot]);
        pare_memplan_free(&e->plans[slot]);
    }
    e->plans[slot] = p;
}

pare_status pare_exec_shape(pare_exec *e, const int64_t sym[PARE_SYM_COUNT], pare_diag *d) {
    pare_memplan *p = find_plan(e, sym);
    if (!p) {
        const pare_memplan_on on = {e->be, e->cpu, e->dev, e->cpu_dev, e->act, e->bf16};
        PARE_TRY(pare_memplan_make(e->g, sym, &on, &p, d));
        e->plan = NULL; /* it may be the one that goes */
        keep_plan(e, p);
    }
    p->used = ++e->clock;
    e->plan = NULL;
    PARE_TRY(reserve(e, &e->block, &e->block_bytes, p->block_bytes, d));
    PARE_TRY(reserve(e, &e->workspace, &e->workspace_bytes, p->workspace_bytes, d));
    PARE_TRY(pare_exec_reserve_fallback(e, p, d));
    e->plan = p;
    return PARE_OK;
}

void *pare_exec_address(const pare_exec *e, pare_value v) {
    if (e->plan->known && e->plan->known[v]) return e->plan->known[v];
    for (;;) {
        if (e->bound[v]) return e->bound[v];
        if (e->plan->alias[v] < 0) break;
        v = e->plan->alias[v];
    }
    if (e->g->values[v].kind == PARE_VALUE_NODE) return (char *)e->block + e->plan->offset[v];
    if (e->g->values[v].kind != PARE_VALUE_WEIGHT) return NULL;
    void *there = e->home ? e->mirror[e->home[v]] : NULL;
    return there ? there : e->g->values[v].tensor.data;
}

/* The copy of an input in the memory of the backend. */
static pare_status mirror(pare_exec *e, pare_value v, const void *src, pare_diag *d) {
    size_t bytes = pare_tensor_bytes(&e->plan->values[v]);
    PARE_TRY(reserve(e, &e->mirror[v], &e->mirror_bytes[v], bytes ? bytes : 1, d));
    return pare_exec_upload(e, e->mirror[v], src, bytes, d);
}

static pare_status bind(pare_exec *e, const pare_binding *b, int n, pare_diag *d) {
    memset(e->bound, 0, e->g->n_values * sizeof *e->bound);
    for (int i = 0; i < n; i++) {
        pare_value v = b[i].value;
        if (v < 0 || (size_t)v >= e->g->n_values || e->g->values[v].kind == PARE_VALUE_WEIGHT)
            return pare_fail(d, PARE_ERR_INTERNAL, NULL, "binding", "value %d cannot be bound", (int)v);
        e->bound[v] = b[i].data;
        if (e->be->host_memory || e->g->values[v].kind != PARE_VALUE_INPUT || !b[i].data || e->there[v]) continue;
        PARE_TRY(mirror(e, v, b[i].data, d));
        e->bound[v] = e->mirror[v];
    }
    return PARE_OK;
}

/* The value in host memory: in place, or downloaded into a buffer kept for it. */
static pare_status to_host(pare_exec *e, pare_value v, pare_tensor *out, pare_diag *d) {
    *out = e->plan->values[v];
    out->data = pare_exec_address(e, v);
    if (e->be->host_memory || (e->plan->known && e->plan->known[v])) return PARE_OK;
    size_t bytes = pare_tensor_bytes(out);
    if (pare_grow(&e->host[v], &e->host_bytes[v], bytes ? bytes : 1, 1) != PARE_OK)
        return pare_fail(d, PARE_ERR_NOMEM, NULL, e->g->values[v].name, "not enough memory to read the result");
    pare_status s = e->be->sync(e->dev);
    if (s == PARE_OK) s = e->be->download(e->dev, e->host[v], out->data, bytes);
    out->data = e->host[v];
    return s == PARE_OK ? s : pare_fail(d, s, NULL, e->g->values[v].name, "copying from the device failed");
}

static pare_status run_node(pare_exec *e, int i, pare_diag *d) {
    const pare_graph_node_t *n = &e->g->nodes[i];
    pare_op_call call;
    pare_memplan_call(e->g, e->plan, i, e->act, e->bf16, &call);
    for (int k = 0; k < n->n_in; k++) {
        pare_value v = n->in[k];
        if (v < 0) continue;
        e->plan->values[v].data = pare_exec_address(e, v);
        if (!e->plan->values[v].data)
            return pare_fail(d, PARE_ERR_INTERNAL, NULL, e->g->values[v].name, "this input of %s is not bound",
                             n->name);
    }
    for (int k = 0; k < n->n_out; k++) e->plan->values[n->out[k]].data = pare_exec_address(e, n->out[k]);
    call.workspace = e->workspace;
    call.workspace_bytes = e->workspace_bytes;
    bool nothing = n->op == PARE_OP_Shape || (n->op == PARE_OP_Reshape && call.out[0]->data == call.in[0]->data);
    if (!nothing) {
        bool fallback = e->plan->fallback && e->plan->fallback[i];
        pare_status s = fallback ? pare_exec_run_fallback(e, &call, d) : e->be->run(e->dev, &call, d);
        if (s != PARE_OK) {
            pare_fail(d, s, NULL, n->name, "%s failed", pare_op_get(n->op)->name);
            if (d && !d->where[0]) snprintf(d->where, sizeof d->where, "%s", n->name);
            return s;
        }
    }
    if (!e->hook) return PARE_OK;
    pare_tensor t;
    PARE_TRY(to_host(e, n->out[0], &t, d));
    if (!e->hook(e->hook_ctx, i, n->name, n->op, &t) || e->be->host_memory) return PARE_OK;
    return pare_exec_upload(e, pare_exec_address(e, n->out[0]), t.data, pare_tensor_bytes(&t), d);
}

pare_status pare_exec_run_nodes(pare_exec *e, int first, int end, pare_diag *d) {
    for (int i = first; i < end; i++) {
        if (pare_is_interrupted()) return pare_interrupted(d);
        if (!e->be->host_memory && (i == first || e->g->nodes[i].stage != e->g->nodes[i - 1].stage))
            PARE_TRY(pare_exec_stage_weights(e, i, end, d));
        PARE_TRY(run_node(e, i, d));
    }
    return PARE_OK;
}

static pare_status run(pare_exec *e, int stage, int last, const pare_binding *b, int n_bindings, pare_diag *d) {
    if (!e->plan) return pare_fail(d, PARE_ERR_INTERNAL, NULL, NULL, "pare_exec_shape comes before pare_exec_run");
    PARE_TRY(bind(e, b, n_bindings, d));
    int first = 0, end = (int)e->g->n_nodes;
    if (stage >= 0) pare_graph_stage_range(e->g, stage, &first, &end);
    bool whole = last < 0 || last + 1 >= end;
    if (!whole) end = last + 1;
    pare_status s = e->be->host_memory || !whole ? pare_exec_run_nodes(e, first, end, d)
                                                 : pare_exec_run_recorded(e, stage, first, end, b, n_bindings, d);
    e->in_use = -1;
    pare_status done = e->be->sync(e->dev); /* after a failure, too: what is queued still uses memory */
    PARE_TRY(s);
    return done == PARE_OK ? done : pare_fail(d, done, NULL, e->be->name, "the device failed");
}

pare_status pare_exec_run(pare_exec *e, int stage, const pare_binding *b, int n_bindings, pare_diag *d) {
    return run(e, stage, -1, b, n_bindings, d);
}

pare_status pare_exec_run_to(pare_exec *e, int stage, int last, const pare_binding *b, int n_bindings, pare_diag *d) {
    return run(e, stage, last, b, n_bindings, d);
}

const pare_tensor *pare_exec_value(pare_exec *e, pare_value v) {
    if (!e->plan || v < 0 || (size_t)v >= e->g->n_values || e->g->values[v].kind != PARE_VALUE_NODE) return NULL;
    return to_host(e, v, &e->result, NULL) == PARE_OK ? &e->result : NULL;
}
