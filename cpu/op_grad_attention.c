/* SPDX-License-Identifier: Apache-2.0
 *
 * AttentionGrad (Dao 2023, FlashAttention-2, section 3.1.2, with whole rows of scores for a tile of queries): with
 * S = scale Q K' + mask, P = softmax S, Y = P V,
 *   dV = P' dY,  dP = dY V',  dS = P (dP - rowsum(dY Y)),  dQ = scale dS K,  dK = scale dS' Q
 * Work is cut into (batch, key head); within, heads and tiles of queries follow in order, so that the sums of dK and dV
 * are the same at every thread count. */
#include "cpu/attention.h"
#include "cpu/matmul.h"

#include <math.h>
#include <string.h>

#define ROWS 64 /* queries of a tile */

typedef struct grad_job {
    const pare_attn *a;
    pare_attn_view dy, dq, dk, dv; /* dq, dk, dv are written */
    float *scratch;
} grad_job;

/* Scores, and their gradient, of a tile. */
static size_t scratch_floats(const pare_attn *a) { return 2 * ROWS * ((a->keys + 15) & ~(size_t)15); }

static float *row(const pare_attn_view *v, size_t b, size_t h, size_t i) { return (float *)pare_attn_row(v, b, h, i); }

/* P of queries first .. first+n-1 over `keys` keys. */
static void probabilities(const pare_attn *a, size_t b, size_t h, size_t first, size_t n, size_t keys, size_t ld,
                          float *p) {
    pare_sgemm(false, true, (int64_t)n, (int64_t)keys, (int64_t)a->q.size, a->scale, pare_attn_row(&a->q, b, h, first),
               (int64_t)a->q.row, pare_attn_row(&a->k, b, h / a->group, 0), (int64_t)a->k.row, 0, p, (int64_t)ld);
    for (size_t i = 0; i < n; i++) {
        float *s = p + i * ld;
        size_t see = pare_attn_visible(a, b, first + i);
        if (a->mask) pare_attn_add_mask(a, b, h, first + i, 0, keys, s);
        for (size_t j = see; j < keys; j++) s[j] = -INFINITY;
        bool any = false;
        for (size_t j = 0; j < keys && !any; j++) any = s[j] != -INFINITY;
        if (any) pare_vec()->softmax_f32(s, s, keys);
        else memset(s, 0, keys * sizeof *s);
    }
}

static void tile(const grad_job *g, size_t b, size_t h, size_t first, size_t n, float *p, float *ds) {
    const pare_attn *a = g->a;
    size_t kv = h / a->group, keys = pare_attn_visible(a, b, first + n - 1), ld = (a->keys + 15) & ~(size_t)15;
    int64_t m = (int64_t)n, k = (int64_t)keys, l = (int64_t)ld, size = (int64_t)a->q.size, dv = (int64_t)a->v.size;
    const float *dy = pare_attn_row(&g->dy, b, h, first);
    if (!keys) {
        for (size_t i = 0; i < n; i++) memset(row(&g->dq, b, h, first + i), 0, a->q.size * sizeof(float));
        return;
    }
    probabilities(a, b, h, first, n, keys, ld, p);
    pare_sgemm(true, false, k, dv, m, 1, p, l, dy, (int64_t)g->dy.row, 1, row(&g->dv, b, kv, 0), (int64_t)g->dv.row);
    pare_sgemm(false, true, m, k, dv, 1, dy, (int64_t)g->dy.row, pare_attn_row(&a->v, b, kv, 0), (int64_t)a->v.row, 0,
               ds, l);
    for (size_t i = 0; i < n; i++) {
        float sum = pare_vec()->row_dot_f32(pare_attn_row(&g->dy, b, h, first + i),
                                            pare_attn_row(&a->y, b, h, first + i), a->v.size);
        for (size_t j = 0; j < keys; j++) ds[i * ld + j] = p[i * ld + j] * (ds[i * ld + j] - sum);
    }
    pare_sgemm(true, false, k, size, m, a->scale, ds, l, pare_attn_row(&a->q, b, h, first), (int64_t)a->q.row, 1,
               row(&g->dk, b, kv, 0), (int64_t)g->dk.row);
    pare_sgemm(false, false, m, size, k, a->scale, ds, l, pare_attn_row(&a->k, b, kv, 0), (int64_t)a->k.row, 0,
               row(&g->dq, b, h, first), (int64_t)g->dq.row);
}

