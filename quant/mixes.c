/* SPDX-License-Identifier: Apache-2.0
 *
 * The mixes as a table: for each name the base type and one rule for each of the three classes of tensors that mixes
 * treat apart (value projections, down projections, attention outputs). A rule is a condition with the type where it
 * holds and the type where it does not. Rules that hold for every mix (output matrix, 80-block models, 8 experts) are
 * code. Facts: llama.cpp's llama-quantize. */
#include "quant/mixes.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

typedef enum { ALWAYS, GQA4, FIRST, FRACTION, MORE } when; /* FIRST n tensors; FRACTION: the first 1/n of them */

typedef struct {
    when on;
    int n;
    const char *then, *otherwise;
} rule; /* NULL type = the base type */

struct pare_mix {
    const char *name, *alias;
    int file_type;
    const char *base;
    rule attn_v, ffn_down, attn_out;
    const char *refusal;
};

#define NONE                                                                                                           \
    { ALWAYS, 0, NULL, NULL }
#define ALL(t)                                                                                                         \
    { ALWAYS, 0, t, NULL }
#define NEEDS "it needs importance data, which this version cannot collect; q2_k and q3_k_s do without"

static const pare_mix mixes[] = {
    {"q2_k", NULL, 10, "q2_k", {GQA4, 0, "q4_k", "q3_k"}, ALL("q3_k"), ALL("q3_k"), NULL},
    {"q2_k_s", NULL, 21, "q2_k", {GQA4, 0, "q4_k", NULL}, {FRACTION, 8, "q4_k", NULL}, NONE, NEEDS},
    {"q3_k_s", NULL, 11, "q3_k", NONE, NONE, NONE, NULL},
    {"q3_k_m", "q3_k", 12, "q3_k", {FIRST, 2, "q5_k", "q4_k"}, {FRACTION, 16, "q5_k", "q4_k"}, ALL("q4_k"), NULL},
    {"q3_k_l", NULL, 13, "q3_k", ALL("q5_k"), ALL("q5_k"), ALL("q5_k"), NULL},
    {"q4_k_s", NULL, 14, "q4_k", {FIRST, 4, "q5_k", NULL}, {FRACTION, 8, "q5_k", NULL}, NONE, NULL},
    {"q4_k_m", "q4_k", 15, "q4_k", {MORE, 0, "q6_k", NULL}, {MORE, 0, "q6_k", NULL}, NONE, NULL},
    {"q5_k_s", NULL, 16, "q5_k", NONE, NONE, NONE, NULL},
    {"q5_k_m", "q5_k", 17, "q5_k", {MORE, 0, "q6_k", NULL}, {MORE, 0, "q6_k", NULL}, NONE, NULL},
    {"q6_k", NULL, 18, "q6_k", NONE, NONE, NONE, NULL},
    {"iq4_nl", NULL, 25, "iq4_nl", {GQA4, 0, "q5_k", NULL}, {FRACTION, 8, "q5_k", NULL}, NONE, NULL},
    {"iq4_xs", NULL, 30, "iq4_xs", {GQA4, 0, "q5_k", NULL}, {FRACTION, 8, "q5_k", NULL}, NONE, NULL},
    {"q4_0", NULL, 2, "q4_0", NONE, NONE, NONE, NULL},
    {"q4_1", NULL, 3, "q4_1", NONE, NONE, NONE, NULL},
    {"q5_0", NULL, 8, "q5_0", NONE, NONE, NONE, NULL},
    {"q5_1", NULL, 9, "q5_1", NONE, NONE, NONE, NULL},
    {"q8_0", NULL, 7, "q8_0", NONE, NONE, NONE, NULL},
    {"f16", NULL, 1, "f16", NONE, NONE, NONE, NULL},
    {"bf16", NULL, 32, "bf16", NONE, NONE, NONE, NULL},
    {"f32", NULL, 0, "f32", NONE, NONE, NONE, NULL},
};
#define N_MIXES (sizeof mixes / sizeof *mixes)

const pare_mix *pare_mix_by_name(const char *name) {
    for (size_t i = 0; i < N_MIXES; i++)
        if (strcasecmp(name, mixes[i].name) == 0 || (mixes[i].alias && strcasecmp(name, mixes[i].alias) == 0))
            return &mixes[i];
    return NULL;
}

