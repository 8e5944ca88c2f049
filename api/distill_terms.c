/* SPDX-License-Identifier: Apache-2.0
 *
 * The terms of the loss (api/distill_terms.def), each a number: the sum over the tokens of a pass of a language model;
 * the sum over the sentences of an encoder's pass, what belongs to tokens being a mean over the sentence's own. What a
 * term needs of the teacher is tapped: an output there, an input of the student's graph. */
#include "api/distill.h"

#include "core/log.h"
#include "core/status.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct {
    const char *name;
    int models;
    bool teacher;
    pare_status (*build)(pare_distill_run *x, pare_value *out, pare_diag *d);
} kinds[PARE_TERMS] = {
#define PARE_TERM(id, name, models, teacher, build) [PARE_TERM_##id] = {name, models, teacher, pare_term_##build},
#include "api/distill_terms.def"
#undef PARE_TERM
};

const char *pare_term_name(pare_term t) { return kinds[t].name; }

static bool encodes(const pare_distill_run *x) { return x->student.arch.family == PARE_FAMILY_BERT; }

static pare_status unknown(const char *s, size_t n, pare_diag *d) {
    char list[128] = "";
    for (int k = 0; k < PARE_TERMS; k++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", k ? ", " : "", kinds[k].name);
    return pare_fail(d, PARE_ERR_USAGE, NULL, "--loss", "`%.*s` is no term; there are %s", (int)n, s, list);
}

pare_status pare_terms_parse(pare_distill_run *x, const char *text, pare_diag *d) {
    int count = 0;
    for (const char *s = text; *s;) {
        size_t n = strcspn(s, ",="), k = 0;
        double w = 1;
        while (k < PARE_TERMS && (strlen(kinds[k].name) != n || strncasecmp(kinds[k].name, s, n) != 0)) k++;
        if (k == PARE_TERMS) return unknown(s, n, d);
        s += n;
        if (*s == '=') {
            char *end;
            w = strtod(s + 1, &end);
            if (end == s + 1 || !(w >= 0) || !isfinite(w) || (*end && *end != ','))
                return pare_fail(d, PARE_ERR_USAGE, NULL, "--loss", "`%s` should read like kl=1,ce=0.5", text);
            s = end;
        }
        x->weight[k] = (float)w;
        if (*s == ',') s++;
    }
    for (int k = 0; k < PARE_TERMS; k++) {
        if (!(x->weight[k] > 0)) continue;
        if (count < PARE_CURVE - 3) x->r->terms[count] = kinds[k].name;
        count++;
        x->needs_teacher |= kinds[k].teacher;
    }
    if (count == 0 || count > PARE_CURVE - 3)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--loss", "from one to %d terms with a weight above 0",
                         PARE_CURVE - 3);
    x->r->n_terms = count;
    return PARE_OK;
}

pare_status pare_terms_check(pare_distill_run *x, pare_diag *d) {
    int model = encodes(x) ? PARE_FOR_ENCODER : PARE_FOR_LM;
    if (!x->o.loss) PARE_TRY(pare_terms_parse(x, encodes(x) ? "embed" : "kl", d));
    x->needs_teacher |= encodes(x); /* what is held out is measured against it */
    for (int k = 0; k < PARE_TERMS; k++)
        if (x->weight[k] > 0 && !(kinds[k].models & model))
            return pare_fail(d, PARE_ERR_USAGE, x->student.job->src->path, "--loss",
                             model == PARE_FOR_ENCODER
                                 ? "%s is about the next token, which a sentence encoder does not "
                                   "predict; embed, similarity, contrastive, hidden, cosine "
                                   "and relation are for encoders"
                                 : "%s is about embeddings of sentences; kl, ce, hidden, cosine "
                                   "and relation are for language models",
                             kinds[k].name);
    return PARE_OK;
}

/* ---- what the terms are made of ---- */

static pare_status no_memory(pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, NULL, "training", "not enough memory for the graph of losses and gradients");
}

