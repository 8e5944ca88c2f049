/* SPDX-License-Identifier: Apache-2.0
 *
 * What a verification is measured on: a file, whole, or the data built in; sentences and scored pairs in it. */
#include "api/verify_impl.h"

#include "core/alloc.h"
#include "core/status.h"
#include "verify/builtin.h"
#include "verify/sha256.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

pare_status pare_verify_data_open(const char *path, bool pairs, pare_verify_data *out, pare_diag *d) {
    *out = (pare_verify_data){0};
    if (!path) {
        out->bytes = pairs ? pare_builtin_pairs(&out->n_bytes) : pare_builtin_text(&out->n_bytes);
        return PARE_OK;
    }
    FILE *f = fopen(path, "rb");
    if (!f) return pare_fail_errno(d, path, "the data cannot be read");
    pare_status s = PARE_OK;
    size_t cap = 0, n = 0;
    for (;;) {
        if (pare_grow((void **)&out->own, &cap, n + (1 << 16), 1) != PARE_OK) {
            s = pare_fail(d, PARE_ERR_NOMEM, path, NULL, "no memory for the text");
            break;
        }
        size_t got = fread(out->own + n, 1, cap - n, f);
        n += got;
        if (got == 0) break;
    }
    if (s == PARE_OK && ferror(f)) s = pare_fail_errno(d, path, "the data cannot be read");
    fclose(f);
    if (s == PARE_OK && n == 0) s = pare_fail(d, PARE_ERR_INPUT, path, NULL, "the file is empty; a text was expected");
    out->bytes = out->own;
    out->n_bytes = n;
    if (s != PARE_OK) pare_verify_data_close(out);
    return s;
}

void pare_verify_data_close(pare_verify_data *data) {
    pare_free(data->own);
    *data = (pare_verify_data){0};
}

void pare_verify_data_note(const pare_verify_data *data, const char *path, pare_verify_report *r) {
    char hex[65];
    pare_sha256_hex(data->bytes, data->n_bytes, hex);
    pare_report_note(r, "data",
                     path ? path : "built in (small: good for a first look; --data FILE for numbers that count)");
    pare_report_number(r, "data_bytes", (double)data->n_bytes);
    pare_report_note(r, "data_sha256", hex);
}

/* ---- sentences ---- */

typedef struct row {
    pare_str field[7];
    int n;
} row;

static row split(const char *p, size_t n) {
    row r = {.n = 0};
    const char *end = p + n;
    while (r.n < 7) {
        const char *tab = memchr(p, '\t', (size_t)(end - p));
        if (!tab) tab = end;
        r.field[r.n++] = (pare_str){p, (size_t)(tab - p)};
        if (tab == end) break;
        p = tab + 1;
    }
    return r;
}

static bool number(pare_str s, double *out) {
    char buf[40], *end;
    if (s.n == 0 || s.n >= sizeof buf) return false;
    memcpy(buf, s.p, s.n);
    buf[s.n] = 0;
    *out = strtod(buf, &end);
    return end != buf && *end == 0 && isfinite(*out);
}

static bool scored(const row *r, double *score, pare_str *a, pare_str *b) {
    if (r->n == 7 && number(r->field[4], score)) return *a = r->field[5], *b = r->field[6], true;
    if (r->n == 3 && number(r->field[0], score)) return *a = r->field[1], *b = r->field[2], true;
    return false;
}

typedef struct parser {
    pare_sentences *s;
    size_t cap, cap_pairs, table_size;
    uint32_t *table;
} parser;

static uint64_t hash(pare_str s) { /* FNV-1a */
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < s.n; i++) h = (h ^ (unsigned char)s.p[i]) * UINT64_C(0x100000001b3);
    return h ^ h >> 29;
}

/* Index of the sentence, added when new; false: out of memory. */
static bool intern(parser *p, pare_str x, uint32_t *index) {
    pare_sentences *s = p->s;
    if (!p->table || 2 * (s->n + 1) > p->table_size) {
        size_t size = p->table_size ? 2 * p->table_size : 1024;
        uint32_t *t = pare_calloc(size, sizeof *t);
        if (!t) return false;
        for (size_t i = 0; i < s->n; i++) {
            size_t k = hash(s->v[i]) & (size - 1);
            while (t[k]) k = (k + 1) & (size - 1);
            t[k] = (uint32_t)i + 1;
        }
        pare_free(p->table);
        p->table = t, p->table_size = size;
    }
    size_t k = hash(x) & (p->table_size - 1);
    for (; p->table[k]; k = (k + 1) & (p->table_size - 1)) {
        pare_str y = s->v[p->table[k] - 1];
        if (y.n == x.n && memcmp(y.p, x.p, x.n) == 0) return *index = p->table[k] - 1, true;
    }
    if (pare_grow((void **)&s->v, &p->cap, s->n + 1, sizeof *s->v) != PARE_OK) return false;
    s->v[s->n] = x;
    *index = (uint32_t)s->n;
    p->table[k] = (uint32_t)++s->n;
    return true;
}

static bool add_row(parser *p, const char *line, size_t n, bool pairs) {
    row r = split(line, n);
    double score;
    pare_str a, b;
    uint32_t i, j;
    if (!pairs) return intern(p, (pare_str){line, n}, &i);
    if (!scored(&r, &score, &a, &b) || !a.n || !b.n) {
        p->s->skipped++;
        return true;
    }
    pare_sentences *s = p->s;
    if (pare_grow((void **)&s->pairs, &p->cap_pairs, s->n_pairs + 1, sizeof *s->pairs) != PARE_OK ||
        !intern(p, a, &i) || !intern(p, b, &j))
        return false;
    s->pairs[s->n_pairs++] = (pare_scored_pair){i, j, score};
    return true;
}

/* A file is scored pairs when most of its first lines are. */
static bool looks_scored(const char *p, const char *end) {
    int lines = 0, yes = 0;
    while (p < end && lines < 20) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        if (!nl) nl = end;
        size_t n = (size_t)(nl - p);
        if (n && p[n - 1] == '\r') n--;
        row r = split(p, n);
        double score;
        pare_str a, b;
        lines++;
        yes += scored(&r, &score, &a, &b);
        p = nl + 1;
    }
    return 2 * yes > lines;
}

pare_status pare_sentences_parse(const pare_verify_data *data, const char *path, int64_t limit, pare_sentences *out,
                                 pare_diag *d) {
    *out = (pare_sentences){0};
    parser p = {.s = out};
    const char *at = data->bytes, *end = at + data->n_bytes;
    bool pairs = looks_scored(at, end), ok = true;
    for (int64_t rows = 0; ok && at < end && (!limit || rows < limit);) {
        const char *nl = memchr(at, '\n', (size_t)(end - at));
        if (!nl) nl = end;
        size_t n = (size_t)(nl - at), before = out->skipped;
        if (n && at[n - 1] == '\r') n--;
        if (n) {
            ok = add_row(&p, at, n, pairs);
            rows += out->skipped == before;
        }
        at = nl + 1;
    }
    pare_free(p.table);
    pare_status s = PARE_OK;
    if (!ok) s = pare_fail(d, PARE_ERR_NOMEM, path, NULL, "no memory for the sentences");
    else if (out->n < 2 || (pairs && out->n_pairs < 2))
        s = pare_fail(d, PARE_ERR_INPUT, path, NULL, "at least two sentences are needed, one per line (or STS-B rows)");
    if (s != PARE_OK) pare_sentences_free(out);
    return s;
}

void pare_sentences_free(pare_sentences *s) {
    pare_free(s->v);
    pare_free(s->pairs);
    *s = (pare_sentences){0};
}
