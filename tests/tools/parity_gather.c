/* SPDX-License-Identifier: Apache-2.0
 *
 * Gather: rows of plain tensors along any axis, and rows of weights in storage format (embeddings), decoded exactly. */
#include "tests/tools/parity.h"

#include <string.h>

static void indices(pc_run *r, pc_case *c, int ndim, const int64_t *shape, int64_t n, bool negative) {
    int64_t *p = pc_in(r, c, PC_INPUT, &pare_qtype_i64, ndim, shape);
    for (int64_t i = 0; i < pare_tensor_elems(&c->in[1]); i++) {
        p[i] = (int64_t)pare_rng_below(&r->rng, (uint64_t)n);
        if (negative && i % 3 == 0) p[i] -= n;
    }
}

static void rows_of(pc_run *r, const pare_qtype *qt, int64_t k, pc_fill fill) {
    pc_case c;
    pc_begin(r, &c, PARE_OP_Gather, "%s rows", qt->name);
    pc_params(&c, "[37, %lld]", (long long)k);
    void *w = pc_in(r, &c, PC_WEIGHT, qt, PC_SHAPE(37, k));
    if (!pc_fill_rows(&r->rng, qt, w, 37, k, fill) && !pc_fill_rows(&r->rng, qt, w, 37, k, PC_RANDOM))
        pc_failed(r, &c, "this test cannot fill rows of the format");
    indices(r, &c, PC_SHAPE(2, 5), 37, true);
    pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(2, 5, k));
    pc_do(r, &c);
}

static void along(pc_run *r, const pare_qtype *qt, int axis) {
    pc_case c;
    int64_t dim[3] = {6, 9, 20}, y[4], at = 0;
    pc_begin(r, &c, PARE_OP_Gather, "%s axis %d", qt->name, axis);
    pc_params(&c, "[6, 9, 20]");
    c.attr.gather.axis = axis;
    uint8_t *p = pc_in(r, &c, PC_INPUT, qt, 3, dim);
    for (size_t i = 0; i < pare_tensor_bytes(&c.in[0]); i++) p[i] = (uint8_t)(pare_rng_u64(&r->rng) & 0x3F);
    indices(r, &c, PC_SHAPE(2, 3), dim[axis], false);
    for (int k = 0; k < 3; k++) {
        if (k == axis) y[at++] = 2, y[at++] = 3;
        else y[at++] = dim[k];
    }
    pc_out(r, &c, qt, 4, y);
    pc_do(r, &c);
}

void pc_cases_gather(pc_run *r) {
    static const pare_qtype *const types[] = {&pare_qtype_f32, &pare_qtype_i64};
    if (!pc_wants(r, PARE_OP_Gather)) return;
    for (size_t f = 0; f < pare_qtype_count(); f++) {
        const pare_qtype *qt = pare_qtype_at(f);
        static const int64_t ks[] = {96, 256, 33, 512, 544};
        for (size_t i = 0; qt->decode && i < sizeof ks / sizeof *ks; i++)
            if (pare_qtype_fits(qt, (size_t)ks[i]))
                for (int fill = PC_RANDOM; fill <= PC_EXTREME; fill++)
                    if (r->full || fill == (int)(i % 3)) rows_of(r, qt, ks[i], (pc_fill)fill);
    }
    for (size_t t = 0; t < 2; t++)
        for (int axis = 0; axis < 3; axis++) along(r, types[t], axis);
}
