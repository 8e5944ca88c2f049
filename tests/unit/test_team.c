/* SPDX-License-Identifier: Apache-2.0
 *
 * core/team.c over a transport of its own, processes with memory in common: sums are bit for bit those of one process
 * that adds in the order of ranks, over lists longer than what is exchanged at once; one that fails is met by all. */
#define _GNU_SOURCE
#include "harness.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/op.h"
#include "core/status.h"
#include "core/team.h"

#define MOST 5
#define ROOM ((size_t)32 << 20) /* bytes in common */

static struct common {
    atomic_int came, round;
    char data[ROOM];
} * common;
static int my_rank, n_ranks;

static void barrier(void) {
    int round = atomic_load(&common->round);
    if (atomic_fetch_add(&common->came, 1) + 1 == n_ranks) {
        atomic_store(&common->came, 0);
        atomic_fetch_add(&common->round, 1);
    } else
        while (atomic_load(&common->round) == round) sched_yield();
}

static pare_status mock_join(int *rank, int *size, pare_diag *d) { return *rank = my_rank, *size = n_ranks, PARE_OK; }
static void mock_leave(void) {}
static void mock_gather(const void *own, void *all, size_t bytes) {
    memcpy(common->data + (size_t)my_rank * bytes, own, bytes);
    barrier();
    memcpy(all, common->data, (size_t)n_ranks * bytes);
    barrier();
}
static void mock_swap(const void *send, void *recv, size_t bytes) {
    size_t row = (size_t)n_ranks * bytes;
    memcpy(common->data + (size_t)my_rank * row, send, row);
    barrier();
    for (size_t r = 0; r < (size_t)n_ranks; r++)
        memcpy((char *)recv + r * bytes, common->data + r * row + (size_t)my_rank * bytes, bytes);
    barrier();
}
static void mock_broadcast(void *p, size_t bytes) {
    if (my_rank == 0) memcpy(common->data, p, bytes);
    barrier();
    memcpy(p, common->data, bytes);
    barrier();
}
static const pare_team_table mock = {PARE_BACKEND_ABI, mock_join, mock_leave, mock_gather, mock_swap, mock_broadcast};

