/* SPDX-License-Identifier: Apache-2.0
 *
 * The walk of teacher and student through their layers, and the measure at the end (api/distill_blocks.h). */
#include "api/distill.h"

#include "core/status.h"
#include "core/team.h"
#include "distill/order.h"
#include "formats/checksum.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define BUDGET ((uint64_t)1 << 30)

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "--blockwise", "not enough memory for the activations of a pass");
}

pare_status pare_blocks_check(pare_distill_run *x, pare_diag *d) {
    pare_distill_opts *o = &x->o;
    if (!o->blockwise) {
        if (!o->block_inputs && !o->block_bytes) return PARE_OK;
        return pare_fail(d, PARE_ERR_USAGE, NULL, o->block_inputs ? "--block-inputs" : "--block-memory",
                         "it goes with --blockwise");
    }
    if (!o->block_inputs) o->block_inputs = "student";
    if (strcasecmp(o->block_inputs, "student") != 0 && strcasecmp(o->block_inputs, "teacher") != 0)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--block-inputs", "`%s` is none of: student, teacher",
                         o->block_inputs);
    if (o->hidden)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--hidden",
                         "layers of another width cannot be compared with the teacher's one by one; leave --blockwise "
                         "out and add --loss kl=1,hidden=1, which learns a projection");
    if (o->teacher_top)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--teacher-top", "with --blockwise no distribution is learned");
    if (!o->loss) PARE_TRY(pare_terms_parse(x, o->loss = "hidden", d));
    for (int t = 0; t < PARE_TERMS; t++)
        if (x->weight[t] > 0 && t != PARE_TERM_HIDDEN && t != PARE_TERM_COSINE)
            return pare_fail(d, PARE_ERR_USAGE, NULL, "--loss",
                             "%s is about what comes out of the whole model; with --blockwise there are hidden and "
                             "cosine",
                             pare_term_name((pare_term)t));
    return PARE_OK;
}

static pare_status check_models(const pare_distill_run *x, pare_diag *d) {
    const pare_arch *s = &x->student.arch, *t = &x->teacher_arch;
    const char *path = x->student.job->src->path;
    if (s->family == PARE_FAMILY_BERT)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, path, "--blockwise",
                         "it is for language models; a sentence encoder learns with --loss embed=1,hidden=1");
    if (x->given && !x->given->from_teacher)
        return pare_fail(d, PARE_ERR_USAGE, x->given->path, "--blockwise",
                         "this student begins at random, and its embeddings, which no layer's training reaches, would "
                         "stay so; leave --blockwise out");
    if (s->dim != t->dim)
        return pare_fail(d, PARE_ERR_USAGE, path, "--blockwise",
                         "the student has %lld channels, the teacher %lld; leave --blockwise out and add --loss "
                         "kl=1,hidden=1, which learns a projection",
                         (long long)s->dim, (long long)t->dim);
    if (s->layers > t->layers)
        return pare_fail(d, PARE_ERR_USAGE, path, "--blockwise",
                         "the student has %lld layers, the teacher %lld: there is nothing for each to aim at",
                         (long long)s->layers, (long long)t->layers);
    return PARE_OK;
}

/* ---- activations ---- */

/* The windows that the steps will meet: in the first epoch each position is another one. */
static pare_status choose(pare_distill_run *x, pare_diag *d) {
    pare_blocks *b = x->blocks;
    int64_t train = x->data.train, most = x->o.steps > train / x->o.batch ? train : x->o.steps * x->o.batch;
    b->n = (size_t)(most < train ? most : train), b->held = (size_t)(x->data.n - train);
    b->window = pare_malloc(b->n * sizeof *b->window), b->slot = pare_malloc((size_t)train * sizeof *b->slot);
    if (!b->window || !b->slot) return no_memory(d);
    for (int64_t i = 0; i < train; i++) b->slot[i] = -1;
    for (size_t i = 0; i < b->n; i++) {
        b->window[i] = (int64_t)pare_order_at(x->o.seed, (uint64_t)train, i);
        b->slot[b->window[i]] = (int64_t)i;
    }
    return PARE_OK;
}

