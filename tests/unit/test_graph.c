/* SPDX-License-Identifier: Apache-2.0
 *
 * graph/: shape rules against shapes worked out by hand from ONNX's text, operands that do not fit, building errors. */
#include "harness.h"

#include "core/status.h"
#include "graph/graph.h"
#include "graph/shape.h"

#define F &pare_qtype_f32
#define I &pare_qtype_i64

typedef struct shaped {
    int ndim;
    int64_t dim[4];
    const int64_t *ints;
    bool transposed;
} shaped;

/* Infers one call of up to 7 operands (ndim < 0 = absent) and compares output `which`; want NULL = must be refused. */
static void expect(pare_op op, const void *attr, int n_in, const shaped *in, int n_out, int which, const shaped *want) {
    pare_tensor t[7], out[4] = {{0}};
    pare_op_call c = {.op = op, .attr = attr, .n_in = n_in, .n_out = n_out};
    pare_diag d = {0};
    for (int i = 0; i < n_in; i++) {
        if (in[i].ndim < 0) continue;
        t[i] = pare_tensor_make(in[i].ints ? I : F, in[i].ndim, in[i].dim, (void *)(uintptr_t)in[i].ints);
        t[i].transposed = in[i].transposed;
        c.in[i] = &t[i];
    }
    for (int i = 0; i < n_out; i++) c.out[i] = &out[i];
    pare_status s = pare_infer_shapes(&c, &d);
    if (!want) {
        assert_int_equal(s, PARE_ERR_INPUT);
        assert_non_null(strstr(d.text, pare_op_get(op)->name));
        return;
    }
    if (s != PARE_OK) fail_msg("%s", d.text);
    assert_int_equal(out[which].ndim, want->ndim);
    for (int k = 0; k < want->ndim; k++) assert_int_equal(out[which].shape[k], want->dim[k]);
}

#define S(n, ...) ((shaped){n, {__VA_ARGS__}, NULL, false})
#define T(n, ...) ((shaped){n, {__VA_ARGS__}, NULL, true})
#define V(...)    ((shaped){1, {sizeof((int64_t[]){__VA_ARGS__}) / 8}, (const int64_t[]){__VA_ARGS__}, false})
#define NONE      ((shaped){.ndim = -1})
#define CASE(op, attr, n_out, which, want, ...)                                                                        \
    do {                                                                                                               \
        const shaped in_[] = {__VA_ARGS__};                                                                            \
        const shaped want_ = want;                                                                                     \
        expect(op, attr, sizeof in_ / sizeof *in_, in_, n_out, which, &want_);                                         \
    } while (0)
#define BAD(op, attr, ...)                                                                                             \
    do {                                                                                                               \
        const shaped in_[] = {__VA_ARGS__};                                                                            \
        expect(op, attr, sizeof in_ / sizeof *in_, in_, 1, 0, NULL);                                                   \
    } while (0)

static void broadcasting(void **s) {
    CASE(PARE_OP_Add, NULL, 1, 0, S(3, 2, 3, 4), S(3, 2, 3, 4), S(1, 4));
    CASE(PARE_OP_Mul, NULL, 1, 0, S(3, 2, 3, 4), S(3, 2, 1, 4), S(2, 3, 1));
    CASE(PARE_OP_Div, NULL, 1, 0, S(1, 5), S(0, 0), S(1, 5));
    CASE(PARE_OP_Sub, NULL, 1, 0, S(2, 0, 3), S(2, 0, 3), S(2, 1, 3));
    BAD(PARE_OP_Add, NULL, S(2, 2, 3), S(1, 2));
    BAD(PARE_OP_Add, NULL, S(2, 2, 3));
}

