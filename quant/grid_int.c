/* SPDX-License-Identifier: Apache-2.0
 *
 * pare's row formats of integers: bits {4, 8} x group {row, 32, 64, 128} x {symmetric, asymmetric} x scale {f16, bf16,
 * f32}; layout in core/qtype.h. Parameters follow the minmax observer of the compressed-tensors library, ranges always
 * holding zero: symmetric scale = absmax / ((2^bits - 1) / 2); asymmetric scale = (max - min) / (2^bits - 1) and zero
 * point = rne(clamp(qmin - min / scale)). The scale is rounded to its type first, and everything else uses the rounded
 * one. With importance, ranges narrower and wider than that are tried and the best one's scale is refitted by least
 * squares. Decoding rounds each product to the scale's type, as stock loaders of these layouts do. */
#include "quant/lanes.h"
#include "quant/qops.h"

#include "core/qtype.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define CHUNK 512 /* columns at a time; a multiple of every group and of the nibble chunks */

typedef struct int_params {
    uint32_t scale; /* bits in the scale's type */
    int32_t zero;   /* signed, code units */
} int_params;

static float scale_value(const pare_qtype *st, uint32_t bits) {
    float f;
    if (st == &pare_qtype_f16) return pare_f16_to_f32((uint16_t)bits);
    if (st == &pare_qtype_bf16) return pare_bf16_to_f32((uint16_t)bits);
    memcpy(&f, &bits, 4);
    return f;
}
static uint32_t scale_bits(const pare_qtype *st, float v) {
    uint32_t u;
    if (st == &pare_qtype_f16) return pare_f32_to_f16(v);
    if (st == &pare_qtype_bf16) return pare_f32_to_bf16(v);
    memcpy(&u, &v, 4);
    return u;
}

/* v >= 0 in the scale's type: at most such that v * widest is finite there, never 0 (a group of zeros gets the type's
 * epsilon, as in compressed-tensors; a range too small for the type its smallest value). */
static uint32_t fit_scale(const pare_qtype *st, float v, float widest) {
    float top = st == &pare_qtype_f16 ? 65504.0f : st == &pare_qtype_bf16 ? 0x1.FEp127f : FLT_MAX;
    float eps = st == &pare_qtype_f16 ? 0x1p-10f : st == &pare_qtype_bf16 ? 0x1p-7f : FLT_EPSILON;
    if (v == 0) return scale_bits(st, eps);
    if (!(v <= top / widest)) {
        uint32_t u = scale_bits(st, top / widest);
        return scale_value(st, u) > top / widest ? u - 1 : u; /* one step towards zero */
    }
    uint32_t u = scale_bits(st, v);
    return u ? u : 1;
}

static int rounding(const pare_qtype *st) {
    return st == &pare_qtype_f16 ? PARE_ROUND_F16 : st == &pare_qtype_bf16 ? PARE_ROUND_BF16 : PARE_ROUND_F32;
}

/* Ranges that are tried, as shares of the whole one. */
#define WIDEST   1.15f
#define NARROWER 0.025f
#define RANGES   29

typedef struct int_fit_row {
    const pare_int_format *f;
    const float *x, *importance;
    size_t n;
    float steps, qmin;
    int_params best;
    float sums[3]; /* of best (quant/qops.def) */
} int_fit_row;

static bool better(int_fit_row *t, float scale, float zero) {
    float sums[3], s = t->steps, widest = t->f->asym ? s : -t->qmin;
    int_params p = {fit_scale(t->f->scale_type, scale, widest), (int32_t)s_rne(s_clamp(zero, t->qmin, t->qmin + s))};
    if (!t->f->asym) p.zero = 0;
    pare_qops_get()->sums_int(t->x, t->importance, t->n, scale_value(t->f->scale_type, p.scale), (float)p.zero, t->qmin,
                              t->qmin + s, rounding(t->f->scale_type), sums);
    if (!(sums[2] < t->sums[2])) return false;
    t->best = p;
    for (int i = 0; i < 3; i++) t->sums[i] = sums[i];
    return true;
}

/* Least squares given the codes, which the new scale may change: until it gets no better, at most 4 times. */
static void refit(int_fit_row *t) {
    for (int i = 0; i < 4 && t->sums[1] > 0 && t->sums[0] > 0; i++)
        if (!better(t, t->sums[0] / t->sums[1], (float)t->best.zero)) break;
}

