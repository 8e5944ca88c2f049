/* SPDX-License-Identifier: Apache-2.0
 *
 * Shape inference, one rule per row of core/ops.def, after ONNX's definition of each operator.
 *
 * in: call->in with types and concrete shapes; operands that hold shapes or axes (Reshape, Slice, ReduceMean) need
 * their data (host memory). out: type, ndim and shape of every wanted output (call->out[i] not NULL; its data is left
 * alone). fails: PARE_ERR_INPUT when the operands do not fit, saying which. */
#ifndef PARE_GRAPH_SHAPE_H
#define PARE_GRAPH_SHAPE_H

#include "core/op.h"

pare_status pare_infer_shapes(const pare_op_call *call, pare_diag *d);

#define PARE_OP(id, domain, opset, min_in, max_in, max_out)                                                            \
    pare_status pare_shape_##id(const pare_op_call *c, pare_diag *d);
#include "core/ops.def"
#undef PARE_OP

/* ---- what the rules share ---- */
pare_status pare_shape_bad(pare_diag *d, const pare_op_call *c, const char *what); /* PARE_ERR_INPUT with the shapes */
/* Axis in [-ndim, ndim) to [0, ndim); -1 when outside. */
int pare_shape_axis(int64_t axis, int ndim);
/* Writes output i when it is wanted. */
void pare_shape_set(const pare_op_call *c, int i, const pare_qtype *type, int ndim, const int64_t *shape);
/* Integers of a constant i64 operand, 1-D or scalar; false when its data is not there. */
bool pare_shape_ints(const pare_tensor *t, int64_t *v, int max, int *n);
/* The numbers that Shape yields, up to PARE_MAX_DIMS of them (dims may be NULL); returns how many. */
int64_t pare_shape_extent(const pare_op_call *c, int64_t *dims);
/* The type in which an operator computes with t: f32 for every kind of weight, t's own for integers. */
const pare_qtype *pare_shape_value_type(const pare_tensor *t);

#endif
