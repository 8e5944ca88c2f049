/* SPDX-License-Identifier: Apache-2.0
 *
 * Which tensors an architecture must, may and may not have, and their shapes. */
#include "models/arch.h"

#include "core/status.h"

#include <stdio.h>
#include <string.h>

typedef enum want { NO, MAY, MUST } want;

static want demand(const pare_source *s, const pare_arch *a, pare_role role, bool bias) {
    bool gguf = s->kind == PARE_SOURCE_GGUF, llama = strcmp(a->name, "llama") == 0,
         qwen3 = strcmp(a->name, "qwen3") == 0;
    switch (role) {
    case PARE_ROLE_TOKEN_EMBD:
    case PARE_ROLE_OUTPUT_NORM:
    case PARE_ROLE_ATTN_NORM:
    case PARE_ROLE_FFN_NORM: return bias ? NO : MUST;
    case PARE_ROLE_OUTPUT: return bias ? NO : a->tied ? MAY : MUST;
    case PARE_ROLE_ROPE_FREQS: return !bias && gguf && llama ? MAY : NO;
    case PARE_ROLE_ATTN_Q:
    case PARE_ROLE_ATTN_K:
    case PARE_ROLE_ATTN_V: return !bias || a->qkv_bias ? MUST : MAY;
    case PARE_ROLE_ATTN_OUT: return !bias ? MUST : llama || (qwen3 && !gguf) ? MAY : NO;
    case PARE_ROLE_FFN_GATE:
    case PARE_ROLE_FFN_UP:
    case PARE_ROLE_FFN_DOWN: return !bias ? MUST : llama ? MAY : NO;
    case PARE_ROLE_ATTN_Q_NORM:
    case PARE_ROLE_ATTN_K_NORM: return !bias && qwen3 ? MUST : NO;
    case PARE_ROLE_BERT_WORD_EMBD:
    case PARE_ROLE_BERT_POS_EMBD:
    case PARE_ROLE_BERT_TYPE_EMBD: return bias ? NO : MUST;
    default: return MUST;
    }
}

int pare_arch_shape(const pare_arch *a, pare_role role, bool bias, int64_t shape[2]) {
    int64_t q = a->heads * a->head_dim, kv = a->kv_heads * a->head_dim, rows = a->dim, cols = 0; /* cols 0: 1-D */
    switch (role) {
    case PARE_ROLE_TOKEN_EMBD:
    case PARE_ROLE_OUTPUT:
    case PARE_ROLE_BERT_WORD_EMBD: rows = a->vocab, cols = a->dim; break;
    case PARE_ROLE_BERT_POS_EMBD: rows = a->context, cols = a->dim; break;
    case PARE_ROLE_BERT_TYPE_EMBD: rows = a->type_vocab, cols = a->dim; break;
    case PARE_ROLE_ROPE_FREQS: rows = a->head_dim / 2; break;
    case PARE_ROLE_ATTN_Q: rows = q, cols = a->dim; break;
    case PARE_ROLE_ATTN_K:
    case PARE_ROLE_ATTN_V: rows = kv, cols = a->dim; break;
    case PARE_ROLE_ATTN_OUT: cols = q; break;
    case PARE_ROLE_ATTN_Q_NORM:
    case PARE_ROLE_ATTN_K_NORM: rows = a->head_dim; break;
    case PARE_ROLE_FFN_GATE:
    case PARE_ROLE_FFN_UP:
    case PARE_ROLE_BERT_UP: rows = a->ffn, cols = a->dim; break;
    case PARE_ROLE_FFN_DOWN:
    case PARE_ROLE_BERT_DOWN: cols = a->ffn; break;
    case PARE_ROLE_BERT_Q:
    case PARE_ROLE_BERT_K:
    case PARE_ROLE_BERT_V:
    case PARE_ROLE_BERT_OUT: cols = a->dim; break;
    default: break; /* norms */
    }
    shape[0] = rows;
    shape[1] = cols;
    return bias || !cols ? 1 : 2;
}

static void shape_text(char buf[64], int ndim, const int64_t *shape) {
    size_t n = (size_t)snprintf(buf, 64, "[");
    for (int i = 0; i < ndim && n < 48; i++)
        n += (size_t)snprintf(buf + n, 64 - n, "%s%lld", i ? ", " : "", (long long)shape[i]);
    snprintf(buf + n, 64 - n, "]");
}

