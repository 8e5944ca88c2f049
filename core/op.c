/* SPDX-License-Identifier: Apache-2.0
 *
 * The operator table and the list of backends. */
#include "core/op.h"
#include "core/plugin.h"

#include <string.h>

static const pare_op_info infos[PARE_OP_COUNT] = {
#define PARE_OP(id, domain, opset, min_in, max_in, max_out)                                                            \
    [PARE_OP_##id] = {#id, domain, opset, min_in, max_in, max_out},
#include "core/ops.def"
#undef PARE_OP
};

const pare_op_info *pare_op_get(pare_op op) { return (unsigned)op < PARE_OP_COUNT ? &infos[op] : NULL; }

int pare_op_find(const char *name) {
    for (int i = 0; i < PARE_OP_COUNT; i++)
        if (strcmp(infos[i].name, name) == 0) return i;
    return -1;
}

static const char *const acts[PARE_ACT_COUNT] = {"none", "int8-token", "int8-block", "f16"};

const char *pare_act_name(pare_act_round a) { return (unsigned)a < PARE_ACT_COUNT ? acts[a] : "none"; }

bool pare_act_find(const char *name, pare_act_round *out) {
    for (int i = 0; i < PARE_ACT_COUNT; i++)
        if (strcmp(acts[i], name) == 0) return *out = (pare_act_round)i, true;
    return false;
}

pare_status pare_backend_find(const char *name, const pare_backend **out, pare_diag *d) {
    static const pare_backend *const all[] = {
#define PARE_BACKEND(sym) &sym,
#include "core/backends.def"
#undef PARE_BACKEND
    };
    *out = NULL;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i]->name, name) == 0) return *out = all[i], PARE_OK;
    return pare_plugin_backend(name, out, d);
}
