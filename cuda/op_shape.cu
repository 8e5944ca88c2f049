/* SPDX-License-Identifier: Apache-2.0
 *
 * Operators that only move elements: Reshape, Transpose, Expand, Slice, Concat; elements of 1, 2, 4 or 8 bytes.
 * A strided copy is a walk over the output's dimensions. Units grow to up to 16 bytes where runs stay together; where
 * the output's last dimension is another one than the input's, tiles go through shared memory, so that both sides are
 * read and written in runs. equal: exactly. */
#include "cuda/backend.cuh"
#include "cuda/dev.cuh"

#define THREADS   256
#define TILE      32
#define TILE_ROWS 8

bool pare_cuda_reshape_supports(const pare_cuda *dev, const pare_op_call *c) {
    return c->in[0]->type == c->out[0]->type && pare_cuda_plain(c->in[0]);
}

pare_status pare_cuda_reshape_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0], *y = c->out[0];
    int64_t n = pare_cuda_elems(x);
    if (n != pare_cuda_elems(y))
        return pare_cuda_fail(c, d, "%lld elements cannot become %lld", (long long)n, (long long)pare_cuda_elems(y));
    if (n && x->data != y->data) rt_copy(&dev->rt, y->data, x->data, (size_t)n * x->type->block_bytes);
    return pare_cuda_check(dev, c, d);
}

/* ---- strided copies: y is contiguous, x is walked with signed strides ---- */

typedef struct walk {
    const char *x;
    char *y;
    int64_t size; /* bytes of the unit that moves */
    int n;
    int64_t dim[PARE_MAX_DIMS + 1], stride[PARE_MAX_DIMS + 1]; /* of y, outermost first; strides of x in bytes */
} walk;

template <class U> __global__ void __launch_bounds__(THREADS) walk_kernel(walk w, int64_t units) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, rest = i;
    if (i >= units) return;
    const char *x = w.x;
    for (int k = w.n - 1; k > 0; k--) {
        int64_t up = rest / w.dim[k];
        x += (rest - up * w.dim[k]) * w.stride[k];
        rest = up;
    }
    ((U *)w.y)[i] = *(const U *)(x + rest * w.stride[0]);
}

/* Dimension `along` of y is contiguous in x; a block does a tile of it and of y's last dimension, for one index of all
 * other dimensions. */
template <class U> __global__ void __launch_bounds__(TILE *TILE_ROWS) tile_kernel(walk w, int along) {
    PARE_SHARED(U, tile, TILE * (TILE + 1));
    int last = w.n - 1;
    int64_t na = w.dim[along], nl = w.dim[last], ta = (na + TILE - 1) / TILE, tl = (nl + TILE - 1) / TILE;
    int64_t rest = blockIdx.x, next = rest / tl, l0 = (rest - next * tl) * TILE;
    rest = next, next = rest / ta;
    int64_t a0 = (rest - next * ta) * TILE, step = 1, to = 0, y_along = 0;
    rest = next;
    const char *x = w.x;
    for (int k = last; k >= 0; step *= w.dim[k], k--) {
        if (k == along) y_along = step;
        if (k == along || k == last) continue;
        int64_t up = rest / w.dim[k], at = rest - up * w.dim[k];
        x += at * w.stride[k], to += at * step;
        rest = up;
    }
    int tx = (int)threadIdx.x, ty = (int)threadIdx.y;
    for (int r = ty; r < TILE; r += TILE_ROWS)
        if (a0 + tx < na && l0 + r < nl)
            tile[r * (TILE + 1) + tx] = *(const U *)(x + (l0 + r) * w.stride[last] + (a0 + tx) * (int64_t)sizeof(U));
    __syncthreads();
    for (int r = ty; r < TILE; r += TILE_ROWS)
        if (a0 + r < na && l0 + tx < nl) ((U *)w.y)[to + (a0 + r) * y_along + l0 + tx] = tile[tx * (TILE + 1) + r];
}