const char *pare_mix_name(size_t i) { return i < N_MIXES ? mixes[i].name : NULL; }
int pare_mix_file_type(const pare_mix *m) { return m->file_type; }
const pare_qtype *pare_mix_base(const pare_mix *m) { return pare_qtype_by_name(m->base); }
const char *pare_mix_refusal(const pare_mix *m) { return m->refusal; }
bool pare_mix_is_float(const pare_mix *m) { return m->base[0] == 'f' || m->base[0] == 'b'; }

/* ---- what a name says ---- */
typedef enum { OTHER, OUTPUT, EMBEDDING, ATTN_V, ATTN_K, ATTN_OUT, FFN_DOWN } klass;

static klass class_of(const char *name) {
    if (strcmp(name, "output.weight") == 0) return OUTPUT;
    if (strcmp(name, "token_embd.weight") == 0 || strcmp(name, "per_layer_token_embd.weight") == 0) return EMBEDDING;
    if (strstr(name, "attn_qkv.weight") || strstr(name, "attn_kv_b.weight") || strstr(name, "attn_v.weight"))
        return ATTN_V;
    if (strstr(name, "attn_k.weight")) return ATTN_K;
    if (strstr(name, "attn_output.weight")) return ATTN_OUT;
    if (strstr(name, "ffn_down")) return FFN_DOWN;
    return OTHER;
}

static int block_of(const char *name) {
    int block;
    return sscanf(name, "blk.%d.", &block) == 1 ? block : -1;
}

int pare_mix_order(const char *a, const char *b) {
    int x = block_of(a), y = block_of(b);
    return x != y ? (x > y) - (x < y) : strcmp(a, b);
}

const char *pare_mix_never(const char *name, int ndim, const int64_t *shape) {
    static const char *const parts[] = {"ffn_gate_inp.weight",
                                        "ffn_gate_tid2eid.weight",
                                        "altup",
                                        "laurel",
                                        "per_layer_model_proj",
                                        "ssm_conv1d",
                                        "shortconv.conv.weight",
                                        "indexer.k_proj.weight",
                                        "indexer.q_proj.weight",
                                        "time_mix_first.weight",
                                        "time_mix_w0.weight",
                                        "time_mix_w1.weight",
                                        "time_mix_w2.weight",
                                        "time_mix_v0.weight",
                                        "time_mix_v1.weight",
                                        "time_mix_v2.weight",
                                        "time_mix_a0.weight",
                                        "time_mix_a1.weight",
                                        "time_mix_a2.weight",
                                        "time_mix_g1.weight",
                                        "time_mix_g2.weight",
                                        "time_mix_decay_w1.weight",
                                        "time_mix_decay_w2.weight",
                                        "time_mix_lerp_fused.weight",
                                        "attn_rel_b.weight",
                                        ".position_embd",
                                        "sam.pos_embd",
                                        "sam.neck.",
                                        "sam.net_",
                                        ".rel_pos",
                                        ".patch_embd",
                                        ".patch_merger",
                                        "a.rvq.codebook",
                                        "mm.a.code_embd"};
    bool matrix = false;
    for (int i = 0; i + 1 < ndim; i++) matrix |= shape[i] > 1;
    if (!matrix) return "not a matrix";
    size_t n = strlen(name);
    if (n < 6 || strcmp(name + n - 6, "weight") != 0) return "not a weight";
    if (strstr(name, "_norm.weight")) return "norm";
    if (strcmp(name, "position_embd.weight") == 0) return "positions";
    if (strcmp(name, "token_types.weight") == 0) return "token types";
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strstr(name, parts[i])) return "small or sensitive";
    return NULL;
}

const pare_qtype *pare_mix_fallback(const pare_qtype *qt, int64_t cols) {
    static const char *const chain[][2] = {{"q2_k", "q4_0"}, {"q3_k", "q4_0"}, {"q4_k", "q5_0"},
                                           {"q5_k", "q5_1"}, {"q6_k", "q8_0"}, {"iq4_xs", "iq4_nl"}};
    if (pare_qtype_fits(qt, (size_t)cols)) return qt;
    for (size_t i = 0; i < sizeof chain / sizeof *chain; i++) {
        if (strcmp(qt->name, chain[i][0]) != 0) continue;
        const pare_qtype *next = pare_qtype_by_name(chain[i][1]);
        if (next && pare_qtype_fits(next, (size_t)cols)) return next;
    }
    return &pare_qtype_f16;
}

