/* SPDX-License-Identifier: Apache-2.0
 *
 * Passes: the parts of a training step, and the windows that are held out. */
#include "api/distill.h"

#include "core/status.h"
#include "core/team.h"
#include "core/threads.h"
#include "distill/order.h"
#include "verify/logit_row.h"

#include <math.h>
#include <string.h>

static void bind(pare_distill_run *x, int *n, pare_value v, const void *data) {
    if (v >= 0) x->bind[(*n)++] = (pare_binding){v, (void *)(uintptr_t)data};
}

/* What the teacher has just computed, where it lies. */
static void bind_teacher(pare_distill_run *x, int *n, pare_value v, pare_value from) {
    pare_exec *t = x->teacher.e;
    if (x->top) bind(x, n, v, pare_exec_value(t, from)->data); /* else they come from the host */
    else bind(x, n, v, pare_exec_value_at(t, from));
}

/* The teacher over the windows in x->ids, and what the student's graph is given of it. window: their numbers, NULL
 * where the whole teacher is wanted. */
static pare_status inputs(pare_distill_run *x, const int64_t *window, int *n_bindings, pare_diag *d) {
    pare_lm_run *s = &x->student.run, *t = &x->teacher;
    int n = pare_lm_run_bindings(s, x->ids, x->bind);
    bind(x, &n, x->labels, x->labels_at);
    bind(x, &n, x->scale, &x->scale_at);
    bind(x, &n, x->token_weight, x->token_weight_at);
    bind(x, &n, x->pool_weight, x->pool_weight_at);
    bind(x, &n, x->relation_mask, x->relation_mask_at);
    bind(x, &n, x->pair_self, x->pair_self_at);
    bind(x, &n, x->pair_partner, x->pair_partner_at);
    *n_bindings = n;
    if (!x->needs_teacher || (window && x->teacher_logits < 0 && !x->n_taps)) return PARE_OK;
    if (x->top && window) {
        const float *logits;
        PARE_TRY(pare_teacher_top_logits(x, window, &logits, d));
        bind(x, n_bindings, x->teacher_logits, logits);
        return PARE_OK;
    }
    if (x->top) PARE_TRY(pare_lm_run_shape(t, x->teacher_w, x->o.micro, x->o.ctx, NULL, 0, d));
    PARE_TRY(pare_lm_run_go(t, x->ids, true, d));
    if (window) x->r->teacher_windows += x->o.micro;
    if (x->teacher_logits >= 0) bind_teacher(x, n_bindings, x->teacher_logits, t->m.out);
    for (size_t i = 0; i < x->n_taps; i++) bind_teacher(x, n_bindings, x->tap[i].to, x->tap[i].from);
    return PARE_OK;
}

/* Windows first .. first+micro-1 of a list: window_of(i). */
static pare_status fill(pare_distill_run *x, const int64_t *window, pare_diag *d) {
    int64_t ctx = x->o.ctx;
    if (x->data.start) return pare_distill_sentences_fill(x, window, d);
    for (int64_t i = 0; i < x->o.micro; i++)
        pare_windows_fill(&x->data, window[i], x->student.arch.vocab, i * ctx, x->ids + i * ctx,
                          x->labels_at + i * ctx);
    return PARE_OK;
}

/* The window at position `at` of all that are seen. */
static int64_t window_at(const pare_distill_run *x, int64_t at) {
    int64_t each = x->data.together;
    return (int64_t)pare_order_at(x->o.seed, (uint64_t)(x->data.train / each), (uint64_t)(at / each)) * each +
           at % each;
}

static float value_of(pare_distill_run *x, pare_value v) {
    return *(const float *)pare_exec_value(x->student.run.e, v)->data;
}

