/* SPDX-License-Identifier: Apache-2.0
 *
 * The CPU backend's operators beyond what ONNX's node tests reach: Attention against the definition in double over
 * random shapes, at every instruction level and thread count; caches written in place; broadcasting; tables read from
 * storage; refusals; and that running allocates nothing. */
#include "harness.h"

#include <math.h>

#include "core/cpu_features.h"
#include "core/op.h"
#include "core/threads.h"

static uint64_t state = 88172645463325252u;
static uint64_t next(void) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}
static size_t below(size_t n) { return (size_t)(next() >> 20) % n; }
static float uniform(float lo, float hi) { return lo + (hi - lo) * (float)(next() >> 40) * 0x1p-24f; }

static pare_tensor filled(int ndim, const int64_t *shape, float lo, float hi) {
    pare_tensor t = pare_tensor_make(&pare_qtype_f32, ndim, shape, NULL);
    size_t n = (size_t)pare_tensor_elems(&t);
    t.data = malloc(n * sizeof(float) + 1);
    for (size_t i = 0; i < n; i++) ((float *)t.data)[i] = uniform(lo, hi);
    return t;
}
static pare_tensor i64_of(int64_t n, int64_t *v) { return pare_tensor_make(&pare_qtype_i64, 1, &n, v); }

/* Runs with a workspace of exactly the size asked for; allocation inside is a failure of the test. */
static pare_status run(pare_op_call *c, pare_diag *d) {
    pare_diag none = {0};
    if (!d) d = &none;
    assert_true(pare_backend_cpu.supports(NULL, c));
    c->workspace_bytes = pare_backend_cpu.workspace_bytes(NULL, c);
    harness_buf work = harness_buf_new((c->workspace_bytes + 63) & ~(size_t)63, 0);
    c->workspace = work.p;
    harness_alloc_begin(SIZE_MAX);
    pare_status s = pare_backend_cpu.run(NULL, c, d);
    size_t calls = harness_heap.calls;
    harness_alloc_end();
    assert_int_equal(calls, 0);
    harness_buf_free(&work);
    return s;
}

/* ---- Attention ---- */

typedef struct attn_case {
    pare_attr_attention attr;
    pare_tensor q, k, v, mask, past_k, past_v, nonpad, y;
    bool has_mask, has_past, has_nonpad, flat;
    int64_t batch, heads, kv, nq, nk, np, d, dv;
    int64_t lengths[4];
} attn_case;

static float at4(const pare_tensor *t, bool flat, int64_t heads, int64_t b, int64_t h, int64_t i, int64_t e) {
    const float *p = t->data;
    if (!flat) return p[((b * t->shape[1] + h) * t->shape[2] + i) * t->shape[3] + e];
    int64_t size = t->shape[2] / heads;
    return p[(b * t->shape[1] + i) * t->shape[2] + h * size + e];
}

static attn_case make_case(int kind) {
    attn_case c = {.batch = 1 + (int64_t)below(2), .kv = 1 + (int64_t)below(3), .nq = 1 + (int64_t)below(90)};
    int64_t group = 1 + (int64_t)below(kind % 7 == 0 ? 70 : 4);
    c.heads = c.kv * group, c.d = 1 + (int64_t)below(kind % 3 ? 40 : 130),
    c.dv = kind % 2 ? c.d : 1 + (int64_t)below(80);
    c.nk = kind % 5 == 0 ? c.nq : c.nq + (int64_t)below(200);
    if (kind % 11 == 3)
        c.nq = 1 + (int64_t)below(2), c.nk = 200 + (int64_t)below(900); /* decoding: cut along the keys */
    if (group > 8) c.nq = 1 + (int64_t)below(5);
    c.flat = kind & 1, c.has_mask = kind >> 1 & 1, c.has_past = kind >> 2 & 1,
    c.has_nonpad = !c.has_past && kind >> 3 & 1;
    c.np = c.has_past ? 1 + (int64_t)below(100) : 0;
    c.attr = (pare_attr_attention){.is_causal = kind >> 4 & 1,
                                   .scale = kind % 3 ? 0 : 0.05f,
                                   .softcap = kind % 4 == 1 ? 2.5f : 0};
    if (c.flat) c.attr.q_num_heads = c.heads, c.attr.kv_num_heads = c.kv;
    int64_t q3[] = {c.batch, c.nq, c.heads * c.d}, k3[] = {c.batch, c.nk, c.kv * c.d},
            v3[] = {c.batch, c.nk, c.kv * c.dv};
    int64_t q4[] = {c.batch, c.heads, c.nq, c.d}, k4[] = {c.batch, c.kv, c.nk, c.d}, v4[] = {c.batch, c.kv, c.nk, c.dv};
    int64_t y3[] = {c.batch, c.nq, c.heads * c.dv}, y4[] = {c.batch, c.heads, c.nq, c.dv};
    int n = c.flat ? 3 : 4;
    c.q = filled(n, c.flat ? q3 : q4, -3, 3), c.k = filled(n, c.flat ? k3 : k4, -3, 3),
    c.v = filled(n, c.flat ? v3 : v4, -2, 2);
    c.y = filled(n, c.flat ? y3 : y4, 7, 8);
    int64_t pk[] = {c.batch, c.kv, c.np, c.d}, pv[] = {c.batch, c.kv, c.np, c.dv};
    if (c.has_past) c.past_k = filled(4, pk, -3, 3), c.past_v = filled(4, pv, -2, 2);
    int64_t m4[] = {kind & 32 ? 1 : c.batch, kind & 64 ? c.heads : 1, c.nq, c.np + c.nk};
    if (c.has_mask) {
        c.mask = filled(4, m4, -2, 2);
        if (kind & 1) { /* bool */
            uint8_t *b = c.mask.data;
            c.mask.type = &pare_qtype_bool;
            for (int64_t i = 0; i < pare_tensor_elems(&c.mask); i++) b[i] = below(4) != 0;
        }
    }
    for (int b = 0; b < 4; b++) c.lengths[b] = c.nq + (int64_t)below((size_t)(c.nk - c.nq + 1));
    return c;
}