/* The teacher's value in the student's graph: the input that is bound to it. */
static pare_status tap(pare_distill_run *x, pare_value from, const char *name, int64_t dim, pare_value *out,
                       pare_diag *d) {
    const int64_t dims[] = {PARE_SYM_BATCH, PARE_SYM_SEQ, dim};
    for (size_t i = 0; i < x->n_taps; i++)
        if (x->tap[i].from == from) return *out = x->tap[i].to, PARE_OK;
    if (pare_grow((void **)&x->tap, &x->cap_taps, x->n_taps + 1, sizeof *x->tap) != PARE_OK) return no_memory(d);
    pare_graph_mark_output(x->teacher.m.g, from);
    *out = pare_graph_input(x->student.run.m.g, name, &pare_qtype_f32, 3, dims);
    x->tap[x->n_taps++] = (pare_tap){from, *out};
    return PARE_OK;
}

/* An input of the pass, added when it is first wanted. */
static pare_value input(pare_distill_run *x, pare_value *v, const char *name, int n, const int64_t *dims) {
    if (*v < 0) *v = pare_graph_input(x->student.run.m.g, name, &pare_qtype_f32, n, dims);
    return *v;
}

static pare_value token_weights(pare_distill_run *x) {
    return input(x, &x->token_weight, "tokens.weight", 3, (int64_t[]){PARE_SYM_BATCH, PARE_SYM_SEQ, 1});
}

/* What leaves layer l: the residual stream. */
static pare_value stream(const pare_graph *g, const pare_arch *a, int64_t l) {
    char name[64];
    snprintf(name, sizeof name, "blk.%lld.%s", (long long)l,
             a->family == PARE_FAMILY_BERT ? "layer_output_norm" : "ffn_sum");
    return pare_graph_find(g, name);
}

pare_status pare_term_divergence(pare_distill_run *x, pare_value *out, pare_diag *d) {
    pare_value logits = x->student.run.m.out;
    const int64_t dims[] = {PARE_SYM_BATCH, PARE_SYM_SEQ, x->student.arch.vocab};
    if (x->teacher_arch.vocab != x->student.arch.vocab)
        return pare_fail(d, PARE_ERR_MISMATCH, x->teacher_src->path, "vocab_size",
                         "the teacher knows %lld tokens, the student %lld; logits compare only over one vocabulary",
                         (long long)x->teacher_arch.vocab, (long long)x->student.arch.vocab);
    x->teacher_logits = pare_graph_input(x->student.run.m.g, "teacher.logits", &pare_qtype_f32, 3, dims);
    *out = pare_loss_divergence(x->student.run.m.g, x->divergence, logits, x->teacher_logits, (float)x->o.temperature);
    return PARE_OK;
}

pare_status pare_term_cross_entropy(pare_distill_run *x, pare_value *out, pare_diag *d) {
    (void)d;
    *out = pare_loss_cross_entropy(x->student.run.m.g, x->student.run.m.out, x->labels);
    return PARE_OK;
}

/* The mean over layers. */
static pare_status by_layer(pare_distill_run *x, bool cosine, pare_value *out, pare_diag *d) {
    pare_graph *g = x->student.run.m.g;
    int64_t layers = x->student.arch.layers, dim = x->teacher_arch.dim;
    pare_value term[4096]; /* pare_arch_read allows no more layers */
    float weight[4096], one = 1;
    for (int64_t l = 0; l < layers; l++) {
        char name[64];
        int from = x->student.teacher_layer[l];
        pare_value h = stream(g, &x->student.arch, l), t;
        snprintf(name, sizeof name, "teacher.hidden.%d", from);
        PARE_TRY(tap(x, stream(x->teacher.m.g, &x->teacher_arch, from), name, dim, &t, d));
        snprintf(name, sizeof name, "projection.%lld", (long long)l);
        PARE_TRY(pare_student_project(x, name, &h, d));
        if (encodes(x))
            term[l] = cosine ? pare_loss_cosine_rows(g, h, t, token_weights(x))
                             : pare_loss_mse_rows(g, h, t, dim, token_weights(x));
        else term[l] = cosine ? pare_loss_cosine(g, h, t) : pare_loss_mse(g, h, t, dim);
        weight[l] = 1 / (float)layers;
    }
    *out = pare_loss_total(g, (int)layers, term, weight, pare_graph_const_f32(g, "loss.one", 0, NULL, &one));
    return PARE_OK;
}