/* The range [lo, hi] narrowed and widened; the parameters with the least weighted error. */
static int_params search(const pare_int_format *f, const float *x, const float *importance, size_t n, float lo,
                         float hi, float steps, float qmin) {
    int_fit_row t = {.f = f, .x = x, .importance = importance, .n = n, .steps = steps, .qmin = qmin};
    t.sums[2] = INFINITY;
    for (int k = -1; k < RANGES; k++) { /* first the whole range, as without importance */
        float share = k < 0 ? 1 : WIDEST - NARROWER * (float)k, a = lo * share, b = hi * share;
        float scale = f->asym ? (b - a) / steps : (-a > b ? -a : b) / (steps / 2);
        float stored = scale_value(f->scale_type, fit_scale(f->scale_type, scale, f->asym ? steps : -qmin));
        better(&t, scale, qmin - a / stored);
    }
    refit(&t);
    for (int z = t.best.zero - 1, k = 0; f->asym && k < 2; k++, z = t.best.zero + 1) {
        int_fit_row other = t;
        other.sums[2] = INFINITY;
        if (better(&other, scale_value(f->scale_type, t.best.scale), (float)z)) refit(&other);
        if (other.sums[2] < t.sums[2]) t = other;
    }
    return t.best;
}

static void int_fit(const pare_qtype *qt, const float *w, size_t w_ld, const float *importance, const float *row_energy,
                    size_t rows, size_t n, void *params) {
    const pare_int_format *f = qt->int_format;
    int_params *p = params;
    float steps = (float)((1 << f->bits) - 1), qmin = (float)-(1 << (f->bits - 1));
    for (size_t r = 0; r < rows; r++, w += w_ld) {
        float lo, hi;
        pare_qops_get()->minmax(w, w_ld, 1, n, &lo, &hi);
        lo = lo < 0 ? lo : 0;
        hi = hi > 0 ? hi : 0;
        if (importance && lo < hi) {
            p[r] = search(f, w, importance, n, lo, hi, steps, qmin);
            continue;
        }
        p[r].zero = 0;
        if (!f->asym) {
            p[r].scale = fit_scale(f->scale_type, (-lo > hi ? -lo : hi) / (steps / 2), -qmin);
            continue;
        }
        p[r].scale = fit_scale(f->scale_type, (hi - lo) / steps, steps);
        float s = scale_value(f->scale_type, p[r].scale);
        p[r].zero = (int32_t)s_rne(s_clamp(qmin - lo / s, qmin, qmin + steps));
    }
}

static void int_snap(const pare_qtype *qt, const void *params, size_t group_n, const float *w, size_t w_ld, size_t rows,
                     size_t first, size_t n, int8_t *codes, size_t codes_ld, float *decoded, size_t decoded_ld) {
    const pare_int_format *f = qt->int_format;
    const int_params *p = params;
    const pare_qops *ops = pare_qops_get();
    float qmin = (float)-(1 << (f->bits - 1)), qmax = -qmin - 1;
    for (size_t r = 0; r < rows; r++) {
        float s = scale_value(f->scale_type, p[r].scale), z = (float)p[r].zero;
        ops->snap_div(w + r * w_ld, n, s, z, qmin, qmax, codes + r * codes_ld);
        if (decoded) ops->decode_i8(codes + r * codes_ld, n, z, s, rounding(f->scale_type), decoded + r * decoded_ld);
    }
}