/* ---- assignment ---- */
typedef struct {
    const pare_mix *m;
    const pare_mix_model *model;
    int64_t n_v, i_v, i_down;
    bool tied;
} state;

static bool more(int64_t i, int64_t n) { return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2; }

static const char *apply(const rule *r, const char *base, int64_t i, int64_t n, int64_t gqa) {
    bool holds = true;
    switch (r->on) {
    case ALWAYS: break;
    case GQA4: holds = gqa >= 4; break;
    case FIRST: holds = i < r->n; break;
    case FRACTION: holds = i < n / r->n; break;
    case MORE: holds = more(i, n); break;
    }
    const char *t = holds ? r->then : r->otherwise;
    return t ? t : base;
}

/* Of the mixes here only these raise attention outputs of 8-expert models. */
static bool raises_experts(const pare_mix *m) {
    static const char *const names[] = {"q2_k", "q3_k_s", "q3_k_m", "q4_k_s", "q4_k_m", "iq4_nl", "iq4_xs"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(m->name, names[i]) == 0) return true;
    return false;
}

static const char *choose(state *s, const pare_mix_tensor *t, const char **why) {
    const pare_mix *m = s->m;
    const pare_mix_model *q = s->model;
    int64_t kv = q->kv_heads ? q->kv_heads : q->heads, gqa = kv ? q->heads / kv : 1;
    bool big = q->layers == 80 && ((strcmp(q->arch, "llama") == 0 && q->heads != kv) || strcmp(q->arch, "qwen2") == 0);
    klass c = class_of(t->name);
    const char *type = m->base;
    if (c == OUTPUT || (c == EMBEDDING && s->tied)) {
        const pare_qtype *base = pare_mix_base(m);
        *why = c == OUTPUT ? "output matrix" : "token embedding is the output matrix";
        if (!base || !pare_qtype_fits(base, (size_t)t->cols) || strcmp(m->base, "q8_0") == 0) return "q8_0";
        return "q6_k";
    }
    if (c == ATTN_V) {
        type = apply(&m->attn_v, m->base, s->i_v, s->n_v, gqa);
        if (big && (strcmp(type, "q3_k") == 0 || strcmp(type, "q4_k") == 0)) type = "q5_k";
        if (q->experts == 8) type = "q8_0";
        s->i_v++;
        *why = "value projection";
    } else if (c == ATTN_K && q->experts == 8) {
        type = "q8_0", *why = "key projection of an expert model";
    } else if (c == FFN_DOWN) {
        int64_t i = q->experts > 1 ? block_of(t->name) : s->i_down;
        type = apply(&m->ffn_down, m->base, i, q->layers, gqa);
        s->i_down++;
        *why = "down projection";
    } else if (c == ATTN_OUT) {
        if (q->experts != 8) type = apply(&m->attn_out, m->base, 0, 0, gqa);
        else if (raises_experts(m)) type = "q5_k";
        *why = "attention output";
    }
    if (strcmp(type, m->base) == 0) *why = NULL;
    return type;
}

void pare_mix_assign(const pare_mix *m, const pare_mix_model *model, bool pure, size_t n, pare_mix_tensor *t) {
    state s = {.m = m, .model = model, .tied = true};
    for (size_t i = 0; i < n; i++) {
        klass c = class_of(t[i].name);
        s.n_v += c == ATTN_V;
        s.tied &= c != OUTPUT;
    }
    for (size_t i = 0; i < n; i++) {
        t[i].why = NULL, t[i].wanted = NULL;
        if (t[i].skip) continue;
        if (pure || pare_mix_is_float(m)) t[i].type = pare_mix_base(m);
        else t[i].type = pare_qtype_by_name(choose(&s, &t[i], &t[i].why));
        if (t[i].type && t[i].type->kind == PARE_QK_BLOCK && !pare_qtype_fits(t[i].type, (size_t)t[i].cols)) {
            t[i].wanted = t[i].type;
            t[i].type = pare_mix_fallback(t[i].type, t[i].cols);
        }
    }
}
