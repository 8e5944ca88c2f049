/* SPDX-License-Identifier: Apache-2.0
 *
 * Builders of text models, and what they share. Node names are GGUF's tensor names without suffix ("blk.3.attn_q"),
 * whatever the source's own convention, so that two files of one model have the same node names. */
#ifndef PARE_MODELS_BUILD_H
#define PARE_MODELS_BUILD_H

#include "models/weights.h"

/* The values that lm.c binds; those a model does not have are PARE_NO_VALUE. */
typedef struct pare_lm_graph {
    pare_graph *g;
    pare_value ids, positions; /* i64 [batch, seq] */
    pare_value past;           /* i64 [batch]: tokens already in the cache, where TensorScatter writes */
    pare_value length;         /* i64 [batch]: keys that count: past + seq with a cache, real tokens in an encoder */
    pare_value cos, sin;       /* states f32 [cache, head_dim / 2] */
    pare_value *kv;            /* states f32 [batch, cache, kv_heads * head_dim]: k and v of layer 0, of layer 1, ... */
    int64_t n_kv;              /* 2 * layers with a cache, else 0 */
    pare_value out;            /* logits [batch, seq or 1, vocab], or hidden states [batch, seq, dim] */
} pare_lm_graph;

/* cached: with KV cache and logits of the last position only; else whole windows and all positions.
 * owns: pare_lm_graph_free, also after a failure. */
pare_status pare_build_llama(pare_weights *w, bool cached, pare_lm_graph *out, pare_diag *d);
pare_status pare_build_bert(pare_weights *w, pare_lm_graph *out, pare_diag *d);
void pare_lm_graph_free(pare_lm_graph *m);

/* ---- shared by the builders ---- */
typedef struct pare_builder {
    pare_weights *w;
    const pare_arch *a;
    pare_graph *g;
    int layer; /* -1 outside layers */
    char name[96];
} pare_builder;

const char *pare_build_name(pare_builder *b, const char *what); /* "blk.3.attn_q", or "output" outside layers */
pare_value pare_build_unary(pare_builder *b, pare_op op, const char *what, const void *attr, size_t attr_bytes,
                            pare_value x);
pare_value pare_build_binary(pare_builder *b, pare_op op, const char *what, pare_value x, pare_value y);
/* x times the role's matrix, plus its bias where there is one ("WHAT.add"). */
pare_value pare_build_linear(pare_builder *b, pare_role role, const char *what, pare_value x);
/* Rows of the role's table. */
pare_value pare_build_rows(pare_builder *b, pare_role role, const char *what, pare_value ids);

#endif