static void layout(void **s) {
    const pare_attr_reshape zero = {.allowzero = true};
    CASE(PARE_OP_Reshape, NULL, 1, 0, S(4, 2, 5, 3, 4), S(3, 2, 5, 12), V(0, 0, 3, 4));
    CASE(PARE_OP_Reshape, NULL, 1, 0, S(2, 10, 12), S(3, 2, 5, 12), V(-1, 12));
    CASE(PARE_OP_Reshape, &zero, 1, 0, S(2, 0, 7), S(2, 3, 0), V(0, 7));
    BAD(PARE_OP_Reshape, NULL, S(3, 2, 5, 12), V(-1, 7));
    BAD(PARE_OP_Reshape, NULL, S(3, 2, 5, 12), V(-1, -1));
    BAD(PARE_OP_Reshape, NULL, S(1, 4), V(2, 0, 2));
    const pare_attr_transpose perm = {3, {2, 0, 1}}, twice = {3, {0, 0, 1}};
    CASE(PARE_OP_Transpose, &perm, 1, 0, S(3, 4, 2, 3), S(3, 2, 3, 4));
    CASE(PARE_OP_Transpose, NULL, 1, 0, S(3, 4, 3, 2), S(3, 2, 3, 4));
    BAD(PARE_OP_Transpose, &twice, S(3, 2, 3, 4));
    const pare_attr_concat last = {-1}, beyond = {2};
    CASE(PARE_OP_Concat, &last, 1, 0, S(2, 2, 9), S(2, 2, 4), S(2, 2, 5));
    BAD(PARE_OP_Concat, &last, S(2, 2, 4), S(2, 3, 5));
    BAD(PARE_OP_Concat, &beyond, S(2, 2, 4), S(2, 2, 5));
    const pare_attr_reduce keep = {true, false}, drop = {false, false}, noop = {false, true};
    const pare_attr_gather first = {0}, second = {1};
    const shaped ids = {2, {2, 3}, (const int64_t[6]){0}, false};
    CASE(PARE_OP_Gather, &first, 1, 0, S(3, 2, 3, 8), S(2, 100, 8), ids);
    CASE(PARE_OP_Gather, &second, 1, 0, S(2, 100, 1), S(2, 100, 8), V(3));
    CASE(PARE_OP_ReduceMean, &keep, 1, 0, S(3, 2, 1, 4), S(3, 2, 3, 4), V(-2));
    CASE(PARE_OP_ReduceMean, &drop, 1, 0, S(0, 0), S(3, 2, 3, 4));
    CASE(PARE_OP_ReduceMean, &noop, 1, 0, S(3, 2, 3, 4), S(3, 2, 3, 4));
    BAD(PARE_OP_ReduceMean, NULL, S(2, 2, 3), V(2));
}

static void slices(void **s) {
    CASE(PARE_OP_Slice, NULL, 1, 0, S(3, 2, 1, 4), S(3, 2, 7, 4), V(-1), V(INT64_MAX), V(1));
    CASE(PARE_OP_Slice, NULL, 1, 0, S(2, 2, 3), S(2, 5, 7), V(1, 0), V(3, 100), V(0, 1), V(1, 3));
    CASE(PARE_OP_Slice, NULL, 1, 0, S(2, 1, 7), S(2, 5, 7), V(2), V(3));
    CASE(PARE_OP_Slice, NULL, 1, 0, S(1, 20), S(1, 20), V(-1), V(INT64_MIN), V(0), V(-1)); /* reversed */
    CASE(PARE_OP_Slice, NULL, 1, 0, S(1, 3), S(1, 10), V(8), V(2), V(0), V(-2));
    CASE(PARE_OP_Slice, NULL, 1, 0, S(1, 0), S(1, 10), V(8), V(2));
    CASE(PARE_OP_Slice, NULL, 1, 0, S(1, 0), S(1, 10), V(100), V(200));
    CASE(PARE_OP_Slice, NULL, 1, 0, S(1, 1), S(1, 10), V(0), V(10), V(0), V(INT64_MAX));
    BAD(PARE_OP_Slice, NULL, S(1, 10), V(0), V(10), V(1));
    BAD(PARE_OP_Slice, NULL, S(1, 10), V(0), V(10), V(0), V(0));
    BAD(PARE_OP_Slice, NULL, S(2, 4, 4), V(0, 0), V(1, 1), V(0, -2));
}

static void products(void **s) {
    CASE(PARE_OP_MatMul, NULL, 1, 0, S(3, 2, 5, 9), S(3, 2, 5, 7), T(2, 9, 7));
    CASE(PARE_OP_MatMul, NULL, 1, 0, S(3, 2, 5, 9), S(3, 2, 5, 7), S(2, 7, 9));
    CASE(PARE_OP_MatMul, NULL, 1, 0, S(4, 3, 2, 5, 9), S(4, 3, 1, 5, 7), S(3, 2, 7, 9));
    CASE(PARE_OP_MatMul, NULL, 1, 0, S(1, 9), S(1, 7), S(2, 7, 9));
    CASE(PARE_OP_MatMul, NULL, 1, 0, S(0, 0), S(1, 7), S(1, 7));
    BAD(PARE_OP_MatMul, NULL, S(2, 5, 7), T(2, 7, 9));
    const pare_attr_gemm both = {1, 1, true, true};
    CASE(PARE_OP_Gemm, &both, 1, 0, S(2, 4, 6), S(2, 5, 4), S(2, 6, 5), S(1, 6));
    BAD(PARE_OP_Gemm, &both, S(2, 5, 4), S(2, 6, 5), S(1, 5));
    const pare_attr_norm last = {-1, 1e-5f}, from1 = {1, 1e-5f};
    CASE(PARE_OP_LayerNormalization, &from1, 3, 1, S(3, 2, 1, 1), S(3, 2, 3, 4), S(2, 3, 4), S(1, 4));
    CASE(PARE_OP_RMSNormalization, &last, 1, 0, S(3, 2, 3, 4), S(3, 2, 3, 4), S(1, 4));
    BAD(PARE_OP_RMSNormalization, &last, S(3, 2, 3, 4), S(1, 3));
}