static void item(void *ctx, size_t at) {
    const grad_job *g = ctx;
    const pare_attn *a = g->a;
    size_t b = at / a->k.heads, kv = at % a->k.heads;
    float *p = g->scratch + (size_t)pare_thread_index() * scratch_floats(a), *ds = p + scratch_floats(a) / 2;
    for (size_t j = 0; j < a->keys; j++) {
        memset(row(&g->dk, b, kv, j), 0, a->k.size * sizeof(float));
        memset(row(&g->dv, b, kv, j), 0, a->v.size * sizeof(float));
    }
    for (size_t h = kv * a->group; h < (kv + 1) * a->group; h++)
        for (size_t i = 0; i < a->q.n; i += ROWS) tile(g, b, h, i, a->q.n - i < ROWS ? a->q.n - i : ROWS, p, ds);
}

/* The call whose gradient this is. */
static pare_op_call forward(const pare_op_call *c) {
    pare_op_call f = {.op = PARE_OP_Attention, .attr = c->attr, .n_in = 7, .n_out = 1};
    for (int i = 0; i < 3; i++) f.in[i] = c->in[2 + i];
    if (c->n_in > 5) f.in[3] = c->in[5];
    if (c->n_in > 6) f.in[6] = c->in[6];
    f.out[0] = (pare_tensor *)(uintptr_t)c->in[1];
    return f;
}

bool pare_cpu_attention_grad_supports(const pare_op_call *c) {
    const pare_attr_attention *at = c->attr;
    pare_op_call f = forward(c);
    if (at && at->softcap > 0) return false;
    for (int i = 0; i < c->n_out; i++)
        if (c->out[i] && !pare_cpu_is_f32(c->out[i])) return false;
    return c->n_out == 3 && c->out[1] && c->out[2] && pare_cpu_is_f32(c->in[0]) && pare_cpu_attention_supports(&f);
}

size_t pare_cpu_attention_grad_workspace(const pare_op_call *c) {
    pare_attn a;
    pare_op_call f = forward(c);
    if (pare_attn_describe(&f, &a, NULL) != PARE_OK) return 0;
    return (size_t)pare_threads() * scratch_floats(&a) * sizeof(float);
}

pare_status pare_cpu_attention_grad_run(const pare_op_call *c, pare_diag *d) {
    pare_attn a;
    pare_op_call f = forward(c);
    PARE_TRY(pare_attn_describe(&f, &a, d));
    PARE_TRY(pare_attn_check_nonpad(c, &a, d));
    grad_job g = {.a = &a, .dy = a.y, .dq = a.q, .dk = a.k, .dv = a.v, .scratch = c->workspace};
    if (!pare_cpu_same_shape(c->in[0], c->in[1])) return pare_cpu_fail(c, d, "dY and Y differ in shape");
    for (int i = 0; i < 3; i++)
        if (!pare_cpu_same_shape(c->out[i], c->in[2 + i]))
            return pare_cpu_fail(c, d, "output %d has not the shape of its operand", i);
    g.dy.data = c->in[0]->data, g.dq.data = c->out[0]->data;
    g.dk.data = c->out[1]->data, g.dv.data = c->out[2]->data;
    if (!a.batch || !a.q.n) return PARE_OK;
    pare_cpu_for(a.batch * a.k.heads, a.q.n * a.keys * a.group * (a.q.size + a.v.size), item, &g);
    return PARE_OK;
}
