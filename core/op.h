/* SPDX-License-Identifier: Apache-2.0
 *
 * Operators and backends. A backend never sees a graph: it is handed one pare_op_call at a time. Operators mean what
 * ONNX says (core/ops.def names the opset); attribute structs below use ONNX's attribute names and are zero-filled
 * where ONNX has a default of 0. Absent optional inputs are NULL.
 *
 * Activations are f32 (indices i64, masks bool or f32), contiguous. A constant operand of MatMul, Gemm and Gather may
 * be in any storage format; a `transposed` operand of MatMul is [N, K] as linear layers are stored.
 *
 * Shared memory: the output of an elementwise operator (one or two operands) may be the memory of an operand with as
 * many elements, TensorScatter's output that of its cache and ScatterND's that of its data (then only the update is
 * written). Otherwise outputs overlap nothing. */
#ifndef PARE_CORE_OP_H
#define PARE_CORE_OP_H

#include "core/tensor.h"
#include "core/update.h"

typedef enum pare_op {
#define PARE_OP(id, domain, opset, min_in, max_in, max_out) PARE_OP_##id,
#include "core/ops.def"
#undef PARE_OP
    PARE_OP_COUNT
} pare_op;

#define PARE_OP_MAX_IN  16
#define PARE_OP_MAX_OUT 4

typedef struct pare_op_info {
    const char *name, *domain;
    int opset, min_in, max_in, max_out;
} pare_op_info;
const pare_op_info *pare_op_get(pare_op op);
int pare_op_find(const char *name); /* -1 when unknown */

/* How activations are rounded before they meet a quantized weight (an option of the run, printed in every report).
 * INT8_BLOCK is llama.cpp's rule: blocks of 32 (q8_0) for the 32-column formats, of 256 (q8_K) for the K formats, each
 * with one scale; float weights get no int8 (f16/bf16 weights: activations rounded to that type).
 * INT8_TOKEN: one scale per token (row), symmetric, amax/127.
 * F16: rounded to f16 (bf16 weights: to bf16; f32 weights: not at all), what W4A16 and W8A16 kernels of GPUs do. */
typedef enum pare_act_round {
    PARE_ACT_NONE,
    PARE_ACT_INT8_TOKEN,
    PARE_ACT_INT8_BLOCK,
    PARE_ACT_F16,
    PARE_ACT_COUNT
} pare_act_round;
const char *pare_act_name(pare_act_round a);               /* "none", "int8-token", "int8-block", "f16" */
bool pare_act_find(const char *name, pare_act_round *out); /* false: no such word */

/* ---- attributes, one struct per operator that has any ---- */
typedef struct {
    int64_t axis;
} pare_attr_softmax; /* Softmax, LogSoftmax: -1 */
typedef struct {
    int64_t axis;
} pare_attr_concat;
typedef struct {
    int64_t axis;
} pare_attr_gather;
typedef struct {
    bool tanh_approx;
} pare_attr_gelu; /* approximate="tanh" */
typedef struct {
    float alpha;
} pare_attr_swish; /* 1 */
typedef struct {
    bool keepdims, noop_with_empty_axes;
} pare_attr_reduce; /* ReduceMean, ReduceSum */
typedef struct {
    int64_t start, end;
} pare_attr_shape; /* Shape: dimensions start .. end-1, negative ones counted from the last; end: INT64_MAX */
typedef struct {
    float value;
} pare_attr_fill; /* ConstantOfShape, f32 only */
typedef enum { PARE_SCATTER_SET, PARE_SCATTER_ADD, PARE_SCATTER_MUL, PARE_SCATTER_MAX, PARE_SCATTER_MIN } pare_scatter;
typedef struct {
    pare_scatter reduction;
} pare_attr_scatter_nd; /* ScatterND: "none" */
typedef struct {
    bool allowzero;
} pare_attr_reshape;
typedef struct {
    int n;
    int64_t perm[PARE_MAX_DIMS];
} pare_attr_transpose;
typedef struct {
    float alpha, beta;
    bool trans_a, trans_b;
} pare_attr_gemm;
typedef struct {
    int64_t axis;
    float epsilon;
} pare_attr_norm; /* RMSNormalization, LayerNormalization: axis -1, 1e-5 */
typedef struct {
    bool interleaved;
    int64_t num_heads, rotary_embedding_dim;
} pare_attr_rotary;
typedef struct {
    int64_t axis;
    bool circular;
} pare_attr_scatter; /* TensorScatter: axis -2, mode */
typedef struct {
    bool is_causal;
    int64_t q_num_heads, kv_num_heads; /* needed for 3-D inputs [batch, sequence, heads * size] */
    float scale;                       /* 0 = 1/sqrt(head size) */
    float softcap;                     /* 0 = off */
    int64_t qk_matmul_output_mode;
    bool causal_upper_left; /* nonpad_kv_seqlen with is_causal: query i sees keys 0..i, as ONNX 1.22's own reference has
                               it, instead of the rule below (ours, and every cache's) */
} pare_attr_attention;
/* Attention inputs: Q, K, V, attn_mask, past_key, past_value, nonpad_kv_seqlen (i64 [batch]); outputs Y, present_key,
 * present_value, qk_matmul_output. With nonpad_kv_seqlen and is_causal, query i of t sits at position
 * nonpad_kv_seqlen - t + i: the causal offset is the past length (a cache of fixed capacity holds keys 0..nonpad-1).
 * A query that sees no key yields zeros. */