pare_status pare_term_hidden(pare_distill_run *x, pare_value *out, pare_diag *d) { return by_layer(x, false, out, d); }
pare_status pare_term_cosine(pare_distill_run *x, pare_value *out, pare_diag *d) { return by_layer(x, true, out, d); }

/* ---- relations of the last layer's queries, keys and values ---- */

static pare_value projected(const pare_graph *g, int64_t layer, char which) {
    static const char *const tails[] = {".add", ""}; /* with its bias, where there is one */
    for (int i = 0; i < 2; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%lld.attn_%c%s", (long long)layer, which, tails[i]);
        pare_value v = pare_graph_find(g, name);
        if (v >= 0) return v;
    }
    return PARE_NO_VALUE;
}

static pare_status heads(pare_distill_run *x, int64_t *out, pare_diag *d) {
    const pare_arch *const a[] = {&x->student.arch, &x->teacher_arch};
    *out = x->o.relation_heads ? x->o.relation_heads : a[0]->kv_heads;
    for (int i = 0; i < 2; i++) {
        int64_t narrow = a[i]->kv_heads * a[i]->head_dim;
        if (*out < 1 || narrow % *out || (a[i]->heads * a[i]->head_dim) % *out)
            return pare_fail(d, PARE_ERR_USAGE, i ? x->teacher_src->path : x->student.job->src->path,
                             "--relation-heads", "%lld heads do not divide the %s's %lld numbers of a key",
                             (long long)*out, i ? "teacher" : "student", (long long)narrow);
    }
    return PARE_OK;
}

pare_status pare_term_relation(pare_distill_run *x, pare_value *out, pare_diag *d) {
    pare_graph *g = x->student.run.m.g;
    const pare_arch *s = &x->student.arch, *t = &x->teacher_arch;
    const int64_t padding[] = {PARE_SYM_BATCH, 1, 1, PARE_SYM_SEQ}, causal[] = {1, 1, PARE_SYM_SEQ, PARE_SYM_SEQ};
    pare_value mask = input(x, &x->relation_mask, "relation.mask", 4, encodes(x) ? padding : causal), term[3];
    const float third[] = {1 / 3.0F, 1 / 3.0F, 1 / 3.0F}, one = 1;
    int64_t n;
    PARE_TRY(heads(x, &n, d));
    for (int i = 0; i < 3; i++) {
        char which = "qkv"[i], name[64];
        int64_t wide = i ? s->kv_heads * s->head_dim : s->heads * s->head_dim,
                teachers = i ? t->kv_heads * t->head_dim : t->heads * t->head_dim;
        pare_value of_teacher;
        snprintf(name, sizeof name, "teacher.attn_%c", which);
        PARE_TRY(tap(x, projected(x->teacher.m.g, t->layers - 1, which), name, teachers, &of_teacher, d));
        term[i] = pare_loss_relation(g, projected(g, s->layers - 1, which), wide, of_teacher, teachers, n, mask,
                                     encodes(x) ? token_weights(x) : PARE_NO_VALUE);
    }
    *out = pare_loss_total(g, 3, term, third, pare_graph_const_f32(g, "loss.one", 0, NULL, &one));
    return PARE_OK;
}

/* ---- embeddings of sentences ---- */

static pare_value pooling(pare_distill_run *x) {
    return input(x, &x->pool_weight, "pooling.weight", 3, (int64_t[]){PARE_SYM_BATCH, PARE_SYM_SEQ, 1});
}

