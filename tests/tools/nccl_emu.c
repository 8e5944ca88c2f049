/* SPDX-License-Identifier: Apache-2.0
 *
 * Stands in for libnccl.so.2 between processes of emulated GPUs on one machine: a file that all map, a slot for each,
 * and barriers. $PARE_NCCL_FAULT: "join" fails, or "gather" in process 1; "order" gives the slots in the wrong order.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOT  (1u << 18)
#define MOST  8
#define SHOWN __attribute__((visibility("default")))

typedef struct shared {
    atomic_int here, round, ranks;
    char slot[MOST][SLOT];
} shared;
typedef struct id {
    char path[128];
} id;
typedef struct comm {
    shared *s;
    int rank, size;
} comm;

SHOWN int ncclGetUniqueId(id *out);
SHOWN int ncclCommInitRank(comm **out, int size, id i, int rank);
SHOWN int ncclAllGather(const void *own, void *all, size_t count, int type, comm *c, void *stream);
SHOWN const char *ncclGetErrorString(int code);

static int fault(const char *what) {
    const char *f = getenv("PARE_NCCL_FAULT");
    return f && strcmp(f, what) == 0;
}

static void barrier(comm *c) {
    int round = atomic_load(&c->s->round);
    if (atomic_fetch_add(&c->s->here, 1) + 1 == c->size) {
        atomic_store(&c->s->here, 0);
        atomic_fetch_add(&c->s->round, 1);
    }
    while (atomic_load(&c->s->round) == round) sched_yield();
}

const char *ncclGetErrorString(int code) { return code == 5 ? "invalid usage (emulated)" : "an error (emulated)"; }

int ncclGetUniqueId(id *out) {
    snprintf(out->path, sizeof out->path, "/tmp/pare-nccl-emu-XXXXXX");
    int f = mkstemp(out->path);
    if (f < 0 || ftruncate(f, sizeof(shared)) != 0) return 2;
    return close(f);
}

int ncclCommInitRank(comm **out, int size, id i, int rank) {
    static comm c;
    int f = open(i.path, O_RDWR);
    if (f < 0 || size > MOST) return 2;
    c.s = mmap(NULL, sizeof(shared), PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
    close(f);
    if (c.s == MAP_FAILED) return 2;
    c.rank = rank, c.size = size;
    barrier(&c);
    if (rank == 0) unlink(i.path);
    barrier(&c); /* nobody ends before that */
    if (fault("join")) return 5;
    *out = &c;
    return 0;
}

int ncclAllGather(const void *own, void *all, size_t count, int type, comm *c, void *stream) {
    (void)stream;
    if (type != 1 || (fault("gather") && c->rank == 1)) return 5;
    for (size_t at = 0, n; at < count; at += n) {
        n = count - at < SLOT ? count - at : SLOT;
        memcpy(c->s->slot[c->rank], (const char *)own + at, n);
        barrier(c);
        for (int r = 0; r < c->size; r++)
            memcpy((char *)all + (size_t)r * count + at, c->s->slot[fault("order") ? c->size - 1 - r : r], n);
        barrier(c);
    }
    return 0;
}
