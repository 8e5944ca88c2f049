/* SPDX-License-Identifier: Apache-2.0
 *
 * What an architecture is: hyperparameters read from config.json or GGUF metadata, and the names its tensors have in
 * either world. models/roles.def lists every tensor once: role, Hugging Face pattern, GGUF pattern. */
#ifndef PARE_MODELS_ARCH_H
#define PARE_MODELS_ARCH_H

#include "formats/source.h"

typedef enum pare_family { PARE_FAMILY_NONE, PARE_FAMILY_LLAMA, PARE_FAMILY_BERT } pare_family;
typedef enum pare_rope_scaling { PARE_ROPE_NONE, PARE_ROPE_LINEAR, PARE_ROPE_LLAMA3, PARE_ROPE_YARN } pare_rope_scaling;

typedef struct pare_arch {
    const char *name; /* GGUF's word: "llama" (also Mistral, SmolLM), "qwen2", "qwen3", "bert"; static string */
    pare_family family;
    int64_t vocab, dim, layers, heads, kv_heads, head_dim, ffn, context, type_vocab;
    double norm_eps, rope_theta;
    pare_rope_scaling rope_scaling;
    double rope_factor, rope_low, rope_high, rope_original; /* LLAMA3; YARN (factor, original); LINEAR (factor) */
    double rope_beta_fast, rope_beta_slow;                  /* YARN: 32, 1 */
    double rope_attn_factor;                                /* multiplies cos and sin; 1 */
    bool rope_interleaved; /* rotary pairs are neighbours (2j, 2j+1): arch llama in GGUF; else halves (j, j + D/2) */
    bool tied;             /* the output matrix is the token embedding */
    bool qkv_bias;  /* the configuration demands q, k and v biases (else they are used where the file has them) */
    bool gelu_tanh; /* encoders: llama.cpp computes the tanh form, Hugging Face's default is erf */
    int pooling;    /* GGUF pooling_type; encoders: 0 none, 1 mean, 2 cls, 3 last */
    bool normalize; /* embeddings are scaled to length 1: a Normalize module; GGUF files: as llama.cpp's tools do */
    int64_t sliding_window; /* 0 = none; beyond it results would differ from the original's */
} pare_arch;

/* Fills *out. PARE_ERR_UNSUPPORTED (naming the architecture) when it is not one of ours: such a model can still be
 * inspected, converted and quantized by names and shapes. PARE_ERR_INPUT for missing or absurd values. */
pare_status pare_arch_read(const pare_source *s, pare_arch *out, pare_diag *d);

/* Positions a sequence may have: the trained context, or the sliding window where it is shorter. */
int64_t pare_arch_context(const pare_arch *a);

typedef enum pare_role {
#define PARE_ROLE(id, family, per_layer, hf, gguf) PARE_ROLE_##id,
#include "models/roles.def"
#undef PARE_ROLE
    PARE_ROLE_COUNT
} pare_role;

typedef struct pare_tensor_name { /* what a tensor's name says */
    pare_role role;
    int layer; /* -1 when not per layer */
    bool bias; /* ".bias", else ".weight" */
} pare_tensor_name;

/* Parses a name in the source's own convention (folders: HF, with or without the "model." / "bert." prefix; GGUF).
 * False when it is none of the family's tensors. */
bool pare_name_parse(pare_family family, pare_source_kind kind, const char *name, pare_tensor_name *out);
/* Writes the name in the convention of `kind` into buf; false when the role has none there. */
bool pare_name_format(pare_family family, pare_source_kind kind, pare_tensor_name n, char *buf, size_t buf_bytes);
/* The stored tensor of that role, or NULL. */
const pare_stored *pare_arch_tensor(const pare_source *s, const pare_arch *a, pare_role role, int layer, bool bias);
/* Shape the architecture demands; returns ndim. */
int pare_arch_shape(const pare_arch *a, pare_role role, bool bias, int64_t shape[2]);
/* Every required tensor is there with its shape, nothing unknown besides what is documented to be dropped; names the
 * first tensor that is wrong, missing or extra. */
pare_status pare_arch_check(const pare_source *s, const pare_arch *a, pare_diag *d);

/* Divisors of the head_dim/2 rotary angles (1 without scaling); for Llama 3 scaling what GGUF's rope_freqs.weight
 * stores: angle_i = pos * theta^(-2i/D) / factors[i]. Linear and YaRN scaling are expressed the same way. */
void pare_rope_freq_factors(const pare_arch *a, float *factors);
/* Rotary caches of n_pos positions, [n_pos, head_dim/2] each, computed in double and rounded once. file_factors
 * (rope_freqs.weight of a GGUF) or NULL: pare_rope_freq_factors. */
void pare_rope_cache(const pare_arch *a, const float *file_factors, int64_t n_pos, float *cos_out, float *sin_out);

#endif