/* Both sentences' embeddings [batch, dim]; project: the student's in the teacher's width. */
static pare_status embeddings(pare_distill_run *x, bool project, pare_value *mine, pare_value *teachers, pare_diag *d) {
    pare_graph *g = x->student.run.m.g;
    pare_value of_teacher, weights = pooling(x), h = x->student.run.m.out;
    int a = x->student.arch.pooling, b = x->teacher_arch.pooling;
    if ((a ? a : 1) != (b ? b : 1))
        return pare_fail(d, PARE_ERR_MISMATCH, x->student.job->src->path, "pooling",
                         "teacher and student make one embedding of the tokens' in different ways");
    PARE_TRY(tap(x, x->teacher.m.out, "teacher.out", x->teacher_arch.dim, &of_teacher, d));
    if (project) PARE_TRY(pare_student_project(x, "projection.embedding", &h, d));
    *mine = pare_loss_pool(g, h, weights);
    *teachers = pare_loss_pool(g, of_teacher, weights);
    return PARE_OK;
}

pare_status pare_term_embed(pare_distill_run *x, pare_value *out, pare_diag *d) {
    pare_value mine = PARE_NO_VALUE, teachers = PARE_NO_VALUE;
    PARE_TRY(embeddings(x, true, &mine, &teachers, d));
    *out = pare_loss_cosine(x->student.run.m.g, mine, teachers);
    return PARE_OK;
}

pare_status pare_term_embed_mse(pare_distill_run *x, pare_value *out, pare_diag *d) {
    pare_value mine = PARE_NO_VALUE, teachers = PARE_NO_VALUE;
    PARE_TRY(embeddings(x, true, &mine, &teachers, d));
    *out = pare_loss_mse(x->student.run.m.g, mine, teachers, x->teacher_arch.dim);
    return PARE_OK;
}

pare_status pare_term_similarity(pare_distill_run *x, pare_value *out, pare_diag *d) {
    pare_value mine = PARE_NO_VALUE, teachers = PARE_NO_VALUE;
    float each = 1 / (float)x->o.micro;
    PARE_TRY(embeddings(x, false, &mine, &teachers, d));
    *out = pare_loss_similarity(x->student.run.m.g, mine, teachers,
                                pare_graph_const_f32(x->student.run.m.g, "loss.each", 0, NULL, &each));
    return PARE_OK;
}

pare_status pare_term_contrastive(pare_distill_run *x, pare_value *out, pare_diag *d) {
    pare_graph *g = x->student.run.m.g;
    const int64_t square[] = {PARE_SYM_BATCH, PARE_SYM_BATCH};
    (void)d;
    x->pair_self = pare_graph_input(g, "pairs.self", &pare_qtype_f32, 2, square);
    x->pair_partner = pare_graph_input(g, "pairs.partner", &pare_qtype_i64, 1, square);
    *out = pare_loss_contrastive(g, pare_loss_pool(g, x->student.run.m.out, pooling(x)), x->pair_self, x->pair_partner,
                                 (float)x->o.temperature);
    return PARE_OK;
}

/* ---- all of them ---- */

pare_status pare_terms_add(pare_distill_run *x, pare_diag *d) {
    pare_graph *g = x->student.run.m.g;
    const int64_t tokens[] = {PARE_SYM_BATCH, PARE_SYM_SEQ};
    pare_value term[PARE_TERMS];
    float weight[PARE_TERMS];
    int n = 0;
    x->teacher_logits = x->labels = x->token_weight = x->pool_weight = x->relation_mask = PARE_NO_VALUE;
    x->pair_self = x->pair_partner = PARE_NO_VALUE;
    if (!encodes(x)) x->labels = pare_graph_input(g, "labels", &pare_qtype_i64, 2, tokens);
    x->scale = pare_graph_input(g, "loss.scale", &pare_qtype_f32, 0, NULL);
    for (int t = 0; t < PARE_TERMS; t++) {
        x->term[t] = PARE_NO_VALUE;
        if (!(x->weight[t] > 0)) continue;
        PARE_TRY(kinds[t].build(x, &x->term[t], d));
        pare_graph_mark_output(g, x->term[t]);
        term[n] = x->term[t], weight[n++] = x->weight[t];
    }
    x->loss = pare_loss_total(g, n, term, weight, x->scale);
    pare_graph_mark_output(g, x->loss);
    return pare_graph_status(g, d);
}