pare_status pare_blocks_open(pare_distill_run *x, pare_diag *d) {
    pare_blocks *b = x->blocks = pare_calloc(1, sizeof *b);
    size_t ctx = (size_t)x->o.ctx, each = ctx * (size_t)x->teacher_arch.dim, micro = (size_t)x->o.micro;
    uint64_t budget = x->o.block_bytes ? x->o.block_bytes : BUDGET;
    if (!b) return no_memory(d);
    PARE_TRY(check_models(x, d));
    PARE_TRY(choose(x, d));
    b->teachers = strcasecmp(x->o.block_inputs, "teacher") == 0;
    PARE_TRY(pare_kept_open(b->held, each, &budget, x->o.out, &b->untaught, d));
    if (b->teachers) PARE_TRY(pare_kept_open(b->held, each, &budget, x->o.out, &b->held_in, d));
    PARE_TRY(pare_kept_open(b->n + b->held, each, &budget, x->o.out, &b->in, d));
    PARE_TRY(pare_kept_open(b->n + b->held, each, &budget, x->o.out, &b->target, d));
    x->r->kept_bytes = (2 * (b->n + b->held) + (b->teachers ? 2 : 1) * b->held) * each * sizeof(float);
    x->ids = pare_calloc(micro * ctx, sizeof *x->ids);
    x->labels_at = pare_calloc(micro * ctx, sizeof *x->labels_at);
    x->bind = pare_calloc(32, sizeof *x->bind);
    b->x = pare_malloc_aligned(micro * each * sizeof *b->x), b->y = pare_malloc_aligned(micro * each * sizeof *b->y);
    b->weight = pare_malloc_aligned(micro * ctx * sizeof *b->weight);
    if (!x->ids || !x->labels_at || !x->bind || !b->x || !b->y || !b->weight) return no_memory(d);
    return pare_weights_open(x->teacher_src, &x->teacher_arch, &x->teacher_w, d);
}

void pare_blocks_close(pare_blocks **bp) {
    pare_blocks *b = *bp;
    if (!b) return;
    pare_journal_close(&b->journal);
    pare_kept_close(&b->untaught), pare_kept_close(&b->held_in);
    pare_kept_close(&b->in), pare_kept_close(&b->target);
    pare_free(b->window), pare_free(b->slot);
    pare_free(b->x), pare_free(b->y), pare_free(b->weight);
    pare_free(b);
    *bp = NULL;
}

static void copy(const pare_kept *from, size_t first, size_t n, const pare_kept *to, size_t at) {
    for (size_t i = 0; i < n; i++) {
        memcpy(pare_kept_at(to, at + i), pare_kept_at(from, first + i), from->each * sizeof(float));
        pare_kept_release(from, first + i), pare_kept_release(to, at + i);
    }
}

/* Embeddings of all windows, by one model. */
static pare_status embed(pare_distill_run *x, pare_weights *w, const pare_kept *to, pare_diag *d) {
    pare_lm_run run = {0};
    pare_value in, out;
    pare_status s = pare_stage_open(w, 0, &run, &in, &out, d);
    if (s == PARE_OK) s = pare_stage_start(x, w, &run, d);
    if (s == PARE_OK) s = pare_stage_walk(x, &run, in, out, NULL, 0, to->n, to, 0, NULL, 0, d);
    pare_lm_run_close(&run);
    return s;
}

/* Targets go on to what the teacher has behind its layer. */
static pare_status teach(pare_distill_run *x, int layer, pare_diag *d) {
    pare_blocks *b = x->blocks;
    pare_status s = PARE_OK;
    for (; s == PARE_OK && b->reached <= layer; b->reached++) {
        pare_value in, out;
        s = pare_stage_open(x->teacher_w, b->reached + 1, &x->teacher, &in, &out, d);
        if (s == PARE_OK) s = pare_stage_start(x, x->teacher_w, &x->teacher, d);
        if (s == PARE_OK)
            s = pare_stage_walk(x, &x->teacher, in, out, &b->target, 0, b->target.n, &b->target, 0, NULL, 0, d);
        pare_lm_run_close(&x->teacher);
        pare_stage_release(x->teacher_src, &x->teacher_arch, b->reached);
    }
    return s;
}

/* ---- what was gained ---- */