/* Drops dimensions of 1 and merges neighbours that are contiguous in x. False when there is nothing to do. */
static bool merge(walk *w) {
    int m = 0;
    for (int k = 0; k < w->n; k++) {
        if (w->dim[k] == 0) return false;
        if (w->dim[k] == 1) continue;
        if (m && w->stride[m - 1] == w->stride[k] * w->dim[k])
            w->dim[m - 1] *= w->dim[k], w->stride[m - 1] = w->stride[k];
        else w->dim[m] = w->dim[k], w->stride[m] = w->stride[k], m++;
    }
    if (m == 0) w->dim[0] = 1, w->stride[0] = w->size, m = 1;
    w->n = m;
    return true;
}

/* The largest unit in which the runs of x and y can be moved. */
static void widen(walk *w) {
    int last = w->n - 1;
    if (w->stride[last] != w->size) return;
    size_t all = (size_t)(w->dim[last] * w->size);
    for (int k = 0; k < last; k++) all |= (size_t)w->stride[k];
    int64_t unit = (int64_t)pare_cuda_unit(all | (size_t)(uintptr_t)w->x, w->y);
    if (unit <= w->size) return;
    w->dim[last] = w->dim[last] * w->size / unit;
    w->size = w->stride[last] = unit;
}

template <class U> static void launch_walk(pare_cuda *dev, const walk &w) {
    int64_t units = 1, tiles = 1;
    int along = -1, last = w.n - 1;
    for (int k = 0; k < w.n; k++) {
        units *= w.dim[k];
        if (k < last && w.stride[k] == w.size && w.stride[last] != w.size) along = k;
    }
    for (int k = 0; k < w.n; k++) tiles *= k == last || k == along ? pare_cuda_ceil(w.dim[k], TILE) : w.dim[k];
    if constexpr (sizeof(U) < 16) /* units of 16 bytes come from runs that stay together */
        if (along >= 0 && w.dim[along] >= TILE_ROWS && w.dim[last] >= TILE_ROWS) {
            pare_launch<tile_kernel<U>>(dev->rt.stream, dim3((unsigned)tiles), dim3(TILE, TILE_ROWS), 0, w, along);
            return;
        }
    pare_launch<walk_kernel<U>>(dev->rt.stream, dim3((unsigned)pare_cuda_ceil(units, THREADS)), THREADS, 0, w, units);
}

static void run_walk(pare_cuda *dev, walk *w) {
    if (!merge(w)) return;
    widen(w);
    switch (w->size) {
    case 16: launch_walk<uint4>(dev, *w); break;
    case 8: launch_walk<uint2>(dev, *w); break;
    case 4: launch_walk<uint32_t>(dev, *w); break;
    case 2: launch_walk<uint16_t>(dev, *w); break;
    default: launch_walk<uint8_t>(dev, *w); break;
    }
}

static walk walk_of(const pare_tensor *x, const pare_tensor *y) {
    walk w = {};
    w.x = (const char *)x->data, w.y = (char *)y->data, w.size = x->type->block_bytes, w.n = x->ndim;
    return w;
}

bool pare_cuda_transpose_supports(const pare_cuda *dev, const pare_op_call *c) {
    return c->in[0]->type == c->out[0]->type && pare_cuda_plain(c->in[0]);
}

/* The shape is an input, but the output already has it. */
bool pare_cuda_expand_supports(const pare_cuda *dev, const pare_op_call *c) {
    return c->in[0]->type == c->out[0]->type && pare_cuda_plain(c->in[0]);
}

pare_status pare_cuda_expand_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0], *y = c->out[0];
    walk w = walk_of(x, y);
    int64_t stride = w.size;
    w.n = y->ndim;
    for (int k = y->ndim - 1, from = x->ndim - 1; k >= 0; k--, from--) {
        int64_t dim = from >= 0 ? x->shape[from] : 1;
        if (dim != 1 && dim != y->shape[k])
            return pare_cuda_fail(c, d, "dimension %d is %lld, expected 1 or %lld", from, (long long)dim,
                                  (long long)y->shape[k]);
        w.dim[k] = y->shape[k], w.stride[k] = dim == 1 ? 0 : stride;
        stride *= dim;
    }
    if (x->ndim > y->ndim) return pare_cuda_fail(c, d, "the output has fewer dimensions");
    if (pare_cuda_elems(y)) run_walk(dev, &w);
    return pare_cuda_check(dev, c, d);
}

