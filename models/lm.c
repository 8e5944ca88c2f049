/* SPDX-License-Identifier: Apache-2.0
 *
 * A runnable text model: opening, whole windows, cached steps, embeddings. */
#include "models/lm.h"

#include "core/alloc.h"
#include "core/status.h"
#include "models/lm_run.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define STEP_TOKENS 512 /* a longer prompt goes through in pieces, so that activations stay small */

struct pare_lm {
    const pare_source *src;
    pare_weights *w;
    pare_lm_info info;
    pare_exec_opts exec;
    int64_t capacity;
    pare_lm_run windows, steps; /* without and with cache; made when first needed */
    pare_lm_run *last;
};

static void describe(pare_lm *lm, const pare_arch *a) {
    lm->info = (pare_lm_info){.decoder = a->family == PARE_FAMILY_LLAMA,
                              .arch = a->name,
                              .vocab = a->vocab,
                              .dim = a->dim,
                              .layers = a->layers,
                              .heads = a->heads,
                              .kv_heads = a->kv_heads,
                              .head_dim = a->head_dim,
                              .ffn = a->ffn,
                              .context = pare_arch_context(a),
                              .pooling = a->pooling,
                              .normalize = a->normalize};
}

pare_status pare_lm_open(const pare_source *src, const pare_lm_opts *opts, pare_lm **out, pare_diag *d) {
    pare_arch a;
    *out = NULL;
    PARE_TRY(pare_arch_read(src, &a, d));
    PARE_TRY(pare_arch_check(src, &a, d));
    pare_lm *lm = pare_calloc(1, sizeof *lm);
    if (!lm) return pare_fail(d, PARE_ERR_NOMEM, src->path, NULL, "not enough memory for the model");
    lm->src = src;
    describe(lm, &a);
    if (opts) lm->exec = (pare_exec_opts){.backend = opts->backend, .act = opts->act, .leave_bytes = opts->leave_bytes};
    lm->capacity = opts && lm->info.decoder ? opts->capacity : 0;
    if (lm->capacity > lm->info.context) lm->capacity = lm->info.context;
    pare_status s = pare_weights_open(src, &a, &lm->w, d);
    if (s == PARE_OK) {
        lm->last = lm->capacity > 0 ? &lm->steps : &lm->windows;
        s = pare_lm_run_open(lm->w, lm->capacity > 0 ? lm->capacity : 0, &lm->exec, lm->last, d);
    }
    if (s != PARE_OK) {
        if (d && !d->file[0]) snprintf(d->file, sizeof d->file, "%s", src->path);
        pare_lm_close(&lm);
    }
    *out = lm;
    return s;
}

void pare_lm_close(pare_lm **p) {
    pare_lm *lm = p ? *p : NULL;
    if (!lm) return;
    pare_lm_run_close(&lm->windows);
    pare_lm_run_close(&lm->steps);
    pare_weights_close(&lm->w);
    pare_free(lm);
    *p = NULL;
}

const pare_lm_info *pare_lm_describe(const pare_lm *lm) { return &lm->info; }
void pare_lm_set_hook(pare_lm *lm, pare_node_hook *hook, void *ctx) {
    lm->exec.hook = hook;
    lm->exec.hook_ctx = ctx;
    if (lm->windows.e) pare_exec_set_hook(lm->windows.e, hook, ctx);
    if (lm->steps.e) pare_exec_set_hook(lm->steps.e, hook, ctx);
}
size_t pare_lm_memory_bytes(const pare_lm *lm) { return pare_exec_memory_bytes(lm->last->e) + lm->last->kv_bytes; }
size_t pare_lm_fallbacks(const pare_lm *lm, const char *const **names) {
    return pare_exec_fallbacks(lm->last->e, names);
}
bool pare_lm_streamed(const pare_lm *lm) { return pare_exec_streamed(lm->last->e); }
size_t pare_lm_device_bytes(const pare_lm *lm) {
    size_t n = pare_exec_device_bytes(lm->last->e);
    return n ? n + lm->last->kv_bytes : 0;
}

static pare_status check_ids(const pare_lm *lm, const int64_t *ids, int64_t n, pare_diag *d) {
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= lm->info.vocab)
            return pare_fail(d, PARE_ERR_MISMATCH, lm->src->path, NULL,
                             "token id %lld is outside the vocabulary of %lld", (long long)ids[i],
                             (long long)lm->info.vocab);
    return PARE_OK;
}