static void free_case(attn_case *c) {
    free(c->q.data), free(c->k.data), free(c->v.data), free(c->y.data);
    if (c->has_past) free(c->past_k.data), free(c->past_v.data);
    if (c->has_mask) free(c->mask.data);
}

/* The definition, a row at a time, in double. */
static void reference_row(const attn_case *c, int64_t b, int64_t h, int64_t i, double *y) {
    int64_t keys = c->np + c->nk, kv = h / (c->heads / c->kv), see = c->has_nonpad ? c->lengths[b] : keys;
    double scale = c->attr.scale != 0 ? c->attr.scale : 1 / sqrt((double)c->d), max = -INFINITY, sum = 0;
    double *s = malloc((size_t)keys * sizeof(double));
    if (c->attr.is_causal) {
        int64_t end = (c->has_nonpad ? c->lengths[b] - c->nq : c->np) + i + 1;
        if (end < see) see = end;
    }
    for (int64_t j = 0; j < keys; j++) {
        double dot = 0;
        for (int64_t e = 0; e < c->d; e++)
            dot +=
                (double)at4(&c->q, c->flat, c->heads, b, h, i, e) *
                (j < c->np ? at4(&c->past_k, false, 0, b, kv, j, e) : at4(&c->k, c->flat, c->kv, b, kv, j - c->np, e));
        s[j] = dot * scale;
        if (c->attr.softcap > 0) s[j] = c->attr.softcap * tanh(s[j] / c->attr.softcap);
        if (c->has_mask) {
            const int64_t *m = c->mask.shape;
            int64_t at = (((m[0] > 1 ? b : 0) * m[1] + (m[1] > 1 ? h : 0)) * m[2] + i) * m[3] + j;
            if (c->mask.type == &pare_qtype_f32) s[j] += ((float *)c->mask.data)[at];
            else if (!((uint8_t *)c->mask.data)[at]) s[j] = -INFINITY;
        }
        if (j >= see) s[j] = -INFINITY;
        max = fmax(max, s[j]);
    }
    for (int64_t e = 0; e < c->dv; e++) y[e] = 0;
    for (int64_t j = 0; j < keys && max > -INFINITY; j++) sum += s[j] = exp(s[j] - max);
    for (int64_t j = 0; j < keys && max > -INFINITY; j++)
        for (int64_t e = 0; e < c->dv; e++)
            y[e] +=
                s[j] / sum *
                (j < c->np ? at4(&c->past_v, false, 0, b, kv, j, e) : at4(&c->v, c->flat, c->kv, b, kv, j - c->np, e));
    free(s);
}

static void check_case(const attn_case *c, int kind) {
    double y[256];
    for (int64_t b = 0; b < c->batch; b++)
        for (int64_t h = 0; h < c->heads; h += 1 + c->heads / 7)
            for (int64_t i = 0; i < c->nq; i += 1 + c->nq / 9) {
                reference_row(c, b, h, i, y);
                for (int64_t e = 0; e < c->dv; e++) {
                    double got = at4(&c->y, c->flat, c->heads, b, h, i, e);
                    if (!(fabs(got - y[e]) <= 2e-5)) fail_msg("case %d: %g, expected %g", kind, got, y[e]);
                }
            }
}

