/* SPDX-License-Identifier: Apache-2.0
 *
 * core/: conversions against an independent definition, allocator and arena, rng, threads, diagnosis, registry. */
#include "harness.h"

#include <math.h>

#include "core/cpu_features.h"
#include "core/op.h"
#include "core/rng.h"
#include "core/status.h"
#include "core/tensor.h"
#include "core/threads.h"

/* The value of a half by its definition, in double. */
static double half_value(uint16_t h, int exp_bits, int man_bits) {
    int bias = (1 << (exp_bits - 1)) - 1, e = h >> man_bits & ((1 << exp_bits) - 1), m = h & ((1 << man_bits) - 1);
    double v = e == 0 ? ldexp(m, 1 - bias - man_bits) : ldexp(m + (1 << man_bits), e - bias - man_bits);
    return h >> (exp_bits + man_bits) & 1 ? -v : v;
}

static void every_half(void **s) {
    for (uint32_t h = 0; h < 65536; h++) {
        if ((h & 0x7C00) != 0x7C00) {
            assert_true(pare_f16_to_f32((uint16_t)h) == (float)half_value((uint16_t)h, 5, 10));
            assert_int_equal(pare_f32_to_f16(pare_f16_to_f32((uint16_t)h)), h);
        }
        if ((h & 0x7F80) != 0x7F80) {
            assert_true(pare_bf16_to_f32((uint16_t)h) == (float)half_value((uint16_t)h, 8, 7));
            assert_int_equal(pare_f32_to_bf16(pare_bf16_to_f32((uint16_t)h)), h);
        }
    }
    assert_true(isnan(pare_f16_to_f32(0x7E00)) && isinf(pare_f16_to_f32(0xFC00)));
    assert_true(isnan(pare_bf16_to_f32(pare_f32_to_bf16(NAN))) && isnan(pare_f16_to_f32(pare_f32_to_f16(NAN))));
}

/* Nearest, ties to even: no half is nearer, and an equally near one has an odd last bit. */
static void rounding_to_half(void **s) {
    pare_rng r;
    pare_rng_seed(&r, 7);
    for (int i = 0; i < 200000; i++) {
        uint32_t u = (uint32_t)pare_rng_u64(&r);
        if (i % 3 == 0) u = (u & 0xFFFFE000) | 0x1000; /* ties */
        float f;
        memcpy(&f, &u, 4);
        if (!isfinite(f)) continue;
        uint16_t h = pare_f32_to_f16(f);
        if ((h & 0x7FFF) == 0x7C00) {
            assert_true(fabs((double)f) >= 65520);
            continue;
        }
        double err = fabs(half_value(h, 5, 10) - f);
        for (int d = -1; d <= 1; d += 2) {
            int mag = (h & 0x7FFF) + d;
            if (mag < 0 || mag >= 0x7C00) continue;
            uint16_t other = (uint16_t)((h & 0x8000) | mag);
            double e2 = fabs(half_value(other, 5, 10) - f);
            assert_true(err < e2 || (err == e2 && (h & 1) == 0));
        }
    }
}

static void half_arrays_equal_scalars_at_every_level(void **s) {
    const uint32_t levels[] = {0, PARE_CPU_AVX2, 3, 7, 15};
    for (size_t l = 0; l < 5; l++) {
        pare_cpu_limit(levels[l]);
        for (size_t n = 0; n < 40; n++)
            for (size_t shift = 0; shift < 8; shift += 2) {
                harness_buf in = harness_buf_new(n * 4, shift * 2), out = harness_buf_new(n * 2, shift);
                harness_buf back = harness_buf_new(n * 4, 4);
                for (size_t i = 0; i < n; i++) {
                    float f = (float)((double)i * 1.37 - 11) * powf(10, (float)(i % 13) - 9);
                    memcpy(in.p + 4 * i, &f, 4);
                }
                pare_f32_to_f16_n((float *)in.p, (uint16_t *)out.p, n);
                pare_f16_to_f32_n((uint16_t *)out.p, (float *)back.p, n);
                for (size_t i = 0; i < n; i++) {
                    float f, b;
                    uint16_t h;
                    memcpy(&f, in.p + 4 * i, 4), memcpy(&h, out.p + 2 * i, 2), memcpy(&b, back.p + 4 * i, 4);
                    assert_int_equal(h, pare_f32_to_f16(f));
                    assert_true(b == pare_f16_to_f32(h));
                }
                harness_buf_free(&in), harness_buf_free(&out), harness_buf_free(&back);
            }
    }
    pare_cpu_limit(UINT32_MAX);
}

