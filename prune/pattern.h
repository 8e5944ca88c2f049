/* SPDX-License-Identifier: Apache-2.0
 *
 * Patterns: which sets of zeros are allowed. A pattern turns the scores of a slice of a layer into a mask; it knows no
 * criterion. prune/patterns.def lists them, one file each.
 *
 * A mask is one byte per weight, 1 = becomes zero. Where scores are equal, the lower row goes first, within a row the
 * lower column. */
#ifndef PARE_PRUNE_PATTERN_H
#define PARE_PRUNE_PATTERN_H

#include "pare/pare.h"

typedef struct pare_pattern pare_pattern;

typedef struct pare_pattern_spec {
    const pare_pattern *kind;
    char text[40];               /* as shown: "2:4" */
    size_t unit_rows, unit_cols; /* what is decided about together: 1 x 1, 1 x M, R x C */
    size_t keep;                 /* N:M: weights that stay of unit_cols */
    double ratio;                /* the sparsity that the pattern fixes, or < 0 */
    bool together;               /* units compete: scopes apply */
} pare_pattern_spec;

/* shape: a slice of whole units. Consecutive slices of a row may come one after another (first > 0): their zeros add
 * up to those of the whole. */
typedef struct pare_mask_in {
    const pare_pattern_spec *spec;
    double sparsity;
    bool by_row;        /* each row of units has its share of zeros; else the slice as a whole */
    size_t rows, cols;  /* of the slice */
    size_t first;       /* column of the layer at which the slice begins */
    const float *score; /* [rows, cols] */
    float *scratch;     /* rows * cols floats */
    uint8_t *zero;      /* [rows, cols], cleared before */
} pare_mask_in;

struct pare_pattern {
    const char *name, *text;          /* "N:M", half a line for --help */
    bool (*claims)(const char *text); /* is this one of mine, however badly written? */
    pare_status (*parse)(const char *text, pare_pattern_spec *s, pare_diag *d);
    void (*mask)(const pare_mask_in *m);
};

#define PARE_PATTERN(sym) extern const pare_pattern sym;
#include "prune/patterns.def"
#undef PARE_PATTERN

const pare_pattern *pare_pattern_at(size_t i); /* NULL past the last */
/* "unstructured", "2:4", "block:4x4". fails: PARE_ERR_USAGE, saying which patterns there are. */
pare_status pare_pattern_parse(const char *text, pare_pattern_spec *out, pare_diag *d);
/* Whether a layer [rows, cols] can have the pattern at this sparsity. fails: PARE_ERR_USAGE naming the layer when rows
 * or columns are not divisible, or when nothing would be left of a row (of the layer, where only that is sure). */
pare_status pare_pattern_check(const pare_pattern_spec *s, size_t rows, size_t cols, double sparsity, bool by_row,
                               const char *name, pare_diag *d);

/* ---- inside the room ---- */
/* Zeros among n units at this sparsity: rounded down, so that something is left. */
size_t pare_zeros_of(double sparsity, size_t n);
/* Marks the k smallest of n scores (ties: first ones first) with 1 in mark [n]. scratch: n floats. */
void pare_mark_smallest(const float *score, size_t n, size_t k, float *scratch, uint8_t *mark);

#endif
