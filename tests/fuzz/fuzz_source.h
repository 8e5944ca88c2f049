/* SPDX-License-Identifier: Apache-2.0
 *
 * What every reader's target does with a model that was accepted: touch all of it. */
#ifndef PARE_TESTS_FUZZ_SOURCE_H
#define PARE_TESTS_FUZZ_SOURCE_H

#include "fuzz.h"

#include "core/alloc.h"
#include "formats/source.h"

static inline void fuzz_meta(const pare_source *s) {
    volatile unsigned sum = 0;
    uint64_t u;
    double f;
    bool b;
    pare_str str;
    for (size_t i = 0; i < s->n_meta; i++) {
        const pare_meta *m = &s->meta[i];
        if (pare_source_meta(s, m->key) != m) abort();
        pare_meta_get_u64(s, m->key, &u), pare_meta_get_f64(s, m->key, &f), pare_meta_get_bool(s, m->key, &b);
        if (pare_meta_get_str(s, m->key, &str))
            for (size_t k = 0; k < str.n; k++) sum += (unsigned char)str.p[k];
        const pare_str *list = m->v.arr.data;
        if (m->type == PARE_META_ARRAY && m->v.arr.type == PARE_META_STR)
            for (size_t k = 0; k < m->v.arr.n; k++) sum += list[k].n ? (unsigned char)list[k].p[list[k].n - 1] : 0;
    }
}

static inline void fuzz_open(const char *path) {
    pare_source *s;
    pare_diag d = {0};
    volatile unsigned sum = 0;
    if (pare_source_open(path, &s, &d) != PARE_OK) {
        if (!d.text[0] || d.code == PARE_OK || s) abort();
        return;
    }
    fuzz_meta(s);
    for (size_t i = 0; i < s->n_tensors; i++) {
        const pare_stored *t = &s->tensors[i];
        if (pare_source_find(s, t->name) != t) abort();
        size_t cols = t->ndim ? (size_t)t->shape[t->ndim - 1] : 1, rb = pare_row_bytes(t->type, cols);
        if (t->bytes == 0 || rb == 0) continue;
        size_t rows = t->bytes / rb, step = 1 + (1 << 16) / rb;
        unsigned char *buf = pare_malloc(step * rb);
        float *w = t->type->decode && cols <= 1 << 16 ? pare_malloc(cols * sizeof *w) : NULL;
        for (size_t r = 0; r < rows; r += step) {
            size_t n = rows - r < step ? rows - r : step;
            const unsigned char *p = pare_source_rows(s, t, r, n, buf);
            for (size_t k = 0; k < n * rb; k++) sum += p[k];
            if (w && pare_qtype_fits(t->type, cols)) t->type->decode(t->type, p, w, cols);
            pare_source_release(s, t, r, n);
        }
        pare_free(buf);
        pare_free(w);
    }
    pare_source_close(&s);
}

#endif
