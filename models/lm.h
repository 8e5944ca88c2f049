/* SPDX-License-Identifier: Apache-2.0
 *
 * A runnable text model: a decoder (Llama family) or an encoder (BERT family), from a Hugging Face folder or a GGUF
 * file. The handle that verify, run and bench share. Token ids in, numbers out: tokenizers are formats/tokenizer.h. */
#ifndef PARE_MODELS_LM_H
#define PARE_MODELS_LM_H

#include "formats/source.h"
#include "graph/exec.h"

typedef struct pare_lm pare_lm;

typedef struct pare_lm_opts {
    const pare_backend *backend; /* NULL = cpu */
    pare_act_round act;
    int64_t capacity;   /* tokens a sequence may hold in the KV cache; 0 = no cache (whole windows only) */
    int64_t batch;      /* sequences with a cache of their own; 0 = 1 */
    size_t leave_bytes; /* pare_exec_opts' */
} pare_lm_opts;

typedef struct pare_lm_info {
    bool decoder;     /* logits; else encoder: hidden states */
    const char *arch; /* "llama", "qwen2", "qwen3", "bert" */
    int64_t vocab, dim, layers, heads, kv_heads, head_dim, ffn;
    int64_t context; /* positions a sequence may have: the trained context, or the sliding window if shorter */
    int pooling;     /* encoders: GGUF pooling_type (0 none, 1 mean, 2 cls) */
    bool normalize;  /* encoders: sentence-transformers' 2_Normalize is listed */
    bool add_bos;    /* as the tokenizer's settings say */
} pare_lm_info;

/* src stays the caller's and must outlive the lm. An architecture that cannot be run gives PARE_ERR_UNSUPPORTED, naming
 * it; a tensor set that does not match the architecture gives PARE_ERR_INPUT, naming the first tensor. */
pare_status pare_lm_open(const pare_source *src, const pare_lm_opts *opts, pare_lm **out, pare_diag *d);
void pare_lm_close(pare_lm **lm);
const pare_lm_info *pare_lm_describe(const pare_lm *lm);

/* ids [batch, seq] (i64, row-major) -> *out: logits [batch, seq, vocab] (decoder; no cache: positions 0..seq-1, causal)
 * or last hidden state [batch, seq, dim] (encoder; lengths[batch] real tokens each, padding after; NULL = all seq).
 * Memory of *out is valid until the next call. */
pare_status pare_lm_forward(pare_lm *lm, const int64_t *ids, const int64_t *lengths, int64_t batch, int64_t seq,
                            const pare_tensor **out, pare_diag *d);
/* Decoder with cache: appends n tokens at position past (0 starts afresh; past + n at most the capacity and the
 * context); logits of the last one only [vocab], valid until the next call. */
pare_status pare_lm_step(pare_lm *lm, const int64_t *ids, int64_t n, int64_t past, const float **logits, pare_diag *d);
/* Encoder: pooled (mean where the model does not say how, as sentence-transformers does; and normalized, if the model
 * says so) embedding of each sequence, [batch, dim] into out. */
pare_status pare_lm_embed(pare_lm *lm, const int64_t *ids, const int64_t *lengths, int64_t batch, int64_t seq,
                          float *out, pare_diag *d);
void pare_lm_set_hook(pare_lm *lm, pare_node_hook *hook, void *ctx);
/* Bytes of activations and workspace of the last call, and of the KV cache. */
size_t pare_lm_memory_bytes(const pare_lm *lm);
/* Of the last call: operators that the backend left to the CPU (names as in pare_exec_fallbacks), and whether weights
 * were streamed because the device cannot hold them all. */
size_t pare_lm_fallbacks(const pare_lm *lm, const char *const **names);
bool pare_lm_streamed(const pare_lm *lm);
/* Bytes taken in the device's own memory; 0 on the CPU. */
size_t pare_lm_device_bytes(const pare_lm *lm);

#endif
