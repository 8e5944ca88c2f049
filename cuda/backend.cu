/* SPDX-License-Identifier: Apache-2.0
 *
 * The CUDA backend's table and the plug-in's one symbol. */
#include "cuda/backend.cuh"

#include "cuda/blas.cuh"
#include "cuda/layout.cuh"
#include "cuda/team.cuh"
#include "cuda/update.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct cuda_op {
    pare_cuda_run_fn *run;
    pare_cuda_supports_fn *supports;
    pare_cuda_workspace_fn *workspace;
} cuda_op;

static const cuda_op *op_row(pare_op op) {
    static cuda_op rows[PARE_OP_COUNT]; /* C++ has no designated array initialisers */
    static const bool filled = [] {
#define PARE_CUDA_OP(op, r, s, w)                                                                                      \
    rows[PARE_OP_##op] = cuda_op{pare_cuda_##r##_run, pare_cuda_##s##_supports, pare_cuda_##w##_workspace};
#include "cuda/ops_cuda.def"
#undef PARE_CUDA_OP
        return true;
    }();
    return filled && (unsigned)op < PARE_OP_COUNT ? &rows[op] : NULL;
}

static const char *cuda_describe(int i, pare_diag *d) {
    char why[512] = "no device";
    const char *text = rt_describe(i, why, sizeof why);
    if (!text && i == 0) pare_cuda_host->fail(d, PARE_ERR_DEVICE, NULL, "cuda", "no GPU can be used here: %s", why);
    return text;
}

static pare_status cuda_open(void **dev, pare_diag *d) {
    char why[512] = "";
    pare_cuda *c = (pare_cuda *)pare_cuda_host->alloc(sizeof *c);
    *dev = NULL;
    if (!c) return pare_cuda_host->fail(d, PARE_ERR_NOMEM, NULL, "cuda", "not enough memory for the device");
    memset(c, 0, sizeof *c);
    if (!rt_open(&c->rt, why, sizeof why)) {
        pare_cuda_host->release(c);
        return pare_cuda_host->fail(d, PARE_ERR_DEVICE, NULL, "--device cuda", "no GPU can be used here: %s", why);
    }
    const char *limit = getenv("PARE_CUDA_MEMORY"); /* bytes that may be allocated, for tests of large models */
    c->limit = limit ? strtoull(limit, NULL, 0) : SIZE_MAX;
    *dev = c;
    return PARE_OK;
}

static void cuda_close(void *dev) {
    pare_cuda *c = (pare_cuda *)dev;
    char why[512];
    rt_sync(&c->rt, why, sizeof why);
    pare_cuda_blas_close(c);
    for (size_t i = 0; i < c->n_blocks; i++) rt_free(&c->rt, c->blocks[i].p);
    pare_cuda_host->release(c->blocks);
    rt_close(&c->rt);
    pare_cuda_host->release(c);
}

static void *cuda_alloc(void *dev, size_t bytes) {
    pare_cuda *c = (pare_cuda *)dev;
    if (bytes > c->limit || c->taken > c->limit - bytes) return NULL;
    if (c->n_blocks == c->cap_blocks) {
        size_t cap = c->cap_blocks ? 2 * c->cap_blocks : 64;
        void *p = pare_cuda_host->alloc(cap * sizeof *c->blocks);
        if (!p) return NULL;
        if (c->n_blocks) memcpy(p, c->blocks, c->n_blocks * sizeof *c->blocks);
        pare_cuda_host->release(c->blocks);
        *(void **)&c->blocks = p;
        c->cap_blocks = cap;
    }
    void *p = rt_malloc(&c->rt, bytes ? bytes : 1);
    if (!p) return NULL;
    c->blocks[c->n_blocks].p = p, c->blocks[c->n_blocks].bytes = bytes;
    c->n_blocks++;
    c->taken += bytes;
    return p;
}

static void cuda_release(void *dev, void *p) {
    pare_cuda *c = (pare_cuda *)dev;
    for (size_t i = c->n_blocks; p && i-- > 0;)
        if (c->blocks[i].p == p) {
            rt_free(&c->rt, p);
            c->taken -= c->blocks[i].bytes;
            c->blocks[i] = c->blocks[--c->n_blocks];
            return;
        }
}

static pare_status cuda_upload(void *dev, void *dst, const void *src, size_t bytes) {
    return !bytes || rt_upload(&((pare_cuda *)dev)->rt, dst, src, bytes) ? PARE_OK : PARE_ERR_DEVICE;
}
static pare_status cuda_download(void *dev, void *dst, const void *src, size_t bytes) {
    return !bytes || rt_download(&((pare_cuda *)dev)->rt, dst, src, bytes) ? PARE_OK : PARE_ERR_DEVICE;
}
static pare_status cuda_sync(void *dev) {
    char why[512];
    if (rt_sync(&((pare_cuda *)dev)->rt, why, sizeof why)) return PARE_OK;
    pare_cuda_host->log(PARE_LOG_WARN, "cuda: %s", why);
    return PARE_ERR_DEVICE;
}
static void cuda_memory(void *dev, size_t *free_bytes, size_t *total_bytes) {
    pare_cuda *c = (pare_cuda *)dev;
    rt_memory(&c->rt, free_bytes, total_bytes);
    if (c->limit == SIZE_MAX) return;
    *total_bytes = c->limit;
    *free_bytes = c->limit - c->taken;
}

/* Arity and required inputs are the table's business, types and attributes the family's. */
static bool cuda_supports(void *dev, const pare_op_call *c) {
    const pare_op_info *info = pare_cuda_host->op_get(c->op);
    if (!info || !op_row(c->op)->run || c->n_in < info->min_in || c->n_in > info->max_in || c->n_out < 1 ||
        c->n_out > info->max_out || !c->out[0])
        return false;
    for (int i = 0; i < info->min_in; i++)
        if (!c->in[i]) return false;
    return op_row(c->op)->supports((pare_cuda *)dev, c);
}

static size_t cuda_workspace_bytes(void *dev, const pare_op_call *c) {
    return cuda_supports(dev, c) ? op_row(c->op)->workspace((pare_cuda *)dev, c) : 0;
}

static pare_status cuda_run(void *dev, const pare_op_call *c, pare_diag *d) {
    const pare_op_info *info = pare_cuda_host->op_get(c->op);
    if (!cuda_supports(dev, c))
        return pare_cuda_host->fail(d, PARE_ERR_UNSUPPORTED, NULL, info ? info->name : NULL,
                                    "these input types or attributes do not run on CUDA");
    rt_use(&((pare_cuda *)dev)->rt);
    size_t need = op_row(c->op)->workspace((pare_cuda *)dev, c);
    if (c->workspace_bytes < need)
        return pare_cuda_host->fail(d, PARE_ERR_INTERNAL, NULL, info->name, "workspace of %zu bytes, %zu needed",
                                    c->workspace_bytes, need);
    return op_row(c->op)->run((pare_cuda *)dev, c, d);
}

static pare_status cuda_record_begin(void *dev) {
    return rt_record_begin(&((pare_cuda *)dev)->rt) ? PARE_OK : PARE_ERR_DEVICE;
}
static pare_status cuda_record_end(void *dev, void **recording) {
    *recording = rt_record_end(&((pare_cuda *)dev)->rt);
    return *recording ? PARE_OK : PARE_ERR_DEVICE;
}
static pare_status cuda_replay(void *dev, void *recording) {
    return rt_replay(&((pare_cuda *)dev)->rt, recording) ? PARE_OK : PARE_ERR_DEVICE;
}
static void cuda_recording_free(void *dev, void *recording) { rt_recording_free(&((pare_cuda *)dev)->rt, recording); }

static size_t cuda_weight_bytes(void *dev, const pare_tensor *w) { return pare_cuda_weight_bytes(w); }
static pare_status cuda_upload_weight(void *dev, void *dst, const pare_tensor *w, pare_diag *d) {
    return pare_cuda_weight_upload((pare_cuda *)dev, dst, w, d);
}

extern "C" __attribute__((visibility("default"))) pare_plugin_info pare_plugin(const pare_host *host) {
    static pare_backend table;
    if (host->abi != PARE_BACKEND_ABI || strcmp(host->build_id, PARE_BUILD_ID) != 0)
        return pare_plugin_info{PARE_BACKEND_ABI, PARE_BUILD_ID, NULL};
    pare_cuda_host = host;
    table.name = "cuda";
    table.abi = PARE_BACKEND_ABI;
    table.describe = cuda_describe;
    table.open = cuda_open;
    table.close = cuda_close;
    table.alloc = cuda_alloc;
    table.release = cuda_release;
    table.upload = cuda_upload;
    table.download = cuda_download;
    table.supports = cuda_supports;
    table.workspace_bytes = cuda_workspace_bytes;
    table.run = cuda_run;
    table.sync = cuda_sync;
    table.host_memory = false;
    table.weight_bytes = cuda_weight_bytes;
    table.upload_weight = cuda_upload_weight;
    table.memory = cuda_memory;
    table.record_begin = cuda_record_begin;
    table.record_end = cuda_record_end;
    table.replay = cuda_replay;
    table.recording_free = cuda_recording_free;
    table.update = pare_cuda_update;
    table.team_ready = pare_cuda_team_ready;
    table.team_id = pare_cuda_team_id;
    table.team_join = pare_cuda_team_join;
    table.team_gather = pare_cuda_team_gather;
    return pare_plugin_info{PARE_BACKEND_ABI, PARE_BUILD_ID, &table};
}
