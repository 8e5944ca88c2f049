/* SPDX-License-Identifier: Apache-2.0
 *
 * The scratch memory of one call: growing lists, and a direct-mapped cache of the words met lately (most words of a
 * text repeat; looking one up costs less than merging it again). */
#include "formats/tok_internal.h"

pare_status tok_nomem(tok_work *w) {
    return pare_fail(w->d, PARE_ERR_NOMEM, w->t->file, NULL, "out of memory while tokenizing");
}

void pare_ids_free(pare_ids *ids) {
    if (!ids) return;
    pare_free(ids->v);
    *ids = (pare_ids){0};
}

bool tok_push_id(tok_work *w, int32_t id) {
    pare_ids *o = w->ids;
    if (o->n == o->cap && pare_grow((void **)&o->v, &o->cap, o->n + 1, sizeof *o->v) != PARE_OK) return false;
    o->v[o->n++] = id;
    return true;
}

bool tok_push_piece(tok_pieces *p, size_t at, size_t n, bool first) {
    if (!n) return true;
    if (p->n == p->cap && pare_grow((void **)&p->v, &p->cap, p->n + 1, sizeof *p->v) != PARE_OK) return false;
    p->v[p->n++] = (tok_piece){at, n, first};
    return true;
}

bool tok_push_cut(tok_cuts *c, int32_t id, size_t at, size_t n) {
    if (c->n == c->cap && pare_grow((void **)&c->v, &c->cap, c->n + 1, sizeof *c->v) != PARE_OK) return false;
    c->v[c->n++] = (tok_cut){id, at, n};
    return true;
}

bool tok_cache_get(tok_work *w, uint64_t hash, const char *p, size_t n) {
    if (!w->cache) return false;
    const tok_cached *c = &w->cache[(hash ^ hash >> 32) % TOK_CACHE_SLOTS];
    if (!c->n_ids || c->hash != hash || c->n != n || memcmp(w->cache_text.p + c->at, p, n) != 0) return false;
    pare_ids *o = w->ids;
    if (pare_grow((void **)&o->v, &o->cap, o->n + c->n_ids, sizeof *o->v) != PARE_OK) return false;
    for (uint32_t i = 0; i < c->n_ids; i++) o->v[o->n++] = w->cache_ids[c->ids_at + i];
    return true;
}

void tok_cache_put(tok_work *w, uint64_t hash, const char *p, size_t n, size_t from) {
    size_t k = w->ids->n - from;
    if (!w->cache || !k || n > 64) return;
    if (w->cache_text.n + n > (4u << 20) || w->n_cache_ids + k > (4u << 20)) { /* start over rather than grow on */
        memset(w->cache, 0, TOK_CACHE_SLOTS * sizeof *w->cache);
        w->cache_text.n = w->n_cache_ids = 0;
    }
    if (pare_grow((void **)&w->cache_ids, &w->cache_ids_cap, w->n_cache_ids + k, sizeof *w->cache_ids) != PARE_OK)
        return;
    size_t at = w->cache_text.n;
    if (!tok_text_add(&w->cache_text, p, n)) return; /* a cache may forget */
    for (size_t i = 0; i < k; i++) w->cache_ids[w->n_cache_ids + i] = (int32_t)w->ids->v[from + i];
    w->cache[(hash ^ hash >> 32) % TOK_CACHE_SLOTS] =
        (tok_cached){hash, (uint32_t)at, (uint32_t)n, (uint32_t)w->n_cache_ids, (uint32_t)k};
    w->n_cache_ids += k;
}