static pare_status check_shape(const pare_source *s, const pare_arch *a, const pare_stored *t, pare_tensor_name n,
                               pare_diag *d) {
    int64_t shape[2];
    int ndim = pare_arch_shape(a, n.role, n.bias, shape);
    if (t->ndim == ndim && t->shape[0] == shape[0] && (ndim == 1 || t->shape[1] == shape[1])) {
        if (t->type->kind != PARE_QK_INT) return PARE_OK;
        return pare_fail(d, PARE_ERR_INPUT, s->path, t->name, "dtype %s is not one of weights", t->type->name);
    }
    char has[64], wants[64];
    shape_text(has, t->ndim, t->shape);
    shape_text(wants, ndim, shape);
    return pare_fail(d, PARE_ERR_INPUT, s->path, t->name, "shape %s, but the configuration asks for %s", has, wants);
}

/* Tensors that belong to heads or caches that are never computed here. */
static bool dropped(const pare_arch *a, pare_source_kind kind, const char *name) {
    size_t n = strlen(name);
    if (a->family == PARE_FAMILY_LLAMA)
        return kind != PARE_SOURCE_GGUF && n > 20 && strcmp(name + n - 20, "rotary_emb.inv_freq") == 0;
    static const char *const heads[] = {"pooler.",      "cls.",
                                        "classifier.",  "embeddings.position_ids",
                                        "bert.pooler.", "bert.embeddings.position_ids",
                                        "dropout.",     "qa_outputs."};
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        if (strncmp(name, heads[i], strlen(heads[i])) == 0) return true;
    return false;
}

static pare_status check_present(const pare_source *s, const pare_arch *a, pare_diag *d) {
    for (size_t i = 0; i < s->n_tensors; i++) {
        const pare_stored *t = &s->tensors[i];
        pare_tensor_name n;
        if (!pare_name_parse(a->family, s->kind, t->name, &n)) {
            if (dropped(a, s->kind, t->name)) continue;
            return pare_fail(d, PARE_ERR_INPUT, s->path, t->name, "this tensor has no place in a %s model", a->name);
        }
        if (n.layer >= a->layers)
            return pare_fail(d, PARE_ERR_INPUT, s->path, t->name, "the configuration says that there are %lld layers",
                             (long long)a->layers);
        if (demand(s, a, n.role, n.bias) == NO)
            return pare_fail(d, PARE_ERR_INPUT, s->path, t->name, "this tensor has no place in a %s model", a->name);
        PARE_TRY(check_shape(s, a, t, n, d));
    }
    return PARE_OK;
}

/* What must be there is there; a bias that may be there is in every layer or in none. */
static pare_status check_role(const pare_source *s, const pare_arch *a, pare_role role, bool bias, pare_diag *d) {
    char name[160];
    want w = demand(s, a, role, bias);
    bool per_layer = pare_name_format(a->family, s->kind, (pare_tensor_name){role, 0, bias}, name, sizeof name);
    int from = per_layer ? 0 : -1, to = per_layer ? (int)a->layers : 0;
    bool first = w == MAY && per_layer && pare_arch_tensor(s, a, role, 0, bias);
    for (int l = from; l < to; l++) {
        pare_tensor_name n = {role, l, bias};
        if (!pare_name_format(a->family, s->kind, n, name, sizeof name)) return PARE_OK;
        bool have = pare_arch_tensor(s, a, role, l, bias) != NULL;
        if (w == MUST && !have)
            return pare_fail(d, PARE_ERR_INPUT, s->path, name, "this tensor is missing from a %s model", a->name);
        if (w == MAY && per_layer && have != first)
            return pare_fail(d, PARE_ERR_INPUT, s->path, name, "this tensor is in some layers only");
    }
    return PARE_OK;
}

pare_status pare_arch_check(const pare_source *s, const pare_arch *a, pare_diag *d) {
    PARE_TRY(check_present(s, a, d));
    for (int role = 0; role < PARE_ROLE_COUNT; role++) {
        char name[160];
        bool ours =
            pare_name_format(a->family, s->kind, (pare_tensor_name){(pare_role)role, 0, false}, name, sizeof name) ||
            pare_name_format(a->family, s->kind, (pare_tensor_name){(pare_role)role, -1, false}, name, sizeof name);
        if (!ours) continue;
        for (int bias = 0; bias < 2; bias++)
            if (demand(s, a, (pare_role)role, bias) != NO) PARE_TRY(check_role(s, a, (pare_role)role, bias, d));
    }
    return PARE_OK;
}
