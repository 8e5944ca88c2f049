/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading importance matrices (formats/imatrix.h). */
#include "formats/imatrix.h"

#include "formats/source_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_LEGACY ((size_t)1 << 30)
#define MAX_NAME   256

typedef struct reader {
    const char *path;
    pare_imatrix *m;
    pare_arena *arena;
    size_t cap;
} reader;

static pare_status no_memory(const reader *r, pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, r->path, NULL, "no memory for the importance matrix");
}

/* A new entry with room for its values. */
static pare_status add(reader *r, const char *name, size_t name_bytes, size_t matrices, size_t columns, float **mean,
                       pare_diag *d) {
    pare_imatrix *m = r->m;
    if (pare_grow((void **)&m->v, &r->cap, m->n + 1, sizeof *m->v) != PARE_OK) return no_memory(r, d);
    pare_imatrix_entry *e = &m->v[m->n];
    *e = (pare_imatrix_entry){.name = pare_arena_strndup(r->arena, name, name_bytes),
                              .matrices = matrices,
                              .columns = columns,
                              .mean = *mean = pare_arena_alloc(r->arena, matrices * columns * sizeof **mean)};
    if (!e->name || !e->mean) return no_memory(r, d);
    m->n++;
    return PARE_OK;
}

static pare_status check(const reader *r, const pare_imatrix_entry *e, pare_diag *d) {
    for (size_t i = 0; i < e->matrices * e->columns; i++)
        if (!(isfinite(e->mean[i]) && e->mean[i] >= 0))
            return pare_fail(d, PARE_ERR_INPUT, r->path, e->name,
                             "the mean square of column %zu is %g; finite numbers of at least 0 were expected",
                             i % e->columns, (double)e->mean[i]);
    return PARE_OK;
}

static pare_status damaged(const reader *r, const char *where, pare_diag *d) {
    return pare_fail(d, PARE_ERR_INPUT, r->path, where,
                     "this is no importance matrix of llama.cpp, or it is damaged (neither the GGUF nor the older "
                     "format)");
}

/* ---- GGUF ---- */
static float at(const void *p, size_t i) {
    float f;
    memcpy(&f, (const char *)p + i * sizeof f, sizeof f);
    return f;
}

static size_t elems(const pare_stored *t) { return t->bytes / sizeof(float); }

static pare_status gguf_entry(reader *r, const pare_source *s, const pare_stored *sum, pare_diag *d) {
    char counts_name[MAX_NAME + 16];
    size_t n = strlen(sum->name) - strlen(".in_sum2");
    if (n > MAX_NAME) return damaged(r, sum->name, d);
    snprintf(counts_name, sizeof counts_name, "%.*s.counts", (int)n, sum->name);
    const pare_stored *counts = pare_source_find(s, counts_name);
    if (!counts || counts->type != &pare_qtype_f32 || sum->type != &pare_qtype_f32 || !elems(counts) || !elems(sum) ||
        elems(sum) % elems(counts))
        return pare_fail(d, PARE_ERR_INPUT, r->path, sum->name, "sums and counts of a layer do not fit together");
    float *mean;
    size_t matrices = elems(counts), columns = elems(sum) / matrices;
    PARE_TRY(add(r, sum->name, n, matrices, columns, &mean, d));
    pare_imatrix_entry *e = &r->m->v[r->m->n - 1];
    e->tokens = at(counts->data, 0);
    for (size_t k = 0; k < matrices; k++) {
        float count = at(counts->data, k);
        for (size_t i = 0; i < columns; i++)
            mean[k * columns + i] = count > 0 ? at(sum->data, k * columns + i) / count : 1.0f;
    }
    return check(r, e, d);
}

