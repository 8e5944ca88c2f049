/* SPDX-License-Identifier: Apache-2.0
 *
 * y = x W^T for weights in any block or grouped format, any rule and any number of tokens: the last of
 * cuda/matmul.def, where nothing faster applies. A block makes 64 rows of W times 32 tokens, a chunk of 32 columns at a
 * time: weights become f32 in shared memory (their exact values, or codes under int8 rules), every thread sums 4 x 2
 * results over each half chunk, exactly for codes, and adds it to the whole, times scales for codes. */
#include "cuda/formats.cuh"
#include "cuda/matmul.cuh"

#define ROWS    64
#define TOKENS  32
#define THREADS 256
#define PITCH_W (ROWS + 4) /* floats; rows of the tile stay 16-byte aligned */
#define PITCH_X 36

typedef struct any_x { /* activations: x, or codes with their scales */
    const float *x;
    pare_cuda_act8 a;
    int rule;
} any_x;

typedef struct any_tile {
    float w[32 * PITCH_W], x[TOKENS * PITCH_X];
    float scale[2][ROWS], minimum[2][ROWS], x_scale[TOKENS], x_sum[2][TOKENS];
} any_tile;

/* The code, minus the zero point where there is one: up to 255, and sums of 16 products stay exact. */
template <class F> static __device__ __forceinline__ float exact_code(typename F::stored s, int code) {
    if constexpr (F::ASYM) return (float)(code + F::OFFSET - F::above(s));
    else return (float)code;
}

/* A thread takes eight weights of a row: columns 4t .. and 16 + 4t .. of the chunk. */
template <class F, bool INT8>
static __device__ __forceinline__ void put_weights(any_tile *s, const pare_cuda_weight &w, int64_t n0, int chunk) {
    int row = (int)threadIdx.x / 4, t = (int)threadIdx.x % 4;
    int64_t n = n0 + row < w.n ? n0 + row : w.n - 1; /* rows past the end are not stored */
    uint32_t q[2];
    auto stored = F::fetch(w, w.scales + n * w.scale_row, chunk);
    F::codes(w.low + n * w.low_row + chunk * F::LOW, w.high + n * w.high_row + chunk * F::HIGH, t, q[0], q[1]);
    for (int i = 0; i < 8; i++) {
        int code = (int8_t)(q[i / 4] >> 8 * (i % 4));
        s->w[(16 * (i / 4) + 4 * t + i % 4) * PITCH_W + row] =
            INT8 ? exact_code<F>(stored, code) : F::value(w, stored, chunk, i / 4, code);
    }
    if (!INT8 || t > 1) return;
    float2 m = F::scale_of(w, stored, chunk, t);
    s->scale[t][row] = m.x, s->minimum[t][row] = m.y;
}

template <bool INT8>
static __device__ __forceinline__ void put_tokens(any_tile *s, const any_x &x, int64_t m0, int64_t m, int64_t k,
                                                  int chunk) {
    int token = (int)threadIdx.x / 8, part = (int)threadIdx.x % 8;
    int64_t row = m0 + token < m ? m0 + token : m - 1;
    float *to = s->x + token * PITCH_X + 4 * part;
    for (int i = 0; i < 4; i++) {
        int64_t c = 32 * (int64_t)chunk + 4 * part + i;
        if (INT8) to[i] = (float)x.a.codes[row * x.a.k_pad + c];
        else {
            float v = c < k ? x.x[row * k + c] : 0.0f;
            to[i] = x.rule == PARE_CR_F16    ? pare_h2f(pare_f2h(v))
                    : x.rule == PARE_CR_BF16 ? pare_bf2f(pare_f2bf(v))
                                             : v;
        }
    }
    if (!INT8 || part > 1) return;
    s->x_sum[part][token] = x.a.sums[row * (x.a.k_pad / 16) + 2 * chunk + part];
    if (part == 0) s->x_scale[token] = x.a.scale[row * (x.a.k_pad / 32) + chunk];
}