static void attention(void **s) {
    const pare_attr_rotary rot = {.num_heads = 4}, part = {.num_heads = 4, .rotary_embedding_dim = 8};
    const shaped pos = {2, {2, 5}, (const int64_t[10]){0}, false};
    CASE(PARE_OP_RotaryEmbedding, &rot, 1, 0, S(3, 2, 5, 64), S(3, 2, 5, 64), S(2, 50, 8), S(2, 50, 8), pos);
    CASE(PARE_OP_RotaryEmbedding, &part, 1, 0, S(4, 2, 4, 5, 16), S(4, 2, 4, 5, 16), S(3, 2, 5, 4), S(3, 2, 5, 4));
    BAD(PARE_OP_RotaryEmbedding, &rot, S(3, 2, 5, 64), S(2, 50, 7), S(2, 50, 7), pos);
    BAD(PARE_OP_RotaryEmbedding, &rot, S(3, 2, 6, 64), S(2, 50, 8), S(2, 50, 8), pos);
    const pare_attr_scatter seq = {-2, false};
    CASE(PARE_OP_TensorScatter, &seq, 1, 0, S(3, 2, 50, 32), S(3, 2, 50, 32), S(3, 2, 5, 32), V(3, 4));
    BAD(PARE_OP_TensorScatter, &seq, S(3, 2, 4, 32), S(3, 2, 5, 32), V(0, 0));
    const pare_attr_attention gqa = {.is_causal = true, .q_num_heads = 4, .kv_num_heads = 2};
    CASE(PARE_OP_Attention, &gqa, 1, 0, S(3, 2, 5, 64), S(3, 2, 5, 64), S(3, 2, 50, 32), S(3, 2, 50, 32), NONE, NONE,
         NONE, V(7, 9));
    CASE(PARE_OP_Attention, &gqa, 3, 1, S(4, 2, 2, 9, 16), S(3, 2, 5, 64), S(3, 2, 5, 32), S(3, 2, 5, 32), NONE,
         S(4, 2, 2, 4, 16), S(4, 2, 2, 4, 16));
    CASE(PARE_OP_Attention, NULL, 4, 3, S(4, 1, 6, 5, 7), S(4, 1, 6, 5, 8), S(4, 1, 3, 7, 8), S(4, 1, 3, 7, 10),
         S(2, 5, 7));
    BAD(PARE_OP_Attention, NULL, S(4, 1, 6, 5, 8), S(4, 1, 4, 7, 8), S(4, 1, 4, 7, 8));
    BAD(PARE_OP_Attention, &gqa, S(3, 2, 5, 64), S(3, 2, 50, 32), S(3, 2, 40, 32));
    BAD(PARE_OP_Attention, NULL, S(4, 1, 6, 5, 8), S(4, 1, 3, 7, 8), S(4, 1, 3, 7, 8), S(2, 4, 7));
}

static void too_large(void **s) {
    BAD(PARE_OP_MatMul, NULL, S(2, (int64_t)1 << 40, 1), S(2, 1, (int64_t)1 << 40));
    BAD(PARE_OP_Add, NULL, S(4, 1, (int64_t)1 << 31, 1, (int64_t)1 << 31), S(3, 16, 1, 1));
}

static void building(void **s) {
    pare_graph *g = pare_graph_new();
    pare_diag d = {0};
    pare_value x = pare_graph_input(g, "x", F, 2, (int64_t[]){PARE_SYM_BATCH, 8});
    pare_graph_stage(g, "one");
    pare_value y = pare_graph_node(g, PARE_OP_Relu, "y", NULL, 0, 1, &x, 1);
    pare_graph_stage(g, "two");
    pare_value n = pare_graph_node(g, PARE_OP_LayerNormalization, "n", &(pare_attr_norm){-1, 1e-5f},
                                   sizeof(pare_attr_norm), 2, (pare_value[]){y, x}, 3);
    assert_int_equal(pare_graph_status(g, &d), PARE_OK);
    assert_int_equal(pare_graph_find(g, "y"), y);
    assert_int_equal(pare_graph_output(g, n, 2), n + 2);
    assert_int_equal(pare_graph_output(g, n, 3), PARE_NO_VALUE);
    assert_int_equal(pare_graph_output(g, x, 0), PARE_NO_VALUE);
    assert_int_equal(pare_graph_stages(g), 2);
    assert_string_equal(pare_graph_stage_name(g, 1), "two");
    assert_int_equal(pare_graph_node(g, PARE_OP_Add, "broken", NULL, 0, 2, (pare_value[]){y, PARE_NO_VALUE}, 1),
                     PARE_NO_VALUE);
    assert_int_equal(pare_graph_status(g, &d), PARE_ERR_INPUT);
    assert_string_equal(d.where, "broken");
    pare_graph_free(&g);
    assert_null(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broadcasting), cmocka_unit_test(layout),    cmocka_unit_test(slices),
        cmocka_unit_test(products),     cmocka_unit_test(attention), cmocka_unit_test(too_large),
        cmocka_unit_test(building),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