/* KL and the rest from activations behind the last layers of both. */
static pare_status judge(pare_distill_run *x, const pare_kept *mine, size_t first, pare_distill_held *out,
                         pare_diag *d) {
    pare_blocks *b = x->blocks;
    pare_value in[2], of[2];
    pare_distill_held sum = {0};
    size_t micro = (size_t)x->o.micro;
    PARE_TRY(pare_stage_open(x->student.w, (int)x->student.arch.layers + 1, &x->student.run, &in[0], &of[0], d));
    PARE_TRY(pare_stage_start(x, x->student.w, &x->student.run, d));
    PARE_TRY(pare_stage_open(x->teacher_w, (int)x->teacher_arch.layers + 1, &x->teacher, &in[1], &of[1], d));
    PARE_TRY(pare_stage_start(x, x->teacher_w, &x->teacher, d));
    for (size_t done = 0; done < b->held; done += micro) {
        size_t count = b->held - done < micro ? b->held - done : micro;
        pare_distill_held own = {0};
        const float *q, *p;
        const pare_windows *w = &x->data;
        PARE_TRY(pare_stage_pass(x, &x->student.run, in[0], of[0], mine, first + done, count, &q, d));
        PARE_TRY(pare_stage_pass(x, &x->teacher, in[1], of[1], &b->target, b->n + done, count, &p, d));
        for (size_t i = 0; i < count; i++)
            pare_windows_fill(w, w->train + (int64_t)(done + i), x->student.arch.vocab, (int64_t)i * x->o.ctx,
                              x->ids + (int64_t)i * x->o.ctx, x->labels_at + (int64_t)i * x->o.ctx);
        PARE_TRY(pare_distill_rows(x, q, p, (int64_t)count * x->o.ctx, &own, d));
        sum.kl += own.kl, sum.loss += own.loss, sum.top1 += own.top1;
    }
    return pare_distill_mean(x, &sum, out, d);
}

static pare_status measure(pare_distill_run *x, pare_diag *d) {
    pare_blocks *b = x->blocks;
    pare_status s = judge(x, &b->untaught, 0, &x->r->before, d);
    pare_lm_run_close(&x->student.run), pare_lm_run_close(&x->teacher);
    if (s == PARE_OK)
        s = b->teachers ? judge(x, &b->held_in, 0, &x->r->after, d) : judge(x, &b->in, b->n, &x->r->after, d);
    pare_lm_run_close(&x->student.run), pare_lm_run_close(&x->teacher);
    return s;
}

/* ---- all layers ---- */

static pare_status open_journal(pare_distill_run *x, const char *options, pare_diag *d) {
    pare_blocks *b = x->blocks;
    const pare_journal_key key = {.model =
                                      pare_distill_sample(pare_distill_sample(0, x->teacher_src), &x->student.view.s),
                                  .options = pare_checksum(0, options, strlen(options)),
                                  .data = pare_checksum(x->data.sum, &x->data.train, sizeof x->data.train)};
    pare_status s = PARE_OK;
    if (pare_team_rank() == 0) s = pare_journal_open(x->o.out, &key, x->o.force, &b->journal, d);
    PARE_TRY(pare_team_agree(s, d));
    return pare_journal_share(&b->journal, d);
}

/* Behind which of the teacher's layers each layer's target lies. */
static int target_of(const pare_distill_run *x, int64_t l) {
    const int *map = x->student.teacher_layer;
    if (l + 1 == x->student.arch.layers) return (int)x->teacher_arch.layers - 1;
    bool known = !x->o.student || (x->given && x->given->layer_of); /* where they came from */
    return known ? map[l + 1] - 1 : map[l];
}

pare_status pare_blocks_work(pare_distill_run *x, pare_distill_text *t, pare_diag *d) {
    pare_blocks *b = x->blocks;
    int64_t layers = x->student.arch.layers;
    double start = pare_now_s();
    if (!(t->block = pare_calloc((size_t)layers, sizeof *t->block))) return no_memory(d);
    x->r->blocks = t->block, x->r->n_blocks = layers;
    pare_log(PARE_LOG_INFO, "%s; %lld layers, %lld steps each; activations of %zu windows: %.0f MB", x->data.note,
             (long long)layers, (long long)x->o.steps, b->n + b->held, (double)x->r->kept_bytes / 1e6);
    PARE_TRY(open_journal(x, t->options, d));
    PARE_TRY(embed(x, x->teacher_w, &b->target, d));
    PARE_TRY(embed(x, x->student.w, &b->in, d));
    copy(&b->in, b->n, b->held, &b->untaught, 0);
    if (b->teachers) copy(&b->in, b->n, b->held, &b->held_in, 0);
    pare_meter_start(&b->meter, "distill", "steps", (uint64_t)(layers * x->o.steps));
    for (int l = 0; l < layers; l++) {
        t->block[l] = (pare_distill_block){.layer = l, .target = target_of(x, l)};
        if (b->teachers) copy(&b->target, 0, b->target.n, &b->in, 0);
        PARE_TRY(teach(x, t->block[l].target, d));
        PARE_TRY(pare_block_learn(x, t, l, d));
    }
    x->r->teacher_windows = (int64_t)b->n;
    x->r->seconds = pare_now_s() - start;
    x->r->tokens_per_second = (double)((x->r->steps - x->r->resumed_from) * x->r->tokens_per_step) / x->r->seconds;
    return measure(x, d);
}
