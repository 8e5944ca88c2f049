/* SPDX-License-Identifier: Apache-2.0
 *
 * libpare-mpi.so: a team of processes over MPI, from host memory. An error inside MPI ends all processes, which is
 * MPI's own default. */
#define _GNU_SOURCE
#include "core/plugin.h"

#include <dlfcn.h>
#include <limits.h>
#include <mpi.h>
#include <string.h>

#define AT_ONCE ((size_t)1 << 30) /* bytes: counts are int */

static const pare_host *host;

/* Components of MPI are libraries that want its names; the host opened this one with its names kept to itself. */
static void show_names(void) {
    Dl_info info;
    if (dladdr((void *)MPI_Init_thread, &info) && info.dli_fname)
        (void)dlopen(info.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
}

static pare_status mpi_join(int *rank, int *size, pare_diag *d) {
    int given;
    show_names();
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &given) != MPI_SUCCESS)
        return host->fail(d, PARE_ERR_DEVICE, NULL, "mpirun", "MPI cannot be started");
    MPI_Comm_rank(MPI_COMM_WORLD, rank);
    MPI_Comm_size(MPI_COMM_WORLD, size);
    return PARE_OK;
}

static void mpi_leave(void) { MPI_Finalize(); }

static void mpi_gather(const void *own, void *all, size_t bytes) {
    MPI_Allgather(own, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, MPI_COMM_WORLD);
}

static void mpi_swap(const void *send, void *recv, size_t bytes) {
    MPI_Alltoall(send, (int)bytes, MPI_BYTE, recv, (int)bytes, MPI_BYTE, MPI_COMM_WORLD);
}

static void mpi_broadcast(void *p, size_t bytes) {
    for (size_t at = 0; at < bytes; at += AT_ONCE)
        MPI_Bcast((char *)p + at, (int)(bytes - at < AT_ONCE ? bytes - at : AT_ONCE), MPI_BYTE, 0, MPI_COMM_WORLD);
}

static const pare_team_table table = {PARE_BACKEND_ABI, mpi_join, mpi_leave, mpi_gather, mpi_swap, mpi_broadcast};

__attribute__((visibility("default"))) pare_plugin_info pare_plugin(const pare_host *h);
pare_plugin_info pare_plugin(const pare_host *h) {
    pare_plugin_info info = {.abi = PARE_BACKEND_ABI, .build_id = PARE_BUILD_ID};
    if (h->abi != PARE_BACKEND_ABI || strcmp(h->build_id, PARE_BUILD_ID) != 0) return info;
    host = h;
    info.team = &table;
    return info;
}
