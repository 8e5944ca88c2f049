/* SPDX-License-Identifier: Apache-2.0
 *
 * The CPU backend: host memory, one function per operator from cpu/ops_cpu.def. It has no state of its own, so the
 * device handle is only a token. */
#include "cpu/ops_cpu.h"

#include "core/alloc.h"

#include <string.h>

typedef struct cpu_op {
    pare_cpu_run_fn *run;
    pare_cpu_supports_fn *supports;
    pare_cpu_workspace_fn *workspace;
} cpu_op;

static const cpu_op ops[PARE_OP_COUNT] = {
#define PARE_CPU_OP(op, r, s, w)                                                                                       \
    [PARE_OP_##op] = {pare_cpu_##r##_run, pare_cpu_##s##_supports, pare_cpu_##w##_workspace},
#include "cpu/ops_cpu.def"
#undef PARE_CPU_OP
};

static pare_status cpu_open(void **dev, pare_diag *d) {
    static char token;
    *dev = &token;
    return PARE_OK;
}
static void cpu_close(void *dev) {}
static void *cpu_alloc(void *dev, size_t bytes) { return pare_malloc_aligned(bytes); }
static void cpu_release(void *dev, void *p) { pare_free(p); }
static pare_status cpu_copy(void *dev, void *dst, const void *src, size_t bytes) {
    if (bytes && dst != src) memcpy(dst, src, bytes);
    return PARE_OK;
}
static pare_status cpu_sync(void *dev) { return PARE_OK; }

/* Arity and required inputs are the table's business, types and attributes the family's. */
static bool cpu_supports(void *dev, const pare_op_call *c) {
    const pare_op_info *info = pare_op_get(c->op);
    if (!info || !ops[c->op].run || c->n_in < info->min_in || c->n_in > info->max_in || c->n_out < 1 ||
        c->n_out > info->max_out || !c->out[0])
        return false;
    for (int i = 0; i < info->min_in; i++)
        if (!c->in[i]) return false;
    return ops[c->op].supports(c);
}

static size_t cpu_workspace_bytes(void *dev, const pare_op_call *c) {
    return cpu_supports(dev, c) ? ops[c->op].workspace(c) : 0;
}

static pare_status cpu_run(void *dev, const pare_op_call *c, pare_diag *d) {
    if (!cpu_supports(dev, c)) {
        const pare_op_info *info = pare_op_get(c->op);
        return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, info ? info->name : NULL,
                         "these input types or attributes do not run on the CPU");
    }
    if (c->workspace_bytes < ops[c->op].workspace(c))
        return pare_fail(d, PARE_ERR_INTERNAL, NULL, pare_op_get(c->op)->name,
                         "workspace of %zu bytes, %zu needed (more threads than when the plan was made?)",
                         c->workspace_bytes, ops[c->op].workspace(c));
    return ops[c->op].run(c, d);
}

const pare_backend pare_backend_cpu = {
    .name = "cpu",
    .abi = PARE_BACKEND_ABI,
    .open = cpu_open,
    .close = cpu_close,
    .alloc = cpu_alloc,
    .release = cpu_release,
    .upload = cpu_copy,
    .download = cpu_copy,
    .supports = cpu_supports,
    .workspace_bytes = cpu_workspace_bytes,
    .run = cpu_run,
    .sync = cpu_sync,
    .host_memory = true,
};
