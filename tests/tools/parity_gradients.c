/* SPDX-License-Identifier: Apache-2.0
 *
 * Operators of gradients and losses: one case each, by the bits of the reference. */
#include "tests/tools/parity.h"

#include <math.h>

static void one(pc_run *r, pare_op op, bool two) {
    pc_case c;
    pc_begin(r, &c, op, "f32");
    pc_params(&c, "[5, 130]");
    float *x = pc_normal(r, &c, PC_SHAPE(5, 130), 1.0f);
    for (int i = 0; op == PARE_OP_Log && i < 5 * 130; i++) x[i] = fabsf(x[i]) + 0.1f;
    if (two) pc_normal(r, &c, PC_SHAPE(5, 130), 1.0f);
    pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(5, 130));
    pc_do(r, &c);
}

static void ints(pc_run *r, pc_case *c, int64_t a, int64_t b) {
    int64_t *p = pc_in(r, c, PC_CONST, &pare_qtype_i64, PC_SHAPE(2));
    p[0] = a, p[1] = b;
}

static void shaped(pc_run *r, pare_op op) {
    pc_case c;
    pc_begin(r, &c, op, "f32");
    pc_params(&c, "[4, 33]");
    if (op == PARE_OP_ConstantOfShape) c.attr.fill.value = 1;
    else pc_normal(r, &c, PC_SHAPE(op == PARE_OP_Expand ? 1 : 4, 33), 1.0f);
    if (op == PARE_OP_ReduceSum) ints(r, &c, 0, 1);
    else if (op != PARE_OP_Shape) ints(r, &c, 4, 33);
    if (op == PARE_OP_Shape) pc_out(r, &c, &pare_qtype_i64, PC_SHAPE(2));
    else if (op == PARE_OP_ReduceSum) pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(1, 1));
    else pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(4, 33));
    pc_do(r, &c);
}

static void scatter(pc_run *r) {
    pc_case c;
    pc_begin(r, &c, PARE_OP_ScatterND, "add");
    pc_params(&c, "8 rows of 40 into 6");
    c.attr.scatter_nd.reduction = PARE_SCATTER_ADD;
    pc_normal(r, &c, PC_SHAPE(6, 40), 1.0f);
    int64_t *at = pc_in(r, &c, PC_INPUT, &pare_qtype_i64, PC_SHAPE(8, 1));
    for (int i = 0; i < 8; i++) at[i] = (int64_t)pare_rng_below(&r->rng, 6);
    pc_normal(r, &c, PC_SHAPE(8, 40), 1.0f);
    pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(6, 40));
    pc_do(r, &c);
}

static void norm(pc_run *r, pare_op op) {
    pc_case c;
    pc_begin(r, &c, op, "f32");
    pc_params(&c, "[37, 96]");
    pc_normal(r, &c, PC_SHAPE(37, 96), 1.0f);
    pc_normal(r, &c, PC_SHAPE(37, 96), 1.0f);
    pc_normal(r, &c, PC_SHAPE(96), 1.0f);
    pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(37, 96));
    pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(96));
    if (op == PARE_OP_LayerNormalizationGrad) pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(96));
    pc_do(r, &c);
}

static void attention(pc_run *r) {
    pc_case c;
    pc_begin(r, &c, PARE_OP_AttentionGrad, "causal");
    pc_params(&c, "2 sequences of 70, 4 heads on 2");
    c.attr.attention.is_causal = true;
    c.attr.attention.q_num_heads = 4, c.attr.attention.kv_num_heads = 2;
    for (int i = 0; i < 5; i++) pc_normal(r, &c, PC_SHAPE(2, 70, i < 3 ? 64 : 32), 1.0f);
    for (int i = 0; i < 3; i++) pc_out(r, &c, &pare_qtype_f32, PC_SHAPE(2, 70, i ? 32 : 64));
    pc_do(r, &c);
}

void pc_cases_gradients(pc_run *r) {
    static const pare_op ones[] = {PARE_OP_Exp, PARE_OP_Log, PARE_OP_Sign, PARE_OP_LogSoftmax},
                         twos[] = {PARE_OP_GeluGrad, PARE_OP_SwishGrad};
    static const pare_op shapes[] = {PARE_OP_ReduceSum, PARE_OP_Shape, PARE_OP_ConstantOfShape, PARE_OP_Expand},
                         norms[] = {PARE_OP_LayerNormalizationGrad, PARE_OP_RMSNormalizationGrad};
    for (int i = 0; i < 4; i++) {
        if (pc_wants(r, ones[i])) one(r, ones[i], false);
        if (pc_wants(r, shapes[i])) shaped(r, shapes[i]);
        if (i < 2 && pc_wants(r, twos[i])) one(r, twos[i], true);
        if (i < 2 && pc_wants(r, norms[i])) norm(r, norms[i]);
    }
    if (pc_wants(r, PARE_OP_ScatterND)) scatter(r);
    if (pc_wants(r, PARE_OP_AttentionGrad)) attention(r);
}