template <class F, bool INT8>
static __device__ __forceinline__ void multiply(float (&sum)[2][4], const any_tile *s, int rows, int tokens) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float part[2][4] = {};
#pragma unroll
        for (int c = 16 * half; c < 16 * half + 16; c++) {
            float4 w = *(const float4 *)(s->w + c * PITCH_W + rows);
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float x = s->x[(tokens + i) * PITCH_X + c];
                part[i][0] = fmaf(w.x, x, part[i][0]), part[i][1] = fmaf(w.y, x, part[i][1]);
                part[i][2] = fmaf(w.z, x, part[i][2]), part[i][3] = fmaf(w.w, x, part[i][3]);
            }
        }
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int r = 0; r < 4; r++) {
                if (!INT8) sum[i][r] += part[i][r];
                else sum[i][r] = fmaf(s->scale[half][rows + r] * s->x_scale[tokens + i], part[i][r], sum[i][r]);
                if (INT8 && F::MINIMA && !F::ASYM)
                    sum[i][r] = fmaf(s->minimum[half][rows + r], s->x_sum[half][tokens + i], sum[i][r]);
            }
    }
}

template <class F, bool INT8>
__global__ void __launch_bounds__(THREADS) any_kernel(pare_cuda_weight w, any_x x, float *y, int64_t m, int64_t k) {
    PARE_SHARED(any_tile, s, 1);
    int64_t n0 = (int64_t)blockIdx.x * ROWS, m0 = (int64_t)blockIdx.y * TOKENS;
    int rows = (int)threadIdx.x % 16 * 4, tokens = (int)threadIdx.x / 16 * 2;
    float sum[2][4] = {};
    for (int chunk = 0; chunk < (k + 31) / 32; chunk++) {
        put_weights<F, INT8>(s, w, n0, chunk);
        put_tokens<INT8>(s, x, m0, m, k, chunk);
        __syncthreads();
        multiply<F, INT8>(sum, s, rows, tokens);
        __syncthreads();
    }
    for (int i = 0; i < 2; i++)
        for (int r = 0; r < 4; r++)
            if (m0 + tokens + i < m && n0 + rows + r < w.n) y[(m0 + tokens + i) * w.n + n0 + rows + r] = sum[i][r];
}

static bool int8_rule(const pare_cuda_mm *p) { return p->rule >= PARE_CR_Q8_0; }

static bool can(const pare_cuda *dev, const pare_cuda_mm *p) {
    return p->format != PARE_CF_NONE && p->format != PARE_CF_2OF4;
}
static size_t workspace(const pare_cuda *dev, const pare_cuda_mm *p) {
    return int8_rule(p) ? pare_cuda_act8_bytes(p->m, p->k) : 0;
}

static void run(pare_cuda *dev, const pare_cuda_mm *p) {
    any_x x = {};
    x.rule = p->rule;
    if (int8_rule(p)) x.a = pare_cuda_act8_make(dev, p->rule, p->x, p->m, p->k, p->workspace);
    for (int64_t m0 = 0; m0 < p->m; m0 += 65535 * TOKENS) { /* as many as a grid has */
        int64_t m = p->m - m0 < 65535 * TOKENS ? p->m - m0 : 65535 * TOKENS;
        dim3 grid((unsigned)pare_cuda_ceil(p->n, ROWS), (unsigned)pare_cuda_ceil(m, TOKENS));
        any_x at = x;
        at.x = p->x + m0 * p->k;
        at.a.codes += m0 * x.a.k_pad, at.a.scale += m0 * (x.a.k_pad / 32), at.a.sums += m0 * (x.a.k_pad / 16);
        float *y = p->y + m0 * p->n;
#define PARE_ANY(cf, asymmetric, F)                                                                                    \
    if (p->format == cf && p->w.asym == asymmetric) {                                                                  \
        if (int8_rule(p)) pare_launch<any_kernel<F, true>>(dev->rt.stream, grid, THREADS, 0, p->w, at, y, m, p->k);    \
        else pare_launch<any_kernel<F, false>>(dev->rt.stream, grid, THREADS, 0, p->w, at, y, m, p->k);                \
    }
        PARE_FORMATS(PARE_ANY)
#undef PARE_ANY
    }
}

const pare_cuda_mm_kernel pare_cuda_mm_any = {"any", can, workspace, run};
