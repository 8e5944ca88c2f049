/* SPDX-License-Identifier: Apache-2.0
 *
 * NCCL by its names. Only its gather is used: sums are taken by pare, in the order of ranks, so that they are the same
 * bits on every number of processes, which NCCL's own sums do not promise. The emulator opens nothing but $PARE_NCCL.
 */
#include "cuda/team.cuh"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* nccl.h's, as they have been since NCCL 2.0. */
typedef struct nccl_id {
    char internal[PARE_TEAM_ID];
} nccl_id;
typedef struct ncclComm *nccl_comm;
#define NCCL_UINT8 1

static struct nccl {
    int (*get_id)(nccl_id *);
    int (*init)(nccl_comm *, int, nccl_id, int);
    int (*gather)(const void *, void *, size_t, int, nccl_comm, void *);
    const char *(*explain)(int);
    nccl_comm comm; /* of the process, however many devices it opens one after another */
} nccl;

template <typename F> static bool find(void *lib, const char *name, F *out) {
    return (*(void **)out = dlsym(lib, name)) != NULL;
}

pare_status pare_cuda_team_ready(void *dev, pare_diag *d) {
    const char *file = getenv("PARE_NCCL");
#ifndef PARE_EMU
    if (!file) file = "libnccl.so.2";
#endif
    if (nccl.gather) return PARE_OK;
    void *lib = file ? dlopen(file, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!lib)
        return pare_cuda_host->fail(d, PARE_ERR_DEVICE, NULL, "cuda", "%s cannot be loaded (NCCL, package libnccl2)",
                                    file ? file : "libnccl.so.2");
    struct nccl found = {};
    if (!find(lib, "ncclGetUniqueId", &found.get_id) || !find(lib, "ncclCommInitRank", &found.init) ||
        !find(lib, "ncclGetErrorString", &found.explain) || !find(lib, "ncclAllGather", &found.gather))
        return pare_cuda_host->fail(d, PARE_ERR_DEVICE, NULL, "cuda", "%s is no NCCL", file);
    nccl = found;
    return PARE_OK;
}

static pare_status explain(int code, const char *what, pare_diag *d) {
    if (code == 0) return PARE_OK;
    return pare_cuda_host->fail(d, PARE_ERR_DEVICE, NULL, "cuda", "NCCL: %s: %s", what, nccl.explain(code));
}

pare_status pare_cuda_team_id(void *dev, void *id, pare_diag *d) {
    if (nccl.comm) return PARE_OK; /* joined before: nobody will ask for the id */
    return explain(nccl.get_id((nccl_id *)id), "no id", d);
}

pare_status pare_cuda_team_join(void *dev, const void *id, int rank, int size, pare_diag *d) {
    if (nccl.comm) return PARE_OK;
    rt_use(&((pare_cuda *)dev)->rt);
    return explain(nccl.init(&nccl.comm, size, *(const nccl_id *)id, rank), "joining (a GPU for each process?)", d);
}

pare_status pare_cuda_team_gather(void *dev, const void *own, void *all, size_t bytes) {
    rt_device *rt = &((pare_cuda *)dev)->rt;
    int code = nccl.gather(own, all, bytes, NCCL_UINT8, nccl.comm, rt->stream);
    if (code == 0) return PARE_OK;
    /* The others wait for this process inside NCCL, where nothing but its end reaches them: mpirun ends them then. */
    fprintf(stderr, "pare: cuda: NCCL: gradients cannot be exchanged: %s\n", nccl.explain(code));
    _exit(4);
}
