/* SPDX-License-Identifier: Apache-2.0
 *
 * llama.cpp's mixes: which GGUF type each tensor of a file gets under names such as q4_k_m. The decisions equal those
 * of llama-quantize without importance data, tensor by tensor (tests/py/peer_mixes.py).
 *
 * A mix is assigned over the tensors of a whole file in file order (pare_mix_order), since some rules count: the i-th
 * value projection, the i-th down projection. Names are GGUF's ("blk.3.attn_v.weight"). */
#ifndef PARE_QUANT_MIXES_H
#define PARE_QUANT_MIXES_H

#include "core/qtype.h"

typedef struct pare_mix pare_mix;

const pare_mix *pare_mix_by_name(const char *name); /* any case; NULL when unknown */
const char *pare_mix_name(size_t i);                /* every name in turn; NULL past the last */
int pare_mix_file_type(const pare_mix *m);          /* general.file_type */
const pare_qtype *pare_mix_base(const pare_mix *m); /* type of most matrices; NULL when this build lacks the format */
const char *pare_mix_refusal(const pare_mix *m);    /* why the mix cannot be made here, or NULL */
bool pare_mix_is_float(const pare_mix *m);          /* f32, f16, bf16: that type for every matrix, no other rule */

typedef struct pare_mix_model {
    const char *arch;                         /* general.architecture */
    int64_t layers, heads, kv_heads, experts; /* block_count, head_count, head_count_kv (0 = heads), expert_count */
} pare_mix_model;

typedef struct pare_mix_tensor {
    const char *name;
    int64_t cols;             /* row length */
    bool skip;                /* in: left out of the decision (not a matrix, or chosen by the user); still counted */
    const pare_qtype *type;   /* out, when not skipped */
    const pare_qtype *wanted; /* out: what the mix asked for, where rows do not fit it; else NULL */
    const char *why;          /* out: reason of a choice that is not the base type, static text, or NULL */
} pare_mix_tensor;

/* Fills type and why of n tensors, in file order. pure: base type everywhere, only shapes change it. */
void pare_mix_assign(const pare_mix *m, const pare_mix_model *model, bool pure, size_t n, pare_mix_tensor *t);

/* The type to take where rows of cols columns do not fit qt: llama.cpp's chain (q4_k -> q5_0, ..., f16 at its end). */
const pare_qtype *pare_mix_fallback(const pare_qtype *qt, int64_t cols);

/* NULL when llama.cpp quantizes such a tensor, else why not (norm, embedding of positions, not a matrix, ...). */
const char *pare_mix_never(const char *name, int ndim, const int64_t *shape);

/* File order: tensors outside blocks first, then by block number, then by name. */
int pare_mix_order(const char *a, const char *b);

#endif