static pare_status part(pare_distill_run *x, int64_t number, double *loss, double *terms, pare_diag *d) {
    int64_t window[4096], first = x->trainer.done * x->o.batch + number * x->o.micro;
    int n;
    for (int64_t i = 0; i < x->o.micro; i++) window[i] = window_at(x, first + i);
    if (!x->blocks) PARE_TRY(fill(x, window, d));
    PARE_TRY(x->blocks ? pare_blocks_inputs(x, window, &n, d) : inputs(x, window, &n, d));
    PARE_TRY(pare_exec_run(x->student.run.e, -1, x->bind, n, d));
    *loss += (double)value_of(x, x->loss);
    for (int t = 0, k = 0; t < PARE_TERMS; t++)
        if (x->term[t] >= 0) terms[k++] += (double)value_of(x, x->term[t]) * (double)x->scale_at;
    if (x->resident) return pare_resident_add(x, number, x->o.batch / x->o.micro, d);
    const float **grad = pare_malloc((x->n_params + 1) * sizeof *grad);
    if (!grad) return pare_fail(d, PARE_ERR_NOMEM, NULL, "training", "no memory for the list of gradients");
    pare_status s = PARE_OK;
    for (size_t i = 0; i < x->n_params && s == PARE_OK; i++) {
        pare_scales *k = x->student.scales[x->tensor[i]];
        pare_adapter *a = x->student.adapters[x->tensor[i]];
        grad[i] = pare_exec_value(x->student.run.e, x->grad[i])->data;
        if (a && !x->second[i]) pare_adapter_gradient(a, grad[i]);
        if (a) grad[i] = x->second[i] ? a->grad_b : a->grad_a;
        if (!k || x->second[i]) continue; /* a latent takes its value's gradient as it is */
        s = pare_scales_gradient(k, grad[i], d);
        grad[i] = k->grad;
    }
    if (s == PARE_OK) s = pare_distill_add(x, number, x->o.batch / x->o.micro, grad, d);
    pare_free((void *)grad);
    return s;
}

pare_status pare_distill_refresh(pare_distill_run *x, pare_diag *d) {
    for (size_t i = 0; i < x->student.n; i++)
        if (x->student.codes[i]) PARE_TRY(pare_codes_snap(x->student.codes[i], d));
    for (size_t i = 0; i < x->student.n; i++)
        if (x->student.adapters[i]) pare_adapter_values(x->student.adapters[i], x->student.master[i]);
    for (size_t i = 0; i < x->student.n; i++)
        if (x->student.scales[i]) PARE_TRY(pare_scales_values(x->student.scales[i], x->student.master[i], d));
    return pare_distill_upload(x, d);
}

pare_status pare_distill_step(pare_distill_run *x, pare_diag *d) {
    enum { NUMBERS = 1 + PARE_TERMS }; /* loss, terms */
    double sum[NUMBERS] = {0};
    int64_t parts = x->o.batch / x->o.micro, size = pare_team_size();
    x->scale_at = 1.0f / (float)(x->o.batch * (x->data.start ? 1 : x->o.ctx)); /* sentences, or tokens */
    for (int64_t first = 0; first < parts; first += size) {
        double own[NUMBERS] = {0};
        int64_t number = first + pare_team_rank();
        if (number < parts) PARE_TRY(part(x, number, own, own + 1, d));
        else
            PARE_TRY(x->resident ? pare_resident_add(x, number, parts, d)
                                 : pare_distill_add(x, number, parts, NULL, d));
        pare_team_sum_f64(own, NUMBERS, (int)(parts - first < size ? parts - first : size), sum);
    }
    if (x->resident) return pare_resident_step(x, sum[0], sum + 1, x->r->n_terms, d);
    PARE_TRY(pare_trainer_step(&x->trainer, sum[0], sum + 1, x->r->n_terms, d));
    return pare_distill_refresh(x, d);
}

/* ---- what was held out ---- */

typedef struct row_job {
    const float *p, *q; /* p NULL: no teacher */
    const int64_t *labels;
    size_t vocab;
    double *kl, *loss;
    uint8_t *same;
} row_job;

static size_t most(const float *x, size_t n) {
    size_t at = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[at]) at = i;
    return at;
}

static void row_item(void *ctx, size_t i) {
    const row_job *j = ctx;
    const float *q = j->q + i * j->vocab, *p = j->p ? j->p + i * j->vocab : q;
    pare_logit_sums s;
    pare_logit_row_pick()(p, q, j->vocab, &s);
    double kl = s.cross / s.z_p - log(s.z_p) + log(s.z_q);
    j->kl[i] = kl > 0 ? kl : 0;
    j->loss[i] = log(s.z_q) - ((double)q[(size_t)j->labels[i] % j->vocab] - (double)s.max_q);
    j->same[i] = most(p, j->vocab) == most(q, j->vocab);
}