static pare_status read_gguf(reader *r, pare_diag *d) {
    pare_source *s = NULL;
    PARE_TRY(pare_source_open(r->path, &s, d));
    pare_status st = PARE_OK;
    for (size_t i = 0; st == PARE_OK && i < s->n_tensors; i++) {
        const char *name = s->tensors[i].name;
        size_t n = strlen(name), k = strlen(".in_sum2");
        if (n > k && strcmp(name + n - k, ".in_sum2") == 0) st = gguf_entry(r, s, &s->tensors[i], d);
    }
    pare_source_close(&s);
    if (st == PARE_OK && !r->m->n)
        st = pare_fail(d, PARE_ERR_INPUT, r->path, NULL,
                       "a GGUF file without sums of squared inputs (NAME.in_sum2): this is no importance matrix");
    return st;
}

/* ---- the older format ---- */
typedef struct cursor {
    const char *p, *end;
    bool bad;
} cursor;

static const char *take(cursor *c, size_t n) {
    if (c->bad || (size_t)(c->end - c->p) < n) return c->bad = true, NULL;
    c->p += n;
    return c->p - n;
}

static int64_t i32(cursor *c) {
    int32_t v = 0;
    const char *p = take(c, sizeof v);
    if (p) memcpy(&v, p, sizeof v);
    return v;
}

static pare_status legacy_entry(reader *r, cursor *c, pare_diag *d) {
    int64_t len = i32(c);
    const char *name = len > 0 && len <= MAX_NAME ? take(c, (size_t)len) : NULL;
    int64_t calls = i32(c), values = i32(c);
    const char *v = values > 0 ? take(c, (size_t)values * sizeof(float)) : NULL;
    if (!name || !v || c->bad || memchr(name, 0, (size_t)len)) return damaged(r, NULL, d);
    float *mean;
    PARE_TRY(add(r, name, (size_t)len, 1, (size_t)values, &mean, d));
    for (size_t i = 0; i < (size_t)values; i++) mean[i] = calls > 0 ? at(v, i) / (float)calls : at(v, i);
    r->m->v[r->m->n - 1].tokens = (double)calls;
    return check(r, &r->m->v[r->m->n - 1], d);
}

static pare_status read_legacy(reader *r, const char *bytes, size_t n, pare_diag *d) {
    cursor c = {bytes, bytes + n, false};
    int64_t entries = i32(&c);
    if (entries < 1 || (uint64_t)entries > n / 16) return damaged(r, NULL, d);
    for (int64_t i = 0; i < entries; i++) PARE_TRY(legacy_entry(r, &c, d));
    return PARE_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const pare_imatrix_entry *)a)->name, ((const pare_imatrix_entry *)b)->name);
}

pare_status pare_imatrix_read(const char *path, pare_imatrix **out, pare_diag *d) {
    char *bytes = NULL;
    size_t n = 0;
    reader r = {.path = path, .m = pare_calloc(1, sizeof *r.m)};
    *out = r.m;
    if (!r.m || !(r.m->arena = r.arena = pare_arena_new())) {
        pare_imatrix_free(out);
        return no_memory(&r, d);
    }
    pare_status s = pare_read_file(path, MAX_LEGACY, &bytes, &n, d);
    if (s == PARE_OK) s = n > 4 && memcmp(bytes, "GGUF", 4) == 0 ? read_gguf(&r, d) : read_legacy(&r, bytes, n, d);
    pare_free(bytes);
    if (s == PARE_OK) qsort(r.m->v, r.m->n, sizeof *r.m->v, by_name);
    for (size_t i = 1; s == PARE_OK && i < r.m->n; i++)
        if (strcmp(r.m->v[i - 1].name, r.m->v[i].name) == 0)
            s = pare_fail(d, PARE_ERR_INPUT, path, r.m->v[i].name, "the importance matrix names this layer twice");
    if (s != PARE_OK) pare_imatrix_free(out);
    return s;
}

void pare_imatrix_free(pare_imatrix **mp) {
    pare_imatrix *m = mp ? *mp : NULL;
    if (!m) return;
    pare_arena *a = m->arena;
    pare_arena_free(&a);
    pare_free(m->v);
    pare_free(m);
    *mp = NULL;
}

const pare_imatrix_entry *pare_imatrix_find(const pare_imatrix *m, const char *name) {
    const pare_imatrix_entry key = {.name = name};
    return bsearch(&key, m->v, m->n, sizeof *m->v, by_name);
}
