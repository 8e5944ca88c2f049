/* SPDX-License-Identifier: Apache-2.0
 *
 * RotaryEmbedding (opset 23) of [batch, heads, sequence, size] or [batch, sequence, heads * size]: the first
 * rotary_embedding_dim of each head are rotated by the angles of its position, the rest are copied. */
#include "cpu/ops_cpu.h"
#include "cpu/vec.h"

#include <string.h>

bool pare_cpu_rotary_supports(const pare_op_call *c) {
    return pare_cpu_is_f32(c->in[0]) && pare_cpu_is_f32(c->in[1]) && pare_cpu_is_f32(c->in[2]) &&
           pare_cpu_is_f32(c->out[0]) && (c->n_in < 4 || !c->in[3] || pare_cpu_is_index(c->in[3]));
}

typedef struct rotary_job {
    const float *x, *cos, *sin;
    float *y;
    const pare_tensor *ids; /* NULL: the caches are [batch, sequence, half] */
    size_t seq, heads, size, half;
    size_t head_stride, seq_stride, batch_stride; /* elements */
    bool interleaved;
} rotary_job;

static void rotary_item(void *ctx, size_t i) {
    const rotary_job *j = ctx;
    size_t b = i / j->seq, t = i % j->seq, pos = j->ids ? (size_t)pare_cpu_index(j->ids, (int64_t)i) : i;
    const float *cos = j->cos + pos * j->half, *sin = j->sin + pos * j->half;
    for (size_t h = 0; h < j->heads; h++) {
        size_t at = b * j->batch_stride + t * j->seq_stride + h * j->head_stride, done = 2 * j->half;
        pare_vec()->rotary_f32(j->x + at, cos, sin, j->y + at, j->half, j->interleaved);
        if (done < j->size && j->x != j->y)
            memcpy(j->y + at + done, j->x + at + done, (j->size - done) * sizeof(float));
    }
}

static pare_status check_angles(const pare_op_call *c, size_t batch, const rotary_job *j, pare_diag *d) {
    const pare_tensor *cos = c->in[1], *sin = c->in[2];
    bool fits = pare_cpu_same_shape(cos, sin) && (size_t)pare_tensor_cols(cos) == j->half;
    if (!fits || (!j->ids && (size_t)pare_tensor_rows(cos) != batch * j->seq))
        return pare_cpu_fail(c, d, "cos and sin must have one row of %zu angles per position", j->half);
    if (!j->ids) return PARE_OK;
    if ((size_t)pare_tensor_elems(j->ids) != batch * j->seq)
        return pare_cpu_fail(c, d, "one position per token, please");
    int64_t rows = pare_tensor_rows(cos);
    for (int64_t i = 0; i < (int64_t)(batch * j->seq); i++) {
        int64_t pos = pare_cpu_index(j->ids, i);
        if (pos < 0 || pos >= rows)
            return pare_cpu_fail(c, d, "position %lld, angles are known for 0 .. %lld", (long long)pos,
                                 (long long)rows - 1);
    }
    return PARE_OK;
}

pare_status pare_cpu_rotary_run(const pare_op_call *c, pare_diag *d) {
    const pare_attr_rotary *attr = c->attr;
    const pare_tensor *x = c->in[0];
    if ((x->ndim != 3 && x->ndim != 4) || !pare_cpu_same_shape(x, c->out[0]))
        return pare_cpu_fail(c, d, "the input must have 3 or 4 dimensions, and the output its shape");
    rotary_job j = {.x = x->data, .cos = c->in[1]->data, .sin = c->in[2]->data, .y = c->out[0]->data};
    j.ids = c->n_in > 3 ? c->in[3] : NULL;
    j.interleaved = attr && attr->interleaved;
    size_t cols = (size_t)pare_tensor_cols(x);
    if (x->ndim == 4) {
        j.heads = (size_t)x->shape[1], j.seq = (size_t)x->shape[2], j.size = cols;
        j.seq_stride = cols, j.head_stride = j.seq * cols;
    } else {
        int64_t heads = attr ? attr->num_heads : 0;
        if (heads <= 0 || cols % (size_t)heads) return pare_cpu_fail(c, d, "num_heads must divide %zu", cols);
        j.heads = (size_t)heads, j.seq = (size_t)x->shape[1], j.size = cols / (size_t)heads;
        j.seq_stride = cols, j.head_stride = j.size;
    }
    j.batch_stride = j.seq * j.heads * j.size;
    size_t dim = attr && attr->rotary_embedding_dim ? (size_t)attr->rotary_embedding_dim : j.size;
    if (dim > j.size || dim % 2)
        return pare_cpu_fail(c, d, "rotary dimension %zu of heads of %zu must be even and fit", dim, j.size);
    j.half = dim / 2;
    PARE_TRY(check_angles(c, (size_t)x->shape[0], &j, d));
    pare_cpu_for((size_t)x->shape[0] * j.seq, j.heads * j.size, rotary_item, &j);
    return PARE_OK;
}