pare_status pare_distill_rows(pare_distill_run *x, const float *q, const float *p, int64_t n, pare_distill_held *sum,
                              pare_diag *d) {
    size_t count = (size_t)n;
    row_job j = {.p = p, .q = q, .labels = x->labels_at, .vocab = (size_t)x->student.arch.vocab};
    j.kl = pare_calloc(count, 2 * sizeof *j.kl);
    j.same = pare_calloc(count, 1);
    j.loss = j.kl ? j.kl + count : NULL;
    if (j.kl && j.same) pare_parallel(count, 1, row_item, &j);
    for (size_t i = 0; j.kl && j.same && i < count; i++)
        sum->kl += j.kl[i], sum->loss += j.loss[i], sum->top1 += j.same[i];
    bool ok = j.kl && j.same;
    pare_free(j.kl);
    pare_free(j.same);
    return ok ? PARE_OK : pare_fail(d, PARE_ERR_NOMEM, NULL, "measuring", "no memory for a pass");
}

static pare_status rows(pare_distill_run *x, int64_t n, pare_distill_held *sum, pare_diag *d) {
    const pare_tensor *q = pare_exec_value(x->student.run.e, x->student.run.m.out), *p = NULL;
    const float *values = q->data; /* the next call may be about the same executor's tensor */
    if (x->needs_teacher) p = pare_exec_value(x->teacher.e, x->teacher.m.out);
    return pare_distill_rows(x, values, p ? p->data : NULL, n, sum, d);
}

/* Pass `number` over what was held out, of o.micro windows. */
static pare_status measure_pass(pare_distill_run *x, int64_t number, pare_distill_held *sum, pare_diag *d) {
    int64_t held = x->data.n - x->data.train, window[4096], first = number * x->o.micro;
    int64_t count = held - first < x->o.micro ? held - first : x->o.micro;
    int n;
    for (int64_t i = 0; i < x->o.micro; i++) /* the last pass is filled up with windows that do not count */
        window[i] = x->data.train + (first + i < held ? first + i : 0);
    if (pare_is_interrupted()) return pare_interrupted(d);
    PARE_TRY(fill(x, window, d));
    PARE_TRY(inputs(x, NULL, &n, d));
    for (int s = 0; s < x->forward_stages; s++) PARE_TRY(pare_exec_run(x->student.run.e, s, x->bind, n, d));
    return x->data.start ? pare_distill_sentences_held(x, count, sum, d) : rows(x, count * x->o.ctx, sum, d);
}

pare_status pare_distill_measure(pare_distill_run *x, pare_distill_held *out, pare_diag *d) {
    int64_t held = x->data.n - x->data.train, size = pare_team_size();
    int64_t passes = (held + x->o.micro - 1) / x->o.micro;
    double sum[5] = {0};
    x->scale_at = 1;
    for (int64_t first = 0; first < passes; first += size) {
        pare_distill_held own = {0};
        int64_t number = first + pare_team_rank();
        pare_status s = number < passes ? measure_pass(x, number, &own, d) : PARE_OK;
        PARE_TRY(pare_team_agree(s, d));
        const double numbers[5] = {own.kl, own.loss, own.top1, own.cosine, own.similarity};
        pare_team_sum_f64(numbers, 5, (int)(passes - first < size ? passes - first : size), sum);
    }
    const pare_distill_held all = {sum[0], sum[1], sum[2], sum[3], sum[4]};
    return pare_distill_mean(x, &all, out, d);
}

pare_status pare_distill_mean(const pare_distill_run *x, const pare_distill_held *sum, pare_distill_held *out,
                              pare_diag *d) {
    int64_t held = x->data.n - x->data.train;
    double positions = (double)(held * x->o.ctx);
    int64_t rest = held % x->o.micro,
            pairs = held / x->o.micro * (x->o.micro * (x->o.micro - 1) / 2) + rest * (rest - 1) / 2;
    *out = (pare_distill_held){.kl = sum->kl / positions,
                               .loss = sum->loss / positions,
                               .top1 = sum->top1 / positions,
                               .cosine = sum->cosine / (double)held,
                               .similarity = sqrt(sum->similarity / (double)(pairs ? pairs : 1))};
    if (!isfinite(out->kl) || !isfinite(out->loss) || !isfinite(out->similarity))
        return pare_fail(d, PARE_ERR_INPUT, x->student.job->src->path, "logits",
                         "the student's outputs on the windows held out are not finite");
    return PARE_OK;
}
