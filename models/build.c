/* SPDX-License-Identifier: Apache-2.0
 *
 * What the builders share. */
#include "models/build.h"

#include "core/alloc.h"

#include <stdio.h>
#include <string.h>

const char *pare_build_name(pare_builder *b, const char *what) {
    if (b->layer < 0) snprintf(b->name, sizeof b->name, "%s", what);
    else snprintf(b->name, sizeof b->name, "blk.%d.%s", b->layer, what);
    return b->name;
}

pare_value pare_build_unary(pare_builder *b, pare_op op, const char *what, const void *attr, size_t attr_bytes,
                            pare_value x) {
    return pare_graph_node(b->g, op, pare_build_name(b, what), attr, attr_bytes, 1, &x, 1);
}

pare_value pare_build_binary(pare_builder *b, pare_op op, const char *what, pare_value x, pare_value y) {
    return pare_graph_node(b->g, op, pare_build_name(b, what), NULL, 0, 2, (pare_value[]){x, y}, 1);
}

pare_value pare_build_linear(pare_builder *b, pare_role role, const char *what, pare_value x) {
    pare_value w = pare_weights_matrix(b->w, b->g, role, b->layer, true);
    pare_value y = pare_build_binary(b, PARE_OP_MatMul, what, x, w);
    if (!pare_weights_has(b->w, role, b->layer, true)) return y;
    char label[64];
    snprintf(label, sizeof label, "%s.add", what);
    return pare_build_binary(b, PARE_OP_Add, label, y, pare_weights_vector(b->w, b->g, role, b->layer, true));
}

pare_value pare_build_rows(pare_builder *b, pare_role role, const char *what, pare_value ids) {
    pare_attr_gather at = {.axis = 0};
    pare_value in[] = {pare_weights_matrix(b->w, b->g, role, b->layer, false), ids};
    return pare_graph_node(b->g, PARE_OP_Gather, pare_build_name(b, what), &at, sizeof at, 2, in, 1);
}

void pare_lm_graph_free(pare_lm_graph *m) {
    pare_graph_free(&m->g);
    pare_free(m->kv);
    memset(m, 0, sizeof *m);
}
