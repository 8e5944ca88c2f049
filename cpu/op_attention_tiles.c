/* SPDX-License-Identifier: Apache-2.0
 *
 * Attention tile by tile (Dao 2023, FlashAttention-2): work is cut into (batch, key head, tile of queries); a tile
 * walks its keys PARE_ATTN_KEYS at a time with a running maximum and sum, so no row of scores is ever whole, and keys
 * that the causal rule or nonpad_kv_seqlen hides from the whole tile cost nothing. Few queries against many keys
 * (decoding) are also cut along the keys, and the parts merged in order. */
#include "cpu/attention.h"

#include <math.h>
#include <string.h>

#define FEW_ROWS   16  /* tiles of at most so many rows are bound by memory, not arithmetic */
#define SPLIT_KEYS 256 /* a part long enough to hide the merging */

/* Floats of scratch per thread: q, kt, s, o, m, l. */
static size_t tile_floats(size_t d, size_t dv) {
    size_t n = PARE_ATTN_ROWS * d + d * PARE_ATTN_KEYS + PARE_ATTN_ROWS * PARE_ATTN_KEYS + PARE_ATTN_ROWS * dv +
               2 * PARE_ATTN_ROWS;
    return (n + 15) & ~(size_t)15;
}

/* splits: runs of SPLIT_KEYS keys that a tile is cut into; more than one only when few queries meet many keys. */
typedef struct tiles {
    const pare_attn *a;
    const pare_vec_table *vec;
    float *scratch, *partial; /* partial: o, m, l of each (tile, split), rows * (dv + 2) floats */
    size_t heads, queries, head_chunks, query_tiles, splits;
} tiles;

/* Heads of one group times queries fill a tile's rows; both are cut so that at most PARE_ATTN_ROWS result. All of it
 * follows from the shapes alone, so that neither the thread count nor the past length moves a boundary. */
static tiles cut(const pare_attn *a) {
    tiles w = {.a = a, .heads = a->group < PARE_ATTN_ROWS ? a->group : PARE_ATTN_ROWS};
    w.queries = PARE_ATTN_ROWS / w.heads;
    if (w.queries > a->q.n) w.queries = a->q.n ? a->q.n : 1;
    w.head_chunks = (a->group + w.heads - 1) / w.heads;
    w.query_tiles = (a->q.n + w.queries - 1) / w.queries;
    w.splits = w.heads * w.queries <= FEW_ROWS && a->keys > SPLIT_KEYS ? (a->keys + SPLIT_KEYS - 1) / SPLIT_KEYS : 1;
    return w;
}

static size_t tile_count(const tiles *w) { return w->a->batch * w->a->k.heads * w->head_chunks * w->query_tiles; }
static size_t partial_floats(const tiles *w) { return w->heads * w->queries * (w->a->v.size + 2); }

typedef struct tile {                                              /* one item: rows are [query][head] */
    size_t b, kv_head, head, heads, first, queries, rows, visible; /* visible: keys that some row may see */
    float *q, *kt, *s, *o, *m, *l;
} tile;

static void load_queries(const pare_attn *a, tile *t) {
    for (size_t r = 0; r < t->rows; r++) {
        const float *q = pare_attn_row(&a->q, t->b, t->head + r % t->heads, t->first + r / t->heads);
        for (size_t e = 0; e < a->q.size; e++) t->q[r * a->q.size + e] = q[e] * a->scale;
        t->m[r] = -INFINITY, t->l[r] = 0;
    }
    memset(t->o, 0, t->rows * a->v.size * sizeof(float));
}

/* A decoding step reads each key and value once, from rows far apart that no hardware prefetcher follows. */
static void fetch_rows(const float *p, size_t row, size_t n, size_t size) {
    for (size_t j = 0; j < n; j++)
        for (size_t e = 0; e < size; e += 16) __builtin_prefetch(p + j * row + e);
}

/* Keys first .. first+n-1 of the segment that starts at key `base`. */
static void meet_keys(const tiles *w, tile *t, const pare_attn_view *k, const pare_attn_view *v, size_t base, size_t at,
                      size_t n) {
    const pare_attn *a = w->a;
    if (t->rows <= FEW_ROWS) {
        fetch_rows(pare_attn_row(k, t->b, t->kv_head, at), k->row, n, k->size);
        fetch_rows(pare_attn_row(v, t->b, t->kv_head, at), v->row, n, v->size);
    }
    w->vec->attn_scores_f32(t->q, t->rows, a->q.size, pare_attn_row(k, t->b, t->kv_head, at), k->row, n, t->s, t->kt);
    for (size_t r = 0; r < t->rows; r++) {
        float *s = t->s + r * PARE_ATTN_KEYS;
        size_t i = t->first + r / t->heads, first = base + at, see = pare_attn_visible(a, t->b, i);
        if (a->attr->softcap > 0) {
            for (size_t j = 0; j < n; j++) s[j] /= a->attr->softcap;
            w->vec->tanh_f32(s, s, n, 0);
            for (size_t j = 0; j < n; j++) s[j] *= a->attr->softcap;
        }
        if (a->mask) pare_attn_add_mask(a, t->b, t->head + r % t->heads, i, first, n, s);
        for (size_t j = see > first ? see - first : 0; j < n; j++) s[j] = -INFINITY;
    }
    w->vec->attn_update_f32(t->s, t->rows, n, t->m, t->l, t->o, a->v.size, pare_attn_row(v, t->b, t->kv_head, at),
                            v->row);
}

