/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside view of the CPU backend: cpu/ops_cpu.def says which functions run which operator. All of them take one call
 * whose output shapes are set (and are checked again here), read attributes from call->attr (NULL = ONNX's defaults),
 * and allocate nothing: scratch is call->workspace, of the size that the family's workspace function asked for. */
#ifndef PARE_CPU_OPS_CPU_H
#define PARE_CPU_OPS_CPU_H

#include "core/op.h"
#include "core/status.h"
#include "core/threads.h"

typedef bool pare_cpu_supports_fn(const pare_op_call *c);
typedef size_t pare_cpu_workspace_fn(const pare_op_call *c);
typedef pare_status pare_cpu_run_fn(const pare_op_call *c, pare_diag *d);

#define PARE_CPU_OP(op, run, supports, workspace)                                                                      \
    pare_cpu_run_fn pare_cpu_##run##_run;                                                                              \
    pare_cpu_supports_fn pare_cpu_##supports##_supports;                                                               \
    pare_cpu_workspace_fn pare_cpu_##workspace##_workspace;
#include "cpu/ops_cpu.def"
#undef PARE_CPU_OP

/* ---- what the families share (cpu/ops_common.c) ---- */

/* Fails with "OP: text", the operator's name as `where`. */
PARE_PRINTF(3, 4) pare_status pare_cpu_fail(const pare_op_call *c, pare_diag *d, const char *fmt, ...);
/* axis in [-ndim, ndim) to [0, ndim); -1 when out of range. */
int pare_cpu_axis(int64_t axis, int ndim);
bool pare_cpu_same_shape(const pare_tensor *a, const pare_tensor *b);
/* product of dimensions first .. last-1 */
int64_t pare_cpu_span(const pare_tensor *t, int first, int last);
/* true when every element has its own byte address (block size 1): copies may move single elements. */
bool pare_cpu_plain(const pare_tensor *t);
bool pare_cpu_is_f32(const pare_tensor *t);    /* and present */
bool pare_cpu_decodable(const pare_tensor *t); /* present, f32 or convertible to it */
bool pare_cpu_is_index(const pare_tensor *t);  /* i64 or i32 */
int64_t pare_cpu_index(const pare_tensor *t, int64_t i);
/* Bytes of scratch needed to read t as f32 (0 when it is f32 or absent), and the reading: decodes into *scratch and
 * moves it on; f32 data is handed out in place. */
size_t pare_cpu_f32_bytes(const pare_tensor *t);
const float *pare_cpu_f32(const pare_tensor *t, char **scratch);
/* fn(ctx, i) for i < n, each about `work` element operations; on one thread when that is not worth the start. */
void pare_cpu_for(size_t n, size_t work, pare_item_fn *fn, void *ctx);

/* y[i] = a[i] op b[i] with ONNX broadcasting to the shape of y, f32; y may be a or b. op: PARE_OP_Add, Sub, Mul, Div.
 */
bool pare_cpu_binary_f32(pare_op op, const pare_tensor *a, const float *a_data, const pare_tensor *b,
                         const float *b_data, const pare_tensor *y);

#endif