static pare_status too_long(const pare_lm *lm, int64_t n, int64_t limit, pare_diag *d) {
    return pare_fail(d, PARE_ERR_USAGE, lm->src->path, NULL, "%lld tokens do not fit the context of %lld", (long long)n,
                     (long long)limit);
}

pare_status pare_lm_forward(pare_lm *lm, const int64_t *ids, const int64_t *lengths, int64_t batch, int64_t seq,
                            const pare_tensor **out, pare_diag *d) {
    pare_lm_run *r = lm->last = &lm->windows;
    assert(batch > 0 && seq > 0);
    if (seq > lm->info.context) return too_long(lm, seq, lm->info.context, d);
    PARE_TRY(check_ids(lm, ids, batch * seq, d));
    for (int64_t i = 0; lengths && i < batch; i++)
        if (lengths[i] < 1 || lengths[i] > seq)
            return pare_fail(d, PARE_ERR_USAGE, lm->src->path, NULL,
                             "a sequence of %lld tokens in a batch of width %lld", (long long)lengths[i],
                             (long long)seq);
    if (!r->e) {
        pare_status s = pare_lm_run_open(lm->w, 0, &lm->exec, r, d);
        if (s != PARE_OK) {
            pare_lm_run_close(r);
            return s;
        }
    }
    PARE_TRY(pare_lm_run_shape(r, lm->w, batch, seq, lm->info.decoder ? NULL : lengths, 0, d));
    PARE_TRY(pare_lm_run_go(r, ids, true, d));
    *out = pare_exec_value(r->e, r->m.out);
    return *out ? PARE_OK : pare_fail(d, PARE_ERR_DEVICE, lm->src->path, NULL, "the result could not be read back");
}

pare_status pare_lm_step(pare_lm *lm, const int64_t *ids, int64_t n, int64_t past, const float **logits, pare_diag *d) {
    pare_lm_run *r = lm->last = &lm->steps;
    assert(lm->capacity > 0 && n > 0 && past >= 0);
    if (past + n > lm->capacity) return too_long(lm, past + n, lm->capacity, d);
    PARE_TRY(check_ids(lm, ids, n, d));
    for (int64_t done = 0; done < n;) {
        int64_t piece = n - done < STEP_TOKENS ? n - done : STEP_TOKENS;
        PARE_TRY(pare_lm_run_shape(r, lm->w, 1, piece, NULL, past + done, d));
        PARE_TRY(pare_lm_run_go(r, ids + done, done + piece == n, d));
        done += piece;
    }
    const pare_tensor *t = pare_exec_value(r->e, r->m.out);
    if (!t) return pare_fail(d, PARE_ERR_DEVICE, lm->src->path, NULL, "the result could not be read back");
    *logits = t->data;
    return PARE_OK;
}

/* One sequence's vectors h [n, dim] to its embedding. Sums are in double and in order. */
static void pool(const pare_lm_info *info, const float *h, int64_t n, float *out) {
    int64_t dim = info->dim, from = info->pooling == 3 ? n - 1 : 0, to = info->pooling == 2 ? 1 : n;
    double norm = 0;
    for (int64_t k = 0; k < dim; k++) {
        double sum = 0;
        for (int64_t i = from; i < to; i++) sum += h[i * dim + k];
        sum /= (double)(to - from);
        out[k] = (float)sum;
        norm += sum * sum;
    }
    if (!info->normalize || !(norm > 0)) return;
    norm = sqrt(norm);
    for (int64_t k = 0; k < dim; k++) out[k] = (float)((double)out[k] / norm);
}

pare_status pare_lm_embed(pare_lm *lm, const int64_t *ids, const int64_t *lengths, int64_t batch, int64_t seq,
                          float *out, pare_diag *d) {
    const pare_tensor *h = NULL;
    assert(!lm->info.decoder);
    PARE_TRY(pare_lm_forward(lm, ids, lengths, batch, seq, &h, d));
    assert(h);
    for (int64_t i = 0; i < batch; i++)
        pool(&lm->info, (const float *)h->data + i * seq * lm->info.dim, lengths ? lengths[i] : seq,
             out + i * lm->info.dim);
    return PARE_OK;
}