/* Header of a block; returns its bytes. */
static size_t put_header(const pare_int_format *f, const int_params *p, uint8_t *out) {
    size_t at = f->scale_type->block_bytes;
    memcpy(out, &p->scale, at); /* little endian: the low bytes */
    if (f->asym) out[at++] = (uint8_t)(p->zero + (1 << (f->bits - 1)));
    return at;
}
static size_t get_header(const pare_int_format *f, const uint8_t *in, int_params *p) {
    size_t at = f->scale_type->block_bytes;
    *p = (int_params){.scale = (uint32_t)in[0] | (uint32_t)in[1] << 8};
    if (at == 4) p->scale |= (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
    if (f->asym) {
        int zero = in[at++];
        if (f->bits == 4) zero &= 15;
        p->zero = zero - (1 << (f->bits - 1));
    }
    return at;
}

/* n codes, a multiple of 32 unless they end the row */
static void put_codes(const pare_int_format *f, const int8_t *codes, size_t n, uint8_t *out) {
    if (f->bits == 8) {
        memcpy(out, codes, n);
        return;
    }
    for (; n >= 32; n -= 32, codes += 32, out += 16)
        for (int i = 0; i < 16; i++) out[i] = (uint8_t)(((codes[i] + 8) & 15) | (codes[i + 16] + 8) << 4);
    if (!n) return;
    memset(out, 0, 16);
    for (size_t i = 0; i < n; i++) out[i % 16] |= (uint8_t)((codes[i] + 8) << (i < 16 ? 0 : 4));
}
static void get_codes(const pare_int_format *f, const uint8_t *in, size_t n, int8_t *codes) {
    for (size_t i = 0; i < n; i++) {
        if (f->bits == 8) codes[i] = (int8_t)in[i];
        else codes[i] = (int8_t)((in[i / 32 * 16 + i % 16] >> (i % 32 < 16 ? 0 : 4) & 15) - 8);
    }
}

static void int_pack(const pare_qtype *qt, const void *params, const int8_t *codes, size_t codes_ld, size_t rows,
                     size_t n, void *out, size_t out_stride) {
    const int_params *p = params;
    for (size_t r = 0; r < rows; r++) {
        uint8_t *dst = (uint8_t *)out + r * out_stride;
        put_codes(qt->int_format, codes + r * codes_ld, n, dst + put_header(qt->int_format, p + r, dst));
    }
}
static void int_unpack(const pare_qtype *qt, const void *in, size_t in_stride, size_t rows, size_t n, void *params,
                       int8_t *codes, size_t codes_ld) {
    int_params *p = params;
    for (size_t r = 0; r < rows; r++) {
        const uint8_t *src = (const uint8_t *)in + r * in_stride;
        get_codes(qt->int_format, src + get_header(qt->int_format, src, p + r), n, codes + r * codes_ld);
    }
}

static void int_encode(const pare_qtype *qt, const float *w, size_t w_ld, const float *importance, size_t rows,
                       size_t n, void *out, size_t out_stride) {
    const pare_int_format *f = qt->int_format;
    size_t group = f->group ? f->group : n;
    int8_t codes[CHUNK];
    for (size_t r = 0; r < rows; r++) {
        uint8_t *dst = (uint8_t *)out + r * out_stride;
        for (size_t g = 0; g < n; g += group) {
            const float *x = w + r * w_ld + g;
            int_params p;
            int_fit(qt, x, w_ld, importance ? importance + g : NULL, NULL, 1, group, &p);
            dst += put_header(f, &p, dst);
            for (size_t c = 0, len; c < group; c += len) {
                len = group - c < CHUNK ? group - c : CHUNK;
                int_snap(qt, &p, group, x + c, 0, 1, c, len, codes, 0, NULL, 0);
                put_codes(f, codes, len, dst);
                dst += f->bits == 8 ? len : (len + 31) / 32 * 16;
            }
        }
    }
}

static void int_decode(const pare_qtype *qt, const void *src, float *dst, size_t n) {
    const pare_int_format *f = qt->int_format;
    const pare_qops *ops = pare_qops_get();
    const uint8_t *in = src;
    size_t group = f->group ? f->group : n;
    for (size_t g = 0; g < n; g += group, dst += group) {
        int_params p;
        in += get_header(f, in, &p);
        float s = scale_value(f->scale_type, p.scale), z = (float)p.zero;
        if (f->bits == 8) ops->decode_i8((const int8_t *)in, group, z, s, rounding(f->scale_type), dst);
        else ops->decode_i4(in, group, z, s, rounding(f->scale_type), dst);
        in += f->bits == 8 ? group : (group + 31) / 32 * 16;
    }
}

#define INT_GRID(g)                                                                                                    \
    static const pare_grid int_grid_##g = {.group = g,                                                                 \
                                           .param_bytes = sizeof(int_params),                                          \
                                           .fit = int_fit,                                                             \
                                           .snap = int_snap,                                                           \
                                           .pack = int_pack,                                                           \
                                           .unpack = int_unpack,                                                       \
                                           .encode = int_encode};
INT_GRID(0)
INT_GRID(32)
INT_GRID(64)
INT_GRID(128)

#define ROW(b, g, gname, a, aname, st, sname, sbytes)                                                                  \
    {.name = "int" #b gname aname sname,                                                                               \
     .kind = PARE_QK_GROUP,                                                                                            \
     .ggml_type = -1,                                                                                                  \
     .block_elems = g,                                                                                                 \
     .block_bytes = g ? (sbytes) + (a) + (g) * (b) / 8 : 0,                                                            \
     .int_format = &(const pare_int_format){b, a, g, &pare_qtype_##st},                                                \
     .decode = int_decode,                                                                                             \
     .grid = &int_grid_##g},
#define ROW_SCALES(b, g, gname, a, aname)                                                                              \
    ROW(b, g, gname, a, aname, f16, "", 2)                                                                             \
    ROW(b, g, gname, a, aname, bf16, ":bf16", 2)                                                                       \
    ROW(b, g, gname, a, aname, f32, ":f32", 4)
#define ROW_SIGNS(b, g, gname)                                                                                         \
    ROW_SCALES(b, g, gname, 0, "")                                                                                     \
    ROW_SCALES(b, g, gname, 1, ":asym")
#define ROW_GROUPS(b)                                                                                                  \
    ROW_SIGNS(b, 0, "")                                                                                                \
    ROW_SIGNS(b, 32, ":g32")                                                                                           \
    ROW_SIGNS(b, 64, ":g64")                                                                                           \
    ROW_SIGNS(b, 128, ":g128")

extern const pare_qtype pare_qtype_ints[48];
const pare_qtype pare_qtype_ints[48] = {ROW_GROUPS(8) ROW_GROUPS(4)};