pare_status pare_cuda_transpose_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0], *y = c->out[0];
    const pare_attr_transpose *attr = (const pare_attr_transpose *)c->attr;
    walk w = walk_of(x, y);
    unsigned seen = 0;
    bool given = attr && attr->n > 0;
    if (y->ndim != x->ndim || (given && attr->n != x->ndim))
        return pare_cuda_fail(c, d, "perm must name each dimension once");
    for (int k = 0; k < x->ndim; k++) {
        int from = given ? pare_cuda_axis(attr->perm[k], x->ndim) : x->ndim - 1 - k;
        if (from < 0 || seen >> from & 1 || y->shape[k] != x->shape[from])
            return pare_cuda_fail(c, d, "perm must name each dimension once, and the output follow it");
        seen |= 1u << from;
        w.dim[k] = x->shape[from];
        w.stride[k] = pare_cuda_span(x, from + 1, x->ndim) * w.size;
    }
    run_walk(dev, &w);
    return pare_cuda_check(dev, c, d);
}

/* ---- Slice: bounds are constants, read in host memory ---- */

bool pare_cuda_slice_supports(const pare_cuda *dev, const pare_op_call *c) {
    for (int i = 1; i < c->n_in; i++)
        if (c->in[i] && (!pare_cuda_is_index(c->in[i]) || (!c->host[i] && pare_cuda_elems(c->in[i])))) return false;
    return c->in[0]->type == c->out[0]->type && pare_cuda_plain(c->in[0]);
}

static int64_t clamp(int64_t v, int64_t lo, int64_t hi) { return v < lo ? lo : v > hi ? hi : v; }

/* ONNX's (numpy's) rule: negative bounds count from the end, both are clamped, the sign of step gives the direction.
 * Returns the first index and sets *n. */
static int64_t slice_range(int64_t dim, int64_t start, int64_t end, int64_t step, int64_t *n) {
    if (start < 0) start += dim;
    if (end < 0) end += dim;
    int64_t top = step < 0 ? dim - 1 : dim, low = step < 0 ? -1 : 0;
    start = clamp(start, low, top), end = clamp(end, low, top);
    int64_t span = step > 0 ? end - start : start - end;
    int64_t size = step > 0 ? step : step == INT64_MIN ? INT64_MAX : -step;
    *n = span > 0 ? (span - 1) / size + 1 : 0;
    return start;
}

pare_status pare_cuda_slice_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    const pare_tensor *x = c->in[0], *y = c->out[0];
    bool axes = c->n_in > 3 && c->in[3], steps = c->n_in > 4 && c->in[4];
    walk w = walk_of(x, y);
    int64_t n = pare_cuda_elems(c->in[1]);
    if (pare_cuda_elems(c->in[2]) != n || (axes && pare_cuda_elems(c->in[3]) != n) ||
        (steps && pare_cuda_elems(c->in[4]) != n) || n > x->ndim || y->ndim != x->ndim)
        return pare_cuda_fail(c, d, "starts, ends, axes and steps must have one entry per sliced dimension");
    for (int k = 0; k < x->ndim; k++) w.dim[k] = x->shape[k], w.stride[k] = pare_cuda_span(x, k + 1, x->ndim) * w.size;
    for (int64_t i = 0; i < n; i++) {
        int axis = pare_cuda_axis(axes ? pare_cuda_host_index(c, 3, i) : i, x->ndim);
        int64_t step = steps ? pare_cuda_host_index(c, 4, i) : 1, count;
        if (axis < 0 || step == 0) return pare_cuda_fail(c, d, "an axis does not exist or a step is 0");
        int64_t first =
            slice_range(x->shape[axis], pare_cuda_host_index(c, 1, i), pare_cuda_host_index(c, 2, i), step, &count);
        if (count) w.x += first * w.stride[axis];
        w.dim[axis] = count;
        if (count > 1) w.stride[axis] *= step;
    }
    for (int k = 0; k < x->ndim; k++)
        if (y->shape[k] != w.dim[k])
            return pare_cuda_fail(c, d, "dimension %d of the slice is %lld, the output says %lld", k,
                                  (long long)w.dim[k], (long long)y->shape[k]);
    run_walk(dev, &w);
    return pare_cuda_check(dev, c, d);
}

