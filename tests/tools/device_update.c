/* SPDX-License-Identifier: Apache-2.0
 *
 * device_update: the updates of training (core/update.h) on a device against the CPU's, the same bytes; sums of squares
 * against sums in double. Sizes around a warp, a block and a run; with and without masks, units, averages; AdamW and
 * SGD. exit: 0 all hold, 1 some do not, 2 wrong use, 77 no device (the reason is printed). */
#include "core/rng.h"
#include "core/status.h"
#include "core/update.h"
#include "distill/optim.h"

#include "core/op.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ARRAYS = 7 }; /* w, m, v, ema, unit, g, sum */

typedef struct run {
    const pare_backend *be;
    void *dev;
    pare_rng rng;
    int cases, failed;
} run;

typedef struct arrays {
    float *a[ARRAYS];
    uint8_t *mask;
    double *square;
} arrays;

static void must(bool ok, const char *what) {
    if (ok) return;
    fprintf(stderr, "device_update: %s failed\n", what);
    exit(1);
}

static void *there(run *r, const void *from, size_t bytes) {
    void *p = r->be->alloc(r->dev, bytes);
    must(p && r->be->upload(r->dev, p, from, bytes) == PARE_OK, "an upload");
    return p;
}

static void fill(run *r, arrays *h, size_t n) {
    for (int k = 0; k < ARRAYS; k++) {
        h->a[k] = malloc(n * sizeof(float));
        must(h->a[k], "malloc");
        for (size_t i = 0; i < n; i++) {
            float x = pare_rng_normal(&r->rng);
            h->a[k][i] = k == 2 || k == 4 ? x * x + 1e-3F : x; /* second moments and units are positive */
        }
    }
    h->mask = calloc((n + 7) / 8, 1);
    h->square = calloc(n / PARE_UPDATE_RUN + 1, sizeof *h->square);
    must(h->mask && h->square, "malloc");
    for (size_t i = 0; i < n; i += 3) h->mask[i / 8] |= (uint8_t)(1u << i % 8);
}

static pare_param param(const arrays *s, size_t n, int with) {
    pare_param p = {.name = "x", .w = s->a[0], .m = s->a[1], .v = s->a[2], .g = s->a[5], .n = n, .decay = with & 8};
    if (with & 1) p.ema = s->a[3];
    if (with & 2) p.unit = s->a[4];
    if (with & 4) p.mask = s->mask;
    return p;
}

static void same(run *r, const arrays *h, const arrays *d, int k, size_t n, const char *what) {
    float *back = malloc(n * sizeof *back);
    must(back && r->be->download(r->dev, back, d->a[k], n * sizeof *back) == PARE_OK, "a download");
    size_t i = 0;
    while (i < n && memcmp(&back[i], &h->a[k][i], sizeof *back) == 0) i++;
    if (i < n) {
        r->failed++;
        printf("%s, %zu elements: array %d differs first at %zu: %.9g there, %.9g here\n", what, n, k, i,
               (double)back[i], (double)h->a[k][i]);
    }
    free(back);
}

static void norm(run *r, const arrays *h, const arrays *d, const pare_param *on, size_t n, bool masked) {
    size_t runs = (n + PARE_UPDATE_RUN - 1) / PARE_UPDATE_RUN;
    pare_update u = {.kind = PARE_UPDATE_NORM, .n = n, .g = on->g, .mask = on->mask, .square = d->square};
    must(r->be->update(r->dev, &u) == PARE_OK && r->be->sync(r->dev) == PARE_OK, "NORM");
    must(r->be->download(r->dev, h->square, d->square, runs * sizeof(double)) == PARE_OK, "a download");
    for (size_t k = 0; k < runs; k++) {
        double want = 0;
        for (size_t i = k * PARE_UPDATE_RUN; i < n && i < (k + 1) * PARE_UPDATE_RUN; i++)
            if (!masked || !(h->mask[i / 8] >> (i % 8) & 1)) want += (double)h->a[5][i] * (double)h->a[5][i];
        if (fabs(h->square[k] - want) <= 1e-13 * want) continue;
        r->failed++;
        printf("NORM, %zu elements, run %zu: %.17g there, %.17g here\n", n, k, h->square[k], want);
    }
}

