/* SPDX-License-Identifier: Apache-2.0
 *
 * Writing importance matrices (formats/imatrix.h), as llama.cpp's own tools do. */
#include "formats/imatrix.h"

#include "core/alloc.h"
#include "core/status.h"
#include "formats/writer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct parts {
    pare_arena *arena;
    pare_out_tensor *t; /* two per entry */
    float *sums;
} parts;

static bool list(const pare_imatrix *m, parts *p) {
    size_t widest = 0;
    p->t = pare_arena_alloc(p->arena, (2 * m->n + 1) * sizeof *p->t);
    for (size_t i = 0; p->t && i < m->n; i++) {
        const pare_imatrix_entry *e = &m->v[i];
        size_t n = strlen(e->name) + 16;
        char *sum = pare_arena_alloc(p->arena, n), *count = pare_arena_alloc(p->arena, n);
        if (!sum || !count) return false;
        snprintf(sum, n, "%s.in_sum2", e->name);
        snprintf(count, n, "%s.counts", e->name);
        p->t[2 * i] = (pare_out_tensor){sum, &pare_qtype_f32, 2, {1, (int64_t)e->columns}};
        p->t[2 * i + 1] = (pare_out_tensor){count, &pare_qtype_f32, 2, {1, 1}};
        if (e->columns > widest) widest = e->columns;
    }
    p->sums = pare_arena_alloc(p->arena, (widest + 1) * sizeof *p->sums);
    return p->t && p->sums;
}

static pare_status put(pare_writer *w, const pare_imatrix *m, const parts *p, pare_diag *d) {
    for (size_t i = 0; i < m->n; i++) {
        const pare_imatrix_entry *e = &m->v[i];
        float count = (float)e->tokens;
        for (size_t j = 0; j < e->columns; j++) p->sums[j] = (float)((double)e->mean[j] * e->tokens);
        PARE_TRY(pare_writer_put(w, 2 * i, 0, p->sums, e->columns * sizeof(float), d));
        PARE_TRY(pare_writer_put(w, 2 * i + 1, 0, &count, sizeof count, d));
    }
    return pare_writer_finish(w, d);
}

pare_status pare_imatrix_write_gguf(const char *path, const pare_imatrix *m, uint32_t chunk, const char *data,
                                    bool force, pare_diag *d) {
    parts p = {.arena = pare_arena_new()};
    if (!p.arena || !list(m, &p)) {
        pare_arena_free(&p.arena);
        return pare_fail(d, PARE_ERR_NOMEM, path, NULL, "no memory for the importance matrix");
    }
    pare_str name = {data, strlen(data)};
    uint64_t chunks = m->n && chunk ? (uint64_t)(m->v[0].tokens / chunk) : 0;
    pare_meta meta[4] = {{.key = "general.type", .type = PARE_META_STR, .v.str = {"imatrix", 7}},
                         {.key = "imatrix.datasets", .type = PARE_META_ARRAY, .v.arr = {PARE_META_STR, 1, &name}},
                         {.key = "imatrix.chunk_count", .type = PARE_META_U32, .v.u = chunks},
                         {.key = "imatrix.chunk_size", .type = PARE_META_U32, .v.u = chunk}};
    pare_writer_opts o =
        {.kind = PARE_SOURCE_GGUF, .force = force, .n_tensors = 2 * m->n, .tensors = p.t, .n_meta = 4, .meta = meta};
    pare_writer *w = NULL;
    pare_status s = pare_writer_open(path, &o, &w, d);
    if (s == PARE_OK) s = put(w, m, &p, d);
    pare_writer_close(&w);
    pare_arena_free(&p.arena);
    return s;
}

void pare_imatrix_legacy(pare_bytes *b, const pare_imatrix *m, uint32_t chunk, const char *data) {
    uint32_t last = 0;
    pare_bytes_u32(b, (uint32_t)m->n);
    for (size_t i = 0; i < m->n; i++) {
        const pare_imatrix_entry *e = &m->v[i];
        uint32_t calls = (uint32_t)ceil(e->tokens / (chunk ? chunk : 1));
        if (calls > last) last = calls;
        pare_bytes_u32(b, (uint32_t)strlen(e->name));
        pare_bytes_text(b, e->name);
        pare_bytes_u32(b, calls);
        pare_bytes_u32(b, (uint32_t)e->columns);
        for (size_t j = 0; j < e->columns; j++) {
            float v = e->mean[j] * (float)calls;
            pare_bytes_put(b, &v, sizeof v);
        }
    }
    pare_bytes_u32(b, last);
    pare_bytes_u32(b, (uint32_t)strlen(data));
    pare_bytes_text(b, data);
}
