/* SPDX-License-Identifier: Apache-2.0
 *
 * The row kernels of cpu/vec.h in the words of cpu/simd.h. Included once per instruction set, by a file that defines
 * FN(name). Sums run in VW lanes (times two) of f32 and are added up in double. */
#include "cpu/simd.h"
#include "cpu/vec.h"

#include <math.h>

/* NaN through v_abs and v_min: v_min(c, x) keeps it, and every formula then multiplies by it. */
#define UNARY(name, setup, expr)                                                                                       \
    void FN(name)(const float *x, float *y, size_t n, float alpha) {                                                   \
        setup;                                                                                                         \
        size_t i = 0;                                                                                                  \
        for (; i + VW <= n; i += VW) {                                                                                 \
            V v = v_load(x + i);                                                                                       \
            v_store(y + i, (expr));                                                                                    \
        }                                                                                                              \
        if (i < n) {                                                                                                   \
            V v = v_load_n(x + i, n - i);                                                                              \
            v_store_n(y + i, (expr), n - i);                                                                           \
        }                                                                                                              \
    }
UNARY(sqrt_f32, , v_sqrt(v))
UNARY(erf_f32, , v_erf(v))
UNARY(exp_f32, , v_exp(v))
UNARY(sigmoid_f32, , v_sigmoid(v))
UNARY(tanh_f32, , v_tanh(v))
UNARY(relu_f32, V zero = v_set1(0.0f), v_select_lt(v, zero, zero, v))
UNARY(gelu_f32, , v_set1(0.5f) * v * (v_set1(1.0f) + v_erf(v * v_set1(0.70710678f))))
/* 0.5 (1 + tanh u) = sigmoid(2u) */
UNARY(gelu_tanh_f32, , v / (v_set1(1.0f) + v_exp(v_set1(-1.59576912f) * v_fma(v_set1(0.044715f) * v * v, v, v))))
UNARY(swish_f32, V minus = v_set1(-alpha), v / (v_set1(1.0f) + v_exp(minus * v)))

#define BINARY(name, op)                                                                                               \
    void FN(name)(const float *a, const float *b, float *y, size_t n, int mode) {                                      \
        V va = mode == PARE_VEC_A1 && n ? v_set1(*a) : v_set1(0.0f), vb = mode == PARE_VEC_B1 && n ? v_set1(*b) : va;  \
        size_t i = 0;                                                                                                  \
        for (; i + VW <= n; i += VW) {                                                                                 \
            V p = mode == PARE_VEC_A1 ? va : v_load(a + i), q = mode == PARE_VEC_B1 ? vb : v_load(b + i);              \
            v_store(y + i, p op q);                                                                                    \
        }                                                                                                              \
        if (i < n) {                                                                                                   \
            V p = mode == PARE_VEC_A1 ? va : v_load_n(a + i, n - i);                                                   \
            V q = mode == PARE_VEC_B1 ? vb : v_load_n(b + i, n - i);                                                   \
            v_store_n(y + i, p op q, n - i);                                                                           \
        }                                                                                                              \
    }
BINARY(add_f32, +)
BINARY(sub_f32, -)
BINARY(mul_f32, *)
BINARY(div_f32, /)

void FN(softmax_f32)(const float *x, float *y, size_t n) {
    V lanes = v_set1(-INFINITY), sums = v_set1(0.0f);
    size_t i = 0;
    for (; i + VW <= n; i += VW) lanes = v_max(lanes, v_load(x + i));
    float max = v_hmax(lanes);
    for (; i < n; i++)
        if (!(x[i] <= max)) max = x[i];
    V shift = v_set1(max);
    for (i = 0; i + VW <= n; i += VW) {
        V e = v_exp(v_load(x + i) - shift);
        v_store(y + i, e);
        sums = sums + e;
    }
    double sum = v_hsum(sums);
    if (i < n) {
        v_store_n(y + i, v_exp(v_load_n(x + i, n - i) - shift), n - i);
        for (size_t k = i; k < n; k++) sum += y[k];
    }
    V inv = v_set1((float)(1.0 / sum));
    for (i = 0; i + VW <= n; i += VW) v_store(y + i, v_load(y + i) * inv);
    if (i < n) v_store_n(y + i, v_load_n(y + i, n - i) * inv, n - i);
}

