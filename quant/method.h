/* SPDX-License-Identifier: Apache-2.0
 *
 * Methods: how the codes of a linear layer's weights are chosen. A method sees a grid (core/qtype.h), the weights and,
 * if it wants them, statistics of the layer's input (calib/walk.h); it knows no format. quant/methods.def lists them.
 */
#ifndef PARE_QUANT_METHOD_H
#define PARE_QUANT_METHOD_H

#include "calib/walk.h"

typedef struct pare_method_layer {
    const pare_qtype *type; /* with a grid */
    size_t rows, n;
    const float *w;      /* [rows, n] */
    const pare_stats *s; /* of its input; what the method wanted of it */
    const float *scale;  /* [n]: columns are stored multiplied by it, the layer before takes the inverse; NULL = ones */
    const float *u;      /* [n, n], inverse(H + damping) = u^T u (calib/linalg.h), when the method wants it */
    double damping;      /* of H in u, in units of its mean diagonal */
    int passes;          /* over the weights once they are quantized (calib/refine.h) */
    const uint32_t *order; /* of u's columns (calib/order.h), when the method wants that; NULL = as in the file */
    void *out;             /* rows of pare_row_bytes(type, n) */
    float *target;         /* [rows, n]: holds w; a method that aims at other weights puts those here */
    bool keep_zeros; /* what is 0 in w is stored as 0 (the grid can); only methods that move weights need to look */
} pare_method_layer;

typedef struct pare_method {
    const char *name, *text; /* text: half a line for --help */
    bool calibrated;         /* needs data; else encode is never called and rows are rounded as they stream by */
    bool factor;             /* wants u */
    bool ordered;            /* takes columns in any order: u comes in the order of energy */
    bool rounds;             /* codes of a stage then learn to give the original's output (api/rounding.h) */
    unsigned want;           /* PARE_STATS_... */
    /* Scales for the columns of layers that share their input, for methods that fold such into the layer before; called
     * where that is exact. NULL: none. */
    pare_status (*scale)(const pare_method_layer *l, size_t layers, float *s, pare_diag *d);
    pare_status (*encode)(const pare_method_layer *l, pare_diag *d);
} pare_method;

#define PARE_METHOD(sym) extern const pare_method sym;
#include "quant/methods.def"
#undef PARE_METHOD

/* Rows rounded to nearest, the scales searched with these weights of columns (NULL: the grid's own); on all threads. */
pare_status pare_method_weighted(const pare_qtype *type, size_t rows, size_t n, const float *w, const float *importance,
                                 void *out, pare_diag *d);

const pare_method *pare_method_at(size_t i);              /* NULL past the last */
const pare_method *pare_method_by_name(const char *name); /* NULL when unknown */

#endif
