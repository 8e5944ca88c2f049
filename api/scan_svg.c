/* SPDX-License-Identifier: Apache-2.0
 *
 * Sensitivity as a picture (api/scan.h): layers across, the loss upwards on a logarithmic scale, a line for every
 * pattern and amount. Plain SVG, readable by itself and in a page. */
#include "api/scan.h"

#include "core/status.h"
#include "verify/report.h"

#include <math.h>

enum { WIDTH = 900, HEIGHT = 460, LEFT = 70, RIGHT = 190, TOP = 40, BOTTOM = 50 };

typedef struct frame {
    double lo, hi; /* log10 of the loss */
    size_t layers;
} frame;

static const char *const colours[] = {"#3b6fb6", "#d9822b", "#11693a", "#b3211c",
                                      "#7a4fa3", "#0f8b8d", "#8a6d1d", "#c2458b"};

static double across(const frame *f, size_t layer) {
    double room = WIDTH - LEFT - RIGHT;
    return LEFT + (f->layers > 1 ? room * (double)layer / (double)(f->layers - 1) : room / 2);
}

static double upwards(const frame *f, double loss) {
    double y = loss > 0 ? log10(loss) : f->lo;
    if (y < f->lo) y = f->lo;
    return HEIGHT - BOTTOM - (y - f->lo) / (f->hi - f->lo) * (HEIGHT - TOP - BOTTOM);
}

/* Whole powers of ten around all points. */
static frame around(const pare_sensitivity *const *s, size_t n) {
    frame f = {INFINITY, -INFINITY, 0};
    for (size_t i = 0; i < n; i++) {
        if (s[i]->n_layers > f.layers) f.layers = s[i]->n_layers;
        for (size_t k = 0; k < s[i]->n_layers * s[i]->n_amounts; k++) {
            if (!s[i]->weights[k / s[i]->n_amounts] || !(s[i]->loss[k] > 0)) continue;
            f.lo = fmin(f.lo, log10(s[i]->loss[k])), f.hi = fmax(f.hi, log10(s[i]->loss[k]));
        }
    }
    if (f.lo > f.hi) f.lo = -6, f.hi = 0;
    f.lo = floor(f.lo), f.hi = ceil(f.hi);
    if (f.hi - f.lo < 1) f.hi = f.lo + 1;
    return f;
}

static void axes(pare_text *t, const frame *f, const pare_sensitivity *s) {
    for (double e = f->lo; e <= f->hi; e++) {
        double y = upwards(f, pow(10, e));
        pare_text_add(t, "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>", LEFT, y, WIDTH - RIGHT, y);
        pare_text_add(t, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">1e%.0f</text>\n", LEFT - 8, y + 4, e);
    }
    size_t step = f->layers > 20 ? 5 : f->layers > 10 ? 2 : 1;
    for (size_t l = 0; l < f->layers; l += step)
        pare_text_add(t, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%zu</text>\n", across(f, l),
                      HEIGHT - BOTTOM + 18, l);
    pare_text_add(t, "<text x=\"%d\" y=\"%d\">layer; one at a time is pruned</text>\n", LEFT, HEIGHT - 12);
    pare_text_add(t, "<text x=\"%d\" y=\"%d\">%s, on ", LEFT, TOP - 16, s->measure);
    pare_text_xml(t, s->data);
    pare_text_add(t, "</text>\n");
}

static void name(pare_text *t, const pare_sensitivity *s, size_t k) {
    pare_text_xml(t, s->pattern);
    if (s->n_amounts > 1) pare_text_add(t, " %g %%", 100 * s->amounts[k]);
    if (*s->method) pare_text_add(t, ", "), pare_text_xml(t, s->method);
}

static void curve(pare_text *t, const frame *f, const pare_sensitivity *s, size_t k, size_t number) {
    const char *colour = colours[number % (sizeof colours / sizeof *colours)];
    pare_text_add(t, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", colour);
    for (size_t l = 0; l < s->n_layers; l++)
        if (s->weights[l]) pare_text_add(t, "%.1f,%.1f ", across(f, l), upwards(f, s->loss[l * s->n_amounts + k]));
    pare_text_add(t, "\"/>\n");
    for (size_t l = 0; l < s->n_layers; l++) {
        double loss = s->loss[l * s->n_amounts + k];
        if (!s->weights[l]) continue;
        pare_text_add(t, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"><title>layer %zu, ", across(f, l),
                      upwards(f, loss), colour, l);
        name(t, s, k);
        pare_text_add(t, ": %.4g</title></circle>\n", loss);
    }
    double y = TOP + 18.0 * (double)number;
    pare_text_add(t, "<rect x=\"%d\" y=\"%.1f\" width=\"14\" height=\"4\" fill=\"%s\"/>", WIDTH - RIGHT + 14, y - 5,
                  colour);
    pare_text_add(t, "<text x=\"%d\" y=\"%.1f\">", WIDTH - RIGHT + 34, y);
    name(t, s, k);
    pare_text_add(t, "</text>\n");
}

pare_status pare_sensitivity_draw(const pare_sensitivity *const *s, size_t n, const char *path, pare_diag *d) {
    pare_text t = {0};
    size_t number = 0;
    if (!n) return pare_fail(d, PARE_ERR_USAGE, path, NULL, "there is nothing to draw");
    frame f = around(s, n);
    pare_text_add(
        &t,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" role=\"img\" "
        "aria-label=\"loss when one layer is pruned\">\n<style>text{font:12px system-ui,sans-serif;fill:#3b4650}"
        "line{stroke:#d5dae0}</style>\n<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n",
        WIDTH, HEIGHT, WIDTH, HEIGHT, WIDTH, HEIGHT);
    axes(&t, &f, s[0]);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < s[i]->n_amounts; k++) curve(&t, &f, s[i], k, number++);
    pare_text_add(&t, "</svg>\n");
    pare_status st = t.failed ? pare_fail(d, PARE_ERR_NOMEM, path, NULL, "no memory for the picture")
                              : pare_write_file_atomic(path, t.bytes, t.n, d);
    pare_free(t.bytes);
    return st;
}
