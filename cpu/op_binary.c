/* SPDX-License-Identifier: Apache-2.0
 *
 * Add, Sub, Mul, Div with ONNX (numpy) broadcasting, in f32 and every integer type (integers wrap; Div truncates
 * toward zero). A constant operand in another float type is read as f32. */
#include "cpu/ops_cpu.h"
#include "cpu/vec.h"

#include <string.h>

#define COLS 4096 /* columns per item: two operands and the result stay in the first-level cache */

/* The broadcast, coalesced: neighbouring dimensions are merged while both operands allow it. */
typedef struct bcast {
    int n;
    int64_t dim[PARE_MAX_DIMS + 1], sa[PARE_MAX_DIMS + 1], sb[PARE_MAX_DIMS + 1]; /* element strides, 0 = repeated */
} bcast;

/* Dimension i of y, counted from the last, in t: its size, and the element stride so far. */
static int64_t dim_from_end(const pare_tensor *t, int i) { return i < t->ndim ? t->shape[t->ndim - 1 - i] : 1; }

static bool plan(bcast *p, const pare_tensor *a, const pare_tensor *b, const pare_tensor *y) {
    int64_t sa = 1, sb = 1;
    if (a->ndim > y->ndim || b->ndim > y->ndim) return false;
    p->n = 0;
    for (int i = 0; i < y->ndim; i++) { /* innermost first */
        int64_t da = dim_from_end(a, i), db = dim_from_end(b, i), dy = dim_from_end(y, i);
        if ((da != dy && da != 1) || (db != dy && db != 1) || (dy != 1 && da == 1 && db == 1)) return false;
        int64_t ta = da == 1 ? 0 : sa, tb = db == 1 ? 0 : sb;
        sa *= da, sb *= db;
        if (dy == 1) continue;
        int k = p->n - 1;
        if (k >= 0 && ta == p->sa[k] * p->dim[k] && tb == p->sb[k] * p->dim[k]) p->dim[k] *= dy;
        else p->dim[p->n] = dy, p->sa[p->n] = ta, p->sb[p->n] = tb, p->n++;
    }
    if (p->n == 0) p->dim[0] = p->sa[0] = p->sb[0] = 1, p->n = 1;
    return true;
}

/* One operand element type: either a row kernel of cpu/vec.h or integer loops of the same shape. */
typedef void row_fn(const void *a, const void *b, void *y, size_t n, int mode);

typedef struct job {
    bcast p;
    const char *a, *b;
    char *y;
    size_t elem, chunks;
    pare_binary_f32_fn *f32;
    row_fn *ints;
} job;

static void item(void *ctx, size_t i) {
    const job *j = ctx;
    const bcast *p = &j->p;
    size_t row = i / j->chunks, first = i % j->chunks * COLS, n = (size_t)p->dim[0] - first, rest = row;
    size_t at_a = first * (size_t)p->sa[0], at_b = first * (size_t)p->sb[0];
    if (n > COLS) n = COLS;
    for (int k = 1; k < p->n; k++) {
        size_t x = rest % (size_t)p->dim[k];
        rest /= (size_t)p->dim[k];
        at_a += x * (size_t)p->sa[k], at_b += x * (size_t)p->sb[k];
    }
    const char *a = j->a + at_a * j->elem, *b = j->b + at_b * j->elem;
    char *y = j->y + (row * (size_t)p->dim[0] + first) * j->elem;
    int mode = p->sa[0] == 0 ? PARE_VEC_A1 : p->sb[0] == 0 ? PARE_VEC_B1 : PARE_VEC_AB;
    if (j->f32) j->f32((const float *)a, (const float *)b, (float *)y, n, mode);
    else j->ints(a, b, y, n, mode);
}

static bool run_job(job *j, const pare_tensor *a, const pare_tensor *b, const pare_tensor *y) {
    if (!plan(&j->p, a, b, y)) return false;
    if (pare_tensor_elems(y) == 0) return true;
    size_t rows = 1;
    for (int k = 1; k < j->p.n; k++) rows *= (size_t)j->p.dim[k];
    j->chunks = ((size_t)j->p.dim[0] + COLS - 1) / COLS;
    size_t cols = (size_t)j->p.dim[0] < COLS ? (size_t)j->p.dim[0] : COLS;
    pare_cpu_for(rows * j->chunks, cols, item, j);
    return true;
}

bool pare_cpu_binary_f32(pare_op op, const pare_tensor *a, const float *a_data, const pare_tensor *b,
                         const float *b_data, const pare_tensor *y) {
    const pare_vec_table *v = pare_vec();
    job j = {.a = (const char *)a_data, .b = (const char *)b_data, .y = y->data, .elem = sizeof(float)};
    j.f32 = op == PARE_OP_Add   ? v->add_f32
            : op == PARE_OP_Sub ? v->sub_f32
            : op == PARE_OP_Mul ? v->mul_f32
                                : v->div_f32;
    return run_job(&j, a, b, y);
}

