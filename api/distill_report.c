/* SPDX-License-Identifier: Apache-2.0
 *
 * What a distillation leaves behind: JSON (schema pare-distill-1) and the curve of its loss as SVG. Neither depends on
 * time or on the number of threads. */
#include "api/distill.h"

#include "core/status.h"
#include "verify/report.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static json_t *held(const pare_distill_held *h, bool encoder) {
    if (encoder) return json_pack("{s:f, s:f}", "cosine", h->cosine, "similarity", h->similarity);
    return json_pack("{s:f, s:f, s:f}", "kl", h->kl, "loss", h->loss, "top1", h->top1);
}

static char *render_json(const pare_distill_text *t) {
    const pare_distill_report *r = &t->r;
    json_t *steps = json_array(), *terms = json_array(), *blocks = json_array(), *all = NULL;
    for (int k = 0; k < r->n_terms; k++) json_array_append_new(terms, json_string(r->terms[k]));
    for (int64_t i = 0; i < r->steps; i++) {
        const double *c = r->curve + i * PARE_CURVE;
        json_t *row =
            json_pack("{s:I, s:f, s:f, s:f}", "step", (json_int_t)i + 1, "rate", c[0], "norm", c[1], "loss", c[2]);
        if (r->n_blocks) json_object_set_new(row, "layer", json_integer((json_int_t)(i / (r->steps / r->n_blocks))));
        for (int k = 0; k < r->n_terms && k < PARE_CURVE - 3; k++)
            json_object_set_new(row, r->terms[k], json_real(c[3 + k]));
        json_array_append_new(steps, row);
    }
    for (int64_t i = 0; i < r->n_blocks; i++) {
        const pare_distill_block *b = &r->blocks[i];
        json_array_append_new(blocks, json_pack("{s:i, s:i, s:f, s:f}", "layer", b->layer, "target", b->target,
                                                "before", b->before, "after", b->after));
    }
    json_error_t e;
    json_t *options = json_loads(t->options ? t->options : "{}", 0, &e);
    all = json_pack("{s:s, s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:{s:o, s:o}, s:o, s:o, s:s, s:b}", "schema",
                    "pare-distill-1", "options", options ? options : json_object(), "data", r->note, "steps",
                    (json_int_t)r->steps, "tokens_per_step", (json_int_t)r->tokens_per_step, "train_windows",
                    (json_int_t)r->train_windows, "eval_windows", (json_int_t)r->eval_windows, "parameters",
                    (json_int_t)r->parameters, "trained", (json_int_t)r->trained, "teacher_windows",
                    (json_int_t)r->teacher_windows, "held_out", "before", held(&r->before, r->encoder), "after",
                    held(&r->after, r->encoder), "terms", terms, "curve", steps, "ran", r->ran ? r->ran : "",
                    "resident", (int)r->resident);
    if (all && r->n_blocks) json_object_set(all, "blocks", blocks);
    if (all && r->n_blocks) json_object_set_new(all, "kept_bytes", json_integer((json_int_t)r->kept_bytes));
    json_decref(blocks);
    char *text = all ? json_dumps(all, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(all);
    if (!text) return NULL;
    char *own = pare_sprintf("%s\n", text);
    free(text);
    return own;
}

/* A step of 1, 2 or 5 times a power of ten that cuts the span into about four. */
static double tick(double span) {
    double p = pow(10, floor(log10(span / 4))), m = span / 4 / p;
    return p * (m < 1.5 ? 1 : m < 3.5 ? 2 : m < 7.5 ? 5 : 10);
}

enum { LEFT = 64, TOP = 16, WIDTH = 640, HEIGHT = 240 };

static void axes(pare_text *t, double low, double high, int64_t steps) {
    double step = tick(high - low);
    for (double v = ceil(low / step) * step; v <= high; v += step) {
        double y = TOP + HEIGHT * (1 - (v - low) / (high - low));
        pare_text_add(t, "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#d8dde3\"/>", LEFT, y,
                      LEFT + WIDTH, y);
        pare_text_add(t, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.4g</text>\n", LEFT - 6, y + 4, v);
    }
    for (int k = 0; k <= 4; k++) {
        int64_t steps_at = 1 + (steps - 1) * k / 4;
        pare_text_add(t, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">%lld</text>\n", LEFT + WIDTH * k / 4,
                      TOP + HEIGHT + 18, (long long)steps_at);
    }
}

static char *render_svg(const pare_distill_report *r) {
    pare_text t = {0};
    double low = INFINITY, high = -INFINITY;
    for (int64_t i = 0; i < r->steps; i++) {
        low = fmin(low, r->curve[i * PARE_CURVE + 2]);
        high = fmax(high, r->curve[i * PARE_CURVE + 2]);
    }
    if (!(high > low)) low -= 0.5, high = low + 1;
    pare_text_add(&t,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" height=\"%d\" "
                  "font-family=\"system-ui,sans-serif\" font-size=\"11\" fill=\"#5b6672\">\n"
                  "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
                  LEFT + WIDTH + 24, TOP + HEIGHT + 40, LEFT + WIDTH + 24, TOP + HEIGHT + 40);
    axes(&t, low, high, r->steps);
    pare_text_add(&t, "<polyline fill=\"none\" stroke=\"#3b6fb6\" stroke-width=\"1.5\" points=\"");
    for (int64_t i = 0; i < r->steps; i++)
        pare_text_add(&t, "%.1f,%.1f ", LEFT + (r->steps > 1 ? WIDTH * (double)i / (double)(r->steps - 1) : 0),
                      TOP + HEIGHT * (1 - (r->curve[i * PARE_CURVE + 2] - low) / (high - low)));
    pare_text_add(&t,
                  "\"/>\n<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">step</text>"
                  "<text x=\"%d\" y=\"%d\">loss</text>\n</svg>\n",
                  LEFT + WIDTH / 2, TOP + HEIGHT + 34, LEFT + 4, TOP - 4);
    return t.bytes;
}

pare_status pare_distill_render(pare_distill_report *r, pare_distill_format f, const char **text, size_t *n_bytes,
                                pare_diag *d) {
    pare_distill_text *t = r->impl;
    char **own = f == PARE_DISTILL_JSON ? &t->json : &t->svg;
    if (!*own) *own = f == PARE_DISTILL_JSON ? render_json(t) : render_svg(r);
    if (!*own) return pare_fail(d, PARE_ERR_NOMEM, NULL, "report", "no memory for the report");
    *text = *own;
    *n_bytes = strlen(*own);
    return PARE_OK;
}

pare_status pare_distill_save(pare_distill_report *r, pare_distill_format f, const char *path, pare_diag *d) {
    const char *text;
    size_t n;
    PARE_TRY(pare_distill_render(r, f, &text, &n, d));
    return pare_write_file_atomic(path, text, n, d);
}

void pare_distill_close(pare_distill_report **rp) {
    pare_distill_text *t = rp && *rp ? (*rp)->impl : NULL;
    if (!t) return;
    pare_free(t->json);
    pare_free(t->svg);
    pare_free(t->curve);
    pare_free(t->block);
    pare_free(t->options);
    pare_free(t);
    *rp = NULL;
}
