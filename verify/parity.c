/* SPDX-License-Identifier: Apache-2.0
 *
 * Two runs in step, compared node by node. */
#include "verify/parity.h"

#include "core/alloc.h"
#include "core/status.h"
#include "verify/diff.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct node {
    pare_parity_node n; /* name: own copy */
    int bad;
} node;

struct pare_parity_view {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    const pare_tensor *posted; /* the first device's output of `at`, waiting to be compared */
    int at;
    bool ended[2], out_of_step, failed;
    node *nodes; /* touched by the second device's thread only, until both have ended */
    size_t n, cap, cap_scratch;
    double *scratch;
};

pare_parity_view *pare_parity_new(void) {
    pare_parity_view *v = pare_calloc(1, sizeof *v);
    if (!v) return NULL;
    pthread_mutex_init(&v->lock, NULL);
    pthread_cond_init(&v->changed, NULL);
    return v;
}

void pare_parity_free(pare_parity_view **vp) {
    pare_parity_view *v = vp ? *vp : NULL;
    if (!v) return;
    for (size_t i = 0; i < v->n; i++) pare_free((char *)v->nodes[i].n.name);
    pare_free(v->nodes);
    pare_free(v->scratch);
    pthread_cond_destroy(&v->changed);
    pthread_mutex_destroy(&v->lock);
    pare_free(v);
    *vp = NULL;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double to_db(double noise) { return noise > 0 ? -10 * log10(noise) : INFINITY; }

void pare_parity_compare(const float *p, const float *q, size_t rows, size_t cols, double *scratch,
                         pare_parity_node *out, int *bad) {
    double *power = scratch, *noise = scratch + cols, *sorted = scratch + 2 * cols, all = 0;
    pare_diff whole;
    pare_diff_init(&whole);
    memset(scratch, 0, 2 * cols * sizeof *scratch);
    for (size_t r = 0; r < rows; r++) {
        const float *a = p + r * cols, *b = q + r * cols;
        pare_diff_add(&whole, a, b, cols);
        for (size_t c = 0; c < cols; c++) {
            double diff = (double)a[c] - b[c];
            power[c] += (double)a[c] * a[c], noise[c] += diff * diff;
        }
    }
    size_t worst = 0;
    for (size_t c = 0; c < cols; c++) all += power[c] / (double)cols;
    for (size_t c = 0; c < cols; c++) { /* a channel that is nearly silent is measured against the loudness of all */
        double loud = power[c] > all ? power[c] : all;
        sorted[c] = noise[c] = loud > 0 ? noise[c] / loud : noise[c] > 0 ? 1 : 0;
        if (noise[c] > noise[worst]) worst = c;
    }
    qsort(sorted, cols, sizeof *sorted, by_size);
    double channel = to_db(noise[worst]), median = to_db(sorted[cols / 2]), sqnr = pare_diff_sqnr_db(&whole);
    out->sqnr_db = sqnr;
    out->max_error = whole.max_error;
    out->channel_db = channel;
    out->channel = whole.diff2 > 0 ? (int64_t)worst : -1;
    out->diverges =
        !(sqnr >= PARE_PARITY_FLOOR_DB) ||
        (cols >= PARE_PARITY_CHANNELS && channel < PARE_PARITY_CHANNEL_DB && channel < median - PARE_PARITY_OUTLIER_DB);
    *bad = whole.bad;
}

static bool compare(pare_parity_view *v, const char *name, pare_op op, const pare_tensor *p, const pare_tensor *q) {
    size_t n = (size_t)pare_tensor_elems(q), cols = q->ndim ? (size_t)pare_tensor_cols(q) : 1;
    if (!n) return false;
    char *copy = pare_strdup(name);
    if (!copy || pare_grow((void **)&v->nodes, &v->cap, v->n + 1, sizeof *v->nodes) != PARE_OK ||
        pare_grow((void **)&v->scratch, &v->cap_scratch, 3 * cols, sizeof *v->scratch) != PARE_OK) {
        pare_free(copy);
        v->failed = true;
        return false;
    }
    node *x = &v->nodes[v->n++];
    *x = (node){.n = {.name = copy, .what = pare_op_get(op)->name}};
    pare_parity_compare(p->data, q->data, n / cols, cols, v->scratch, &x->n, &x->bad);
    memcpy(q->data, p->data, n * sizeof(float));
    return x->n.channel >= 0;
}

bool pare_parity_first(void *view, int index, const char *name, pare_op op, const pare_tensor *out) {
    pare_parity_view *v = view;
    if (out->type != &pare_qtype_f32) return false;
    pthread_mutex_lock(&v->lock);
    v->posted = out, v->at = index;
    pthread_cond_broadcast(&v->changed);
    while (v->posted && !v->ended[1]) pthread_cond_wait(&v->changed, &v->lock);
    v->posted = NULL;
    pthread_mutex_unlock(&v->lock);
    return false;
}

bool pare_parity_second(void *view, int index, const char *name, pare_op op, const pare_tensor *out) {
    pare_parity_view *v = view;
    if (out->type != &pare_qtype_f32) return false;
    pthread_mutex_lock(&v->lock);
    while (!v->posted && !v->ended[0]) pthread_cond_wait(&v->changed, &v->lock);
    const pare_tensor *p = v->posted;
    if (p && (v->at != index || pare_tensor_elems(p) != pare_tensor_elems(out))) v->out_of_step = true;
    pthread_mutex_unlock(&v->lock);
    bool changed = p && !v->out_of_step && compare(v, name, op, p, out);
    pthread_mutex_lock(&v->lock);
    v->posted = NULL;
    pthread_cond_broadcast(&v->changed);
    pthread_mutex_unlock(&v->lock);
    return changed;
}

void pare_parity_end(pare_parity_view *v, int device) {
    pthread_mutex_lock(&v->lock);
    v->ended[device] = true;
    pthread_cond_broadcast(&v->changed);
    pthread_mutex_unlock(&v->lock);
}

pare_status pare_parity_finish(pare_parity_view *v, int model, pare_verify_report *r, pare_diag *d) {
    if (v->failed) return pare_fail(d, PARE_ERR_NOMEM, NULL, "layers", "no memory for the layer view");
    if (v->out_of_step)
        return pare_fail(d, PARE_ERR_INTERNAL, NULL, "layers", "the two devices ran different graphs of one model");
    for (size_t i = 0; i < v->n; i++) {
        const node *x = &v->nodes[i];
        if (x->bad >= 0)
            return pare_fail(d, PARE_ERR_INPUT, NULL, x->n.name,
                             "NaN or infinite output of this node in the %s model on the %s device",
                             model ? "reduced" : "original", x->bad ? "second" : "first");
        pare_report_parity_node(r, model, &x->n);
    }
    return pare_report_status(r, d);
}
