/* SPDX-License-Identifier: Apache-2.0
 *
 * What is loaded when it is asked for: backends, and the transport of a team of processes. libpare-NAME.so exports one
 * symbol, pare_plugin, which takes the host's table and returns what it is. A plug-in links nothing of pare: what it
 * needs from the host is in the table, and storage formats it knows by their fields. Table and headers belong together:
 * another build id is refused.
 *
 * search: the file in $PARE_PLUGIN_NAME (upper case) alone if set; else beside the program or library that holds this
 * code, ../lib beside the program, then the dynamic linker's own places. */
#ifndef PARE_CORE_PLUGIN_H
#define PARE_CORE_PLUGIN_H

#include "core/log.h"
#include "core/op.h"
#include "core/team.h"
#include "core/threads.h"

typedef struct pare_host {
    uint32_t abi;         /* PARE_BACKEND_ABI */
    const char *build_id; /* PARE_BUILD_ID: of the headers that both sides were built from */
    void *(*alloc)(size_t bytes);
    void (*release)(void *p);
    pare_status (*fail)(pare_diag *d, pare_status code, const char *file, const char *where, const char *fmt, ...);
    void (*log)(pare_log_level level, const char *fmt, ...);
    void (*parallel)(size_t n, size_t chunk, pare_item_fn *fn, void *ctx);
    int64_t (*tensor_elems)(const pare_tensor *t);
    int64_t (*tensor_rows)(const pare_tensor *t);
    int64_t (*tensor_cols)(const pare_tensor *t);
    size_t (*tensor_bytes)(const pare_tensor *t);
    size_t (*row_bytes)(const pare_qtype *qt, size_t n);
    const pare_op_info *(*op_get)(pare_op op);
} pare_host;

typedef struct pare_plugin_info {
    uint32_t abi;
    const char *build_id;
    const pare_backend *backend; /* or team; both NULL: abi or build id do not match */
    const pare_team_table *team;
} pare_plugin_info;

/* The exported symbol. The host checks abi and build_id of the answer before it touches the backend. */
typedef pare_plugin_info pare_plugin_fn(const pare_host *host);
#define PARE_PLUGIN_SYMBOL "pare_plugin"

/* Loads libpare-NAME.so once; it stays loaded. fails: PARE_ERR_UNSUPPORTED for a name that is no backend,
 * PARE_ERR_DEVICE when the plug-in is not installed, cannot be loaded or belongs to another build. */
pare_status pare_plugin_backend(const char *name, const pare_backend **out, pare_diag *d);
/* Likewise a team's transport. */
pare_status pare_plugin_team(const char *name, const pare_team_table **out, pare_diag *d);

#endif