float FN(row_dot_f32)(const float *a, const float *b, size_t n) {
    V s = v_set1(0.0f), t = s;
    size_t i = 0;
    for (; i + 2 * VW <= n; i += 2 * VW) {
        s = v_fma(v_load(a + i), v_load(b + i), s);
        t = v_fma(v_load(a + i + VW), v_load(b + i + VW), t);
    }
    for (; i + VW <= n; i += VW) s = v_fma(v_load(a + i), v_load(b + i), s);
    if (i < n) t = v_fma(v_load_n(a + i, n - i), v_load_n(b + i, n - i), t);
    return (float)v_hsum(s + t);
}

void FN(row_axpy_f32)(float a, const float *x, float *y, size_t n) {
    V va = v_set1(a);
    size_t i = 0;
    for (; i + VW <= n; i += VW) v_store(y + i, v_fma(va, v_load(x + i), v_load(y + i)));
    if (i < n) v_store_n(y + i, v_fma(va, v_load_n(x + i, n - i), v_load_n(y + i, n - i)), n - i);
}

void FN(rms_norm_f32)(const float *x, const float *scale, float *y, size_t n, float eps) {
    V s = v_set1(0.0f), t = s;
    size_t i = 0;
    for (; i + 2 * VW <= n; i += 2 * VW) {
        V a = v_load(x + i), b = v_load(x + i + VW);
        s = v_fma(a, a, s), t = v_fma(b, b, t);
    }
    for (; i < n; i += VW) {
        V a = n - i < VW ? v_load_n(x + i, n - i) : v_load(x + i);
        s = v_fma(a, a, s);
    }
    V r = v_set1((float)(1.0 / sqrt(v_hsum(s + t) / (double)n + eps))), one = v_set1(1.0f);
    for (i = 0; i + VW <= n; i += VW) v_store(y + i, v_load(x + i) * r * (scale ? v_load(scale + i) : one));
    if (i < n) v_store_n(y + i, v_load_n(x + i, n - i) * r * (scale ? v_load_n(scale + i, n - i) : one), n - i);
}

/* Whole vectors, then one part: v = x[i..], m elements. */
#define EACH_VECTOR(body)                                                                                              \
    for (size_t i = 0; i < n; i += VW) {                                                                               \
        size_t m = n - i < VW ? n - i : VW;                                                                            \
        V v = m < VW ? v_load_n(x + i, m) : v_load(x + i);                                                             \
        body                                                                                                           \
    }

void FN(layer_norm_f32)(const float *x, const float *scale, const float *bias, float *y, size_t n, float eps,
                        float stats[2]) {
    V s = v_set1(0.0f), q = s, one = v_set1(1.0f), zero = v_set1(0.0f);
    EACH_VECTOR(s = s + v; (void)m;)
    V mu = v_set1((float)(v_hsum(s) / (double)n));
    EACH_VECTOR(V c = v - mu; if (m < VW) { /* lanes past the end hold -mu */
                                            float part[VW];
                                            v_store(part, c);
                                            c = v_load_n(part, m);
    } q = v_fma(c, c, q);)
    float inv = (float)(1.0 / sqrt(v_hsum(q) / (double)n + eps));
    V r = v_set1(inv);
    EACH_VECTOR(V g = !scale   ? one
                      : m < VW ? v_load_n(scale + i, m)
                               : v_load(scale + i);
                V b = !bias    ? zero
                      : m < VW ? v_load_n(bias + i, m)
                               : v_load(bias + i);
                V o = (v - mu) * r * g + b; if (m < VW) v_store_n(y + i, o, m); else v_store(y + i, o);)
    float one_mu[VW];
    v_store(one_mu, mu);
    stats[0] = one_mu[0];
    stats[1] = inv;
}

void FN(rotary_f32)(const float *x, const float *cos, const float *sin, float *y, size_t half, bool interleaved) {
    size_t i = 0;
    for (; interleaved && i + VW / 2 <= half; i += VW / 2) {
        V v = v_load(x + 2 * i), c = v_load_twice(cos + i), s = v_load_twice(sin + i);
        v_store(y + 2 * i, v_fmaddsub(v, c, v_swap_pairs(v) * s)); /* even: a cos - b sin, odd: b cos + a sin */
    }
    for (; !interleaved && i + VW <= half; i += VW) {
        V a = v_load(x + i), b = v_load(x + half + i), c = v_load(cos + i), s = v_load(sin + i);
        v_store(y + i, v_fma(a, c, v_set1(0.0f) - b * s));
        v_store(y + half + i, v_fma(b, c, a * s));
    }
    size_t step = interleaved ? 2 : 1, other = interleaved ? 1 : half;
    for (; i < half; i++) {
        float a = x[i * step], b = x[i * step + other];
        y[i * step] = cos[i] * a - sin[i] * b;
        y[i * step + other] = sin[i] * a + cos[i] * b;
    }
}
