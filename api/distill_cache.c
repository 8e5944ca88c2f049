/* SPDX-License-Identifier: Apache-2.0
 *
 * The teacher's distributions, kept: of each position of a window the K largest log-probabilities, their tokens, and
 * what is left over, which the other tokens share evenly (top-K distillation with the remainder's mass). A window is
 * asked of the teacher when it is first met. The student's graph is always given what can be rebuilt from that, then,
 * too: so a run does not depend on what was kept, and may go on anywhere.
 *
 * op:     at temperature T, p = softmax(z / T): T log p of the K, T log(rest / (V - K)) of all others; the graph
 *         divides by T again and takes the softmax, which leaves p
 * layout: a window: [ctx] of rest f32, K values f32, K tokens u16 (u32 where the vocabulary has more than 65536)
 * equal:  the teacher sees one window at a time, so that its numbers depend on the window alone
 * memory: windows up to the budget, the others in a file beside the output that no longer has a name; and one pass
 *         of rebuilt logits */
#include "api/distill.h"

#include "api/distill_kept.h"
#include "core/status.h"
#include "core/threads.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#define BUDGET  ((uint64_t)512 << 20)
#define NOTHING (-87.0) /* log of a mass that f32 does not have: a number, so that 0 log 0 stays 0 */

struct pare_teacher_top {
    size_t k, vocab, ctx, id_bytes, row_bytes, window_bytes;
    int64_t windows, room, seen, in_memory;
    int64_t *slot; /* per window that is trained on: where it lies; -1: not met yet */
    uint8_t *memory, *file;
    size_t file_bytes;
    double temperature;
    float *logits; /* [micro][ctx][vocab] */
    uint8_t *at;   /* of the window at hand */
    const float *from;
    float *to;
    _Atomic bool failed;
};

static pare_status open_file(pare_teacher_top *t, const char *out, pare_diag *d) {
    void *p;
    PARE_TRY(pare_beside_map(out, "the teacher's distributions", "--teacher-top", t->file_bytes, &p, d));
    t->file = p;
    return PARE_OK;
}

static pare_status check(const pare_distill_run *x, pare_diag *d) {
    const char *which = x->weight[PARE_TERM_HIDDEN] > 0 ? "hidden" : x->weight[PARE_TERM_COSINE] > 0 ? "cosine" : NULL;
    if (which)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--teacher-top",
                         "the term %s compares hidden states, which are not kept; leave one of the two out", which);
    if (!(x->weight[PARE_TERM_KL] > 0))
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--teacher-top", "no term of --loss asks the teacher");
    if (x->o.teacher_top < 1 || x->o.teacher_top > x->student.arch.vocab)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--teacher-top", "%lld of the teacher's %lld tokens",
                         (long long)x->o.teacher_top, (long long)x->student.arch.vocab);
    return PARE_OK;
}

pare_status pare_teacher_top_open(pare_distill_run *x, pare_diag *d) {
    if (!x->o.teacher_top) return PARE_OK;
    PARE_TRY(check(x, d));
    pare_teacher_top *t = x->top = pare_calloc(1, sizeof *t);
    if (!t) return pare_fail(d, PARE_ERR_NOMEM, NULL, "--teacher-top", "no memory for the teacher's distributions");
    t->k = (size_t)x->o.teacher_top, t->vocab = (size_t)x->student.arch.vocab, t->ctx = (size_t)x->o.ctx;
    t->temperature = x->o.temperature;
    t->id_bytes = t->vocab > 65536 ? 4 : 2;
    t->row_bytes = (sizeof(float) + t->k * (sizeof(float) + t->id_bytes) + 3) / 4 * 4;
    t->window_bytes = t->row_bytes * t->ctx;
    t->windows = x->data.train;
    int64_t asked = x->o.steps > t->windows / x->o.batch ? t->windows : x->o.steps * x->o.batch;
    uint64_t budget = x->o.teacher_bytes ? x->o.teacher_bytes : BUDGET, fit = budget / t->window_bytes;
    t->room = asked < t->windows ? asked : t->windows;
    t->in_memory = fit < (uint64_t)t->room ? (int64_t)fit : t->room;
    t->file_bytes = (size_t)(t->room - t->in_memory) * t->window_bytes;
    t->slot = pare_malloc((size_t)t->windows * sizeof *t->slot);
    t->memory = pare_malloc((size_t)t->in_memory * t->window_bytes);
    t->logits = pare_malloc_aligned((size_t)x->o.micro * t->ctx * t->vocab * sizeof *t->logits);
    if (!t->slot || !t->memory || !t->logits)
        return pare_fail(d, PARE_ERR_NOMEM, NULL, "--teacher-top", "no memory for the teacher's distributions");
    for (int64_t i = 0; i < t->windows; i++) t->slot[i] = -1;
    return t->file_bytes ? open_file(t, x->o.out, d) : PARE_OK;
}

