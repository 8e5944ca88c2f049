/* SPDX-License-Identifier: Apache-2.0
 *
 * The Llama family: Llama 2 and 3, Mistral, SmolLM, Qwen2 (biases on q, k, v), Qwen3 (norms on the heads of q and k).
 * Pre-norm residual layers of grouped-query attention with rotary positions and a gated feed-forward part.
 *
 * Keys and values go into a cache of fixed capacity by TensorScatter; Attention's nonpad_kv_seqlen says how many count,
 * and with is_causal the newest of them is the last query's own. Rotary pairs are neighbours in GGUF files of
 * architecture llama (their q and k rows are permuted so), halves elsewhere. */
#include "models/build.h"

#include "core/alloc.h"
#include "core/status.h"

#include <stdio.h>

static pare_value rms_norm(pare_builder *b, pare_role role, const char *what, pare_value x) {
    pare_attr_norm at = {.axis = -1, .epsilon = (float)b->a->norm_eps};
    pare_value in[] = {x, pare_weights_vector(b->w, b->g, role, b->layer, false)};
    return pare_graph_node(b->g, PARE_OP_RMSNormalization, pare_build_name(b, what), &at, sizeof at, 2, in, 1);
}

static pare_value reshape(pare_builder *b, const char *what, pare_value x, int n, const int64_t *shape) {
    pare_attr_reshape at = {0};
    char label[80];
    snprintf(label, sizeof label, "%.64s.shape", what);
    pare_value s = pare_graph_const_i64(b->g, pare_build_name(b, label), n, shape), in[] = {x, s};
    return pare_graph_node(b->g, PARE_OP_Reshape, pare_build_name(b, what), &at, sizeof at, 2, in, 1);
}

/* Qwen3: each head of q or k is normalized on its own. */
static pare_value head_norm(pare_builder *b, pare_role role, const char *what, pare_value x, int64_t heads) {
    char label[80];
    snprintf(label, sizeof label, "%.50s.heads", what);
    x = reshape(b, label, x, 4, (int64_t[]){0, 0, heads, b->a->head_dim});
    x = rms_norm(b, role, what, x);
    snprintf(label, sizeof label, "%.50s.flat", what);
    return reshape(b, label, x, 3, (int64_t[]){0, 0, heads * b->a->head_dim});
}

static pare_value rotate(pare_builder *b, const pare_lm_graph *m, const char *what, pare_value x, int64_t heads) {
    pare_attr_rotary at = {.interleaved = b->a->rope_interleaved, .num_heads = heads};
    pare_value in[] = {x, m->cos, m->sin, m->positions};
    return pare_graph_node(b->g, PARE_OP_RotaryEmbedding, pare_build_name(b, what), &at, sizeof at, 4, in, 1);
}

static pare_value into_cache(pare_builder *b, pare_lm_graph *m, const char *what, pare_value x) {
    pare_attr_scatter at = {.axis = -2};
    char label[80];
    int64_t dims[] = {PARE_SYM_BATCH, PARE_SYM_CACHE, b->a->kv_heads * b->a->head_dim};
    snprintf(label, sizeof label, "%s.past", what);
    pare_value past = pare_graph_state(b->g, pare_build_name(b, label), &pare_qtype_f32, 3, dims);
    m->kv[m->n_kv++] = past;
    pare_value in[] = {past, x, m->past};
    return pare_graph_node(b->g, PARE_OP_TensorScatter, pare_build_name(b, what), &at, sizeof at, 3, in, 1);
}

static pare_value attention(pare_builder *b, pare_lm_graph *m, pare_value x) {
    const pare_arch *a = b->a;
    pare_value q = pare_build_linear(b, PARE_ROLE_ATTN_Q, "attn_q", x);
    pare_value k = pare_build_linear(b, PARE_ROLE_ATTN_K, "attn_k", x);
    pare_value v = pare_build_linear(b, PARE_ROLE_ATTN_V, "attn_v", x);
    if (pare_weights_has(b->w, PARE_ROLE_ATTN_Q_NORM, b->layer, false)) {
        q = head_norm(b, PARE_ROLE_ATTN_Q_NORM, "attn_q_norm", q, a->heads);
        k = head_norm(b, PARE_ROLE_ATTN_K_NORM, "attn_k_norm", k, a->kv_heads);
    }
    q = rotate(b, m, "attn_q.rope", q, a->heads);
    k = rotate(b, m, "attn_k.rope", k, a->kv_heads);
    bool cached = m->past >= 0;
    if (cached) {
        k = into_cache(b, m, "k_cache", k);
        v = into_cache(b, m, "v_cache", v);
    }
    pare_attr_attention at = {.is_causal = true, .q_num_heads = a->heads, .kv_num_heads = a->kv_heads};
    pare_value none = PARE_NO_VALUE, in[] = {q, k, v, none, none, none, m->length};
    x = pare_graph_node(b->g, PARE_OP_Attention, pare_build_name(b, "attn"), &at, sizeof at, cached ? 7 : 3, in, 1);
    return pare_build_linear(b, PARE_ROLE_ATTN_OUT, "attn_output", x);
}