static pare_status use_arena(void *ctx) {
    pare_arena *a = pare_arena_new();
    if (!a) return PARE_ERR_NOMEM;
    pare_status st = PARE_OK;
    for (size_t i = 0; i < 300 && st == PARE_OK; i++) {
        char *p = pare_arena_alloc(a, i * 7);
        char *q = p ? pare_arena_strndup(a, "name", 4) : NULL;
        if (!q) st = PARE_ERR_NOMEM;
        else {
            assert_int_equal((uintptr_t)p % 16, 0);
            for (size_t k = 0; k < i * 7; k++) assert_int_equal(p[k], 0);
            memset(p, 1, i * 7);
            assert_string_equal(q, "name");
        }
    }
    if (st == PARE_OK && !pare_arena_alloc(a, 1 << 20)) st = PARE_ERR_NOMEM;
    pare_arena_free(&a);
    assert_null(a);
    return st;
}
static void arena_survives_every_failure(void **s) {
    harness_fail_every_alloc(use_arena, NULL);
    assert_null(pare_calloc(SIZE_MAX / 2, 3));
    assert_null(pare_malloc_aligned(SIZE_MAX));
    void *v = NULL;
    size_t cap = 0;
    assert_int_equal(pare_grow(&v, &cap, SIZE_MAX / 4, 8), PARE_ERR_NOMEM);
    assert_null(v);
}

static void rng_is_the_published_one(void **s) {
    /* xoshiro256** from state {1, 2, 3, 4}: first outputs by hand from the definition. */
    pare_rng r = {{1, 2, 3, 4}};
    assert_true(pare_rng_u64(&r) == 11520);
    assert_true(pare_rng_u64(&r) == 0);
    assert_true(pare_rng_u64(&r) == 1509978240);
    pare_rng_seed(&r, 0);
    assert_true(r.s[0] == 0xE220A8397B1DCDAFu); /* SplitMix64(0), Steele et al. */
    double sum = 0, sq = 0;
    for (int i = 0; i < 100000; i++) {
        double x = (double)pare_rng_normal(&r);
        sum += x, sq += x * x;
        assert_true(pare_rng_below(&r, 10) < 10);
    }
    assert_true(fabs(sum / 1e5) < 0.02 && fabs(sq / 1e5 - 1) < 0.02);
}

static void count_item(void *ctx, size_t i) { __atomic_add_fetch((int *)ctx + i, 1, __ATOMIC_RELAXED); }
static void every_item_runs_once(void **s) {
    for (int t = 1; t <= 4; t++) {
        int seen[1000] = {0};
        pare_set_threads(t);
        pare_parallel(1000, 3, count_item, seen);
        for (int i = 0; i < 1000; i++) assert_int_equal(seen[i], 1);
    }
    pare_set_threads(0);
    assert_true(pare_threads() >= 1);
}

static void diagnosis(void **s) {
    pare_diag d = {0};
    char line[1200];
    assert_int_equal(pare_fail(&d, PARE_ERR_INPUT, "a.gguf", "blk\n.0", "expected %d", 5), PARE_ERR_INPUT);
    assert_int_equal(pare_fail(&d, PARE_ERR_IO, "b", "c", "later"), PARE_ERR_IO); /* the first stays */
    assert_string_equal(pare_diag_line(&d, line, sizeof line), "a.gguf: blk\\x0a.0: expected 5");
    assert_int_equal(pare_exit_status(PARE_OK), 0);
    assert_int_equal(pare_exit_status(PARE_ERR_GATE), 1);
    assert_int_equal(pare_exit_status(PARE_ERR_USAGE), 2);
    assert_int_equal(pare_exit_status(PARE_ERR_INPUT), 3);
    assert_int_equal(pare_exit_status(PARE_ERR_NOSPACE), 4);
    assert_int_equal(pare_exit_status(PARE_ERR_INTERRUPTED), 130);
    assert_int_equal(pare_fail(NULL, PARE_ERR_IO, NULL, NULL, "no diag wanted"), PARE_ERR_IO);
}

static void registry(void **s) {
    for (size_t i = 0; i < pare_qtype_count(); i++) {
        const pare_qtype *q = pare_qtype_at(i);
        assert_non_null(q);
        assert_ptr_equal(pare_qtype_by_name(q->name), q); /* names are unique */
        if (q->ggml_type >= 0) assert_ptr_equal(pare_qtype_by_ggml(q->ggml_type), q);
        if (q->safetensors) assert_ptr_equal(pare_qtype_by_safetensors(q->safetensors), q);
        if (q->kind != PARE_QK_INT) assert_non_null(q->decode);
    }
    assert_null(pare_qtype_at(pare_qtype_count()));
    assert_null(pare_qtype_by_name("q9_z"));
    assert_ptr_equal(pare_qtype_by_name("F16"), &pare_qtype_f16);
    uint8_t e4m3[] = {0x38, 0x7E, 0x01, 0xB8, 0x7F};
    float f[5];
    const pare_qtype *q = pare_qtype_by_name("f8_e4m3");
    q->decode(q, e4m3, f, 5);
    assert_true(f[0] == 1 && f[1] == 448 && f[2] == 0x1p-9f && f[3] == -1 && isnan(f[4]));
    for (int i = 0; i < PARE_OP_COUNT; i++) assert_int_equal(pare_op_find(pare_op_get((pare_op)i)->name), i);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half),
        cmocka_unit_test(rounding_to_half),
        cmocka_unit_test(half_arrays_equal_scalars_at_every_level),
        cmocka_unit_test(arena_survives_every_failure),
        cmocka_unit_test(rng_is_the_published_one),
        cmocka_unit_test(every_item_runs_once),
        cmocka_unit_test(diagnosis),
        cmocka_unit_test(registry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