/* Runs fn in n processes, each of which joins; all must return true. */
static void with_team(int n, bool (*fn)(void)) {
    pid_t child[MOST];
    common = mmap(NULL, sizeof *common, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(common != MAP_FAILED);
    n_ranks = n;
    for (my_rank = 0; my_rank < n; my_rank++) {
        child[my_rank] = fork();
        if (child[my_rank] == 0) {
            pare_diag d = {0};
            bool ok = pare_team_join_over(&mock, &d) == PARE_OK && pare_team_size() == n_ranks &&
                      pare_team_rank() == my_rank && fn();
            pare_team_leave();
            _exit(ok ? 0 : 1);
        }
    }
    for (int r = 0; r < n; r++) {
        int status;
        assert_int_equal(waitpid(child[r], &status, 0), child[r]);
        assert_int_equal(status, 0);
    }
    munmap(common, sizeof *common);
}

#define RUNS 5
static const size_t runs[RUNS] = {0, 1, 7, (1u << 20) + 13, 4099};

/* What rank r gives in a round: numbers whose sums are rounded. */
static void fill(int round, int r, float *const *x) {
    uint32_t seed = (uint32_t)(round * MOST + r + 1) * 2654435761u;
    for (size_t i = 0; i < RUNS; i++)
        for (size_t k = 0; k < runs[i]; k++) x[i][k] = (float)(int32_t)(((uint32_t)k ^ seed) * 2246822519u) * 1e-7f;
}

static void make(float **x) {
    for (size_t i = 0; i < RUNS; i++) x[i] = calloc(runs[i] + 1, sizeof **x);
}

static bool sums(void) {
    float *own[RUNS], *sum[RUNS], *want[RUNS], *other[RUNS];
    make(own), make(sum), make(want), make(other);
    for (int round = 0; round < 3; round++) {
        int present = round == 2 ? 1 : n_ranks; /* the last round does not go round */
        fill(round, my_rank, own);
        pare_team_add(sum, my_rank < present ? (const float *const *)own : NULL, runs, RUNS, present, round == 0);
        for (int r = 0; r < present; r++) {
            fill(round, r, other);
            for (size_t i = 0; i < RUNS; i++)
                for (size_t k = 0; k < runs[i]; k++) want[i][k] = round + r ? want[i][k] + other[i][k] : other[i][k];
        }
    }
    pare_team_share(sum, runs, RUNS);
    bool ok = true;
    for (size_t i = 0; i < RUNS; i++) ok &= memcmp(sum[i], want[i], runs[i] * sizeof **want) == 0;
    fill(9, my_rank, sum); /* in place */
    pare_team_add(sum, (const float *const *)sum, runs, RUNS, n_ranks, true);
    pare_team_share(sum, runs, RUNS);
    for (int r = 0; r < n_ranks; r++) {
        fill(9, r, other);
        for (size_t i = 0; i < RUNS; i++)
            for (size_t k = 0; k < runs[i]; k++) want[i][k] = r ? want[i][k] + other[i][k] : other[i][k];
    }
    for (size_t i = 0; i < RUNS; i++) ok &= memcmp(sum[i], want[i], runs[i] * sizeof **want) == 0;
    double mine[3] = {my_rank, 0.1 * my_rank, 1}, all[3] = {0.5};
    pare_team_sum_f64(mine, 3, n_ranks - 1, all);
    ok &= all[0] == 0.5 + (n_ranks - 1) * (n_ranks - 2) / 2 && all[2] == n_ranks - 1;
    int64_t told = my_rank == 0 ? 77 : 0;
    pare_team_broadcast(&told, sizeof told);
    return ok && told == 77;
}

static bool agreement(void) {
    pare_diag d = {0};
    if (pare_team_agree(PARE_OK, &d) != PARE_OK || pare_team_same(5, "has", &d) != PARE_OK) return false;
    if (!pare_team_speaks() != (my_rank != 0)) return false;
    pare_status own = PARE_OK; /* the last two fail, each in its own way */
    if (my_rank == n_ranks - 1) own = pare_fail(&d, PARE_ERR_NOMEM, NULL, NULL, "mine");
    if (my_rank == n_ranks - 2) own = pare_fail(&d, PARE_ERR_INPUT, NULL, NULL, "mine");
    pare_status s = pare_team_agree(own, &d);
    bool ok =
        own != PARE_OK ? s == own && strcmp(d.text, "mine") == 0 : s == PARE_ERR_INPUT && strstr(d.text, "failed");
    ok &= pare_team_speaks() == (my_rank == n_ranks - 2);
    return ok && pare_team_agree(s, &d) == s; /* not met any more: returns at once */
}

static bool difference(void) {
    pare_diag d = {0};
    pare_status s = pare_team_same(my_rank == 1 ? 4 : 3, "has other things", &d);
    return s == PARE_ERR_MISMATCH && strstr(d.text, "process 1 has other things") &&
           pare_team_speaks() == (my_rank == 0);
}

static void test_sums(void **state) {
    for (int n = 2; n <= MOST; n += n == 2 ? 1 : 2) with_team(n, sums);
}
static void test_agreement(void **state) {
    for (int n = 2; n <= MOST; n++) with_team(n, agreement), with_team(n, difference);
}
static void test_alone(void **state) {
    double x = 2, sum = 1;
    assert_int_equal(pare_team_size(), 1);
    assert_true(pare_team_speaks());
    assert_int_equal(pare_team_agree(PARE_ERR_IO, NULL), PARE_ERR_IO);
    pare_team_sum_f64(&x, 1, 1, &sum);
    assert_true(sum == 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sums), cmocka_unit_test(test_agreement),
                                       cmocka_unit_test(test_alone)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