/* Gradients (dX is the gradient of the loss with respect to X; attributes are those of the operator itself):
 *   GeluGrad, SwishGrad     dY, X          -> dX
 *   LayerNormalizationGrad  dY, X, scale   -> dX, d scale, d bias    one scale per element normalized
 *   RMSNormalizationGrad    dY, X, scale   -> dX, d scale
 *   AttentionGrad           dY, Y, Q, K, V, attn_mask, nonpad_kv_seqlen -> dQ, dK, dV    no softcap, no past
 * An output that is not wanted is NULL; d scale and d bias are sums over all rows in an order that depends on shapes
 * alone. */

typedef struct pare_op_call {
    pare_op op;
    const void *attr; /* the operator's struct, or NULL when it has none */
    int n_in, n_out;
    const pare_tensor *in[PARE_OP_MAX_IN]; /* NULL = absent */
    pare_tensor *out[PARE_OP_MAX_OUT];     /* shapes already set by shape inference; NULL = not wanted */
    const void *host[PARE_OP_MAX_IN];      /* host memory of constant operands (axes, starts, weights as stored), for
                                              backends whose tensors lie elsewhere; NULL for all others. What a Shape
                                              node yields is host memory only: data is the same address */
    void *workspace;                       /* at least workspace_bytes(call), 64-byte aligned */
    size_t workspace_bytes;
    pare_act_round act;
    bool bf16; /* MatMul and Gemm of two f32 operands: both are rounded to bf16 (nearest, ties to even), sums are f32;
                  operands stored otherwise are taken as they are */
} pare_op_call;

/* A device that runs operators. All functions of one opened device are called from one thread at a time; work is queued
 * in order, and sync waits for it. Members marked (opt) may be NULL. */
typedef struct pare_backend pare_backend;
struct pare_backend {
    const char *name; /* "cpu", "cuda" */
    uint32_t abi;     /* PARE_BACKEND_ABI */
    /* The i-th device in words ("NVIDIA H200, sm_90, 139 GiB"), NULL past the last; d (may be NULL) says why there is
     * none. (opt) */
    const char *(*describe)(int i, pare_diag *d);
    pare_status (*open)(void **dev, pare_diag *d);
    void (*close)(void *dev);
    void *(*alloc)(void *dev, size_t bytes); /* 64-byte aligned; NULL on failure */
    void (*release)(void *dev, void *p);
    pare_status (*upload)(void *dev, void *dst, const void *src, size_t bytes); /* src may be reused on return */
    pare_status (*download)(void *dev, void *dst, const void *src, size_t bytes);
    bool (*supports)(void *dev, const pare_op_call *call);
    size_t (*workspace_bytes)(void *dev, const pare_op_call *call);
    pare_status (*run)(void *dev, const pare_op_call *call, pare_diag *d);
    pare_status (*sync)(void *dev);
    bool host_memory; /* device pointers are host pointers: weights are bound in place */
    /* Weights in the order of bytes that the device's kernels want: the same codes and scales, nothing decoded. Every
     * constant operand is uploaded this way, one of a tied pair (an embedding that is also the output) for both: the
     * order must not depend on w->transposed. (opt: as stored, by upload) */
    size_t (*weight_bytes)(void *dev, const pare_tensor *w);
    pare_status (*upload_weight)(void *dev, void *dst, const pare_tensor *w, pare_diag *d); /* w->data: host memory */
    /* Bytes that may still be allocated, and in all. (opt: no limit) */
    void (*memory)(void *dev, size_t *free_bytes, size_t *total_bytes);
    /* A sequence of runs recorded once and replayed: between begin and end, run only records. fails: end gives an
     * error when something in between cannot be recorded; the calls must then be run again. Replaying reads and writes
     * the same addresses. (opt: all four or none) */
    pare_status (*record_begin)(void *dev);
    pare_status (*record_end)(void *dev, void **recording);
    pare_status (*replay)(void *dev, void *recording);
    void (*recording_free)(void *dev, void *recording);
    /* Training: all arrays of the call in the device's memory. (opt: parameters are then the host's) */
    pare_status (*update)(void *dev, const pare_update *u);
    /* Several processes with a device each, without the host's memory between them. ready: what that needs is here.
     * Process 0 makes an id of PARE_TEAM_ID bytes, with which all join, once in the life of a process; they wait there
     * for one another. gather: all [size][bytes] by rank, own and all in the device's memory, in the order of its other
     * work; where it fails, the process ends, since others wait for it there. (opt: all four or none) */
    pare_status (*team_ready)(void *dev, pare_diag *d);
    pare_status (*team_id)(void *dev, void *id, pare_diag *d);
    pare_status (*team_join)(void *dev, const void *id, int rank, int size, pare_diag *d);
    pare_status (*team_gather)(void *dev, const void *own, void *all, size_t bytes);
};
#define PARE_BACKEND_ABI 4u
#define PARE_TEAM_ID     128

/* Backends linked in (core/backends.def), else a plug-in libpare-NAME.so (core/plugin.h). fails: PARE_ERR_UNSUPPORTED
 * for an unknown name; PARE_ERR_DEVICE with one sentence when a known one cannot be had here. */
pare_status pare_backend_find(const char *name, const pare_backend **out, pare_diag *d);
extern const pare_backend pare_backend_cpu;

#endif
