/* SPDX-License-Identifier: Apache-2.0
 *
 * Trained codes of every format that has scales: opened (also leaning) and snapped they are what they were; a latent
 * moved by a tenth of a step keeps its code, by a whole step takes the next; beyond the range it comes back to the
 * border; what is trained is what the rows decode to; the same bytes at 1 and 2 threads. */
#include "harness.h"

#include <math.h>

#include "api/distill.h"
#include "core/rng.h"
#include "core/threads.h"
#include "quant/rtn.h"

#define ROWS 6
#define COLS 512
#define N    (ROWS * COLS)
#define SPAN 8.0f /* of api/distill_codes.c */

static float w[N], got[N], was[N], start[N];

static void rows_of(const pare_qtype *q, pare_rng *r, pare_scales *s) {
    for (size_t i = 0; i < N; i++) w[i] = pare_rng_normal(r);
    assert_int_equal(pare_scales_room(q, ROWS, COLS, s, NULL), PARE_OK);
    char *scratch = malloc(pare_rtn_scratch_bytes(q, ROWS, COLS) + 64);
    pare_rtn_encode(q, w, COLS, NULL, ROWS, COLS, s->data, s->row_bytes, scratch);
    free(scratch);
}

static void decode(const pare_scales *s, float *out) {
    for (size_t r = 0; r < ROWS; r++) s->type->decode(s->type, s->data + r * s->row_bytes, out + r * COLS, COLS);
}

/* Rows snapped at 1 and 2 threads must agree; got: what they decode to. */
static void snap(pare_codes *c) {
    size_t bytes = ROWS * c->scales->row_bytes;
    uint8_t *one = malloc(bytes);
    pare_set_threads(1);
    assert_int_equal(pare_codes_snap(c, NULL), PARE_OK);
    memcpy(one, c->scales->data, bytes);
    pare_set_threads(2);
    assert_int_equal(pare_codes_snap(c, NULL), PARE_OK);
    assert_memory_equal(one, c->scales->data, bytes);
    pare_set_threads(0);
    free(one);
    decode(c->scales, got);
}

static size_t changed(const float *a, const float *b) {
    size_t n = 0;
    for (size_t i = 0; i < N; i++) n += a[i] != b[i];
    return n;
}

static void moved(const pare_qtype *q, pare_codes *c, bool codebook) {
    for (size_t i = 0; i < N; i++) c->at[i] = start[i] + (i % 2 ? 0.1f : -0.1f) / SPAN;
    snap(c);
    if (!codebook && changed(got, was))
        fail_msg("%s: %zu codes changed within a tenth of a step", q->name, changed(got, was));
    for (size_t i = 0; i < N; i++) c->at[i] = start[i] + (i % 2 ? 1 : -1) / SPAN;
    snap(c);
    if (!codebook && changed(got, was) < N * 6 / 10)
        fail_msg("%s: only %zu codes of %d took the next", q->name, changed(got, was), N);
    for (size_t i = 0; i < N; i++)
        if (i % 2 ? got[i] < was[i] : got[i] > was[i]) fail_msg("%s: value %zu went the other way", q->name, i);
}

/* Latents that lean towards other weights keep the codes; far weights bring every latent as near to the border. */
static void leans(const pare_qtype *q, pare_codes *c) {
    for (size_t i = 0; i < N; i++) w[i] = got[i] + (i % 2 ? 1e3f : -1e3f);
    assert_int_equal(pare_codes_lean(c, w, 0.5f, NULL), PARE_OK);
    for (size_t i = 0; i < N; i++) {
        float by = (c->at[i] - start[i]) * SPAN;
        if (fabsf(by - (i % 2 ? 0.25f : -0.25f)) > 1e-4f)
            fail_msg("%s: latent %zu leans by %g", q->name, i, (double)by);
    }
    snap(c);
    if (changed(got, was)) fail_msg("%s: %zu codes changed by leaning", q->name, changed(got, was));
    assert_int_equal(pare_codes_lean(c, was, 0.5f, NULL), PARE_OK);
    for (size_t i = 0; i < N; i++)
        if (fabsf(c->at[i] - start[i]) > 1e-6f * (1 + fabsf(start[i]))) fail_msg("%s: %zu leans to itself", q->name, i);
}

static void one_format(const pare_qtype *q, pare_rng *r) {
    pare_scales s;
    pare_codes c;
    rows_of(q, r, &s);
    decode(&s, was);
    assert_int_equal(pare_codes_open(&s, &c, NULL), PARE_OK);
    memcpy(start, c.at, sizeof start);
    snap(&c);
    if (changed(got, was)) fail_msg("%s: %zu codes changed although nothing was trained", q->name, changed(got, was));
    /* products rounded to bf16 lie up to half a step of 8 bits beside their code */
    if (!strstr(q->name, ":bf16")) {
        leans(q, &c);
        moved(q, &c, strncmp(q->name, "iq4", 3) == 0);
    }
    for (size_t i = 0; i < N; i++) c.at[i] = i % 2 ? 1e6f : -1e6f;
    snap(&c);
    for (size_t i = 0; i < N; i++) {
        if (fabsf(c.at[i]) > 300 / SPAN) fail_msg("%s: latent %zu stayed at %g", q->name, i, (double)c.at[i]);
        if (i % 2 ? got[i] < was[i] : got[i] > was[i]) fail_msg("%s: value %zu is not at the border", q->name, i);
    }
    assert_int_equal(pare_scales_values(&s, w, NULL), PARE_OK);
    for (size_t i = 0; i < N; i++)
        if (fabsf(w[i] - got[i]) > 1e-3f * (1 + fabsf(got[i])))
            fail_msg("%s: trained %g, stored %g", q->name, (double)w[i], (double)got[i]);
    pare_codes_close(&c);
    pare_scales_close(&s);
}

static void formats(void **state) {
    (void)state;
    pare_rng r;
    pare_rng_seed(&r, 11);
    size_t n = 0;
    for (size_t i = 0; i < pare_qtype_count(); i++) {
        const pare_qtype *q = pare_qtype_at(i);
        if (!q->grid || !pare_scales_known(q) || !pare_qtype_fits(q, COLS)) continue;
        one_format(q, &r);
        n++;
    }
    assert_true(n > 20);
}

/* A row of zeros has no step: its codes stay, and nothing is NaN. */
static void zeros(void **state) {
    (void)state;
    static const char *const names[] = {"q4_0", "q2_k", "q6_k", "int4:g32", "int8"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        pare_scales s;
        pare_codes c;
        assert_int_equal(pare_scales_room(pare_qtype_by_name(names[k]), ROWS, COLS, &s, NULL), PARE_OK);
        memset(w, 0, sizeof w);
        char *scratch = malloc(pare_rtn_scratch_bytes(s.type, ROWS, COLS) + 64);
        pare_rtn_encode(s.type, w, COLS, NULL, ROWS, COLS, s.data, s.row_bytes, scratch);
        free(scratch);
        decode(&s, was);
        assert_int_equal(pare_codes_open(&s, &c, NULL), PARE_OK);
        snap(&c);
        for (size_t i = 0; i < N; i++)
            if (got[i] != 0 || !isfinite(c.at[i])) fail_msg("%s: zero became %g", names[k], (double)got[i]);
        pare_codes_close(&c);
        pare_scales_close(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(formats), cmocka_unit_test(zeros)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
