/* SPDX-License-Identifier: Apache-2.0
 *
 * Operators that move elements: bits of the reference, for every element size. */
#include "tests/tools/parity.h"

#include <string.h>

static const pare_qtype *const types[] = {&pare_qtype_f32, &pare_qtype_i64, &pare_qtype_f16, &pare_qtype_bool};

static void *bytes_in(pc_run *r, pc_case *c, const pare_qtype *qt, int ndim, const int64_t *shape) {
    uint8_t *p = pc_in(r, c, PC_INPUT, qt, ndim, shape);
    size_t n = pare_tensor_bytes(&c->in[c->n_in - 1]);
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)pare_rng_u64(&r->rng);
    return p;
}

static void numbers_in(pc_run *r, pc_case *c, int64_t n, const int64_t *v) {
    int64_t *p = pc_in(r, c, PC_CONST, &pare_qtype_i64, 1, &n);
    for (int64_t i = 0; i < n; i++) p[i] = v[i];
}

static void reshape(pc_run *r, const pare_qtype *qt, bool in_place) {
    pc_case c;
    pc_begin(r, &c, PARE_OP_Reshape, "%s%s", qt->name, in_place ? " in place" : "");
    pc_params(&c, "[3, 5, 7] to [7, 15]");
    bytes_in(r, &c, qt, PC_SHAPE(3, 5, 7));
    numbers_in(r, &c, 2, (const int64_t[]){7, -1});
    pc_out(r, &c, qt, PC_SHAPE(7, 15));
    if (in_place) c.alias = 0;
    pc_do(r, &c);
}

typedef struct order {
    int n;
    int64_t dim[5], perm[5];
} order;
static const order orders[] = {
    {2, {33, 65}, {1, 0}},
    {2, {1, 7}, {1, 0}},
    {3, {2, 31, 32}, {0, 2, 1}},
    {3, {5, 4, 3}, {2, 1, 0}},
    {4, {2, 7, 3, 16}, {0, 2, 1, 3}},
    {4, {2, 3, 5, 64}, {0, 1, 3, 2}},
    {4, {1, 9, 4, 12}, {0, 2, 3, 1}},
    {5, {2, 3, 2, 3, 4}, {4, 2, 0, 3, 1}},
    {1, {40}, {0}},
    {3, {4, 0, 3}, {1, 0, 2}},
    {2, {130, 257}, {1, 0}},
};

static void transpose(pc_run *r, const pare_qtype *qt, const order *o) {
    pc_case c;
    int64_t y[5];
    pc_begin(r, &c, PARE_OP_Transpose, "%s", qt->name);
    pc_params(&c, "order %d", (int)(o - orders));
    c.attr.transpose.n = o->n;
    for (int k = 0; k < o->n; k++) c.attr.transpose.perm[k] = o->perm[k], y[k] = o->dim[o->perm[k]];
    bytes_in(r, &c, qt, o->n, o->dim);
    pc_out(r, &c, qt, o->n, y);
    pc_do(r, &c);
}

static void concat(pc_run *r, const pare_qtype *qt, int axis, int n) {
    pc_case c;
    int64_t dim[3] = {3, 4, 5}, sum = 0;
    pc_begin(r, &c, PARE_OP_Concat, "%s", qt->name);
    pc_params(&c, "%d operands, axis %d", n, axis);
    c.attr.concat.axis = axis;
    for (int i = 0; i < n; i++) {
        dim[axis] = i == 1 ? 0 : 1 + (int64_t)pare_rng_below(&r->rng, 40);
        sum += dim[axis];
        bytes_in(r, &c, qt, 3, dim);
    }
    dim[axis] = sum;
    pc_out(r, &c, qt, 3, dim);
    pc_do(r, &c);
}

typedef struct cut {
    int64_t dim[3], y[3];
    int n;
    int64_t start[3], end[3], axis[3], step[3];
} cut;
static const cut cuts[] = {
    {{6, 7, 33}, {6, 7, 11}, 1, {4}, {15}, {2}, {1}},
    {{6, 7, 33}, {3, 7, 33}, 1, {2}, {5}, {0}, {1}},
    {{6, 7, 33}, {6, 3, 33}, 1, {-1}, {-100}, {1}, {-3}},
    {{6, 7, 33}, {2, 7, 17}, 2, {1, 0}, {5, 1000}, {0, -1}, {2, 2}},
    {{6, 7, 33}, {6, 7, 33}, 1, {32}, {-34}, {2}, {-1}},
    {{6, 7, 33}, {6, 0, 33}, 1, {5}, {2}, {1}, {1}},
    {{1, 300, 8}, {1, 1, 8}, 1, {299}, {300}, {1}, {1}},
};

static void slice(pc_run *r, const pare_qtype *qt, const cut *s) {
    pc_case c;
    pc_begin(r, &c, PARE_OP_Slice, "%s", qt->name);
    pc_params(&c, "cut %d", (int)(s - cuts));
    bytes_in(r, &c, qt, 3, s->dim);
    numbers_in(r, &c, s->n, s->start);
    numbers_in(r, &c, s->n, s->end);
    numbers_in(r, &c, s->n, s->axis);
    numbers_in(r, &c, s->n, s->step);
    pc_out(r, &c, qt, 3, s->y);
    pc_do(r, &c);
}

static void scatter(pc_run *r, const pare_qtype *qt, int64_t size, bool circular, bool in_place, bool where) {
    pc_case c;
    int64_t cap = 12, n = 1 + (int64_t)pare_rng_below(&r->rng, 5), batch = 3;
    pc_begin(r, &c, PARE_OP_TensorScatter, "%s%s%s", qt->name, circular ? " circular" : "",
             in_place ? " in place" : "");
    pc_params(&c, "size=%lld n=%lld where=%d", (long long)size, (long long)n, where);
    c.attr.scatter = (pare_attr_scatter){-2, circular};
    bytes_in(r, &c, qt, PC_SHAPE(batch, 2, cap, size));
    bytes_in(r, &c, qt, PC_SHAPE(batch, 2, n, size));
    if (where) {
        int64_t *at = pc_in(r, &c, PC_INPUT, &pare_qtype_i64, PC_SHAPE(batch));
        for (int64_t i = 0; i < batch; i++) at[i] = (int64_t)pare_rng_below(&r->rng, (uint64_t)(cap - n + 1));
        if (circular) at[0] = cap - 1;
    }
    pc_out(r, &c, qt, PC_SHAPE(batch, 2, cap, size));
    if (in_place) c.alias = 0;
    pc_do(r, &c);
}

void pc_cases_moves(pc_run *r) {
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        const pare_qtype *qt = types[t];
        for (int p = 0; pc_wants(r, PARE_OP_Reshape) && p < 2; p++) reshape(r, qt, p);
        for (size_t i = 0; pc_wants(r, PARE_OP_Transpose) && i < sizeof orders / sizeof *orders; i++)
            transpose(r, qt, &orders[i]);
        for (int i = 0; pc_wants(r, PARE_OP_Concat) && i < 9; i++) concat(r, qt, i % 3, 1 + i);
        for (size_t i = 0; pc_wants(r, PARE_OP_Slice) && i < sizeof cuts / sizeof *cuts; i++) slice(r, qt, &cuts[i]);
        for (int i = 0; pc_wants(r, PARE_OP_TensorScatter) && i < 16; i++)
            scatter(r, qt, i & 8 ? 32 : 5, i & 1, i & 2, i & 4);
    }
}
