/* SPDX-License-Identifier: Apache-2.0
 *
 * Scalar row kernels: the specification of cpu/vec.h. Long sums run in double, so that the reference carries no
 * summation error of its own. */
#include "cpu/vec.h"

#include <math.h>

void pare_sqrt_f32_ref(const float *x, float *y, size_t n, float alpha) {
    for (size_t i = 0; i < n; i++) y[i] = sqrtf(x[i]);
}
void pare_erf_f32_ref(const float *x, float *y, size_t n, float alpha) {
    for (size_t i = 0; i < n; i++) y[i] = erff(x[i]);
}
void pare_exp_f32_ref(const float *x, float *y, size_t n, float alpha) {
    for (size_t i = 0; i < n; i++) y[i] = expf(x[i]);
}
void pare_log_f32_ref(const float *x, float *y, size_t n, float alpha) {
    for (size_t i = 0; i < n; i++) y[i] = logf(x[i]);
}
void pare_sign_f32_ref(const float *x, float *y, size_t n, float alpha) {
    for (size_t i = 0; i < n; i++) y[i] = x[i] > 0 ? 1.0f : x[i] < 0 ? -1.0f : x[i] * 0; /* NaN passes */
}
void pare_sigmoid_f32_ref(const float *x, float *y, size_t n, float alpha) {
    for (size_t i = 0; i < n; i++) y[i] = 1.0f / (1.0f + expf(-x[i]));
}
void pare_tanh_f32_ref(const float *x, float *y, size_t n, float alpha) {
    for (size_t i = 0; i < n; i++) y[i] = tanhf(x[i]);
}
void pare_relu_f32_ref(const float *x, float *y, size_t n, float alpha) {
    for (size_t i = 0; i < n; i++) y[i] = x[i] < 0 ? 0 : x[i]; /* NaN passes */
}
/* Hendrycks and Gimpel 2016: x Phi(x) and its tanh approximation. */
void pare_gelu_f32_ref(const float *x, float *y, size_t n, float alpha) {
    for (size_t i = 0; i < n; i++) y[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678f));
}
void pare_gelu_tanh_f32_ref(const float *x, float *y, size_t n, float alpha) {
    for (size_t i = 0; i < n; i++) {
        float u = 0.79788456f * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
        y[i] = 0.5f * x[i] * (1.0f + tanhf(u));
    }
}
void pare_swish_f32_ref(const float *x, float *y, size_t n, float alpha) {
    for (size_t i = 0; i < n; i++) y[i] = x[i] / (1.0f + expf(-alpha * x[i]));
}

#define BINARY(name, op)                                                                                               \
    void pare_##name##_f32_ref(const float *a, const float *b, float *y, size_t n, int mode) {                         \
        if (mode == PARE_VEC_B1) {                                                                                     \
            float v = *b;                                                                                              \
            for (size_t i = 0; i < n; i++) y[i] = a[i] op v;                                                           \
        } else if (mode == PARE_VEC_A1) {                                                                              \
            float v = *a;                                                                                              \
            for (size_t i = 0; i < n; i++) y[i] = v op b[i];                                                           \
        } else {                                                                                                       \
            for (size_t i = 0; i < n; i++) y[i] = a[i] op b[i];                                                        \
        }                                                                                                              \
    }
BINARY(add, +)
BINARY(sub, -)
BINARY(mul, *)
BINARY(div, /)

void pare_softmax_f32_ref(const float *x, float *y, size_t n) {
    float max = -INFINITY;
    for (size_t i = 0; i < n; i++)
        if (!(x[i] <= max)) max = x[i]; /* NaN becomes the maximum, and with it the row */
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        y[i] = expf(x[i] - max);
        sum += y[i];
    }
    for (size_t i = 0; i < n; i++) y[i] = (float)(y[i] / sum);
}

void pare_rms_norm_f32_ref(const float *x, const float *scale, float *y, size_t n, float eps) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    float r = (float)(1.0 / sqrt(sum / (double)n + eps));
    for (size_t i = 0; i < n; i++) y[i] = x[i] * r * (scale ? scale[i] : 1.0f);
}

void pare_layer_norm_f32_ref(const float *x, const float *scale, const float *bias, float *y, size_t n, float eps,
                             float stats[2]) {
    double sum = 0, var = 0;
    for (size_t i = 0; i < n; i++) sum += x[i];
    double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) var += (x[i] - mean) * (x[i] - mean);
    float r = (float)(1.0 / sqrt(var / (double)n + eps)), mu = (float)mean;
    for (size_t i = 0; i < n; i++) y[i] = (x[i] - mu) * r * (scale ? scale[i] : 1.0f) + (bias ? bias[i] : 0.0f);
    stats[0] = mu;
    stats[1] = r;
}

void pare_rotary_f32_ref(const float *x, const float *cos, const float *sin, float *y, size_t half, bool interleaved) {
    size_t step = interleaved ? 2 : 1, other = interleaved ? 1 : half;
    for (size_t i = 0; i < half; i++) {
        float a = x[i * step], b = x[i * step + other];
        y[i * step] = cos[i] * a - sin[i] * b;
        y[i * step + other] = sin[i] * a + cos[i] * b;
    }
}

float pare_row_dot_f32_ref(const float *a, const float *b, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return (float)sum;
}

void pare_row_axpy_f32_ref(float a, const float *x, float *y, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] += a * x[i];
}

void pare_attn_scores_f32_ref(const float *q, size_t rows, size_t d, const float *k, size_t k_stride, size_t n,
                              float *s, float *kt) {
    for (size_t r = 0; r < rows; r++)
        for (size_t j = 0; j < n; j++) s[r * PARE_ATTN_KEYS + j] = pare_row_dot_f32_ref(q + r * d, k + j * k_stride, d);
}

void pare_attn_update_f32_ref(float *s, size_t rows, size_t n, float *m, float *l, float *o, size_t dv, const float *v,
                              size_t v_stride) {
    for (size_t r = 0; r < rows; r++) {
        float *p = s + r * PARE_ATTN_KEYS, *out = o + r * dv, max = m[r];
        for (size_t j = 0; j < n; j++)
            if (!(p[j] <= max)) max = p[j];
        if (max == -INFINITY) {
            for (size_t j = 0; j < n; j++) p[j] = 0;
            continue;
        }
        float keep = expf(m[r] - max), sum = 0;
        for (size_t j = 0; j < n; j++) {
            p[j] = expf(p[j] - max);
            sum += p[j];
        }
        m[r] = max;
        l[r] = l[r] * keep + sum;
        for (size_t i = 0; i < dv; i++) out[i] *= keep;
        for (size_t j = 0; j < n; j++)
            if (p[j] != 0) pare_row_axpy_f32_ref(p[j], v + j * v_stride, out, dv);
    }
}
