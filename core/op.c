/* SPDX-License-Identifier: Apache-2.0
 *
 * The operator table and the list of backends. */
#include "core/op.h"

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

const char *pare_act_name(pare_act_round a) {
    return a == PARE_ACT_INT8_TOKEN ? "int8-token" : a == PARE_ACT_INT8_BLOCK ? "int8-block" : "none";
}

const pare_backend *pare_backend_by_name(const char *name) {
    static const pare_backend *const all[] = {
#define PARE_BACKEND(sym) &sym,
#include "core/backends.def"
#undef PARE_BACKEND
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i]->name, name) == 0) return all[i];
    return NULL;
}
