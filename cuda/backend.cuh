/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside view of the CUDA backend: cuda/ops_cuda.def says which functions run which operator. All of them take one call
 * whose output shapes are set (and are checked again here), read attributes from call->attr (NULL = ONNX's defaults),
 * allocate nothing, and queue their kernels on dev->rt.stream. Numbers of constant operands that decide about launches
 * (axes, starts) are read from call->host. */
#ifndef PARE_CUDA_BACKEND_CUH
#define PARE_CUDA_BACKEND_CUH

#include "core/plugin.h"
#include "cuda/rt.cuh"

typedef struct pare_cuda {
    rt_device rt;
    void *blas; /* cuBLAS, once it was needed; see cuda/blas.cuh */
    struct {
        void *p;
        size_t bytes;
    } * blocks; /* all allocations, for the limit and for close */
    size_t n_blocks, cap_blocks, taken, limit;
    size_t weights; /* uploaded so far */
} pare_cuda;

extern const pare_host *pare_cuda_host; /* set when the plug-in is loaded */

typedef bool pare_cuda_supports_fn(const pare_cuda *dev, const pare_op_call *c);
typedef size_t pare_cuda_workspace_fn(const pare_cuda *dev, const pare_op_call *c);
typedef pare_status pare_cuda_run_fn(pare_cuda *dev, const pare_op_call *c, pare_diag *d);

#define PARE_CUDA_OP(op, run, supports, workspace)                                                                     \
    pare_cuda_run_fn pare_cuda_##run##_run;                                                                            \
    pare_cuda_supports_fn pare_cuda_##supports##_supports;                                                             \
    pare_cuda_workspace_fn pare_cuda_##workspace##_workspace;
#include "cuda/ops_cuda.def"
#undef PARE_CUDA_OP

/* ---- what the families share (cuda/common.cu) ---- */

/* Fails with "OP: text", the operator's name as `where`. */
PARE_PRINTF(3, 4) pare_status pare_cuda_fail(const pare_op_call *c, pare_diag *d, const char *fmt, ...);
/* PARE_OK, or what went wrong with the launches so far. */
pare_status pare_cuda_check(pare_cuda *dev, const pare_op_call *c, pare_diag *d);
int pare_cuda_axis(int64_t axis, int ndim); /* [-ndim, ndim) to [0, ndim); -1 when out of range */
int64_t pare_cuda_span(const pare_tensor *t, int first, int last); /* product of dimensions first .. last-1 */
bool pare_cuda_same_shape(const pare_tensor *a, const pare_tensor *b);
bool pare_cuda_is_f32(const pare_tensor *t); /* and present */
bool pare_cuda_is_i64(const pare_tensor *t);
bool pare_cuda_is_index(const pare_tensor *t); /* i64 or i32, and present */
bool pare_cuda_plain(const pare_tensor *t); /* present, elements of 1, 2, 4 or 8 bytes: copies may move single ones */
/* Number i of operand k, which must have been given in host memory (call->host). */
int64_t pare_cuda_host_index(const pare_op_call *c, int k, int64_t i);
static inline int64_t pare_cuda_elems(const pare_tensor *t) { return pare_cuda_host->tensor_elems(t); }
static inline int64_t pare_cuda_rows(const pare_tensor *t) { return pare_cuda_host->tensor_rows(t); }
static inline int64_t pare_cuda_cols(const pare_tensor *t) { return pare_cuda_host->tensor_cols(t); }

/* Element types by what they are, since the host's descriptors cannot be compared by address here. */
typedef enum pare_cuda_type {
    PARE_CT_OTHER,
    PARE_CT_F32,
    PARE_CT_F16,
    PARE_CT_BF16,
    PARE_CT_I64,
    PARE_CT_I32,
    PARE_CT_BOOL
} pare_cuda_type;
pare_cuda_type pare_cuda_type_of(const pare_qtype *qt);

/* The largest unit, up to 16 bytes, in which `bytes` from p on can be moved: a power of two that divides both. */
static inline size_t pare_cuda_unit(size_t bytes, const void *p) {
    size_t bits = bytes | (size_t)(uintptr_t)p | 16;
    return bits & (~bits + 1);
}

/* n / d rounded up */
static inline int64_t pare_cuda_ceil(int64_t n, int64_t d) { return (n + d - 1) / d; }

#endif
