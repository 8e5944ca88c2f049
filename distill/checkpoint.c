/* SPDX-License-Identifier: Apache-2.0
 *
 * The checkpoint of a training run (layout: distill/train.h). */
#include "distill/train.h"

#include "core/alloc.h"
#include "core/status.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MAGIC "pare-train 2\n\0\0"

typedef struct stream {
    FILE *f;
    uint64_t sum; /* over 8 bytes at a time */
    bool failed;
} stream;

static void add(stream *s, const void *p, size_t n) {
    const unsigned char *b = p;
    for (size_t i = 0; i < n; i += 8) {
        uint64_t x = 0;
        memcpy(&x, b + i, n - i < 8 ? n - i : 8);
        s->sum = (s->sum ^ x) * 0x9E3779B97F4A7C15u;
        s->sum ^= s->sum >> 29;
    }
}

static void put(stream *s, const void *p, size_t n) {
    add(s, p, n);
    s->failed |= fwrite(p, 1, n, s->f) != n;
}
static void put_u64(stream *s, uint64_t v) { put(s, &v, sizeof v); }
static void get(stream *s, void *p, size_t n) {
    if (fread(p, 1, n, s->f) != n) s->failed = true, memset(p, 0, n);
    add(s, p, n);
}
static uint64_t get_u64(stream *s) {
    uint64_t v;
    get(s, &v, sizeof v);
    return v;
}

/* The arrays of a parameter, in the file's order. */
static int arrays(const pare_param *p, float *out[4]) {
    int n = 0;
    float *const all[] = {p->w, p->m, p->v, p->ema};
    for (int i = 0; i < 4; i++)
        if (all[i]) out[n++] = all[i];
    return n;
}

static void put_all(stream *s, const pare_trainer *t, uint64_t key) {
    put(s, MAGIC, 16);
    put_u64(s, key);
    put_u64(s, (uint64_t)t->done);
    put_u64(s, PARE_CURVE);
    put_u64(s, t->n);
    put_u64(s, (uint64_t)t->micro);
    put(s, t->curve, (size_t)t->done * PARE_CURVE * sizeof *t->curve);
    for (size_t i = 0; i < t->n; i++) {
        float *a[4];
        put_u64(s, t->p[i].n);
        for (int k = 0, n = arrays(&t->p[i], a); k < n; k++) put(s, a[k], t->p[i].n * sizeof **a);
    }
    uint64_t sum = s->sum;
    put_u64(s, sum);
}

pare_status pare_trainer_save(const pare_trainer *t, uint64_t key, const char *path, pare_diag *d) {
    char *temp = pare_sprintf("%s.tmp", path);
    if (!temp) return pare_fail(d, PARE_ERR_NOMEM, path, NULL, "no memory for the checkpoint");
    stream s = {.f = fopen(temp, "wb")};
    pare_status st = PARE_OK;
    if (!s.f) {
        st = pare_fail_errno(d, path, "the checkpoint cannot be written; the one before stays");
        pare_free(temp);
        return st;
    }
    put_all(&s, t, key);
    errno = 0;
    bool ok = !s.failed && fflush(s.f) == 0 && fsync(fileno(s.f)) == 0;
    int code = errno;
    if (fclose(s.f) != 0 && ok) ok = false, code = errno;
    if (ok && rename(temp, path) != 0) ok = false, code = errno;
    if (!ok) {
        errno = code ? code : ENOSPC;
        st = pare_fail_errno(d, path, "the checkpoint cannot be written; the one before stays");
        unlink(temp);
    }
    pare_free(temp);
    return st;
}

static bool same_shape(stream *s, const pare_trainer *t, uint64_t *done) {
    *done = get_u64(s);
    return get_u64(s) == PARE_CURVE && get_u64(s) == t->n && get_u64(s) == (uint64_t)t->micro &&
           *done <= (uint64_t)t->optim.steps && !s->failed;
}

/* After the header; when `into` is false the file is only checked. */
static void take(stream *s, pare_trainer *t, uint64_t done, bool into) {
    static const size_t chunk = 1 << 16;
    double row[PARE_CURVE];
    for (uint64_t i = 0; i < done && !s->failed; i++) {
        get(s, row, sizeof row);
        if (into) memcpy(t->curve + i * PARE_CURVE, row, sizeof row);
    }
    float *scratch = pare_malloc(chunk * sizeof *scratch);
    s->failed |= !scratch;
    for (size_t i = 0; i < t->n && !s->failed; i++) {
        float *a[4];
        if (get_u64(s) != t->p[i].n) s->failed = true;
        for (int k = 0, n = arrays(&t->p[i], a); k < n && !s->failed; k++)
            for (size_t at = 0; at < t->p[i].n; at += chunk) {
                size_t m = t->p[i].n - at < chunk ? t->p[i].n - at : chunk;
                get(s, scratch, m * sizeof *scratch);
                if (into) memcpy(a[k] + at, scratch, m * sizeof *scratch);
            }
    }
    pare_free(scratch);
    uint64_t sum = s->sum;
    if (get_u64(s) != sum || fgetc(s->f) != EOF) s->failed = true;
}

int64_t pare_trainer_micro(const char *path) {
    enum { MAGIC_BYTES = 16, WORDS = 5 };
    char magic[MAGIC_BYTES];
    uint64_t word[WORDS]; /* the last one is it */
    FILE *f = fopen(path, "rb");
    if (!f) return 0;
    bool whole = fread(magic, MAGIC_BYTES, 1, f) == 1 && fread(word, sizeof word, 1, f) == 1;
    fclose(f);
    return whole && memcmp(magic, MAGIC, MAGIC_BYTES) == 0 && word[WORDS - 1] <= INT32_MAX ? (int64_t)word[WORDS - 1]
                                                                                           : 0;
}

pare_status pare_trainer_load(pare_trainer *t, uint64_t key, const char *path, bool *found, pare_diag *d) {
    stream s = {.f = fopen(path, "rb")};
    char magic[16];
    uint64_t done = 0;
    *found = false;
    if (!s.f) return errno == ENOENT ? PARE_OK : pare_fail_errno(d, path, "the checkpoint cannot be read");
    pare_status st = PARE_OK;
    for (int pass = 0; pass < 2 && st == PARE_OK; pass++) { /* all of it is checked before any of it is taken */
        rewind(s.f);
        s.sum = 0;
        get(&s, magic, sizeof magic);
        if (memcmp(magic, MAGIC, 16) != 0)
            st = pare_fail(d, PARE_ERR_INPUT, path, NULL, "this is no checkpoint of pare; remove it, or use --force");
        else if (get_u64(&s) != key)
            st = pare_fail(d, PARE_ERR_EXISTS, path, NULL,
                           "this checkpoint is of another run (other models, data or options); finish that one, remove "
                           "the file, or use --force");
        else if (!same_shape(&s, t, &done)) s.failed = true;
        if (st == PARE_OK && !s.failed) take(&s, t, done, pass == 1);
        if (st == PARE_OK && s.failed)
            st = pare_fail(d, PARE_ERR_INPUT, path, NULL, "this checkpoint is damaged; remove it, or use --force");
    }
    fclose(s.f);
    if (st != PARE_OK) return st;
    t->done = (int64_t)done;
    *found = true;
    return PARE_OK;
}
