/* SPDX-License-Identifier: Apache-2.0
 *
 * How activations are rounded before they meet a stored weight.
 *
 * rules:  Q8_0   blocks of 32: d = amax/127 rounded to f16, code = nearest-even(x * (127/amax)), unrounded scale
 *         Q8_1   the same, plus s = f16(amax/127 * sum of codes), which multiplies the weights' minima
 *         Q8_K   blocks of 256: the element of largest magnitude (the first of equals) becomes -127: i = -127/it,
 *                code = min(127, nearest-even(x * i)), d = 1/i in f32
 *         TOKEN  one block per row: d = amax/127 in f32, code as in Q8_0
 *         F16, BF16  values rounded to that type, no codes
 * A block whose largest magnitude is below 1e-36 has scale 0 and codes 0; a block with an infinity or NaN has scale
 * NaN and codes 0, so that the result says so. The last block of a row may be short.
 * spec: llama.cpp, ggml-cpu (x86 rounding). */
#ifndef PARE_CPU_ACT_QUANT_H
#define PARE_CPU_ACT_QUANT_H

#include "core/op.h"

typedef enum pare_act_rule {
    PARE_RULE_NONE,
    PARE_RULE_F16,
    PARE_RULE_BF16,
    PARE_RULE_Q8_0,
    PARE_RULE_Q8_1,
    PARE_RULE_Q8_K,
    PARE_RULE_TOKEN
} pare_act_rule;

pare_act_rule pare_act_rule_for(const pare_qtype *weight, pare_act_round act);
/* Columns per scale: 32, 256, or k for TOKEN; 0 for rules without codes. */
size_t pare_act_block(pare_act_rule rule, size_t k);

/* One row of k values under a rule with codes: codes[k], scale[ceil(k / block)]. equal: codes and scales exactly. */
typedef void pare_act_quant_fn(pare_act_rule rule, const float *x, size_t k, int8_t *codes, float *scale);

/* One row rounded and decoded again to f32 (any rule; NONE copies): what a format without integer kernels sees. */
void pare_act_round_row(pare_act_rule rule, const float *x, size_t k, float *out);

#endif
