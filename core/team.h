/* SPDX-License-Identifier: Apache-2.0
 *
 * Several processes that do one piece of work together. Transport is a plug-in (libpare-mpi.so, core/plugin.h), loaded
 * when the program was started by mpirun; without it there is one process, whose rank is 0, and all calls below are
 * cheap. Processes are called by rank, 0 .. pare_team_size()-1.
 *
 * Collective calls are met by all processes in the same order. Those that exchange data cannot fail (a transport that
 * breaks ends all processes) but must not be reached by some alone: pare_team_agree goes before each, and is the call
 * in which a process that failed is met by the others. After it said so, no collective call is made any more. equal:
 * sums are taken element by element in the order of ranks, so that all processes have the same bits, and the bits of
 * one process that adds in this order. */
#ifndef PARE_CORE_TEAM_H
#define PARE_CORE_TEAM_H

#include "pare/pare.h"

#define PARE_TEAM_MOST 1024 /* processes */

/* What a transport gives. */
typedef struct pare_team_table {
    uint32_t abi; /* PARE_BACKEND_ABI */
    pare_status (*join)(int *rank, int *size, pare_diag *d);
    void (*leave)(void);
    /* all[size][bytes]: each process's own, by rank */
    void (*gather)(const void *own, void *all, size_t bytes);
    /* send, recv [size][bytes]: block i goes to process i; block i came from it */
    void (*swap)(const void *send, void *recv, size_t bytes);
    void (*broadcast)(void *p, size_t bytes); /* process 0's to all */
} pare_team_table;

/* Ready to work together, over this transport; pare_team_join (pare.h) does it over MPI. */
pare_status pare_team_join_over(const pare_team_table *t, pare_diag *d);

/* Collective. own, where that failed; else the status of the first process that failed; else PARE_OK. */
pare_status pare_team_agree(pare_status own, pare_diag *d);
/* Collective. fails: PARE_ERR_MISMATCH when processes have different numbers; what: "read another text" */
pare_status pare_team_same(uint64_t number, const char *what, pare_diag *d);
void pare_team_broadcast(void *p, size_t bytes);

/* Collective. sum[n] += own[n] of the first `present` processes. */
void pare_team_sum_f64(const double *own, size_t n, int present, double *sum);

/* Collective sums of long lists of f32 over more than one process, in two halves: each process owns a part of every
 * element run, and adds to it what the first `present` processes give (add: NULL in the others; may be sum itself);
 * when all has been added, the parts go to all. first: sum is what is given, nothing was added yet. n: lengths of the
 * `count` runs. */
void pare_team_add(float *const *sum, const float *const *add, const size_t *n, size_t count, int present, bool first);
void pare_team_share(float *const *sum, const size_t *n, size_t count);

#endif
