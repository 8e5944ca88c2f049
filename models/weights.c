/* SPDX-License-Identifier: Apache-2.0
 *
 * Binding stored tensors to graph values. */
#include "models/weights.h"

#include "core/alloc.h"
#include "core/status.h"
#include "core/threads.h"

#include <stdio.h>
#include <string.h>

typedef struct kept {
    const pare_stored *t;
    void *data;
} kept; /* a tensor that had to be copied, and its copy */

struct pare_weights {
    const pare_source *src;
    pare_arch arch;
    kept *kept;
    size_t n, cap;
    pare_status status;
    char failed[160];
};

pare_status pare_weights_open(const pare_source *src, const pare_arch *a, pare_weights **out, pare_diag *d) {
    pare_weights *w = *out = pare_calloc(1, sizeof *w);
    if (!w) return pare_fail(d, PARE_ERR_NOMEM, src->path, NULL, "not enough memory for the model");
    w->src = src;
    w->arch = *a;
    return PARE_OK;
}

void pare_weights_close(pare_weights **wp) {
    pare_weights *w = wp ? *wp : NULL;
    if (!w) return;
    for (size_t i = 0; i < w->n; i++) pare_free(w->kept[i].data);
    pare_free(w->kept);
    pare_free(w);
    *wp = NULL;
}

const pare_arch *pare_weights_arch(const pare_weights *w) { return &w->arch; }
pare_source_kind pare_weights_kind(const pare_weights *w) { return w->src->kind; }

pare_status pare_weights_status(const pare_weights *w, pare_diag *d) {
    if (w->status == PARE_OK) return PARE_OK;
    return pare_fail(d, w->status, w->src->path, w->failed,
                     w->status == PARE_ERR_NOMEM ? "not enough memory for this tensor"
                                                 : "this tensor is missing or cannot be read as a weight");
}

static void fail(pare_weights *w, pare_status s, const char *name) {
    if (w->status != PARE_OK) return;
    w->status = s;
    snprintf(w->failed, sizeof w->failed, "%s", name);
}

bool pare_weights_has(const pare_weights *w, pare_role role, int layer, bool bias) {
    return pare_arch_tensor(w->src, &w->arch, role, layer, bias) != NULL;
}

static void *find_kept(const pare_weights *w, const pare_stored *t) {
    for (size_t i = 0; i < w->n; i++)
        if (w->kept[i].t == t) return w->kept[i].data;
    return NULL;
}

const void *pare_weights_rows(const pare_weights *w, const pare_stored *t) {
    const void *copy = find_kept(w, t);
    return copy ? copy : t->data;
}

/* Memory for a copy of t, remembered. */
static void *keep(pare_weights *w, const pare_stored *t, size_t bytes) {
    void *p = NULL;
    if (pare_grow((void **)&w->kept, &w->cap, w->n + 1, sizeof *w->kept) == PARE_OK) p = pare_malloc_aligned(bytes);
    if (p) w->kept[w->n++] = (kept){t, p};
    else fail(w, PARE_ERR_NOMEM, t->name);
    return p;
}

typedef struct assembly {
    const pare_source *src;
    const pare_stored *t;
    char *out;
    size_t rows, row_bytes;
} assembly;
#define CHUNK_ROWS 64

static void assemble_rows(void *ctx, size_t item) {
    const assembly *a = ctx;
    size_t first = item * CHUNK_ROWS, n = a->rows - first < CHUNK_ROWS ? a->rows - first : CHUNK_ROWS;
    char *to = a->out + first * a->row_bytes;
    const void *p = pare_source_rows(a->src, a->t, first, n, to);
    if (p != to) memcpy(to, p, n * a->row_bytes);
}

/* What kernels may assume about the address of a format's data. */
static bool aligned(const pare_stored *t) {
    size_t need = t->type->kind == PARE_QK_FLOAT ? t->type->block_bytes : 2;
    return (uintptr_t)t->data % need == 0;
}

/* All rows of t, in place where they lie so in the file. */
static const void *rows_of(pare_weights *w, const pare_stored *t, const pare_tensor *shape) {
    if (t->layout == PARE_LAYOUT_PLAIN && t->data && aligned(t)) return t->data;
    void *p = find_kept(w, t);
    if (p) return p;
    assembly a = {w->src, t, NULL, (size_t)pare_tensor_rows(shape),
                  pare_row_bytes(t->type, (size_t)pare_tensor_cols(shape))};
    if (!(a.out = keep(w, t, a.rows * a.row_bytes))) return NULL;
    pare_parallel((a.rows + CHUNK_ROWS - 1) / CHUNK_ROWS, 1, assemble_rows, &a);
    return a.out;
}

static const pare_stored *find(pare_weights *w, pare_role role, int layer, bool bias, char name[160]) {
    pare_tensor_name n = {role, layer, bias};
    if (!pare_name_format(w->arch.family, PARE_SOURCE_GGUF, n, name, 160)) name[0] = 0; /* graphs use GGUF's names */
    const pare_stored *t = pare_arch_tensor(w->src, &w->arch, role, layer, bias);
    if (!t) fail(w, PARE_ERR_INPUT, name);
    return t;
}

pare_value pare_weights_matrix(pare_weights *w, pare_graph *g, pare_role role, int layer, bool linear) {
    char name[160];
    const pare_stored *t = find(w, role, layer, false, name);
    if (!t) return PARE_NO_VALUE;
    pare_tensor view = pare_tensor_make(t->type, t->ndim, t->shape, NULL);
    view.data = (void *)(uintptr_t)rows_of(w, t, &view);
    view.transposed = linear;
    return view.data ? pare_graph_weight(g, name, &view) : PARE_NO_VALUE;
}

const float *pare_weights_floats(pare_weights *w, pare_role role, int layer, bool bias, int64_t *n) {
    char name[160];
    const pare_stored *t = find(w, role, layer, bias, name);
    if (!t) return NULL;
    pare_tensor view = pare_tensor_make(t->type, t->ndim, t->shape, NULL);
    *n = pare_tensor_elems(&view);
    if (t->ndim != 1 || !t->type->decode || t->layout != PARE_LAYOUT_PLAIN || !t->data) {
        fail(w, PARE_ERR_INPUT, name);
        return NULL;
    }
    if (t->type == &pare_qtype_f32 && aligned(t)) return t->data;
    float *p = find_kept(w, t);
    if (p) return p;
    if (!(p = keep(w, t, (size_t)*n * sizeof *p))) return NULL;
    t->type->decode(t->type, t->data, p, (size_t)*n);
    return p;
}

pare_value pare_weights_vector(pare_weights *w, pare_graph *g, pare_role role, int layer, bool bias) {
    char name[160];
    int64_t n;
    const float *p = pare_weights_floats(w, role, layer, bias, &n);
    if (!p) return PARE_NO_VALUE;
    pare_name_format(w->arch.family, PARE_SOURCE_GGUF, (pare_tensor_name){role, layer, bias}, name, sizeof name);
    pare_tensor view = pare_tensor_make(&pare_qtype_f32, 1, &n, (void *)(uintptr_t)p);
    return pare_graph_weight(g, name, &view);
}
