/* SPDX-License-Identifier: Apache-2.0
 *
 * What `--to` and `--tensor REGEX=` mean: a mix, a grid of integers, or a plain float type; and which of them a writer
 * can hold. */
#ifndef PARE_QUANT_TARGET_H
#define PARE_QUANT_TARGET_H

#include "quant/mixes.h"

/* What a writer can hold besides plain floats. */
typedef enum pare_hold {
    PARE_HOLD_GGUF, /* GGUF block formats */
    PARE_HOLD_CT,   /* compressed-tensors: int4 and int8, grouped or per channel, symmetric or not */
    PARE_HOLD_GPTQ, /* GPTQ version 1: symmetric int4 and int8 */
    PARE_HOLD_FLOAT /* floats only */
} pare_hold;

typedef struct pare_target {
    const pare_mix *mix;    /* a mix (or, in --tensor, NULL) */
    const pare_qtype *type; /* a float type or a GGUF block format */
    int bits;               /* 4 or 8: an integer grid */
    unsigned group;         /* 0 = per channel: a whole row */
    bool asym;
} pare_target;

/* "q4_k_m", "int8", "int4:g32:asym", "f16"; single: one format is wanted (--tensor), so mixes are not understood and
 * "q4_k" is the block format. PARE_ERR_USAGE names what can be written. */
pare_status pare_target_parse(const char *text, bool single, pare_target *out, pare_diag *d);

/* Checks the target against the writer; a refusal lists what the writer holds. option: for the message. */
pare_status pare_target_check(const pare_target *t, pare_hold hold, const char *option, const char *text, pare_diag *d);

/* The storage format of rows of cols columns under this (checked, not mix) target: what the target says, or a smaller
 * group, or float16 (f16 or bf16, as the caller likes). scale: type of scales of integer grids. Writes the reason to
 * note when it is not what the target says. NULL when this build lacks the format. */
const pare_qtype *pare_target_resolve(const pare_target *t, pare_hold hold, int64_t cols, const pare_qtype *scale,
                                      const pare_qtype *float16, char *note, size_t note_bytes);

#endif
