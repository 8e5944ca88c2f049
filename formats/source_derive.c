/* SPDX-License-Identifier: Apache-2.0
 *
 * A source that is only planned: what a job will write, with names, shapes, formats and configuration but without
 * values, so that the next job's plan can be made before the first one has run. */
#include "formats/source_impl.h"

#include <string.h>
#include <sys/mman.h>

/* Zeros that every tensor shows: address space, no memory. */
static pare_status add_zeros(pare_source_impl *im, size_t bytes, pare_diag *d) {
    const char *name = im->s.path;
    if (pare_grow((void **)&im->s.shards, &im->cap_shards, 1, sizeof name) != PARE_OK ||
        pare_grow((void **)&im->maps, &im->cap_maps, 1, sizeof *im->maps) != PARE_OK)
        return pare_source_nomem(im, d);
    void *p = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return pare_fail_errno(d, name, "no address space for the plan");
    im->maps[0] = (pare_map){p, bytes};
    im->s.shards[0] = name;
    im->s.n_shards = 1;
    return PARE_OK;
}

static pare_status fill(pare_source_impl *im, const pare_source *of, const pare_derive *from, pare_diag *d) {
    size_t most = 1;
    for (size_t i = 0; i < from->n_tensors; i++) {
        pare_stored *t = pare_source_add_tensor(im, d);
        if (!t) return PARE_ERR_NOMEM;
        *t = from->tensors[i];
        t->shard = 0, t->file_offset = 0, t->layout = PARE_LAYOUT_PLAIN;
        if (!pare_stored_measure(t))
            return pare_fail(d, PARE_ERR_INTERNAL, of->path, t->name, "this planned tensor has no size");
        if (t->bytes > most) most = t->bytes;
    }
    PARE_TRY(add_zeros(im, most, d));
    for (size_t i = 0; i < im->n_raw; i++) im->raw[i].data = im->maps[0].p;
    for (size_t i = 0; i < from->n_meta; i++) {
        pare_meta *m = pare_source_add_meta(im, d);
        if (!m) return PARE_ERR_NOMEM;
        *m = from->meta[i];
    }
    for (size_t i = 0; i < of->n_sidecars; i++) PARE_TRY(pare_source_add_sidecar(im, of->sidecars[i], d));
    if (from->config) PARE_TRY(pare_json_parse(from->config, strlen(from->config), of->path, 0, &im->s.config, d));
    if (of->tokenizer_config) im->s.tokenizer_config = json_incref(of->tokenizer_config);
    im->s.tensors = im->raw;
    im->s.n_tensors = im->n_raw;
    size_t dup;
    if (pare_name_index_build(&im->by_name, im->raw, sizeof *im->raw, im->n_raw, &dup) != PARE_OK ||
        pare_name_index_build(&im->by_key, im->s.meta, sizeof *im->s.meta, im->s.n_meta, &dup) != PARE_OK)
        return pare_source_nomem(im, d);
    return PARE_OK;
}

pare_status pare_source_derive(const pare_source *of, const pare_derive *from, pare_source **out, pare_diag *d) {
    pare_source_impl *im = pare_calloc(1, sizeof *im);
    *out = NULL;
    if (!im) return pare_fail(d, PARE_ERR_NOMEM, of->path, NULL, "no memory for the plan");
    im->s.impl = im;
    im->s.kind = from->kind;
    pare_source *s = &im->s;
    pare_status r = PARE_OK;
    if (!(im->arena = pare_arena_new())) r = pare_fail(d, PARE_ERR_NOMEM, of->path, NULL, "no memory for the plan");
    else if (!(im->s.path = pare_arena_strndup(im->arena, of->path, strlen(of->path)))) r = pare_source_nomem(im, d);
    if (r == PARE_OK) r = fill(im, of, from, d);
    if (r == PARE_OK) *out = s;
    else pare_source_close(&s);
    return r;
}