static pare_value feed_forward(pare_builder *b, pare_value x) {
    pare_attr_swish at = {.alpha = 1};
    pare_value gate = pare_build_linear(b, PARE_ROLE_FFN_GATE, "ffn_gate", x);
    pare_value up = pare_build_linear(b, PARE_ROLE_FFN_UP, "ffn_up", x);
    gate = pare_build_unary(b, PARE_OP_Swish, "ffn_act", &at, sizeof at, gate);
    return pare_build_linear(b, PARE_ROLE_FFN_DOWN, "ffn_down",
                             pare_build_binary(b, PARE_OP_Mul, "ffn_gated", gate, up));
}

static pare_value head(pare_builder *b, bool last_only, pare_value x) {
    if (last_only) {
        pare_value start = pare_graph_const_i64(b->g, "last.start", 1, (int64_t[]){-1});
        pare_value end = pare_graph_const_i64(b->g, "last.end", 1, (int64_t[]){INT64_MAX});
        pare_value axis = pare_graph_const_i64(b->g, "last.axis", 1, (int64_t[]){1}), in[] = {x, start, end, axis};
        x = pare_graph_node(b->g, PARE_OP_Slice, "last", NULL, 0, 4, in, 1);
    }
    x = rms_norm(b, PARE_ROLE_OUTPUT_NORM, "output_norm", x);
    return pare_build_linear(b, b->a->tied ? PARE_ROLE_TOKEN_EMBD : PARE_ROLE_OUTPUT, "output", x);
}

static void declare_inputs(pare_graph *g, const pare_arch *a, bool cached, pare_lm_graph *m) {
    const int64_t tokens[] = {PARE_SYM_BATCH, PARE_SYM_SEQ}, table[] = {PARE_SYM_CACHE, a->head_dim / 2},
                  batch[] = {PARE_SYM_BATCH};
    m->ids = pare_graph_input(g, "ids", &pare_qtype_i64, 2, tokens);
    m->positions = pare_graph_input(g, "positions", &pare_qtype_i64, 2, tokens);
    m->past = cached ? pare_graph_input(g, "past", &pare_qtype_i64, 1, batch) : PARE_NO_VALUE;
    m->length = cached ? pare_graph_input(g, "length", &pare_qtype_i64, 1, batch) : PARE_NO_VALUE;
    m->cos = pare_graph_state(g, "rope.cos", &pare_qtype_f32, 2, table);
    m->sin = pare_graph_state(g, "rope.sin", &pare_qtype_f32, 2, table);
}

pare_status pare_build_llama(pare_weights *w, bool cached, pare_lm_graph *m, pare_diag *d) {
    const pare_arch *a = pare_weights_arch(w);
    *m = (pare_lm_graph){.g = pare_graph_new(), .kv = pare_calloc((size_t)a->layers * 2, sizeof *m->kv)};
    if (!m->g || !m->kv) return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "not enough memory for the graph");
    pare_builder b = {.w = w, .a = a, .g = m->g, .layer = -1};
    declare_inputs(m->g, a, cached, m);
    pare_graph_stage(m->g, "embed");
    pare_value x = pare_build_rows(&b, PARE_ROLE_TOKEN_EMBD, "token_embd", m->ids);
    for (b.layer = 0; b.layer < (int)a->layers; b.layer++) {
        pare_graph_stage(m->g, pare_build_name(&b, "layer"));
        pare_value h = attention(&b, m, rms_norm(&b, PARE_ROLE_ATTN_NORM, "attn_norm", x));
        x = pare_build_binary(&b, PARE_OP_Add, "attn_sum", x, h);
        h = feed_forward(&b, rms_norm(&b, PARE_ROLE_FFN_NORM, "ffn_norm", x));
        x = pare_build_binary(&b, PARE_OP_Add, "ffn_sum", x, h);
    }
    b.layer = -1;
    pare_graph_stage(m->g, "head");
    m->out = head(&b, cached, x);
    PARE_TRY(pare_weights_status(w, d));
    pare_graph_mark_output(m->g, m->out);
    return pare_graph_status(m->g, d);
}
