/* SPDX-License-Identifier: Apache-2.0
 *
 * The journal: what is found again after a good end, a cut, a flipped bit; who is refused. And the walk's activations
 * in memory and in files. */
#include "api/journal.h"
#include "calib/walk.h"
#include "formats/imatrix.h"
#include "models/lm_run.h"
#include "tiny.h"

#include <math.h>
#include <sys/stat.h>

static tiny_dir dir;
static char out[96], path[128];
static const pare_journal_key key = {1, 2, 3};

static int begin(void **state) {
    dir = tiny_dir_new();
    snprintf(out, sizeof out, "%s/model.gguf", dir.path);
    snprintf(path, sizeof path, "%s.pare-journal", out);
    return 0;
}
static int end(void **state) {
    tiny_dir_remove(&dir);
    return 0;
}

static pare_status open_with(pare_journal_key k, bool force, pare_journal **j, pare_diag *d) {
    *d = (pare_diag){0};
    return pare_journal_open(out, &k, force, j, d);
}

enum { N = 5, BYTES = 9000 };
static const char *const names[N] = {"a", "blk.0.b", "c", "d", "e"};

/* Writes records first .. N-1 and closes; with `half`, the last is left unsealed. */
static void write_records(size_t first, bool half) {
    pare_journal *j;
    pare_diag d;
    assert_int_equal(open_with(key, false, &j, &d), PARE_OK);
    double note = 0;
    for (size_t i = 0; i < first; i++) {
        assert_true(pare_journal_has(j, 0, names[i], sizeof note, BYTES));
        pare_journal_take(j, &note, sizeof note);
    }
    for (size_t i = first; i < N; i++) {
        void *rows;
        assert_int_equal(pare_journal_room(j, names[i], sizeof note, BYTES, &rows, &d), PARE_OK);
        memset(rows, (int)i + 1, BYTES);
        note = (double)i;
        if (!half || i + 1 < N) pare_journal_seal(j, &note);
    }
    pare_journal_close(&j);
}

/* How many records are whole, and that they are right. */
static size_t count(void) {
    pare_journal *j;
    pare_diag d;
    assert_int_equal(open_with(key, false, &j, &d), PARE_OK);
    size_t n = 0, waiting = pare_journal_waiting(j);
    double note;
    while (n < N && pare_journal_has(j, 0, names[n], sizeof note, BYTES)) {
        const unsigned char *rows = pare_journal_take(j, &note, sizeof note);
        assert_true(note == (double)n);
        for (size_t k = 0; k < BYTES; k++) assert_int_equal(rows[k], n + 1);
        n++;
    }
    assert_int_equal(n, waiting);
    pare_journal_close(&j);
    return n;
}