static void attention_is_its_definition(void **state_) {
    const uint32_t levels[] = {0, PARE_CPU_AVX2, UINT32_MAX};
    for (int kind = 0; kind < 128; kind++) {
        attn_case c = make_case(kind);
        pare_op_call call =
            {.op = PARE_OP_Attention, .attr = &c.attr, .n_in = 7, .n_out = 1, .in = {&c.q, &c.k, &c.v}, .out = {&c.y}};
        if (c.has_mask) call.in[3] = &c.mask;
        if (c.has_past) call.in[4] = &c.past_k, call.in[5] = &c.past_v;
        if (c.has_nonpad) c.nonpad = i64_of(c.batch, c.lengths), call.in[6] = &c.nonpad;
        for (int l = 0; l < 3; l++) {
            pare_cpu_limit(levels[l]);
            pare_set_threads(1);
            assert_int_equal(run(&call, NULL), PARE_OK);
            check_case(&c, kind);
            size_t bytes = pare_tensor_bytes(&c.y);
            void *alone = malloc(bytes);
            memcpy(alone, c.y.data, bytes);
            pare_set_threads(3);
            memset(c.y.data, 0x55, bytes);
            assert_int_equal(run(&call, NULL), PARE_OK);
            assert_memory_equal(alone, c.y.data, bytes);
            free(alone);
        }
        pare_cpu_limit(UINT32_MAX);
        pare_set_threads(0);
        free_case(&c);
    }
}

/* The way that returns scores must give the same answer as the tiled way; rows that see nothing are zeros in both. */
static void attention_scores_and_blind_rows(void **state_) {
    attn_case c = make_case(0);
    int64_t keys = c.nk, shape[] = {c.batch, c.heads, c.nq, keys};
    pare_tensor qk = filled(4, shape, 0, 1), y = c.y;
    y.data = malloc(pare_tensor_bytes(&y));
    c.attr.qk_matmul_output_mode = 3;
    c.mask = pare_tensor_make(&pare_qtype_bool, 2, shape + 2, calloc((size_t)(c.nq * keys), 1)), c.has_mask = true;
    memset((char *)c.mask.data + keys, 1, (size_t)((c.nq - 1) * keys)); /* query 0 sees nothing */
    pare_op_call call = {.op = PARE_OP_Attention,
                         .attr = &c.attr,
                         .n_in = 4,
                         .n_out = 4,
                         .in = {&c.q, &c.k, &c.v, &c.mask},
                         .out = {&c.y, NULL, NULL, &qk}};
    assert_int_equal(run(&call, NULL), PARE_OK);
    call.n_out = 1, call.out[0] = &y;
    assert_int_equal(run(&call, NULL), PARE_OK);
    for (int64_t i = 0; i < pare_tensor_elems(&y); i++)
        assert_true(fabsf(((float *)y.data)[i] - ((float *)c.y.data)[i]) <= 1e-5f);
    for (int64_t e = 0; e < c.dv; e++) assert_true(((float *)y.data)[e] == 0 && ((float *)c.y.data)[e] == 0);
    free(qk.data), free(y.data);
    free_case(&c);
}

/* ---- the rest ---- */

static void cache_in_place(void **state_) {
    int64_t cache_shape[] = {2, 10, 6}, new_shape[] = {2, 3, 6}, at[] = {4, 7};
    for (int circular = 0; circular < 2; circular++) {
        pare_tensor cache = filled(3, cache_shape, 0, 1), fresh = filled(3, new_shape, 5, 6), where = i64_of(2, at);
        float before[120];
        memcpy(before, cache.data, sizeof before);
        pare_attr_scatter attr = {-2, circular};
        at[1] = circular ? 8 : 7; /* wraps */
        pare_op_call c = {.op = PARE_OP_TensorScatter,
                          .attr = &attr,
                          .n_in = 3,
                          .n_out = 1,
                          .in = {&cache, &fresh, &where},
                          .out = {&cache}};
        assert_int_equal(run(&c, NULL), PARE_OK);
        for (int b = 0; b < 2; b++)
            for (int i = 0; i < 10; i++)
                for (int e = 0; e < 6; e++) {
                    int64_t from = (i - at[b] + 10) % 10;
                    float want =
                        from < 3 ? ((float *)fresh.data)[(b * 3 + from) * 6 + e] : before[(b * 10 + i) * 6 + e];
                    assert_true(((float *)cache.data)[(b * 10 + i) * 6 + e] == want);
                }
        at[0] = circular ? -3 : 8;
        pare_diag d = {0};
        assert_int_equal(run(&c, &d), circular ? PARE_OK : PARE_ERR_MISMATCH);
        at[0] = 4;
        free(cache.data), free(fresh.data);
    }
}

