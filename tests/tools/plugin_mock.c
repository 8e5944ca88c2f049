/* SPDX-License-Identifier: Apache-2.0
 *
 * A plug-in for tests: the CPU backend behind the plug-in boundary, with memory that is not the host's. Storage formats
 * are looked up by name in this file's own copy of the library, as the host's addresses mean nothing here.
 *   PARE_MOCK_BREAK=N      the N-th matrix product with a weight (in the order of their first use, from 0) is wrong:
 * one column of its output is 1/128 too large, as if a scale of that row of weights were off PARE_MOCK_REFUSE=OP this
 * operator is not supported PARE_MOCK_BUILD_ID=X   the plug-in says that it belongs to build X */
#include "core/plugin.h"

#include <stdlib.h>
#include <string.h>

#define MAX_WEIGHTS 4096
#define SPOILED     1 /* the column */

typedef struct mock {
    void *cpu;
    const void *seen[MAX_WEIGHTS];
    int n_seen;
} mock;

static const pare_host *host;

static const char *describe(int i, pare_diag *d) { return i == 0 ? "a mock of a GPU" : NULL; }

static pare_status mock_open(void **dev, pare_diag *d) {
    mock *m = host->alloc(sizeof *m);
    if (!m) return host->fail(d, PARE_ERR_NOMEM, NULL, "mock", "no memory");
    memset(m, 0, sizeof *m);
    *dev = m;
    return pare_backend_cpu.open(&m->cpu, d);
}

static void mock_close(void *dev) {
    mock *m = dev;
    pare_backend_cpu.close(m->cpu);
    host->release(m);
}

static void *mock_alloc(void *dev, size_t bytes) { return pare_backend_cpu.alloc(((mock *)dev)->cpu, bytes); }
static void mock_release(void *dev, void *p) { pare_backend_cpu.release(((mock *)dev)->cpu, p); }
static pare_status copy(void *dev, void *dst, const void *src, size_t bytes) {
    if (bytes) memcpy(dst, src, bytes);
    return PARE_OK;
}
static pare_status mock_sync(void *dev) { return PARE_OK; }

/* The call in this library's storage formats. */
typedef struct local {
    pare_op_call c;
    pare_tensor in[PARE_OP_MAX_IN], out[PARE_OP_MAX_OUT];
} local;

static bool translate(const pare_op_call *c, local *l) {
    l->c = *c;
    for (int i = 0; i < c->n_in; i++) {
        if (!c->in[i]) continue;
        l->in[i] = *c->in[i];
        l->in[i].type = pare_qtype_by_name(c->in[i]->type->name);
        l->c.in[i] = &l->in[i];
        if (!l->in[i].type) return false;
    }
    for (int i = 0; i < c->n_out; i++) {
        if (!c->out[i]) continue;
        l->out[i] = *c->out[i];
        l->out[i].type = pare_qtype_by_name(c->out[i]->type->name);
        l->c.out[i] = &l->out[i];
        if (!l->out[i].type) return false;
    }
    return true;
}

static bool mock_supports(void *dev, const pare_op_call *c) {
    local l;
    const char *refused = getenv("PARE_MOCK_REFUSE");
    if (refused && strcmp(refused, pare_op_get(c->op)->name) == 0) return false;
    return translate(c, &l) && pare_backend_cpu.supports(((mock *)dev)->cpu, &l.c);
}

static size_t mock_workspace(void *dev, const pare_op_call *c) {
    local l;
    return translate(c, &l) ? pare_backend_cpu.workspace_bytes(((mock *)dev)->cpu, &l.c) : 0;
}

/* Which matrix product with a weight this is; -1: none. */
static int number(mock *m, const pare_op_call *c) {
    if (c->op != PARE_OP_MatMul || !c->in[1]->transposed) return -1; /* weights of linear layers are transposed */
    const void *w = c->host[1] ? c->host[1] : c->in[1]->data;
    int i = 0;
    while (i < m->n_seen && m->seen[i] != w) i++;
    if (i == m->n_seen && i < MAX_WEIGHTS) m->seen[m->n_seen++] = w;
    return i;
}

static pare_status mock_run(void *dev, const pare_op_call *c, pare_diag *d) {
    mock *m = dev;
    local l;
    const char *broken = getenv("PARE_MOCK_BREAK");
    if (!translate(c, &l)) return host->fail(d, PARE_ERR_UNSUPPORTED, NULL, "mock", "an unknown storage format");
    pare_status s = pare_backend_cpu.run(m->cpu, &l.c, d);
    int k = number(m, c);
    if (s != PARE_OK || !broken || k < 0 || k != atoi(broken)) return s;
    size_t cols = (size_t)pare_tensor_cols(&l.out[0]), rows = (size_t)pare_tensor_rows(&l.out[0]);
    float *y = l.out[0].data;
    for (size_t r = 0; r < rows && cols > SPOILED; r++) y[r * cols + SPOILED] *= 1 + 1 / 128.0f;
    return PARE_OK;
}

static const pare_backend backend = {
    .name = "cuda",
    .abi = PARE_BACKEND_ABI,
    .describe = describe,
    .open = mock_open,
    .close = mock_close,
    .alloc = mock_alloc,
    .release = mock_release,
    .upload = copy,
    .download = copy,
    .supports = mock_supports,
    .workspace_bytes = mock_workspace,
    .run = mock_run,
    .sync = mock_sync,
    .host_memory = false,
};

PARE_API pare_plugin_info pare_plugin(const pare_host *h);

pare_plugin_info pare_plugin(const pare_host *h) {
    const char *id = getenv("PARE_MOCK_BUILD_ID");
    if (id || h->abi != PARE_BACKEND_ABI || strcmp(h->build_id, PARE_BUILD_ID) != 0)
        return (pare_plugin_info){PARE_BACKEND_ABI, id ? id : PARE_BUILD_ID, NULL};
    host = h;
    return (pare_plugin_info){PARE_BACKEND_ABI, PARE_BUILD_ID, &backend};
}
