/* SPDX-License-Identifier: Apache-2.0
 *
 * Rotary angles: theta^(-2i/D) divided by a factor per pair, which is how every scaling rule in use can be written.
 * paper: Su et al. 2021 (rotary), Peng et al. 2023 (YaRN); the Llama 3.1 rule as its release computes it. */
#include "models/arch.h"

#include <math.h>

static const double two_pi = 6.283185307179586476925286766559;

static double llama3_factor(const pare_arch *a, double freq) {
    double wavelen = two_pi / freq;
    if (wavelen < a->rope_original / a->rope_high) return 1;
    if (wavelen > a->rope_original / a->rope_low) return a->rope_factor;
    double smooth = (a->rope_original / wavelen - a->rope_low) / (a->rope_high - a->rope_low);
    return 1 / ((1 - smooth) / a->rope_factor + smooth);
}

/* The pair index at which a full rotation happens `rotations` times within the original context. */
static double yarn_pair(const pare_arch *a, double rotations) {
    return (double)a->head_dim * log(a->rope_original / (rotations * two_pi)) / (2 * log(a->rope_theta));
}

static double yarn_factor(const pare_arch *a, int64_t i) {
    double low = fmax(floor(yarn_pair(a, a->rope_beta_fast)), 0);
    double high = fmin(ceil(yarn_pair(a, a->rope_beta_slow)), (double)(a->head_dim - 1));
    if (low == high) high += 0.001;
    double ramp = fmin(fmax(((double)i - low) / (high - low), 0), 1);
    return 1 / (ramp / a->rope_factor + (1 - ramp));
}

static double factor_of(const pare_arch *a, int64_t i) {
    switch (a->rope_scaling) {
    case PARE_ROPE_NONE: return 1;
    case PARE_ROPE_LINEAR: return a->rope_factor;
    case PARE_ROPE_LLAMA3: return llama3_factor(a, pow(a->rope_theta, -2.0 * (double)i / (double)a->head_dim));
    case PARE_ROPE_YARN: return yarn_factor(a, i);
    }
    return 1;
}

void pare_rope_freq_factors(const pare_arch *a, float *factors) {
    for (int64_t i = 0; i < a->head_dim / 2; i++) factors[i] = (float)factor_of(a, i);
}

void pare_rope_cache(const pare_arch *a, const float *file_factors, int64_t n_pos, float *cos_out, float *sin_out) {
    int64_t half = a->head_dim / 2;
    for (int64_t i = 0; i < half; i++) {
        double divisor = factor_of(a, i) * (file_factors ? (double)file_factors[i] : 1);
        double freq = pow(a->rope_theta, -2.0 * (double)i / (double)a->head_dim) / divisor;
        for (int64_t p = 0; p < n_pos; p++) {
            double angle = (double)p * freq;
            cos_out[p * half + i] = (float)(cos(angle) * a->rope_attn_factor);
            sin_out[p * half + i] = (float)(sin(angle) * a->rope_attn_factor);
        }
    }
}
