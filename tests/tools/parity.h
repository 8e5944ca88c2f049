/* SPDX-License-Identifier: Apache-2.0
 *
 * Operator cases for a device backend, judged by the CPU's scalar reference and by sums in double (device_parity.c).
 * A case is one pare_op_call with operands in host memory; pc_do runs it on the device between guard bytes, twice and
 * from a recording, and compares.
 *
 * owns: operands and expectations lie in the case's arena, gone with pc_do. */
#ifndef PARE_TESTS_PARITY_H
#define PARE_TESTS_PARITY_H

#include "core/alloc.h"
#include "core/op.h"
#include "core/rng.h"

#include <stdio.h>

typedef enum pc_kind {
    PC_INPUT,  /* activations */
    PC_CONST,  /* uploaded as it is; host memory is known, too (axes, starts) */
    PC_WEIGHT, /* uploaded in the device's order */
} pc_kind;

typedef union pc_attr {
    pare_attr_softmax softmax;
    pare_attr_concat concat;
    pare_attr_gather gather;
    pare_attr_gelu gelu;
    pare_attr_swish swish;
    pare_attr_reduce reduce;
    pare_attr_reshape reshape;
    pare_attr_transpose transpose;
    pare_attr_gemm gemm;
    pare_attr_norm norm;
    pare_attr_rotary rotary;
    pare_attr_scatter scatter;
    pare_attr_scatter_nd scatter_nd;
    pare_attr_shape shape;
    pare_attr_fill fill;
    pare_attr_attention attention;
} pc_attr;

typedef struct pc_case {
    pare_op op;
    char label[40]; /* the table's second column: a format and a rounding, or what is special */
    char params[200];
    const char *kernel; /* the only matrix kernel allowed (PARE_CUDA_MM), or NULL */
    pc_attr attr;
    pare_act_round act;
    bool bf16;
    int n_in, n_out;
    pare_tensor in[PARE_OP_MAX_IN], out[PARE_OP_MAX_OUT]; /* an absent input: type NULL */
    pc_kind kind[PARE_OP_MAX_IN];
    int alias; /* output 0 is the memory of this input; -1 */
    /* Expectations: |out - want| <= bound per element, NaN where want is NaN; want NULL: the reference's bits. */
    double *want[PARE_OP_MAX_OUT], *bound[PARE_OP_MAX_OUT];
    const char *equal; /* the bound in words */
} pc_case;

typedef struct pc_row { /* of the table */
    pare_op op;
    char label[40];
    const char *kernel, *equal;
    int cases, failed, unsupported;
    double worst; /* error / bound; 0 where bits are compared */
    double seconds;
} pc_row;

typedef struct pc_fail {
    pare_op op;
    char label[40], params[200], text[700];
    const char *kernel;
} pc_fail;

typedef struct pc_run {
    const pare_backend *be;
    void *dev;
    const char *only_op;     /* NULL: all */
    const char *only_label;  /* part of the label; NULL: all */
    const char *only_kernel; /* NULL: all, and the backend's own choice */
    bool full, list, first;  /* first: nothing more after a failure */
    uint64_t seed;
    pare_rng rng;
    pc_row *rows;
    size_t n_rows, cap_rows;
    pc_fail *fails;
    size_t n_fails, cap_fails;
    long n_done;
    double seconds, start, limit; /* limit: no case begins later than so many seconds after the start; 0: none */
    long n_late;
    /* of the case being built */
    void **blocks;
    size_t n_blocks, cap_blocks;
} pc_run;

/* ---- building (parity_case.c) ---- */

bool pc_wants(const pc_run *r, pare_op op);
/* A new case with ONNX's default attributes; label by printf. */
PARE_PRINTF(4, 5) void pc_begin(pc_run *r, pc_case *c, pare_op op, const char *label, ...);
PARE_PRINTF(2, 3) void pc_params(pc_case *c, const char *fmt, ...);
void *pc_alloc(pc_run *r, size_t bytes); /* zero-filled, until pc_do */
/* Adds an operand or output of that shape (ndim numbers); returns its data, zero-filled. */
void *pc_in(pc_run *r, pc_case *c, pc_kind kind, const pare_qtype *type, int ndim, const int64_t *shape);
void pc_absent(pc_case *c);
void pc_out(pc_run *r, pc_case *c, const pare_qtype *type, int ndim, const int64_t *shape);
/* f32 operand with normal numbers times scale. */
float *pc_normal(pc_run *r, pc_case *c, int ndim, const int64_t *shape, float scale);
/* want and bound of output i, to be filled. */
void pc_expect(pc_run *r, pc_case *c, int i, const char *equal);
int64_t pc_pick(pc_run *r, const int64_t *list, int n);
#define PC_SHAPE(...) ((int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t))), ((const int64_t[]){__VA_ARGS__})

/* ---- running (parity_run.c) ---- */

void pc_do(pc_run *r, pc_case *c);
bool pc_supported(pc_run *r, const pc_case *c); /* by the device; shapes and kernel are enough */
void pc_drop(pc_run *r);                        /* the case being built */
PARE_PRINTF(3, 4) void pc_failed(pc_run *r, const pc_case *c, const char *fmt, ...);
pc_row *pc_row_of(pc_run *r, const pc_case *c);

/* ---- compare (parity_compare.c) ---- */

/* Judges out (host copies of the outputs) by the expectations; worst becomes the largest error / bound. False: text. */
bool pc_judge(const pc_case *c, void *const *out, void *const *reference, double *worst, char *text, size_t text_bytes);

/* ---- weights (parity_weights.c) ---- */

typedef enum pc_fill {
    PC_RANDOM,   /* valid random bytes, scales around 0.02 */
    PC_ENCODED,  /* normal numbers through the format's grid */
    PC_EXTREME,  /* all code bytes 0x00, 0xFF, 0x80 or 0x7F by row */
    PC_INTEGERS, /* scales of 1, so that products are integers */
} pc_fill;
/* Rows of k columns of a format; false: this test knows no such format, or it has no such filling. */
bool pc_fill_rows(pare_rng *rng, const pare_qtype *qt, void *rows, int64_t n, int64_t k, pc_fill fill);
/* What the product sees of a row: w = exactly decoded values; integer formats also code * scale and minimum per column,
 * apart and unrounded. Bounds are relative to the shares: asymmetric integers count from 0 or from the middle, as a
 * kernel likes, so theirs is the larger of both. */
typedef struct pc_parts {
    double *w, *code, *minimum, *code_share, *minimum_share; /* k each; code NULL: not an integer format */
} pc_parts;
pc_parts pc_parts_new(pc_run *r, const pare_tensor *w);
void pc_parts_row(const pare_tensor *w, int64_t row, pc_parts *p);

/* ---- the cases: one function per family ---- */

#define PC_FAMILIES(F) F(elementwise) F(norms) F(moves) F(gather) F(attention) F(products) F(dense) F(gradients)
#define PC_DECLARE(f)  void pc_cases_##f(pc_run *r);
PC_FAMILIES(PC_DECLARE)

#endif
