/* SPDX-License-Identifier: Apache-2.0
 *
 * One stage of a model over the activations of all windows (api/distill_blocks.h). */
#include "api/distill.h"

#include "api/block_graph.h"
#include "core/status.h"
#include "graph/graph_impl.h"

#include <string.h>

pare_status pare_stage_open(pare_weights *w, int stage, pare_lm_run *run, pare_value *in, pare_value *out,
                            pare_diag *d) {
    int64_t layers = pare_weights_arch(w)->layers;
    PARE_TRY(pare_lm_run_build(w, 0, run, d));
    if (pare_graph_stages(run->m.g) != layers + 2)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, pare_weights_arch(w)->name,
                         "its graph has %d stages, not its layers between two others; train all layers at once",
                         pare_graph_stages(run->m.g));
    return pare_graph_alone(run->m.g, stage, pare_weights_arch(w)->dim, in, out, d);
}

pare_status pare_stage_start(pare_distill_run *x, pare_weights *w, pare_lm_run *run, pare_diag *d) {
    pare_exec_opts on;
    PARE_TRY(pare_distill_device(x, &on, d));
    PARE_TRY(pare_lm_run_start(w, 0, &on, run, d));
    PARE_TRY(pare_lm_run_shape(run, w, x->o.micro, x->o.ctx, NULL, 0, d));
    uint64_t bytes = pare_exec_memory_bytes(run->e);
    if (bytes > x->r->memory_bytes) x->r->memory_bytes = bytes;
    return PARE_OK;
}

/* Window number of place i. */
static int64_t window_at(const pare_distill_run *x, size_t i) {
    const pare_blocks *b = x->blocks;
    return i < b->n ? b->window[i] : x->data.train + (int64_t)(i - b->n);
}

/* A pass that is not full repeats its first window. */
static void fill(pare_distill_run *x, const pare_kept *from, size_t first, size_t count) {
    size_t ctx = (size_t)x->o.ctx, each = x->blocks->in.each;
    for (size_t i = 0; i < (size_t)x->o.micro; i++) {
        size_t at = first + (i < count ? i : 0);
        if (from) memcpy(x->blocks->x + i * each, pare_kept_at(from, at), each * sizeof(float));
        else
            pare_windows_fill(&x->data, window_at(x, at), x->student.arch.vocab, (int64_t)(i * ctx), x->ids + i * ctx,
                              x->labels_at + i * ctx);
    }
}

pare_status pare_stage_pass(pare_distill_run *x, pare_lm_run *run, pare_value in, pare_value out, const pare_kept *from,
                            size_t first, size_t count, const float **y, pare_diag *d) {
    if (pare_is_interrupted()) return pare_interrupted(d);
    fill(x, in < 0 ? NULL : from, first, count);
    int n = pare_lm_run_bindings(run, x->ids, x->bind);
    if (in >= 0) x->bind[n++] = (pare_binding){in, x->blocks->x};
    PARE_TRY(pare_exec_run_to(run->e, 0, run->m.g->values[out].node, x->bind, n, d));
    *y = pare_exec_value(run->e, out)->data;
    return PARE_OK;
}

/* Over the tokens of a window. */
static double distance(const float *y, const float *t, size_t tokens, size_t dim) {
    double sum = 0;
    for (size_t i = 0; i < tokens; i++, y += dim, t += dim) {
        double off = 0, whole = 0;
        for (size_t k = 0; k < dim; k++) {
            double e = (double)y[k] - (double)t[k];
            off += e * e, whole += (double)t[k] * (double)t[k];
        }
        sum += off / (whole > 0 ? whole : 1);
    }
    return sum;
}

pare_status pare_stage_walk(pare_distill_run *x, pare_lm_run *run, pare_value in, pare_value out, const pare_kept *from,
                            size_t first, size_t n, const pare_kept *to, size_t at, double *error, size_t target0,
                            pare_diag *d) {
    const pare_blocks *b = x->blocks;
    size_t micro = (size_t)x->o.micro, each = b->in.each, ctx = (size_t)x->o.ctx;
    double sum = 0;
    for (size_t done = 0; done < n; done += micro) {
        size_t count = n - done < micro ? n - done : micro;
        const float *y;
        PARE_TRY(pare_stage_pass(x, run, in, out, from, first + done, count, &y, d));
        for (size_t i = 0; i < count; i++) {
            if (error) sum += distance(y + i * each, pare_kept_at(&b->target, target0 + done + i), ctx, each / ctx);
            if (to) memcpy(pare_kept_at(to, at + done + i), y + i * each, each * sizeof *y);
            if (from) pare_kept_release(from, first + done + i);
            if (to) pare_kept_release(to, at + done + i);
        }
    }
    if (error) *error = sum / (double)(n * ctx);
    return PARE_OK;
}

void pare_stage_release(const pare_source *src, const pare_arch *a, int layer) {
    for (size_t i = 0; i < src->n_tensors; i++) {
        const pare_stored *t = &src->tensors[i];
        pare_tensor_name name;
        size_t rows = 1;
        if (!pare_name_parse(a->family, src->kind, t->name, &name) || name.layer != layer) continue;
        for (int k = 0; k + 1 < t->ndim; k++) rows *= (size_t)t->shape[k];
        pare_source_release(src, t, 0, rows);
    }
}
