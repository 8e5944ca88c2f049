/* SPDX-License-Identifier: Apache-2.0
 *
 * Storage formats and grids: every registry row, at every instruction set. With arguments the program is a filter for
 * tests/py/grids.py and tests/py/peer_grids.py instead:
 *   test_grids decode TYPE COLS <blocks >f32        test_grids encode TYPE COLS [IMPORTANCE.f32] <f32 >blocks
 *   test_grids speed TYPE COLS [importance]: rates of one thread, the best of 7 */
#include "core/cpu_features.h"
#include "core/qtype.h"
#include "core/rng.h"
#include "harness.h"

#include <math.h>
#include <time.h>

/* ---- the filter ---- */

static void *read_all(FILE *f, size_t *bytes) {
    size_t cap = 1 << 20, n = 0, got;
    char *p = malloc(cap);
    while (p && (got = fread(p + n, 1, cap - n, f)) > 0)
        if ((n += got) == cap) p = realloc(p, cap *= 2);
    *bytes = n;
    return p;
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static float *random_rows(size_t n, uint64_t seed) { /* normal, with an outlier now and then */
    float *x = malloc(n * sizeof *x);
    pare_rng rng;
    pare_rng_seed(&rng, seed);
    for (size_t i = 0; i < n; i++) x[i] = 0.02f * pare_rng_normal(&rng) * (pare_rng_below(&rng, 50) ? 1.0f : 10.0f);
    return x;
}

static int speed(const pare_qtype *qt, size_t cols, bool weighed) {
    size_t rows = 64, row_bytes = pare_row_bytes(qt, cols);
    float *x = random_rows(rows * cols, 1), *imp = malloc(cols * 4);
    char *out = malloc(rows * row_bytes);
    double encode = 1e9, decode = 1e9, t;
    for (size_t c = 0; c < cols; c++) imp[c] = 1.0f + (float)(c % 7);
    for (int k = 0; k < 7; k++) {
        t = seconds();
        qt->grid->encode(qt, x, cols, weighed ? imp : NULL, rows, cols, out, row_bytes);
        encode = fmin(encode, seconds() - t);
        t = seconds();
        for (size_t r = 0; r < rows; r++) qt->decode(qt, out + r * row_bytes, x + r * cols, cols);
        decode = fmin(decode, seconds() - t);
        free(x), x = random_rows(rows * cols, 1);
    }
    double n = (double)(rows * cols) * 1e-9;
    printf("%-14s encode %6.2f  decode %6.2f G values/s\n", qt->name, n / encode, n / decode);
    free(x), free(imp), free(out);
    return 0;
}

static int filter(int argc, char **argv) {
    const pare_qtype *qt = pare_qtype_by_name(argv[2]);
    size_t cols = strtoul(argv[3], NULL, 10), bytes = 0, ignored;
    if (strcmp(argv[1], "speed") == 0 && qt && qt->grid) return speed(qt, cols, argc > 4);
    char *in = read_all(stdin, &bytes);
    if (!qt || !in || !pare_qtype_fits(qt, cols)) return 2;
    size_t row_bytes = pare_row_bytes(qt, cols);
    if (strcmp(argv[1], "decode") == 0) {
        size_t rows = bytes / row_bytes;
        float *out = malloc(rows * cols * 4);
        for (size_t r = 0; r < rows; r++) qt->decode(qt, in + r * row_bytes, out + r * cols, cols);
        return fwrite(out, 4, rows * cols, stdout) == rows * cols ? 0 : 2;
    }
    float *importance = NULL;
    if (argc > 4) {
        FILE *f = fopen(argv[4], "rb");
        if (!f) return 2;
        importance = read_all(f, &ignored);
    }
    size_t rows = bytes / 4 / cols;
    char *out = malloc(rows * row_bytes);
    qt->grid->encode(qt, (float *)in, cols, importance, rows, cols, out, row_bytes);
    return fwrite(out, row_bytes, rows, stdout) == rows ? 0 : 2;
}

/* ---- every registry row ---- */

static const uint32_t levels[] = {0, PARE_CPU_AVX2, PARE_CPU_AVX2 | PARE_CPU_AVX512, UINT32_MAX};
#define LEVELS (sizeof levels / sizeof *levels)

enum { ROWS = 5 };

/* Columns to test with: whole-row formats get one that is not a multiple of anything. */
static size_t columns(const pare_qtype *qt) { return qt->grid->group ? 3 * (size_t)qt->block_elems : 172; }

static const pare_qtype *next_grid(size_t *i) {
    const pare_qtype *qt;
    while ((qt = pare_qtype_at((*i)++)))
        if (qt->grid) return qt;
    return NULL;
}

/* fit, snap and pack by hand, as a method would call them; also checks the values snap says it decodes to. */
static void three_calls(const pare_qtype *qt, const float *w, const float *importance, const float *energy, size_t n,
                        unsigned char *out) {
    const pare_grid *g = qt->grid;
    size_t group = g->group ? g->group : n, stride = pare_row_bytes(qt, n);
    unsigned char *params = malloc(ROWS * g->param_bytes), *p2 = malloc(ROWS * g->param_bytes);
    int8_t *codes = malloc(ROWS * group), *c2 = malloc(ROWS * group);
    float *said = malloc(ROWS * group * 4), *is = malloc(n * 4);
    for (size_t c = 0; c < n; c += group) {
        unsigned char *block = out + (g->group ? pare_row_bytes(qt, c) : 0);
        g->fit(qt, w + c, n, importance ? importance + c : NULL, energy, ROWS, group, params);
        g->snap(qt, params, group, w + c, n, ROWS, 0, group, codes, group, said, group);
        g->pack(qt, params, codes, group, ROWS, group, block, stride);
        g->unpack(qt, block, stride, ROWS, group, p2, c2, group);
        assert_memory_equal(params, p2, ROWS * g->param_bytes);
        assert_memory_equal(codes, c2, ROWS * group);
        for (size_t at = 0, len; at < group; at += len) { /* the same in slices of odd widths */
            len = at % 13 + 1 < group - at ? at % 13 + 1 : group - at;
            g->snap(qt, params, group, w + c + at, n, ROWS, at, len, c2 + at, group, NULL, 0);
        }
        assert_memory_equal(codes, c2, ROWS * group);
        for (size_t r = 0; r < ROWS; r++) {
            qt->decode(qt, block + r * stride, is, group);
            assert_memory_equal(is, said + r * group, group * 4);
        }
    }
    free(params), free(p2), free(codes), free(c2), free(said), free(is);
}

static void test_encode_is_three_calls(void **state) {
    const pare_qtype *qt;
    for (size_t i = 0; (qt = next_grid(&i));) {
        size_t n = columns(qt), stride = pare_row_bytes(qt, n);
        float *w = random_rows(ROWS * n, 1), *imp = random_rows(n, 2), energy[ROWS];
        for (size_t c = 0; c < n; c++) imp[c] *= imp[c];
        memset(imp, 0, 16 * sizeof *imp); /* columns that no input reached */
        for (size_t r = 0; r < ROWS; r++) {
            double sum = 0;
            for (size_t c = 0; c < n; c++) sum += (double)w[r * n + c] * w[r * n + c];
            energy[r] = (float)(sum / (double)n);
        }
        for (int with = 0; with < 2; with++) {
            unsigned char *first = NULL;
            for (size_t l = 0; l < LEVELS; l++) {
                pare_cpu_limit(levels[l]);
                harness_buf a = harness_buf_new(ROWS * stride, l), b = harness_buf_new(ROWS * stride, 0);
                qt->grid->encode(qt, w, n, with ? imp : NULL, ROWS, n, a.p, stride);
                three_calls(qt, w, with ? imp : NULL, energy, n, b.p);
                if (memcmp(a.p, b.p, a.n)) fail_msg("%s: encode differs from fit, snap and pack", qt->name);
                if (!first) memcpy(first = malloc(a.n), a.p, a.n);
                if (memcmp(a.p, first, a.n)) fail_msg("%s: level %zu gives other bytes", qt->name, l);
                harness_buf_free(&a), harness_buf_free(&b);
            }
            free(first);
        }
        free(w), free(imp);
    }
}

/* Any bytes unpack and pack to themselves, and decode alike at every level. */
static void test_bytes_round_trip(void **state) {
    const pare_qtype *qt;
    pare_rng rng;
    pare_rng_seed(&rng, 3);
    for (size_t i = 0; (qt = pare_qtype_at(i)); i++) {
        if (qt->kind != PARE_QK_BLOCK && qt->kind != PARE_QK_GROUP) continue;
        size_t n = qt->block_elems ? 2 * qt->block_elems : 172, bytes = pare_row_bytes(qt, n), group = n;
        unsigned char *in = malloc(bytes), *out = malloc(bytes);
        float *x = malloc(n * 4), *y = malloc(n * 4);
        for (size_t k = 0; k < bytes; k++) in[k] = (unsigned char)pare_rng_u64(&rng);
        if (qt->grid) {
            const pare_int_format *f = qt->int_format;
            if (qt->grid->group) group = qt->grid->group;
            size_t block_bytes = pare_row_bytes(qt, group);
            if (f && f->bits == 4) { /* zero points are 0..15; the padding of a cut chunk is zero (172 = 5 * 32 + 12) */
                for (size_t b = 0; f->asym && b < bytes; b += block_bytes) in[b + f->scale_type->block_bytes] &= 15;
                if (!f->group) memset(in + bytes - 4, 0, 4);
                for (size_t k = 0; !f->group && k < 16; k++) in[bytes - 16 + k] &= 15;
            }
            unsigned char *params = malloc(qt->grid->param_bytes);
            int8_t *codes = malloc(group);
            for (size_t b = 0; b < bytes; b += block_bytes) {
                qt->grid->unpack(qt, in + b, block_bytes, 1, group, params, codes, group);
                qt->grid->pack(qt, params, codes, group, 1, group, out + b, block_bytes);
            }
            if (memcmp(in, out, bytes)) fail_msg("%s: unpack and pack change bytes", qt->name);
            free(params), free(codes);
        }
        for (size_t l = 0; l < LEVELS; l++) {
            pare_cpu_limit(levels[l]);
            qt->decode(qt, in, l ? y : x, n);
            for (size_t k = 0; l && k < n; k++)
                if (memcmp(x + k, y + k, 4) && !(isnan(x[k]) && isnan(y[k])))
                    fail_msg("%s: column %zu decodes to %g and %g", qt->name, k, x[k], y[k]);
        }
        free(in), free(out), free(x), free(y);
    }
    pare_cpu_limit(UINT32_MAX);
}

/* Root mean square error of normal values relative to theirs: levels of a format cost about a factor 2 per bit. */
static double allowed(const pare_qtype *qt) {
    static const struct {
        const char *name;
        double most;
    } known[] = {{"q8_0", 0.006}, {"q5_0", 0.05}, {"q5_1", 0.045}, {"q4_0", 0.1},  {"q4_1", 0.09},   {"q2_k", 0.34},
                 {"q3_k", 0.18},  {"q4_k", 0.08}, {"q5_k", 0.04},  {"q6_k", 0.02}, {"iq4_nl", 0.08}, {"iq4_xs", 0.08}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(qt->name, known[i].name) == 0) return known[i].most;
    assert_non_null(qt->int_format); /* a new format belongs in the table above */
    return qt->int_format->bits == 8 ? 0.01 : qt->int_format->group ? 0.13 : 0.16;
}

static void test_error(void **state) {
    const pare_qtype *qt;
    for (size_t i = 0; (qt = next_grid(&i));) {
        size_t n = qt->grid->group ? 1024 : 172, bytes = pare_row_bytes(qt, n);
        float *x = malloc(n * 4), *y = malloc(n * 4);
        unsigned char *out = malloc(bytes);
        pare_rng rng;
        pare_rng_seed(&rng, 4);
        for (size_t k = 0; k < n; k++) x[k] = pare_rng_normal(&rng);
        qt->grid->encode(qt, x, n, NULL, 1, n, out, bytes);
        qt->decode(qt, out, y, n);
        double e = 0, s = 0;
        for (size_t k = 0; k < n; k++) e += pow((double)y[k] - x[k], 2), s += pow(x[k], 2);
        if (!(sqrt(e / s) <= allowed(qt)))
            fail_msg("%s: relative error %.4f, at most %.4f", qt->name, sqrt(e / s), allowed(qt));
        free(x), free(y), free(out);
    }
}

static void fill_edge(int kind, float *x, size_t n) {
    for (size_t k = 0; k < n; k++) {
        float sign = k % 2 ? -1.0f : 1.0f;
        switch (kind) {
        case 0: x[k] = 0; break;
        case 1: x[k] = 0.375f; break;
        case 2: x[k] = -0.375f; break;
        case 3: x[k] = sign * 1e-40f; break;
        case 4: x[k] = sign * 3.4e38f; break;
        case 5: x[k] = sign * 65504.0f; break;
        case 6: x[k] = k == 7 ? 3e38f : 0; break;
        case 7: x[k] = k == 7 ? -1.0f : 1e-30f; break;
        case 8: x[k] = k % 3 ? -0.0f : 0.0f; break;
        case 9: x[k] = sign * 1e-6f * (float)(k % 5); break; /* scales near the smallest f16 */
        default: x[k] = k < n / 2 ? 2e38f : 3e-39f; break;
        }
    }
}

static void test_edges(void **state) {
    const pare_qtype *qt;
    for (size_t i = 0; (qt = next_grid(&i));) {
        size_t n = columns(qt), bytes = pare_row_bytes(qt, n);
        float *x = malloc(n * 4), *y = malloc(n * 4), *imp = malloc(n * 4);
        unsigned char *out = malloc(bytes), *first = malloc(bytes);
        for (int kind = 0; kind < 11 * 4; kind++) {
            fill_edge(kind / 4, x, n);
            for (size_t k = 0; k < n; k++) imp[k] = kind % 4 == 1 ? 0 : kind % 4 == 2 ? 1e-38f : k % 2 ? 1e38f : 1e-20f;
            for (size_t l = 0; l < LEVELS; l++) {
                pare_cpu_limit(levels[l]);
                qt->grid->encode(qt, x, n, kind % 4 ? imp : NULL, 1, n, out, bytes);
                if (!l) memcpy(first, out, bytes);
                if (memcmp(first, out, bytes)) fail_msg("%s: edge %d: level %zu gives other bytes", qt->name, kind, l);
            }
            qt->decode(qt, out, y, n);
            float top = 0;
            for (size_t k = 0; k < n; k++) top = fabsf(x[k]) > top ? fabsf(x[k]) : top;
            for (size_t k = 0; k < n; k++) {
                if (!isfinite(y[k])) fail_msg("%s: edge %d: column %zu decodes to %g", qt->name, kind, k, y[k]);
                if (fabsf(y[k]) > 1.1 * top + 1e-6) fail_msg("%s: edge %d: %g became %g", qt->name, kind, x[k], y[k]);
            }
            if (kind == 4 || kind == 8) /* constants are kept to the format's steps; without offset 4-bit ones too */
                for (size_t k = 0; k < n; k++) assert_true(fabsf(y[k] - x[k]) <= 0.07f * 0.375f);
        }
        free(x), free(y), free(imp), free(out), free(first);
    }
}

/* What is on the grid stays: q8_0, q4_0 and q5_0 always hold the extreme value that the scale came from. */
static void test_idempotent(void **state) {
    static const char *const names[] = {"q8_0", "q4_0", "q5_0"};
    for (size_t i = 0; i < 3; i++) {
        const pare_qtype *qt = pare_qtype_by_name(names[i]);
        size_t n = 4096, bytes = pare_row_bytes(qt, n);
        float *x = random_rows(n, 5);
        unsigned char *a = malloc(bytes), *b = malloc(bytes);
        qt->grid->encode(qt, x, n, NULL, 1, n, a, bytes);
        qt->decode(qt, a, x, n);
        qt->grid->encode(qt, x, n, NULL, 1, n, b, bytes);
        assert_memory_equal(a, b, bytes);
        free(x), free(a), free(b);
    }
}

/* The door through which GPTQ comes: parameters when a group is reached, then one column over all rows at a time. */
static void test_column_by_column(void **state) {
    static const char *const names[] = {"q4_k", "int4:g32:asym", "int4:g128:asym:bf16", "q3_k", "int8:asym", "iq4_xs"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const pare_qtype *qt = pare_qtype_by_name(names[i]);
        const pare_grid *g = qt->grid;
        size_t rows = 37, n = 512, group = g->group ? g->group : n, bytes = pare_row_bytes(qt, n);
        float *w = random_rows(rows * n, 6), decoded[37];
        unsigned char *rtn = malloc(rows * bytes), *got = malloc(rows * bytes), *params = malloc(rows * g->param_bytes);
        int8_t *codes = malloc(rows * group);
        g->encode(qt, w, n, NULL, rows, n, rtn, bytes);
        for (size_t c = 0; c < n; c++) {
            if (c % group == 0) g->fit(qt, w + c, n, NULL, NULL, rows, group, params);
            g->snap(qt, params, group, w + c, n, rows, c % group, 1, codes + c % group, group, decoded, 1);
            if (c % group == group - 1)
                g->pack(qt, params, codes, group, rows, group, got + (g->group ? pare_row_bytes(qt, c + 1 - group) : 0),
                        bytes);
        }
        if (memcmp(rtn, got, rows * bytes)) fail_msg("%s: column by column gives other bytes than encode", qt->name);
        free(w), free(rtn), free(got), free(params), free(codes);
    }
}

/* Importance makes integer grids search: never worse than the whole range by the weighted error, and as good as the
 * best of many scales tried in double. */
static double weighted_error(const pare_qtype *qt, const float *x, const float *importance, size_t n,
                             const float *fit) {
    unsigned char *params = malloc(qt->grid->param_bytes);
    int8_t *codes = malloc(n);
    float *y = malloc(n * 4);
    double e = 0;
    qt->grid->fit(qt, x, n, fit, NULL, 1, n, params);
    qt->grid->snap(qt, params, n, x, n, 1, 0, n, codes, n, y, n);
    for (size_t k = 0; k < n; k++) e += importance[k] * pow((double)y[k] - x[k], 2);
    free(params), free(codes), free(y);
    return e;
}

static double best_of_many(const float *x, const float *importance, size_t n, int bits, bool asym, float lo, float hi) {
    double qmin = -(1 << (bits - 1)), steps = (1 << bits) - 1, best = INFINITY;
    double whole = asym ? (hi - lo) / steps : fmax(-lo, hi) / (steps / 2);
    for (int i = 0; i < 500; i++)
        for (double z = asym ? qmin : 0; z <= (asym ? qmin + steps : 0); z++) {
            double s = whole * (0.3 + 0.002 * i), e = 0;
            for (size_t k = 0; k < n && e < best; k++) {
                double q = fmin(fmax(rint(x[k] / s + z), qmin), qmin + steps) - z;
                e += importance[k] * pow(x[k] - q * s, 2);
            }
            best = fmin(best, e);
        }
    return best;
}

static void test_int_search(void **state) {
    static const char *const names[] = {"int4:g32:f32", "int4:g64:asym", "int4:f32",
                                        "int4:asym",    "int8:g32",      "int8:asym:f32"};
    pare_rng rng;
    pare_rng_seed(&rng, 11);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const pare_qtype *qt = pare_qtype_by_name(names[i]);
        size_t n = qt->grid->group ? qt->grid->group : 172;
        double gain = 0, excess = 0;
        for (int row = 0; row < 12; row++) {
            float x[172], importance[172], lo = 0, hi = 0;
            for (size_t k = 0; k < n; k++) {
                x[k] = pare_rng_normal(&rng) * (k == 3 ? 3 : 1), importance[k] = expf(pare_rng_normal(&rng));
                lo = fminf(lo, x[k]), hi = fmaxf(hi, x[k]);
            }
            double plain = weighted_error(qt, x, importance, n, NULL),
                   got = weighted_error(qt, x, importance, n, importance);
            if (got > plain * 1.01) fail_msg("%s: error %g, %g with the whole range", names[i], got, plain);
            gain += got / plain / 12;
            excess += got / best_of_many(x, importance, n, qt->int_format->bits, qt->int_format->asym, lo, hi) / 12;
        }
        bool four = qt->int_format->bits == 4;
        if (gain > (four ? 0.9 : 1) || excess > (four ? 1.1 : 1.3)) /* of 8 bits the best has fine structure */
            fail_msg("%s: %.3f of the whole range's error, %.3f of the best", names[i], gain, excess);
    }
}