/* Wrapping is done in the unsigned type of the same size; a divisor of zero is refused before, and so is nothing else:
 * -128 / -1 wraps like the other overflows. */
#define LOOP(expr)                                                                                                     \
    for (size_t i = 0; i < n; i++) {                                                                                   \
        u_t x = a[i * sa], z = b[i * sb];                                                                              \
        y[i] = (u_t)(expr);                                                                                            \
    }
#define INT_OP(name, op, U, expr)                                                                                      \
    static void op##_##name(const void *pa, const void *pb, void *py, size_t n, int mode) {                            \
        typedef U u_t;                                                                                                 \
        const u_t *a = pa, *b = pb;                                                                                    \
        u_t *y = py;                                                                                                   \
        size_t sa = mode != PARE_VEC_A1, sb = mode != PARE_VEC_B1;                                                     \
        LOOP(expr)                                                                                                     \
    }
#define INT_TYPE_OPS(name, U, quotient)                                                                                \
    INT_OP(name, add, U, x + z)                                                                                        \
    INT_OP(name, sub, U, x - z)                                                                                        \
    INT_OP(name, mul, U, (uint64_t)x *z)                                                                               \
    INT_OP(name, div, U, quotient)
#define SIGNED_QUOTIENT(S) (S) z == -1 ? (u_t)(0 - x) : (u_t)((S)x / (S)z)
INT_TYPE_OPS(i8, uint8_t, SIGNED_QUOTIENT(int8_t))
INT_TYPE_OPS(i16, uint16_t, SIGNED_QUOTIENT(int16_t))
INT_TYPE_OPS(i32, uint32_t, SIGNED_QUOTIENT(int32_t))
INT_TYPE_OPS(i64, uint64_t, SIGNED_QUOTIENT(int64_t))
INT_TYPE_OPS(u8, uint8_t, x / z)
INT_TYPE_OPS(u16, uint16_t, x / z)
INT_TYPE_OPS(u32, uint32_t, x / z)
INT_TYPE_OPS(u64, uint64_t, x / z)

static const struct int_ops {
    const char *type;
    row_fn *fn[4];
} int_ops[] = {
#define ROW(t)                                                                                                         \
    {                                                                                                                  \
#t, { add_##t, sub_##t, mul_##t, div_##t }                                                                     \
    }
    ROW(i8), ROW(i16), ROW(i32), ROW(i64), ROW(u8), ROW(u16), ROW(u32), ROW(u64),
#undef ROW
};

static const struct int_ops *find_ints(const pare_qtype *qt) {
    for (size_t i = 0; i < sizeof int_ops / sizeof *int_ops; i++)
        if (strcmp(int_ops[i].type, qt->name) == 0) return &int_ops[i];
    return NULL;
}

bool pare_cpu_binary_supports(const pare_op_call *c) {
    const pare_tensor *a = c->in[0], *b = c->in[1], *y = c->out[0];
    if (pare_cpu_is_f32(y)) return pare_cpu_decodable(a) && pare_cpu_decodable(b);
    return a->type == b->type && a->type == y->type && find_ints(y->type);
}

size_t pare_cpu_binary_workspace(const pare_op_call *c) {
    return pare_cpu_is_f32(c->out[0]) ? pare_cpu_f32_bytes(c->in[0]) + pare_cpu_f32_bytes(c->in[1]) : 0;
}

static bool has_zero(const pare_tensor *t) {
    size_t size = t->type->block_bytes, n = (size_t)pare_tensor_elems(t);
    static const char zero[8];
    for (size_t i = 0; i < n; i++)
        if (memcmp((const char *)t->data + i * size, zero, size) == 0) return true;
    return false;
}

pare_status pare_cpu_binary_run(const pare_op_call *c, pare_diag *d) {
    const pare_tensor *a = c->in[0], *b = c->in[1], *y = c->out[0];
    bool ok;
    if (pare_cpu_is_f32(y)) {
        char *scratch = c->workspace;
        const float *a_data = pare_cpu_f32(a, &scratch), *b_data = pare_cpu_f32(b, &scratch);
        ok = pare_cpu_binary_f32(c->op, a, a_data, b, b_data, y);
    } else {
        job j = {.a = a->data, .b = b->data, .y = y->data, .elem = y->type->block_bytes};
        j.ints = find_ints(y->type)->fn[c->op - PARE_OP_Add];
        if (c->op == PARE_OP_Div && has_zero(b)) return pare_cpu_fail(c, d, "an integer divisor is zero");
        ok = run_job(&j, a, b, y);
    }
    return ok ? PARE_OK : pare_cpu_fail(c, d, "the operands' shapes do not broadcast to the output's");
}
