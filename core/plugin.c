/* SPDX-License-Identifier: Apache-2.0
 *
 * Finding and opening plug-ins (core/plugin.h). */
#define _GNU_SOURCE
#include "core/plugin.h"

#include "core/alloc.h"
#include "core/status.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef PARE_BUILD_ID
#define PARE_BUILD_ID "unknown"
#endif

static const pare_host host = {
    .abi = PARE_BACKEND_ABI,
    .build_id = PARE_BUILD_ID,
    .alloc = pare_malloc,
    .release = pare_free,
    .fail = pare_fail,
    .log = pare_log,
    .parallel = pare_parallel,
    .tensor_elems = pare_tensor_elems,
    .tensor_rows = pare_tensor_rows,
    .tensor_cols = pare_tensor_cols,
    .tensor_bytes = pare_tensor_bytes,
    .row_bytes = pare_row_bytes,
    .op_get = pare_op_get,
};

/* What exists as a plug-in, who asks for it, and what to do when one is missing. */
static struct plugin {
    const char *name, *variable, *file, *asked, *missing;
    const pare_backend *backend; /* one of these, once loaded */
    const pare_team_table *team;
} plugins[] = {
    {"cuda", "PARE_PLUGIN_CUDA", "libpare-cuda.so", "--device",
     "this machine has no libpare-cuda.so beside pare; it is built where nvcc (the CUDA toolkit) is found", NULL, NULL},
    {"mpi", "PARE_PLUGIN_MPI", "libpare-mpi.so", "mpirun",
     "several processes were started, but there is no libpare-mpi.so beside pare to join them; it is built where mpicc "
     "(Open MPI: libopenmpi-dev) is found",
     NULL, NULL},
};

static bool folder_of(const char *path, char *out, size_t n) {
    snprintf(out, n, "%s", path);
    char *slash = strrchr(out, '/');
    if (slash) *slash = 0;
    return slash != NULL;
}

/* The first of the places that has the file, opened; *seen: a file was there, whether or not it opened. */
static void *open_plugin(const struct plugin *p, char *path, size_t n, bool *seen) {
    char here[PATH_MAX], exe[PATH_MAX] = "", beside[PATH_MAX];
    const char *only = getenv(p->variable);
    *seen = false;
    if (only && *only) {
        snprintf(path, n, "%s", only);
        *seen = true;
        return dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    Dl_info info;
    ssize_t len = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[len > 0 ? len : 0] = 0;
    const struct {
        bool have;
        const char *under;
    } places[] = {{dladdr((const void *)&host, &info) && info.dli_fname && folder_of(info.dli_fname, here, sizeof here),
                   ""},
                  {folder_of(exe, beside, sizeof beside), ""},
                  {exe[0] != 0, "/../lib"}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (!places[i].have) continue;
        snprintf(path, n, "%s%s/%s", i ? beside : here, places[i].under, p->file);
        if (access(path, R_OK) != 0) continue;
        *seen = true;
        return dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    snprintf(path, n, "%s", p->file);
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

static pare_status load(struct plugin *p, pare_diag *d) {
    char path[PATH_MAX + 64];
    bool seen;
    void *so = open_plugin(p, path, sizeof path, &seen);
    if (!so && !seen) return pare_fail(d, PARE_ERR_DEVICE, NULL, p->asked, "%s", p->missing);
    if (!so) {
        const char *why = dlerror();
        return pare_fail(d, PARE_ERR_DEVICE, path, NULL, "the plug-in cannot be loaded: %s",
                         why ? why : "unknown reason");
    }
    pare_plugin_fn *entry;
    *(void **)&entry = dlsym(so, PARE_PLUGIN_SYMBOL);
    pare_plugin_info info = entry ? entry(&host) : (pare_plugin_info){0};
    if (entry && info.abi == PARE_BACKEND_ABI && info.build_id && strcmp(info.build_id, PARE_BUILD_ID) == 0 &&
        ((info.backend && info.backend->abi == PARE_BACKEND_ABI) ||
         (info.team && info.team->abi == PARE_BACKEND_ABI))) {
        p->backend = info.backend, p->team = info.team; /* stays loaded */
        return PARE_OK;
    }
    pare_status s =
        !entry ? pare_fail(d, PARE_ERR_DEVICE, path, NULL, "this is no plug-in of pare")
               : pare_fail(d, PARE_ERR_DEVICE, path, NULL,
                           "the plug-in belongs to another build of pare (%s, this one is %s): build both together",
                           info.build_id ? info.build_id : "none", PARE_BUILD_ID);
    dlclose(so);
    return s;
}

/* NULL: there is none of this name. */
static pare_status find(const char *name, struct plugin **out, pare_diag *d) {
    *out = NULL;
    for (size_t i = 0; i < sizeof plugins / sizeof *plugins; i++) {
        if (strcmp(plugins[i].name, name) != 0) continue;
        if (!plugins[i].backend && !plugins[i].team) PARE_TRY(load(&plugins[i], d));
        *out = &plugins[i];
    }
    return PARE_OK;
}

pare_status pare_plugin_backend(const char *name, const pare_backend **out, pare_diag *d) {
    struct plugin *p = NULL;
    *out = NULL;
    if (strcmp(name, "mpi") != 0) PARE_TRY(find(name, &p, d));
    if (!p || !p->backend)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, "--device", "`%s` is no device; there are cpu and cuda", name);
    *out = p->backend;
    return PARE_OK;
}

pare_status pare_plugin_team(const char *name, const pare_team_table **out, pare_diag *d) {
    struct plugin *p;
    *out = NULL;
    PARE_TRY(find(name, &p, d));
    if (!p || !p->team) return pare_fail(d, PARE_ERR_DEVICE, NULL, "mpirun", "`%s` does not join processes", name);
    *out = p->team;
    return PARE_OK;
}
