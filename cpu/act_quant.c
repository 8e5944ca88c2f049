/* SPDX-License-Identifier: Apache-2.0
 *
 * Activation rounding, scalar: the specification of cpu/act_quant.h. */
#include "cpu/matmul_kernels.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define TINY 1e-36f /* 127 / amax would leave the range of f32 not far below */

pare_act_rule pare_act_rule_for(const pare_qtype *weight, pare_act_round act) {
    if (weight->sparse) weight = weight->sparse->dense;
    if (act == PARE_ACT_NONE) return PARE_RULE_NONE;
    if (act == PARE_ACT_F16)
        return weight == &pare_qtype_f32 ? PARE_RULE_NONE : weight == &pare_qtype_bf16 ? PARE_RULE_BF16 : PARE_RULE_F16;
    if (weight->kind == PARE_QK_FLOAT) {
        if (act == PARE_ACT_INT8_TOKEN) return PARE_RULE_NONE;
        return weight == &pare_qtype_f16 ? PARE_RULE_F16 : weight == &pare_qtype_bf16 ? PARE_RULE_BF16 : PARE_RULE_NONE;
    }
    if (act == PARE_ACT_INT8_TOKEN) return PARE_RULE_TOKEN;
    if (weight->kind == PARE_QK_BLOCK && weight->block_elems == 256) return PARE_RULE_Q8_K;
    bool minima = weight->kind == PARE_QK_BLOCK && (weight->ggml_type == 3 || weight->ggml_type == 7); /* Q4_1, Q5_1 */
    return minima ? PARE_RULE_Q8_1 : PARE_RULE_Q8_0;
}

size_t pare_act_block(pare_act_rule rule, size_t k) {
    switch (rule) {
    case PARE_RULE_Q8_0:
    case PARE_RULE_Q8_1: return 32;
    case PARE_RULE_Q8_K: return 256;
    case PARE_RULE_TOKEN: return k;
    default: return 0;
    }
}

/* The element of largest magnitude, the first of equals; NaN when any element is not finite. */
static float extreme(const float *x, size_t n) {
    float amax = 0, ext = 0;
    bool finite = true;
    for (size_t i = 0; i < n; i++) {
        float a = fabsf(x[i]);
        finite &= a <= FLT_MAX;
        if (a > amax) amax = a, ext = x[i];
    }
    return finite ? ext : NAN;
}

static void block_codes(pare_act_rule rule, const float *x, size_t n, int8_t *codes, float *scale) {
    float ext = extreme(x, n), amax = fabsf(ext);
    if (!(amax >= TINY)) {
        memset(codes, 0, n);
        *scale = isnan(ext) ? NAN : 0.0f;
        return;
    }
    bool k = rule == PARE_RULE_Q8_K;
    float inv = k ? -127.0f / ext : 127.0f / amax;
    for (size_t i = 0; i < n; i++) {
        int c = (int)rintf(x[i] * inv);
        codes[i] = (int8_t)(c > 127 ? 127 : c);
    }
    if (k) *scale = 1.0f / inv;
    else if (rule == PARE_RULE_TOKEN) *scale = amax / 127.0f;
    else *scale = pare_f16_to_f32(pare_f32_to_f16(amax / 127.0f));
}

void pare_act_quant_ref(pare_act_rule rule, const float *x, size_t k, int8_t *codes, float *scale) {
    size_t block = pare_act_block(rule, k);
    for (size_t i = 0; i < k; i += block)
        block_codes(rule, x + i, block < k - i ? block : k - i, codes + i, scale + i / block);
}

static void round_codes(pare_act_rule rule, const float *x, size_t k, float *out) {
    pare_act_quant_fn *quant = pare_mm_kernels()->act_quant;
    size_t block = pare_act_block(rule, k);
    int8_t codes[PARE_MM_SLAB] = {0};
    float scale[PARE_MM_SLAB / 32] = {0}, whole = 0;
    if (rule == PARE_RULE_TOKEN) { /* the scale of the whole row, found without keeping its codes */
        float ext = extreme(x, k);
        whole = isnan(ext) ? NAN : fabsf(ext) >= TINY ? fabsf(ext) / 127.0f : 0.0f;
        float inv = whole > 0 ? 127.0f / fabsf(ext) : 0.0f;
        for (size_t i = 0; i < k; i++) out[i] = whole > 0 ? rintf(x[i] * inv) * whole : whole;
        return;
    }
    for (size_t i = 0; i < k; i += PARE_MM_SLAB) {
        size_t n = k - i < PARE_MM_SLAB ? k - i : PARE_MM_SLAB;
        quant(rule, x + i, n, codes, scale);
        for (size_t j = 0; j < n; j++) out[i + j] = (float)codes[j] * scale[j / block];
    }
}

void pare_act_round_row(pare_act_rule rule, const float *x, size_t k, float *out) {
    switch (rule) {
    case PARE_RULE_NONE: memcpy(out, x, k * sizeof *x); break;
    case PARE_RULE_F16:
        for (size_t i = 0; i < k; i++) out[i] = pare_f16_to_f32(pare_f32_to_f16(x[i]));
        break;
    case PARE_RULE_BF16:
        for (size_t i = 0; i < k; i++) out[i] = pare_bf16_to_f32(pare_f32_to_bf16(x[i]));
        break;
    default: round_codes(rule, x, k, out);
    }
}