/* ---- Concat: one launch for all inputs ---- */

typedef struct parts {
    int n;
    const char *x[PARE_OP_MAX_IN];
    int64_t end[PARE_OP_MAX_IN]; /* of the part within a row of the output, in units */
} parts;

template <class U> __global__ void __launch_bounds__(THREADS) concat_kernel(parts w, U *y, int64_t row, int64_t units) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x, outer = i / row, at = i - outer * row, first = 0;
    if (i >= units) return;
    int k = 0;
    while (at >= w.end[k]) first = w.end[k++];
    y[i] = ((const U *)w.x[k])[outer * (w.end[k] - first) + at - first];
}

bool pare_cuda_concat_supports(const pare_cuda *dev, const pare_op_call *c) {
    const pare_tensor *y = c->out[0];
    if (!c->attr || pare_cuda_axis(((const pare_attr_concat *)c->attr)->axis, y->ndim) < 0) return false;
    for (int i = 0; i < c->n_in; i++)
        if (!c->in[i] || c->in[i]->type != y->type) return false;
    return pare_cuda_plain(y);
}

static pare_status concat_parts(const pare_op_call *c, int axis, int64_t bytes, parts *w, pare_diag *d) {
    const pare_tensor *y = c->out[0];
    int64_t total = 0;
    for (int i = 0; i < c->n_in; i++) {
        const pare_tensor *x = c->in[i];
        bool fits = x->ndim == y->ndim;
        for (int k = 0; fits && k < y->ndim; k++) fits = k == axis || x->shape[k] == y->shape[k];
        if (!fits) return pare_cuda_fail(c, d, "input %d differs from the output outside axis %d", i, axis);
        total += x->shape[axis];
        w->x[w->n] = (const char *)x->data, w->end[w->n] = total * bytes;
        w->n += x->shape[axis] > 0;
    }
    if (total == y->shape[axis]) return PARE_OK;
    return pare_cuda_fail(c, d, "inputs of %lld in all for an output of %lld", (long long)total,
                          (long long)y->shape[axis]);
}

pare_status pare_cuda_concat_run(pare_cuda *dev, const pare_op_call *c, pare_diag *d) {
    const pare_tensor *y = c->out[0];
    int axis = pare_cuda_axis(((const pare_attr_concat *)c->attr)->axis, y->ndim);
    int64_t size = y->type->block_bytes, bytes = pare_cuda_span(y, axis + 1, y->ndim) * size;
    parts w = {};
    pare_status st = concat_parts(c, axis, bytes, &w, d);
    int64_t all = pare_cuda_elems(y) * size;
    if (st != PARE_OK || !all) return st;
    size_t unit = pare_cuda_unit(0, y->data);
    for (int k = 0; k < w.n; k++) {
        size_t u = pare_cuda_unit((size_t)w.end[k], w.x[k]);
        if (u < unit) unit = u;
    }
    for (int k = 0; k < w.n; k++) w.end[k] /= (int64_t)unit;
    int64_t row = w.end[w.n - 1], units = all / (int64_t)unit;
    dim3 grid((unsigned)pare_cuda_ceil(units, THREADS));
    void *s = dev->rt.stream;
    switch (unit) {
    case 16: pare_launch<concat_kernel<uint4>>(s, grid, THREADS, 0, w, (uint4 *)y->data, row, units); break;
    case 8: pare_launch<concat_kernel<uint2>>(s, grid, THREADS, 0, w, (uint2 *)y->data, row, units); break;
    case 4: pare_launch<concat_kernel<uint32_t>>(s, grid, THREADS, 0, w, (uint32_t *)y->data, row, units); break;
    case 2: pare_launch<concat_kernel<uint16_t>>(s, grid, THREADS, 0, w, (uint16_t *)y->data, row, units); break;
    default: pare_launch<concat_kernel<uint8_t>>(s, grid, THREADS, 0, w, (uint8_t *)y->data, row, units); break;
    }
    return pare_cuda_check(dev, c, d);
}