static void broadcasting(void **state_) {
    for (int round = 0; round < 300; round++) {
        int64_t ys[4], as[4], bs[4];
        int n = 1 + (int)below(4);
        for (int i = 0; i < n; i++) {
            size_t who = below(5);
            ys[i] = 1 + (int64_t)below(round % 10 == 0 && i == n - 1 ? 9000 : 7);
            as[i] = who == 0 ? 1 : ys[i], bs[i] = who == 1 ? 1 : ys[i];
        }
        int drop_a = (int)below((size_t)n),
            drop_b = drop_a ? 0 : (int)below((size_t)n); /* leading ones may be left out */
        for (int i = 0; i < drop_a; i++) as[i] = 1, bs[i] = ys[i];
        for (int i = 0; i < drop_b; i++) bs[i] = 1, as[i] = ys[i];
        pare_tensor a = filled(n - drop_a, as + drop_a, -3, 3), b = filled(n - drop_b, bs + drop_b, 1, 3),
                    y = filled(n, ys, 0, 1);
        pare_op op = (pare_op)(PARE_OP_Add + (int)below(4));
        pare_op_call c = {.op = op, .n_in = 2, .n_out = 1, .in = {&a, &b}, .out = {&y}};
        assert_int_equal(run(&c, NULL), PARE_OK);
        for (int64_t k = 0; k < pare_tensor_elems(&y); k++) {
            int64_t rest = k, ia = 0, ib = 0, sa = 1, sb = 1;
            for (int i = n - 1; i >= 0; i--) {
                int64_t x = rest % ys[i];
                rest /= ys[i];
                ia += as[i] > 1 ? x * sa : 0, ib += bs[i] > 1 ? x * sb : 0;
                sa *= as[i], sb *= bs[i];
            }
            float p = ((float *)a.data)[ia], q = ((float *)b.data)[ib];
            float want = op == PARE_OP_Add ? p + q : op == PARE_OP_Sub ? p - q : op == PARE_OP_Mul ? p * q : p / q;
            assert_true(((float *)y.data)[k] == want);
        }
        free(a.data), free(b.data), free(y.data);
    }
}

static void gather_reads_storage(void **state_) {
    int64_t shape[] = {5, 8}, ids[] = {4, -5, 2}, out[] = {3, 8};
    uint16_t table[40];
    for (int i = 0; i < 40; i++) table[i] = pare_f32_to_f16((float)i * 0.25f);
    pare_tensor x = pare_tensor_make(&pare_qtype_f16, 2, shape, table), id = i64_of(3, ids), y = filled(2, out, 0, 1);
    pare_op_call c = {.op = PARE_OP_Gather, .n_in = 2, .n_out = 1, .in = {&x, &id}, .out = {&y}};
    assert_int_equal(run(&c, NULL), PARE_OK);
    for (int i = 0; i < 24; i++) assert_true(((float *)y.data)[i] == (float)((ids[i / 8] + 5) % 5 * 8 + i % 8) * 0.25f);
    pare_diag d = {0};
    ids[1] = 5;
    assert_int_equal(run(&c, &d), PARE_ERR_MISMATCH);
    assert_string_equal(d.where, "Gather");
    free(y.data);
}

static void refusals(void **state_) {
    int64_t four = 4, six = 6;
    int32_t num[4] = {1, 2, 3, 4}, den[4] = {1, 0, 1, 1}, quot[4];
    pare_tensor a = pare_tensor_make(&pare_qtype_i32, 1, &four, num),
                b = pare_tensor_make(&pare_qtype_i32, 1, &four, den);
    pare_tensor y = pare_tensor_make(&pare_qtype_i32, 1, &four, quot), f = filled(1, &four, 1, 2),
                g = filled(1, &six, 1, 2);
    pare_diag d = {0};
    pare_op_call c = {.op = PARE_OP_Div, .n_in = 2, .n_out = 1, .in = {&a, &b}, .out = {&y}};
    assert_int_equal(run(&c, &d), PARE_ERR_MISMATCH);
    den[1] = 2, num[1] = INT32_MIN, den[0] = -1;
    assert_int_equal(run(&c, NULL), PARE_OK);
    assert_true(quot[0] == -1 && quot[1] == INT32_MIN / 2);
    c.in[0] = &f; /* mixed types */
    assert_false(pare_backend_cpu.supports(NULL, &c));
    memset(&d, 0, sizeof d);
    assert_int_equal(pare_backend_cpu.run(NULL, &c, &d), PARE_ERR_UNSUPPORTED);
    pare_op_call e = {.op = PARE_OP_Add, .n_in = 2, .n_out = 1, .in = {&f, &g}, .out = {&f}};
    memset(&d, 0, sizeof d);
    assert_int_equal(run(&e, &d), PARE_ERR_MISMATCH);
    e.in[1] = NULL;
    assert_false(pare_backend_cpu.supports(NULL, &e));
    free(f.data), free(g.data);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_is_its_definition),
        cmocka_unit_test(attention_scores_and_blind_rows),
        cmocka_unit_test(cache_in_place),
        cmocka_unit_test(broadcasting),
        cmocka_unit_test(gather_reads_storage),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