static void store(const pare_attn *a, const tile *t) {
    for (size_t r = 0; r < t->rows; r++) {
        float *y = (float *)pare_attn_row(&a->y, t->b, t->head + r % t->heads, t->first + r / t->heads);
        float inv = t->l[r] != 0 ? 1.0f / t->l[r] : 0; /* no key seen: zeros */
        for (size_t e = 0; e < a->v.size; e++) y[e] = t->o[r * a->v.size + e] * inv;
    }
}

/* Tile number i: which rows. */
static tile tile_of(const tiles *w, size_t i) {
    const pare_attn *a = w->a;
    tile t = {.first = (w->query_tiles - 1 - i % w->query_tiles) * w->queries}; /* the longest first */
    size_t chunk = i / w->query_tiles % w->head_chunks, pair = i / w->query_tiles / w->head_chunks;
    t.b = pair / a->k.heads, t.kv_head = pair % a->k.heads;
    t.head = t.kv_head * a->group + chunk * w->heads;
    t.heads = a->group - chunk * w->heads < w->heads ? a->group - chunk * w->heads : w->heads;
    t.queries = a->q.n - t.first < w->queries ? a->q.n - t.first : w->queries;
    t.rows = t.heads * t.queries;
    t.visible = pare_attn_visible(a, t.b, t.first + t.queries - 1); /* grows with the query */
    return t;
}

static void place(tile *t, float *p, size_t d) {
    t->q = p, p += PARE_ATTN_ROWS * d;
    t->kt = p, p += d * PARE_ATTN_KEYS;
    t->s = p, p += PARE_ATTN_ROWS * PARE_ATTN_KEYS;
    t->m = p, p += PARE_ATTN_ROWS;
    t->l = p, p += PARE_ATTN_ROWS;
    t->o = p;
}

/* Keys from .. to-1, past ones first. */
static void walk_keys(const tiles *w, tile *t, size_t from, size_t to) {
    const pare_attn *a = w->a;
    size_t end = a->past < to ? a->past : to, at = from;
    for (size_t n; at < end; at += n) {
        n = end - at < PARE_ATTN_KEYS ? end - at : PARE_ATTN_KEYS;
        meet_keys(w, t, &a->past_k, &a->past_v, 0, at, n);
    }
    for (size_t n; at < to; at += n) {
        n = to - at < PARE_ATTN_KEYS ? to - at : PARE_ATTN_KEYS;
        meet_keys(w, t, &a->k, &a->v, a->past, at - a->past, n);
    }
}

static void tile_item(void *ctx, size_t item) {
    const tiles *w = ctx;
    const pare_attn *a = w->a;
    size_t split = item % w->splits, dv = a->v.size;
    tile t = tile_of(w, item / w->splits);
    place(&t, w->scratch + (size_t)pare_thread_index() * tile_floats(a->q.size, dv), a->q.size);
    if (w->splits > 1) { /* the sums stay where merge_item finds them */
        t.m = w->partial + item * partial_floats(w);
        t.l = t.m + t.rows, t.o = t.l + t.rows;
    }
    load_queries(a, &t);
    if (w->splits == 1) {
        walk_keys(w, &t, 0, t.visible);
        store(a, &t);
        return;
    }
    size_t from = split * SPLIT_KEYS, to = from + SPLIT_KEYS < t.visible ? from + SPLIT_KEYS : t.visible;
    if (from < to) walk_keys(w, &t, from, to);
}

/* Sums of one tile's splits, in order, into the first: o and l shrink by exp(m - max). */
static void merge_item(void *ctx, size_t item) {
    const tiles *w = ctx;
    tile t = tile_of(w, item);
    size_t dv = w->a->v.size, step = partial_floats(w);
    t.m = w->partial + item * w->splits * step, t.l = t.m + t.rows, t.o = t.l + t.rows;
    for (size_t i = 1; i < w->splits && i * SPLIT_KEYS < t.visible; i++) {
        const float *m = t.m + i * step, *l = m + t.rows, *o = l + t.rows;
        for (size_t r = 0; r < t.rows; r++) {
            float max = m[r] > t.m[r] ? m[r] : t.m[r], base = max == -INFINITY ? 0 : max;
            float mine = expf(t.m[r] - base), its = expf(m[r] - base);
            t.m[r] = max;
            t.l[r] = t.l[r] * mine + l[r] * its;
            for (size_t e = 0; e < dv; e++) t.o[r * dv + e] = t.o[r * dv + e] * mine + o[r * dv + e] * its;
        }
    }
    store(w->a, &t);
}

size_t pare_attn_tiles_floats(const pare_attn *a) {
    tiles w = cut(a);
    size_t partial = w.splits > 1 ? tile_count(&w) * w.splits * partial_floats(&w) : 0;
    return (size_t)pare_threads() * tile_floats(a->q.size, a->v.size) + partial;
}

void pare_attn_tiles(const pare_attn *a, float *scratch) {
    tiles w = cut(a);
    w.vec = pare_vec();
    w.scratch = scratch;
    w.partial = scratch + (size_t)pare_threads() * tile_floats(a->q.size, a->v.size);
    size_t keys = 1; /* what the calls really cost: a cache may be far from full */
    for (size_t b = 0; b < a->batch; b++) {
        size_t n = pare_attn_visible(a, b, a->q.n - 1);
        if (n > keys) keys = n;
    }
    size_t work = w.heads * w.queries * (a->q.size + a->v.size) / 16; /* vector lanes: one step per key */
    pare_cpu_for(tile_count(&w) * w.splits, work * ((keys + w.splits - 1) / w.splits), tile_item, &w);
    if (w.splits > 1) pare_cpu_for(tile_count(&w), w.heads * w.queries * a->v.size, merge_item, &w);
}
