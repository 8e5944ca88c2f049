/* SPDX-License-Identifier: Apache-2.0
 *
 * The probes do what they say in every variant, and pare_bench reports rows that make sense. Speed itself is not
 * tested. */
#include "api/bench.h"
#include "core/alloc.h"
#include "core/cpu_features.h"
#include "core/rng.h"
#include "cpu/probe.h"
#include "pare/pare.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static const uint32_t masks[] = {0, 1, 3, 7, 31};

static void probes_do_their_work(void **state) {
    size_t bytes = 8 * PARE_PROBE_MIN;
    uint8_t *a = pare_malloc_aligned(bytes + 64), *b = pare_malloc_aligned(bytes + 64);
    pare_rng rng;
    pare_rng_seed(&rng, 3);
    uint64_t want = 0;
    for (size_t i = 0; i < bytes; i += 8) {
        uint64_t v = pare_rng_u64(&rng);
        memcpy(a + i, &v, 8);
        want += v;
    }
    for (size_t l = 0; l < sizeof masks / sizeof *masks; l++) {
        pare_cpu_limit(masks[l]);
        pare_probe_table t = pare_probes();
        for (int streams = 1; streams <= 8; streams *= 2)
            assert_true(t.read(a, bytes, streams) == want); /* every byte once */
        memset(b, 0, bytes + 64);
        t.copy(b, a, bytes);
        assert_memory_equal(a, b, bytes);
        memset(b, 0, bytes + 64);
        t.copy_nt(b, a, bytes);
        assert_memory_equal(a, b, bytes);
        t.write_nt(b, bytes);
        for (size_t i = 0; i < bytes; i++) assert_int_equal(b[i], 1);
        for (size_t i = bytes; i < bytes + 64; i++) assert_int_equal(b[i], 0);
        float f;
        int32_t s = 1;
        assert_true(t.fma(10, &f) >= 160 && t.dot8(10, &s) >= 640);
    }
    pare_cpu_limit(UINT32_MAX);
    pare_free(a);
    pare_free(b);
}

typedef struct seen {
    size_t rows, scalar, with_limit;
    bool bad;
} seen;

static void look(void *user, const pare_bench_row *r) {
    seen *s = user;
    s->rows++;
    s->bad |= !(r->value > 0 && r->seconds > 0 && r->threads >= 1 && *r->name && *r->unit);
    s->scalar += strstr(r->variant, "scalar") != NULL;
    s->with_limit += r->of_limit > 0 && *r->limit;
}

static void rows_make_sense(void **state) {
    seen s = {0};
    pare_diag d = {0};
    pare_bench_opts o = {.only = "f16", .memory_bytes = 18 << 20, .seconds = 0.001, .row = look, .user = &s};
    assert_int_equal(pare_bench("roofline", &o, &d), PARE_OK);
    assert_true(s.rows >= 9 && !s.bad);
    size_t roofline = s.rows;
    assert_int_equal(pare_bench("kernels", &o, &d), PARE_OK);
    assert_true(!s.bad && s.scalar == 2 && s.with_limit == s.rows - 2 * roofline); /* one token and many */
    assert_int_equal(pare_bench("speed", &o, &d), PARE_ERR_USAGE);
    assert_true(strcmp(d.where, "speed") == 0);
    o.only = "i64";
    d = (pare_diag){0};
    assert_int_equal(pare_bench("kernels", &o, &d), PARE_ERR_USAGE);
}

/* A peer's program is run, its output and exit status kept; one that is not there is an error naming it. */
static void peers_are_run(void **state) {
    pare_peer_run run;
    pare_diag d = {0};
    const char *argv[] = {"sh", "-c", "echo '{\"samples_ns\": [ 25, 17 ]}'; exit 3", NULL};
    assert_int_equal(pare_bench_peer("/bin", argv, &run, &d), PARE_OK);
    assert_int_equal(run.exit_status, 3);
    assert_true(run.seconds > 0 && run.peak_bytes > 0);
    assert_non_null(strstr(run.output, "[ 25, 17 ]"));
    pare_free(run.output);
    assert_true(pare_bench_json_number("{\"a\": 1.5, \"b\": 2}", "\"b\"") == 2);
    argv[0] = "no-such-program";
    assert_int_not_equal(pare_bench_peer("/bin", argv, &run, &d), PARE_OK);
    assert_non_null(strstr(d.file, "no-such-program"));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(probes_do_their_work), cmocka_unit_test(rows_make_sense),
                                       cmocka_unit_test(peers_are_run)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
