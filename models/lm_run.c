/* SPDX-License-Identifier: Apache-2.0
 *
 * Binding and running one graph of a text model. */
#include "models/lm_run.h"

#include "core/alloc.h"
#include "core/status.h"

#include <string.h>

static pare_status no_memory(pare_diag *d, const char *what) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "not enough memory for %s", what);
}

/* Rotary tables of at least `rows` positions in backend memory. */
static pare_status make_tables(pare_lm_run *r, pare_weights *w, int64_t rows, pare_diag *d) {
    const pare_arch *a = pare_weights_arch(w);
    if (r->m.cos < 0 || rows <= r->table_rows) return PARE_OK;
    size_t n = (size_t)rows * (size_t)(a->head_dim / 2), bytes = n * sizeof(float);
    const float *factors = NULL;
    int64_t n_factors = a->head_dim / 2;
    if (pare_weights_has(w, PARE_ROLE_ROPE_FREQS, -1, false)) {
        factors = pare_weights_floats(w, PARE_ROLE_ROPE_FREQS, -1, false, &n_factors);
        if (!factors) return pare_weights_status(w, d);
    }
    pare_exec_release(r->e, r->cos);
    pare_exec_release(r->e, r->sin);
    r->table_rows = 0;
    r->sin = NULL;
    float *host = pare_malloc(2 * bytes);
    r->cos = pare_exec_alloc(r->e, bytes);
    r->sin = pare_exec_alloc(r->e, bytes);
    pare_status s = host && r->cos && r->sin ? PARE_OK : no_memory(d, "the rotary tables");
    if (s == PARE_OK) {
        pare_rope_cache(a, factors, rows, host, host + n);
        s = pare_exec_upload(r->e, r->cos, host, bytes, d);
        if (s == PARE_OK) s = pare_exec_upload(r->e, r->sin, host + n, bytes, d);
    }
    pare_free(host);
    if (s == PARE_OK) r->table_rows = rows;
    return s;
}

static pare_status make_cache(pare_lm_run *r, const pare_arch *a, int64_t capacity, pare_diag *d) {
    size_t bytes = (size_t)capacity * (size_t)(a->kv_heads * a->head_dim) * sizeof(float);
    if (!r->m.n_kv) return PARE_OK;
    r->kv = pare_calloc((size_t)r->m.n_kv, sizeof *r->kv);
    if (!r->kv) return no_memory(d, "the key/value cache");
    for (int64_t i = 0; i < r->m.n_kv; i++) {
        r->kv[i] = pare_exec_alloc(r->e, bytes);
        if (!r->kv[i])
            return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL,
                             "the key/value cache of %lld tokens needs %zu bytes; ask for a "
                             "shorter context",
                             (long long)capacity, bytes * (size_t)r->m.n_kv);
        r->kv_bytes += bytes;
    }
    return PARE_OK;
}

pare_status pare_lm_run_build(pare_weights *w, int64_t capacity, pare_lm_run *r, pare_diag *d) {
    memset(r, 0, sizeof *r);
    if (pare_weights_arch(w)->family == PARE_FAMILY_BERT) return pare_build_bert(w, &r->m, d);
    return pare_build_llama(w, capacity > 0, &r->m, d);
}

pare_status pare_lm_run_start(pare_weights *w, int64_t capacity, const pare_exec_opts *opts, pare_lm_run *r,
                              pare_diag *d) {
    const pare_arch *a = pare_weights_arch(w);
    PARE_TRY(pare_exec_open(r->m.g, opts, &r->e, d));
    r->bind = pare_calloc((size_t)r->m.n_kv + 6, sizeof *r->bind);
    if (!r->bind) return no_memory(d, "the model");
    if (!capacity) return PARE_OK;
    PARE_TRY(make_tables(r, w, capacity, d));
    return make_cache(r, a, capacity, d);
}

pare_status pare_lm_run_open(pare_weights *w, int64_t capacity, const pare_exec_opts *opts, pare_lm_run *r,
                             pare_diag *d) {
    PARE_TRY(pare_lm_run_build(w, capacity, r, d));
    return pare_lm_run_start(w, capacity, opts, r, d);
}

void pare_lm_run_close(pare_lm_run *r) {
    if (r->e) {
        pare_exec_release(r->e, r->cos);
        pare_exec_release(r->e, r->sin);
        for (int64_t i = 0; r->kv && i < r->m.n_kv; i++) pare_exec_release(r->e, r->kv[i]);
    }
    pare_exec_close(&r->e);
    pare_free(r->kv);
    pare_free(r->bind);
    pare_free(r->positions);
    pare_free(r->length);
    pare_free(r->past);
    pare_lm_graph_free(&r->m);
    memset(r, 0, sizeof *r);
}

static pare_status fill_inputs(pare_lm_run *r, int64_t batch, int64_t seq, const int64_t *lengths, int64_t past,
                               pare_diag *d) {
    size_t b = (size_t)batch, t = b * (size_t)seq, cap = r->cap_batch;
    if (pare_grow((void **)&r->positions, &r->cap_tokens, t, sizeof *r->positions) != PARE_OK ||
        pare_grow((void **)&r->length, &cap, b, sizeof *r->length) != PARE_OK)
        return no_memory(d, "the inputs");
    if (cap != r->cap_batch) {
        void *p = pare_realloc(r->past, cap * sizeof *r->past);
        if (!p) return no_memory(d, "the inputs");
        r->past = p;
        r->cap_batch = cap;
    }
    for (size_t i = 0; i < t; i++) r->positions[i] = past + (int64_t)(i % (size_t)seq);
    for (size_t i = 0; i < b; i++) r->length[i] = lengths ? lengths[i] : past + seq, r->past[i] = past;
    return PARE_OK;
}

pare_status pare_lm_run_shape(pare_lm_run *r, pare_weights *w, int64_t batch, int64_t seq, const int64_t *lengths,
                              int64_t past, pare_diag *d) {
    if (!r->m.n_kv) { /* tables grow by doubling, since their size is part of the plan's key */
        int64_t rows = r->table_rows ? r->table_rows : 64;
        while (rows < seq) rows *= 2;
        PARE_TRY(make_tables(r, w, rows, d));
    }
    PARE_TRY(fill_inputs(r, batch, seq, lengths, past, d));
    const int64_t sym[PARE_SYM_COUNT] = {batch, seq, r->table_rows};
    return pare_exec_shape(r->e, sym, d);
}

static void add_binding(pare_binding *b, int *n, pare_value v, void *data) {
    if (v >= 0) b[(*n)++] = (pare_binding){v, data};
}

int pare_lm_run_bindings(pare_lm_run *r, const int64_t *ids, pare_binding *b) {
    int n = 0;
    add_binding(b, &n, r->m.ids, (void *)(uintptr_t)ids);
    add_binding(b, &n, r->m.positions, r->positions);
    add_binding(b, &n, r->m.length, r->length);
    add_binding(b, &n, r->m.past, r->past);
    add_binding(b, &n, r->m.cos, r->cos);
    add_binding(b, &n, r->m.sin, r->sin);
    for (int64_t i = 0; i < r->m.n_kv; i++) add_binding(b, &n, r->m.kv[i], r->kv[i]);
    return n;
}

pare_status pare_lm_run_go(pare_lm_run *r, const int64_t *ids, bool head, pare_diag *d) {
    int n = pare_lm_run_bindings(r, ids, r->bind);
    if (head) return pare_exec_run(r->e, -1, r->bind, n, d);
    for (int s = 0; s + 1 < pare_exec_stages(r->e); s++) PARE_TRY(pare_exec_run(r->e, s, r->bind, n, d));
    return PARE_OK;
}