static void add(run *r, const arrays *h, const arrays *d, const pare_param *on, size_t n, bool first) {
    pare_update u = {.kind = PARE_UPDATE_ADD, .n = n, .g = on->g, .mask = on->mask, .sum = d->a[6], .first = first};
    must(r->be->update(r->dev, &u) == PARE_OK, "ADD");
    for (size_t i = 0; i < n; i++) {
        float g = on->mask && h->mask[i / 8] >> (i % 8) & 1 ? 0 : h->a[5][i];
        h->a[6][i] = first ? g : h->a[6][i] + g;
    }
    same(r, h, d, 6, n, first ? "ADD, the first" : "ADD");
}

static void one(run *r, size_t n, int with, pare_optimizer kind) {
    arrays h = {0}, d = {0};
    pare_optim o = {.kind = kind, .schedule = PARE_COSINE, .steps = 9, .rate = 0.01, .min_rate = 0.1, .beta1 = 0.9};
    o.beta2 = 0.95, o.eps = 1e-8, o.momentum = 0.9, o.decay = 0.1, o.clip = 1, o.ema = with & 1 ? 0.9 : 0;
    fill(r, &h, n);
    for (int k = 0; k < ARRAYS; k++) d.a[k] = there(r, h.a[k], n * sizeof(float));
    d.mask = there(r, h.mask, (n + 7) / 8);
    d.square = there(r, h.square, (n / PARE_UPDATE_RUN + 1) * sizeof *h.square);
    pare_param here = param(&h, n, with), far = param(&d, n, with);
    add(r, &h, &d, &far, n, true);
    add(r, &h, &d, &far, n, false);
    norm(r, &h, &d, &far, n, with & 4);
    here.g = h.a[6], far.g = d.a[6]; /* what a trainer sums has no gradient where the mask hides */
    for (int64_t t = 0; t < 3; t++) {
        pare_update u = pare_optim_update(&o, t, 2.5, &far);
        must(r->be->update(r->dev, &u) == PARE_OK, "a step");
        pare_optim_step(&o, t, 2.5, &here, 1);
    }
    must(r->be->sync(r->dev) == PARE_OK, "the device");
    for (int k = 0; k < 4; k++) same(r, &h, &d, k, n, kind == PARE_ADAMW ? "AdamW" : "SGD");
    r->cases++;
    for (int k = 0; k < ARRAYS; k++) r->be->release(r->dev, d.a[k]), free(h.a[k]);
    r->be->release(r->dev, d.mask), r->be->release(r->dev, d.square), free(h.mask), free(h.square);
}

int main(int argc, char **argv) {
    static const size_t sizes[] = {1, 31, 257, 4099, PARE_UPDATE_RUN, PARE_UPDATE_RUN + 1, 3 * PARE_UPDATE_RUN - 5};
    run r = {0};
    pare_diag d = {0};
    const char *name = argc == 2 ? argv[1] : "cuda";
    if (argc > 2) return fprintf(stderr, "usage: device_update [DEVICE]\n"), 2;
    pare_status s = pare_backend_find(name, &r.be, &d);
    if (s == PARE_OK) s = r.be->open(&r.dev, &d);
    if (s != PARE_OK) return printf("no device: %s\n", d.text), 77;
    must(r.be->update != NULL, "the device takes no updates: it");
    pare_rng_seed(&r.rng, 5);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int with = 0; with < 16; with++) one(&r, sizes[i], with, with & 1 ? PARE_SGD : PARE_ADAMW);
    for (int with = 0; with < 16; with++) one(&r, 300, with, with & 1 ? PARE_ADAMW : PARE_SGD);
    r.be->close(r.dev);
    printf("device update: %d cases, %d failed\n", r.cases, r.failed);
    return r.failed || !r.cases;
}
