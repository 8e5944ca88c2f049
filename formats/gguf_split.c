/* SPDX-License-Identifier: Apache-2.0
 *
 * A GGUF model, whole or split over <prefix>-00001-of-0000N.gguf files. Opening the first opens all; the model's keys
 * are those of the first file. */
#include <stdio.h>
#include <string.h>

#include "formats/gguf.h"

typedef struct split {
    bool any;
    uint64_t no, count, tensors;
} split;

/* Reads the split.* keys among metadata entries [first, n_meta). */
static pare_status read_split(const pare_source_impl *im, size_t first, const char *path, split *out, pare_diag *d) {
    static const struct {
        const char *key;
        pare_meta_type type;
        size_t at;
    } keys[] = {{"split.no", PARE_META_U16, offsetof(split, no)},
                {"split.count", PARE_META_U16, offsetof(split, count)},
                {"split.tensors.count", PARE_META_I32, offsetof(split, tensors)}};
    *out = (split){.tensors = UINT64_MAX};
    for (size_t i = first; i < im->s.n_meta; i++) {
        const pare_meta *m = &im->s.meta[i];
        for (size_t k = 0; k < 3; k++) {
            if (strcmp(m->key, keys[k].key) != 0) continue;
            if (m->type != keys[k].type || (m->type == PARE_META_I32 && m->v.i < 0))
                return pare_fail(d, PARE_ERR_INPUT, path, m->key, "expected %s", k == 2 ? "an i32 >= 0" : "a u16");
            memcpy((char *)out + keys[k].at, &m->v.u, 8);
            out->any = true;
        }
    }
    return PARE_OK;
}

#define TAIL_FMT   "-%05d-of-%05d.gguf"
#define TAIL_BYTES 20

/* Path of part `no` (from 0) next to the first file; NULL + diag. */
static char *part_path(pare_source_impl *im, const char *first, int no, int count, pare_diag *d) {
    char tail[64];
    snprintf(tail, sizeof tail, TAIL_FMT, 1, count);
    size_t n = strlen(first);
    if (n < TAIL_BYTES || strcmp(first + n - TAIL_BYTES, tail) != 0) {
        pare_fail(d, PARE_ERR_INPUT, first, NULL, "part 1 of a model split into %d files must be named <name>%s", count,
                  tail);
        return NULL;
    }
    char *path = pare_arena_strndup(im->arena, first, n);
    if (!path) {
        pare_source_nomem(im, d);
        return NULL;
    }
    snprintf(tail, sizeof tail, TAIL_FMT, no + 1, count);
    memcpy(path + n - TAIL_BYTES, tail, TAIL_BYTES);
    return path;
}

pare_status pare_gguf_read(pare_source_impl *im, const char *path, pare_diag *d) {
    split first, part;
    PARE_TRY(pare_gguf_read_one(im, path, d));
    PARE_TRY(read_split(im, 0, path, &first, d));
    if (first.count <= 1) return PARE_OK;
    if (first.no != 0)
        return pare_fail(d, PARE_ERR_INPUT, path, "split.no",
                         "this is part %llu of %llu: open the first part, it finds the others",
                         (unsigned long long)first.no + 1, (unsigned long long)first.count);
    size_t n_meta = im->s.n_meta;
    for (int i = 1; i < (int)first.count; i++) {
        const char *next = part_path(im, path, i, (int)first.count, d);
        if (!next) return d && d->code != PARE_OK ? d->code : PARE_ERR_INPUT;
        PARE_TRY(pare_gguf_read_one(im, next, d));
        PARE_TRY(read_split(im, n_meta, next, &part, d));
        if (!part.any || part.no != (uint64_t)i || (part.count && part.count != first.count))
            return pare_fail(d, PARE_ERR_INPUT, next, "split.no", "expected part %d of %d of this model", i + 1,
                             (int)first.count);
        im->s.n_meta = n_meta;
    }
    if (first.tensors != UINT64_MAX && first.tensors != im->n_raw)
        return pare_fail(d, PARE_ERR_INPUT, path, "split.tensors.count",
                         "%llu tensors announced, %zu found in the %d files", (unsigned long long)first.tensors,
                         im->n_raw, (int)first.count);
    return PARE_OK;
}
