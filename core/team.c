/* SPDX-License-Identifier: Apache-2.0
 *
 * The team of processes (core/team.h): agreeing, and sums in the order of ranks. A sum is a reduce-scatter and a
 * gather: as many bytes as a ring takes, but the order of adding is known. */
#include "core/team.h"

#include "core/alloc.h"
#include "core/plugin.h"
#include "core/status.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK (1u << 20) /* floats that are exchanged at once, over all processes */

static struct team {
    const pare_team_table *table; /* NULL: one process */
    int rank, size, speaker;      /* speaker: the first that failed; -1 = none */
    float *send, *recv;           /* [CHUNK] */
} team = {.size = 1, .speaker = -1};

/* What mpirun (Open MPI) tells the processes that it starts; `otherwise` when it did not. */
static int started_as(const char *variable, int otherwise) {
    const char *v = getenv(variable);
    return v && *v ? atoi(v) : otherwise;
}

int pare_team_started(void) { return started_as("OMPI_COMM_WORLD_SIZE", 1); }
int pare_team_size(void) { return team.size; }
int pare_team_rank(void) {
    return team.table ? team.rank : pare_team_started() > 1 ? started_as("OMPI_COMM_WORLD_RANK", 0) : 0;
}
bool pare_team_speaks(void) { return pare_team_rank() == (team.speaker >= 0 ? team.speaker : 0); }

pare_status pare_team_join_over(const pare_team_table *t, pare_diag *d) {
    PARE_TRY(t->join(&team.rank, &team.size, d));
    team.table = t;
    team.speaker = -1;
    pare_status s = PARE_OK;
    if (team.size > PARE_TEAM_MOST)
        s = pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, "mpirun", "%d processes; up to %d can work together", team.size,
                      PARE_TEAM_MOST);
    if (s != PARE_OK) return s;
    team.send = pare_malloc(CHUNK * sizeof *team.send);
    team.recv = pare_malloc(CHUNK * sizeof *team.recv);
    if (!team.send || !team.recv) s = pare_fail(d, PARE_ERR_NOMEM, NULL, "mpirun", "no memory to exchange sums");
    return pare_team_agree(s, d);
}

pare_status pare_team_join(pare_diag *d) {
    const pare_team_table *t;
    if (pare_team_started() < 2 || team.table) return PARE_OK;
    PARE_TRY(pare_plugin_team("mpi", &t, d));
    return pare_team_join_over(t, d);
}

void pare_team_leave(void) {
    if (team.table) team.table->leave();
    pare_free(team.send);
    pare_free(team.recv);
    team = (struct team){.size = 1, .speaker = -1};
}

pare_status pare_team_agree(pare_status own, pare_diag *d) {
    if (team.size == 1 || team.speaker >= 0) return own;
    int64_t mine = own, all[PARE_TEAM_MOST];
    team.table->gather(&mine, all, sizeof mine);
    for (int r = 0; r < team.size && team.speaker < 0; r++)
        if (all[r] != PARE_OK) team.speaker = r;
    if (team.speaker < 0 || own != PARE_OK) return own;
    return pare_fail(d, (pare_status)all[team.speaker], NULL, "mpirun", "process %d of %d failed", team.speaker,
                     team.size);
}

pare_status pare_team_same(uint64_t number, const char *what, pare_diag *d) {
    if (team.size == 1) return PARE_OK;
    PARE_TRY(pare_team_agree(PARE_OK, d));
    uint64_t all[PARE_TEAM_MOST];
    team.table->gather(&number, all, sizeof number);
    for (int r = 1; r < team.size; r++)
        if (all[r] != all[0]) {
            pare_status s = pare_fail(d, PARE_ERR_MISMATCH, NULL, "mpirun", "process %d %s than process 0", r, what);
            return pare_team_agree(s, d);
        }
    return PARE_OK;
}

void pare_team_broadcast(void *p, size_t bytes) {
    if (team.size > 1) team.table->broadcast(p, bytes);
}

void pare_team_sum_f64(const double *own, size_t n, int present, double *sum) {
    if (team.size == 1) {
        for (size_t i = 0; i < n; i++) sum[i] += own[i];
        return;
    }
    double *all = (double *)(void *)team.recv;
    size_t most = CHUNK * sizeof(float) / sizeof *all / (size_t)team.size;
    for (size_t at = 0; at < n; at += most) {
        size_t m = n - at < most ? n - at : most;
        team.table->gather(own + at, all, m * sizeof *own);
        for (size_t r = 0; r < (size_t)present; r++)
            for (size_t i = 0; i < m; i++) sum[at + i] += all[r * m + i];
    }
}

/* A place in a list of runs, seen as one long run. */
typedef struct place {
    const size_t *n;
    size_t run, at;
} place;

/* The next m elements: from the list `from` to a buffer, or from it to the list `to`; with neither, past them. */
static void walk(place *p, const float *const *from, float *const *to, float *buffer, size_t m) {
    while (m) {
        size_t left = p->n[p->run] - p->at, k = left < m ? left : m;
        if (from && k) memcpy(buffer, from[p->run] + p->at, k * sizeof *buffer);
        else if (to && k) memcpy(to[p->run] + p->at, buffer, k * sizeof *buffer);
        buffer += k, m -= k, p->at += k;
        if (p->at == p->n[p->run]) p->run++, p->at = 0;
    }
}

/* Elements m of the list at once: each process's part of them, and how much of its part is there. */
static size_t part_of(size_t m) { return (m + (size_t)team.size - 1) / (size_t)team.size; }
static size_t part_left(size_t m, size_t first) {
    return first >= m ? 0 : m - first < part_of(m) ? m - first : part_of(m);
}

static size_t total(const size_t *n, size_t count) {
    size_t all = 0;
    for (size_t i = 0; i < count; i++) all += n[i];
    return all;
}

static size_t at_once(void) { return CHUNK / (size_t)team.size * (size_t)team.size; }

void pare_team_add(float *const *sum, const float *const *add, const size_t *n, size_t count, int present, bool first) {
    place from = {.n = n}, to = {.n = n};
    size_t step = at_once();
    for (size_t left = total(n, count), m; left; left -= m) {
        m = left < step ? left : step;
        size_t part = part_of(m), begin = part * (size_t)team.rank, own = part_left(m, begin);
        if (add) walk(&from, add, NULL, team.send, m);
        team.table->swap(team.send, team.recv, part * sizeof(float));
        float *acc = team.send; /* free again */
        place here = to;
        walk(&here, NULL, NULL, team.send, begin < m ? begin : m);
        place back = here;
        if (!first && own) walk(&here, (const float *const *)sum, NULL, acc, own);
        for (size_t r = 0; r < (size_t)present; r++) {
            const float *g = team.recv + r * part;
            if (first && r == 0) memcpy(acc, g, own * sizeof *acc);
            else
                for (size_t i = 0; i < own; i++) acc[i] += g[i];
        }
        walk(&back, NULL, sum, acc, own);
        walk(&to, NULL, NULL, team.send, m);
    }
}

void pare_team_share(float *const *sum, const size_t *n, size_t count) {
    place at = {.n = n};
    size_t step = at_once();
    for (size_t left = total(n, count), m; left; left -= m) {
        m = left < step ? left : step;
        size_t part = part_of(m), begin = part * (size_t)team.rank;
        place here = at;
        walk(&here, NULL, NULL, team.send, begin < m ? begin : m);
        walk(&here, (const float *const *)sum, NULL, team.send, part_left(m, begin));
        team.table->gather(team.send, team.recv, part * sizeof(float));
        walk(&at, NULL, sum, team.recv, m);
    }
}
