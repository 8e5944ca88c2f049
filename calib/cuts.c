/* SPDX-License-Identifier: Apache-2.0
 *
 * Storage of cut activations (calib/cuts.h). */
#define _GNU_SOURCE
#include "calib/cuts.h"

#include "core/status.h"
#include "graph/memplan.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE ((size_t)4096)

typedef struct slot {
    int first, last; /* stage that makes it, last stage that reads it; first < 0: no cut value */
    size_t bytes;    /* of one batch, a multiple of 64 */
    size_t elems;
    char *data;
    size_t mapped; /* bytes, when the data lies in a file */
} slot;

struct pare_cuts {
    const pare_graph *g;
    size_t batches, budget, held;
    slot *slots; /* per value */
    int most;
};

static void find(pare_cuts *c) {
    const pare_graph *g = c->g;
    for (size_t v = 0; v < g->n_values; v++) {
        slot *s = &c->slots[v];
        s->first = s->last = -1;
        if (g->values[v].kind != PARE_VALUE_NODE) continue;
        int made = g->nodes[g->values[v].node].stage;
        for (size_t i = 0; i < g->n_nodes; i++)
            for (int k = 0; k < g->nodes[i].n_in; k++)
                if (g->nodes[i].in[k] == (pare_value)v && g->nodes[i].stage > s->last) s->last = g->nodes[i].stage;
        if (s->last > made) s->first = made, c->most++;
    }
}

pare_status pare_cuts_open(const pare_graph *g, const int64_t sym[PARE_SYM_COUNT], size_t batches, size_t budget_bytes,
                           pare_cuts **out, pare_diag *d) {
    const pare_backend *cpu;
    pare_memplan *plan = NULL;
    void *dev = NULL;
    *out = NULL;
    PARE_TRY(pare_backend_find("cpu", &cpu, d));
    PARE_TRY(cpu->open(&dev, d));
    const pare_memplan_on on = {.be = cpu, .dev = dev};
    pare_status s = pare_memplan_make(g, sym, &on, &plan, d); /* for the shapes */
    cpu->close(dev);
    PARE_TRY(s);
    pare_cuts *c = *out = pare_calloc(1, sizeof *c);
    if (c) c->slots = pare_calloc(g->n_values + 1, sizeof *c->slots);
    if (!c || !c->slots) {
        pare_memplan_free(&plan);
        pare_cuts_close(out);
        return pare_fail(d, PARE_ERR_NOMEM, NULL, "calibration", "no memory for activations");
    }
    c->g = g, c->batches = batches, c->budget = budget_bytes;
    find(c);
    for (size_t v = 0; v < g->n_values; v++) {
        c->slots[v].bytes = (pare_tensor_bytes(&plan->values[v]) + 63) & ~(size_t)63;
        c->slots[v].elems = (size_t)pare_tensor_elems(&plan->values[v]);
    }
    pare_memplan_free(&plan);
    return PARE_OK;
}

static void drop(pare_cuts *c, slot *s) {
    if (s->mapped) munmap(s->data, s->mapped);
    else if (s->data) c->held -= s->bytes * c->batches, pare_free(s->data);
    s->data = NULL;
    s->mapped = 0;
}

void pare_cuts_close(pare_cuts **cp) {
    pare_cuts *c = cp ? *cp : NULL;
    if (!c) return;
    for (size_t v = 0; c->slots && c->g && v < c->g->n_values; v++) drop(c, &c->slots[v]);
    pare_free(c->slots);
    pare_free(c);
    *cp = NULL;
}

static pare_status in_file(slot *s, size_t bytes, pare_diag *d) {
    const char *dir = getenv("TMPDIR");
    char path[512];
    snprintf(path, sizeof path, "%s/pare-activations-XXXXXX", dir && *dir ? dir : "/tmp");
    int fd = mkstemp(path);
    if (fd < 0) return pare_fail_errno(d, path, "cannot make a file for activations");
    unlink(path);
    void *p = posix_fallocate(fd, 0, (off_t)bytes) == 0 ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                                                        : MAP_FAILED;
    close(fd);
    if (p == MAP_FAILED)
        return pare_fail(d, PARE_ERR_NOSPACE, dir ? dir : "/tmp", NULL,
                         "no room for %zu bytes of activations; set TMPDIR or use fewer windows", bytes);
    s->data = p, s->mapped = bytes;
    return PARE_OK;
}

static pare_status make_room(pare_cuts *c, slot *s, pare_diag *d) {
    size_t bytes = s->bytes * c->batches;
    if (c->held + bytes > c->budget) return in_file(s, bytes, d);
    if (!(s->data = pare_malloc_aligned(bytes)))
        return pare_fail(d, PARE_ERR_NOMEM, NULL, "calibration", "no memory for %zu bytes of activations", bytes);
    c->held += bytes;
    return PARE_OK;
}

pare_status pare_cuts_begin(pare_cuts *c, int stage, pare_diag *d) {
    for (size_t v = 0; v < c->g->n_values; v++)
        if (c->slots[v].first == stage && !c->slots[v].data) PARE_TRY(make_room(c, &c->slots[v], d));
    return PARE_OK;
}

pare_status pare_cuts_keep(pare_cuts *c, pare_value v, pare_diag *d) {
    return c->slots[v].data ? PARE_OK : make_room(c, &c->slots[v], d);
}

void pare_cuts_release(const pare_cuts *c, size_t batch) {
    for (size_t v = 0; v < c->g->n_values; v++) {
        const slot *s = &c->slots[v];
        if (!s->mapped) continue;
        size_t a = (batch * s->bytes + PAGE - 1) / PAGE * PAGE, b = (batch + 1) * s->bytes / PAGE * PAGE;
        if (b > a) madvise(s->data + a, b - a, MADV_DONTNEED); /* a shared mapping: the file keeps the bytes */
    }
}

int pare_cuts_bind(const pare_cuts *c, int stage, size_t batch, pare_binding *b, int n) {
    for (size_t v = 0; v < c->g->n_values; v++) {
        const slot *s = &c->slots[v];
        if (s->data && s->first >= 0 && s->first <= stage && s->last >= stage)
            b[n++] = (pare_binding){(pare_value)v, s->data + batch * s->bytes};
    }
    return n;
}

int pare_cuts_most(const pare_cuts *c) { return c->most; }

void pare_cuts_end(pare_cuts *c, int stage) {
    for (size_t v = 0; v < c->g->n_values; v++)
        if (c->slots[v].data && c->slots[v].last <= stage) drop(c, &c->slots[v]);
}

const float *pare_cuts_at(const pare_cuts *c, pare_value v, size_t batch) {
    return c->slots[v].data ? (const float *)(const void *)(c->slots[v].data + batch * c->slots[v].bytes) : NULL;
}
size_t pare_cuts_elems(const pare_cuts *c, pare_value v) { return c->slots[v].elems; }