void pare_teacher_top_close(pare_teacher_top **tp) {
    pare_teacher_top *t = *tp;
    if (!t) return;
    if (t->file) munmap(t->file, t->file_bytes);
    pare_free(t->slot);
    pare_free(t->memory);
    pare_free(t->logits);
    pare_free(t);
    *tp = NULL;
}

/* ---- a position ---- */

/* Token a comes after b in the order by logit, ties by number. */
static bool below(const float *z, uint32_t a, uint32_t b) { return z[a] != z[b] ? z[a] < z[b] : a > b; }

/* The heap's root is the last of those that are kept. */
static void sift(const float *z, uint32_t *heap, size_t n, size_t i) {
    for (size_t c; (c = 2 * i + 1) < n; i = c) {
        if (c + 1 < n && below(z, heap[c + 1], heap[c])) c++;
        if (!below(z, heap[c], heap[i])) return;
        uint32_t t = heap[c];
        heap[c] = heap[i], heap[i] = t;
    }
}

static void keep_item(void *ctx, size_t row) {
    pare_teacher_top *t = ctx;
    const float *z = t->from + row * t->vocab;
    uint8_t *out = t->at + row * t->row_bytes, *ids = out + (1 + t->k) * sizeof(float);
    uint32_t *heap = pare_malloc(t->k * sizeof *heap);
    if (!heap) {
        atomic_store(&t->failed, true);
        return;
    }
    for (size_t i = 0; i < t->k; i++) heap[i] = (uint32_t)i;
    for (size_t i = t->k / 2; i-- > 0;) sift(z, heap, t->k, i);
    for (size_t i = t->k; i < t->vocab; i++)
        if (below(z, heap[0], (uint32_t)i)) heap[0] = (uint32_t)i, sift(z, heap, t->k, 0);
    double most = -INFINITY, all = 0, rest = 0;
    for (size_t i = 0; i < t->k; i++) most = fmax(most, (double)z[heap[i]]);
    for (size_t i = 0; i < t->vocab; i++) {
        double e = exp(((double)z[i] - most) / t->temperature);
        all += e;
        if (below(z, (uint32_t)i, heap[0])) rest += e;
    }
    double each = t->k < t->vocab ? log(rest / all / (double)(t->vocab - t->k)) : NOTHING;
    float *values = (float *)(void *)out;
    values[0] = (float)(t->temperature * (each > NOTHING ? each : NOTHING));
    for (size_t i = 0; i < t->k; i++) {
        uint16_t half = (uint16_t)heap[i];
        values[1 + i] = (float)((double)z[heap[i]] - most - t->temperature * log(all));
        memcpy(ids + i * t->id_bytes, t->id_bytes == 2 ? (void *)&half : (void *)&heap[i], t->id_bytes);
    }
    pare_free(heap);
}

static void rebuild_item(void *ctx, size_t row) {
    const pare_teacher_top *t = ctx;
    const uint8_t *in = t->at + row * t->row_bytes, *ids = in + (1 + t->k) * sizeof(float);
    const float *values = (const float *)(const void *)in;
    float *z = t->to + row * t->vocab;
    for (size_t i = 0; i < t->vocab; i++) z[i] = values[0];
    for (size_t i = 0; i < t->k; i++) {
        uint32_t id = 0; /* little endian, as all that pare runs on */
        memcpy(&id, ids + i * t->id_bytes, t->id_bytes);
        z[id] = values[1 + i];
    }
}

/* ---- a pass ---- */

static pare_status ask(pare_distill_run *x, const int64_t *ids, pare_diag *d) {
    pare_teacher_top *t = x->top;
    PARE_TRY(pare_lm_run_shape(&x->teacher, x->teacher_w, 1, x->o.ctx, NULL, 0, d));
    PARE_TRY(pare_lm_run_go(&x->teacher, ids, true, d));
    t->from = pare_exec_value(x->teacher.e, x->teacher.m.out)->data;
    pare_parallel(t->ctx, 16, keep_item, t);
    x->r->teacher_windows++;
    if (atomic_load(&t->failed))
        return pare_fail(d, PARE_ERR_NOMEM, NULL, "--teacher-top", "no memory for a position's largest logits");
    return PARE_OK;
}

pare_status pare_teacher_top_logits(pare_distill_run *x, const int64_t *window, const float **logits, pare_diag *d) {
    pare_teacher_top *t = x->top;
    for (int64_t i = 0; i < x->o.micro; i++) {
        bool met = t->slot[window[i]] >= 0;
        int64_t at = met ? t->slot[window[i]] : t->seen;
        t->at = at < t->in_memory ? t->memory + (size_t)at * t->window_bytes
                                  : t->file + (size_t)(at - t->in_memory) * t->window_bytes;
        if (!met) PARE_TRY(ask(x, x->ids + i * x->o.ctx, d));
        if (!met) t->slot[window[i]] = t->seen++;
        t->to = t->logits + (size_t)i * t->ctx * t->vocab;
        pare_parallel(t->ctx, 16, rebuild_item, t);
    }
    *logits = t->logits;
    return PARE_OK;
}
