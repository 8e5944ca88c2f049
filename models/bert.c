/* SPDX-License-Identifier: Apache-2.0
 *
 * BERT encoders: word, type and position embeddings, then post-norm layers of full attention and a gelu feed-forward
 * part. Every token is of type 0, as llama.cpp and sentence-transformers have it. Padding is at the end; Attention's
 * nonpad_kv_seqlen keeps it out. */
#include "models/build.h"

#include "core/status.h"

static pare_value layer_norm(pare_builder *b, pare_role role, const char *what, pare_value x) {
    pare_attr_norm at = {.axis = -1, .epsilon = (float)b->a->norm_eps};
    pare_value in[] = {x, pare_weights_vector(b->w, b->g, role, b->layer, false),
                       pare_weights_vector(b->w, b->g, role, b->layer, true)};
    return pare_graph_node(b->g, PARE_OP_LayerNormalization, pare_build_name(b, what), &at, sizeof at, 3, in, 1);
}

static pare_value attention(pare_builder *b, const pare_lm_graph *m, pare_value x) {
    const pare_arch *a = b->a;
    pare_value q = pare_build_linear(b, PARE_ROLE_BERT_Q, "attn_q", x);
    pare_value k = pare_build_linear(b, PARE_ROLE_BERT_K, "attn_k", x);
    pare_value v = pare_build_linear(b, PARE_ROLE_BERT_V, "attn_v", x);
    pare_attr_attention at = {.q_num_heads = a->heads, .kv_num_heads = a->heads};
    pare_value none = PARE_NO_VALUE, in[] = {q, k, v, none, none, none, m->length};
    x = pare_graph_node(b->g, PARE_OP_Attention, pare_build_name(b, "attn"), &at, sizeof at, 7, in, 1);
    return pare_build_linear(b, PARE_ROLE_BERT_OUT, "attn_output", x);
}

static pare_value embed(pare_builder *b, const pare_lm_graph *m) {
    pare_value type0 = pare_graph_const_i64(b->g, "type_ids", 1, (int64_t[]){0});
    pare_value x = pare_build_rows(b, PARE_ROLE_BERT_WORD_EMBD, "token_embd", m->ids);
    x = pare_build_binary(b, PARE_OP_Add, "token_types.sum", x,
                          pare_build_rows(b, PARE_ROLE_BERT_TYPE_EMBD, "token_types", type0));
    pare_value pos = pare_build_rows(b, PARE_ROLE_BERT_POS_EMBD, "position_embd", m->positions);
    x = pare_build_binary(b, PARE_OP_Add, "position_embd.sum", x, pos);
    return layer_norm(b, PARE_ROLE_BERT_EMBD_NORM, "token_embd_norm", x);
}

pare_status pare_build_bert(pare_weights *w, pare_lm_graph *m, pare_diag *d) {
    const pare_arch *a = pare_weights_arch(w);
    const int64_t tokens[] = {PARE_SYM_BATCH, PARE_SYM_SEQ}, batch[] = {PARE_SYM_BATCH};
    const pare_value none = PARE_NO_VALUE;
    *m = (pare_lm_graph){.g = pare_graph_new(), .past = none, .cos = none, .sin = none};
    if (!m->g) return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "not enough memory for the graph");
    m->ids = pare_graph_input(m->g, "ids", &pare_qtype_i64, 2, tokens);
    m->positions = pare_graph_input(m->g, "positions", &pare_qtype_i64, 2, tokens);
    m->length = pare_graph_input(m->g, "length", &pare_qtype_i64, 1, batch);
    pare_builder b = {.w = w, .a = a, .g = m->g, .layer = -1};
    pare_attr_gelu gelu = {.tanh_approx = a->gelu_tanh};
    pare_graph_stage(m->g, "embed");
    pare_value x = embed(&b, m);
    for (b.layer = 0; b.layer < (int)a->layers; b.layer++) {
        pare_graph_stage(m->g, pare_build_name(&b, "layer"));
        x = pare_build_binary(&b, PARE_OP_Add, "attn_sum", x, attention(&b, m, x));
        x = layer_norm(&b, PARE_ROLE_BERT_ATTN_NORM, "attn_output_norm", x);
        pare_value h = pare_build_linear(&b, PARE_ROLE_BERT_UP, "ffn_up", x);
        h = pare_build_unary(&b, PARE_OP_Gelu, "ffn_act", &gelu, sizeof gelu, h);
        h = pare_build_linear(&b, PARE_ROLE_BERT_DOWN, "ffn_down", h);
        x = layer_norm(&b, PARE_ROLE_BERT_OUT_NORM, "layer_output_norm",
                       pare_build_binary(&b, PARE_OP_Add, "ffn_sum", x, h));
    }
    m->out = x;
    PARE_TRY(pare_weights_status(w, d));
    pare_graph_mark_output(m->g, m->out);
    return pare_graph_status(m->g, d);
}