static void found_again(void **state) {
    write_records(0, false);
    assert_int_equal(count(), N);
    write_records(3, false); /* those not taken are made anew */
    assert_int_equal(count(), N);
    write_records(2, true);
    assert_int_equal(count(), N - 1);
    pare_journal *j;
    pare_diag d;
    assert_int_equal(open_with(key, false, &j, &d), PARE_OK);
    assert_false(pare_journal_has(j, 0, "b", sizeof(double), BYTES));
    assert_false(pare_journal_has(j, 0, "a", sizeof(double), BYTES - 1));
    assert_false(pare_journal_has(j, 4, "e", sizeof(double), BYTES));
    pare_journal_remove(j);
    pare_journal_close(&j);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void damage_ends_it(void **state) {
    write_records(0, false);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    const off_t record = (st.st_size - 4096) / N;
    for (int i = 0; i < 3; i++) { /* in the head, in the name, in the rows of the fourth record */
        const off_t at = 4096 + 3 * record + (i == 0 ? 9 : i == 1 ? 48 : 4096 + 8999);
        FILE *f = fopen(path, "r+b");
        assert_int_equal(fseek(f, at, SEEK_SET), 0);
        int c = fgetc(f);
        fseek(f, at, SEEK_SET), fputc(c ^ 4, f), fclose(f);
        assert_int_equal(count(), 3);
        write_records(3, false);
        assert_int_equal(count(), N);
    }
    for (size_t cut = 0; cut < N; cut++) {
        assert_int_equal(truncate(path, 4096 + (off_t)(N - 1 - cut) * record + 5000), 0);
        assert_int_equal(count(), N - 1 - cut);
    }
    assert_int_not_equal(access(path, F_OK), 0); /* nothing was left in it */
}

static void others_are_refused(void **state) {
    write_records(0, false);
    pare_journal *j, *second;
    pare_diag d;
    static const char *const why[3] = {"another model", "other options", "other calibration data"};
    for (int i = 0; i < 3; i++) {
        pare_journal_key k = key;
        *(i == 0 ? &k.model : i == 1 ? &k.options : &k.data) = 9;
        assert_int_equal(open_with(k, false, &j, &d), PARE_ERR_EXISTS);
        assert_non_null(strstr(d.text, why[i]));
        assert_non_null(strstr(d.text, "--force"));
    }
    assert_int_equal(count(), N); /* a refusal leaves it as it was */
    assert_int_equal(open_with(key, false, &j, &d), PARE_OK);
    assert_int_equal(open_with(key, true, &second, &d), PARE_ERR_EXISTS);
    assert_non_null(strstr(d.text, "another run"));
    pare_journal_close(&j);
    assert_int_equal(open_with((pare_journal_key){1, 2, 4}, true, &j, &d), PARE_OK);
    assert_int_equal(pare_journal_waiting(j), 0);
    pare_journal_close(&j);
    FILE *f = fopen(path, "wb");
    fputs("shopping list: flour, eggs, four kinds of cheese, a new pan", f), fclose(f);
    assert_int_equal(open_with(key, false, &j, &d), PARE_ERR_EXISTS);
    assert_non_null(strstr(d.text, "no journal"));
}

/* ---- the walk ---- */
typedef struct seen {
    double sums[256];
    size_t n;
    pare_exec *e;
    pare_graph *g;
    float *own[64];
    size_t n_own;
} seen;

static int bind(void *ctx, size_t batch, pare_binding *b) {
    static int64_t ids[4][16];
    for (int i = 0; i < 16; i++) ids[batch][i] = (int64_t)(batch * 31 + (size_t)i * 7) % 96;
    return pare_lm_run_bindings(ctx, ids[batch], b);
}

static void sum(seen *s, const float *x, size_t n) {
    double a = 0;
    for (size_t i = 0; x && i < n; i++) a += x[i] * (double)(1 + i % 13);
    s->sums[s->n++] = a;
}

/* Every weight becomes nine tenths of itself, so that the streams differ. */
static pare_status group(void *ctx, const pare_linear *l, size_t n, const pare_stats *st, pare_diag *d) {
    seen *s = ctx;
    double f2 = 0;
    for (size_t j = 0; j < st->n; j++) f2 += st->f2[j];
    sum(s, st->h, st->n * st->n), sum(s, st->c, st->n * st->n), sum(s, st->r, st->r_rows * st->n);
    s->sums[s->n++] = f2;
    for (size_t i = 0; i < n; i++) {
        pare_tensor t = s->g->values[l[i].weight].tensor;
        float *w = s->own[s->n_own++] = malloc(pare_tensor_bytes(&t));
        for (int64_t k = 0; k < pare_tensor_elems(&t); k++) w[k] = 0.9f * ((const float *)t.data)[k];
        t.data = w;
        pare_exec_replace_weight(s->e, l[i].weight, &t);
    }
    const int64_t sym[PARE_SYM_COUNT] = {1, 16, 16};
    return pare_exec_shape(s->e, sym, d);
}

static void walk(const char *model, size_t budget, seen *s) {
    pare_diag d = {0};
    pare_source *src;
    pare_arch a;
    pare_weights *w;
    pare_lm_run run[2];
    *s = (seen){.n = 0};
    assert_int_equal(pare_source_open(model, &src, &d), PARE_OK);
    assert_int_equal(pare_arch_read(src, &a, &d), PARE_OK);
    assert_int_equal(pare_weights_open(src, &a, &w, &d), PARE_OK);
    pare_walk_opts o = {.batches = 4,
                        .tokens_per_batch = 16,
                        .want = PARE_STATS_CROSS | PARE_STATS_RESIDUAL | PARE_STATS_ORIGINAL,
                        .budget_bytes = budget,
                        .group = group,
                        .ctx = s};
    for (int k = 0; k < 2; k++) {
        assert_int_equal(pare_lm_run_open(w, 0, &(pare_exec_opts){0}, &run[k], &d), PARE_OK);
        assert_int_equal(pare_lm_run_shape(&run[k], w, 1, 16, NULL, 0, &d), PARE_OK);
        o.side[k] = (pare_walk_side){run[k].m.g, run[k].e, bind, (int)run[k].m.n_kv + 6, &run[k]};
        const int64_t sym[PARE_SYM_COUNT] = {1, 16, run[k].table_rows};
        memcpy(o.sym[k], sym, sizeof sym);
    }
    s->e = run[1].e, s->g = run[1].m.g;
    if (pare_walk_run(&o, &d) != PARE_OK) fail_msg("%s: %s", d.where, d.text);
    for (int k = 0; k < 2; k++) pare_lm_run_close(&run[k]);
    for (size_t i = 0; i < s->n_own; i++) free(s->own[i]);
    pare_weights_close(&w);
    pare_source_close(&src);
}

static void files_or_memory(void **state) {
    char model[96];
    static seen a, b;
    pare_arch arch = tiny_arch("qwen3");
    snprintf(model, sizeof model, "%s/tiny.gguf", dir.path);
    tiny_write(model, PARE_SOURCE_GGUF, &arch, NULL, NULL);
    walk(model, (size_t)1 << 30, &a);
    walk(model, 0, &b);
    assert_true(a.n == b.n && a.n >= 4 * 8); /* two layers of four groups */
    assert_memory_equal(a.sums, b.sums, a.n * sizeof *a.sums);
    size_t crossed = 0;
    for (size_t i = 0; i < a.n; i += 4) {
        assert_true(isfinite(a.sums[i]) && a.sums[i + 3] > 0);
        crossed += a.sums[i + 1] != 0;
    }
    assert_true(crossed > 0 && a.sums[1] == 0); /* before anything is changed the streams are the same */
}

/* ---- importance matrices ---- */
static void imatrix_refuses_damage(void **state) {
    char file[128];
    snprintf(file, sizeof file, "%s/im", dir.path);
    static const float mean[3] = {0.5f, 2, 0};
    pare_imatrix_entry e[2] = {{"blk.0.ffn_up.weight", 1, 3, mean, 1024}, {"blk.1.ffn_up.weight", 1, 3, mean, 1024}};
    const pare_imatrix m = {2, e, NULL};
    pare_bytes b = {0};
    pare_imatrix_legacy(&b, &m, 512, "text");
    size_t trailer = 4 + 4 + 4; /* may be absent */
    for (size_t n = 1; n <= b.n; n++) {
        FILE *f = fopen(file, "wb");
        fwrite(b.p, 1, n, f), fclose(f);
        pare_imatrix *got = NULL;
        pare_diag d = {0};
        pare_status s = pare_imatrix_read(file, &got, &d);
        assert_int_equal(s, n + trailer >= b.n ? PARE_OK : PARE_ERR_INPUT);
        if (s == PARE_OK) assert_true(pare_imatrix_find(got, e[1].name)->mean[1] == 2);
        pare_imatrix_free(&got);
    }
    const float nan = NAN;
    memcpy(b.p + b.n - trailer - sizeof nan, &nan, sizeof nan);
    FILE *f = fopen(file, "wb");
    fwrite(b.p, 1, b.n, f), fclose(f);
    pare_imatrix *got = NULL;
    pare_diag d = {0};
    assert_int_equal(pare_imatrix_read(file, &got, &d), PARE_ERR_INPUT);
    assert_null(got);
    pare_bytes_free(&b);
    assert_int_equal(pare_imatrix_write_gguf(file, &m, 512, "text", true, &d), PARE_OK);
    assert_int_equal(pare_imatrix_read(file, &got, &d), PARE_OK);
    assert_int_equal(got->n, 2);
    assert_true(got->v[0].tokens == 1024 && got->v[0].mean[0] == 0.5f && got->v[0].columns == 3);
    pare_imatrix_free(&got);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(found_again, begin, end),
        cmocka_unit_test_setup_teardown(damage_ends_it, begin, end),
        cmocka_unit_test_setup_teardown(others_are_refused, begin, end),
        cmocka_unit_test_setup_teardown(files_or_memory, begin, end),
        cmocka_unit_test_setup_teardown(imatrix_refuses_damage, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