/* Numbers worked out by hand from the rules of compressed-tensors. */
static void test_int_rules(void **state) {
    const pare_qtype *sym = pare_qtype_by_name("int4:g32:f32"), *asym = pare_qtype_by_name("INT4:G32:ASYM:F32");
    float x[32] = {7.5f, -7.5f, 0.5f, 1.5f, -0.5f, -1.5f, 7.0f, 2.4f}, y[32], s;
    unsigned char b[21];
    sym->grid->encode(sym, x, 32, NULL, 1, 32, b, 20);
    memcpy(&s, b, 4);
    assert_true(s == 1.0f); /* absmax / 7.5 */
    static const int want[8] = {7, -8, 0, 2, 0, -2, 7, 2};
    for (int i = 0; i < 8; i++) assert_int_equal((b[4 + i] & 15) - 8, want[i]);
    assert_int_equal(b[4 + 8], 0x88); /* columns 8 and 24 are zero */
    for (int i = 0; i < 32; i++) x[i] = i == 0 ? -1.0f : i == 1 ? 2.0f : i == 2 ? 0.1f : 0.3f;
    asym->grid->encode(asym, x, 32, NULL, 1, 32, b, 21);
    memcpy(&s, b, 4);
    assert_true(s == 0.2f);        /* (2 - -1) / 15 */
    assert_int_equal(b[4], 8 - 3); /* rne(-8 + 1 / 0.2) = -3 */
    assert_int_equal((b[5] & 15) - 8, -8);
    assert_int_equal((b[6] & 15) - 8, 7);
    asym->decode(asym, b, y, 32);
    assert_true(y[0] == -5 * 0.2f && y[1] == 10 * 0.2f);
    /* bf16: every product is rounded to 8 bits */
    const pare_qtype *bf = pare_qtype_by_name("int8:bf16");
    unsigned char row[4] = {0x9B, 0x3E, 127, 0x83}; /* scale 0x3E9B = 0.302734375, codes 127 and -125 */
    bf->decode(bf, row, y, 2);
    assert_true(y[0] == 38.5f && y[1] == -37.75f); /* 38.447..., -37.841... */
    assert_ptr_equal(pare_qtype_int(4, 128, true, &pare_qtype_bf16), pare_qtype_by_name("int4:g128:asym:bf16"));
    assert_null(pare_qtype_int(4, 16, true, &pare_qtype_bf16));
}

static void test_registry(void **state) {
    const pare_qtype *qt;
    size_t grids = 0;
    for (size_t i = 0; (qt = pare_qtype_at(i)); i++) {
        assert_ptr_equal(pare_qtype_by_name(qt->name), qt);
        if (qt->ggml_type >= 0) assert_ptr_equal(pare_qtype_by_ggml(qt->ggml_type), qt);
        if (qt->kind == PARE_QK_GROUP)
            assert_ptr_equal(pare_qtype_int(qt->int_format->bits, qt->int_format->group, qt->int_format->asym,
                                            qt->int_format->scale_type),
                             qt);
        grids += qt->grid != NULL;
    }
    assert_int_equal(grids, 12 + 48);
}

int main(int argc, char **argv) {
    if (argc > 3) return filter(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_registry),
        cmocka_unit_test(test_encode_is_three_calls),
        cmocka_unit_test(test_bytes_round_trip),
        cmocka_unit_test(test_error),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_idempotent),
        cmocka_unit_test(test_column_by_column),
        cmocka_unit_test(test_int_rules),
        cmocka_unit_test(test_int_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
