/* SPDX-License-Identifier: Apache-2.0
 *
 * Blocks of R rows x C columns that vanish together; a block is worth the sum of its weights' scores. */
#include "prune/pattern.h"

#include "core/status.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = 128, DEFAULT = 4 };

static bool claims(const char *text) { return strncmp(text, "block", 5) == 0; }

static pare_status parse(const char *text, pare_pattern_spec *s, pare_diag *d) {
    unsigned long r = DEFAULT, c = DEFAULT;
    bool good = text[5] == 0;
    if (text[5] == ':' && text[6] >= '0' && text[6] <= '9') {
        char *x, *end;
        r = strtoul(text + 6, &x, 10);
        good = *x == 'x' && x[1] >= '0' && x[1] <= '9';
        if (good) c = strtoul(x + 1, &end, 10), good = !*end;
    }
    if (!good || r < 1 || c < 1 || r > MOST || c > MOST || r * c < 2)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--pattern",
                         "`%s` should read block or block:RxC, R rows and C columns, at most %d each (block:1x16)",
                         text, MOST);
    s->unit_rows = r, s->unit_cols = c;
    return PARE_OK;
}

static void mask(const pare_mask_in *m) {
    size_t r = m->spec->unit_rows, c = m->spec->unit_cols, across = m->cols / c, down = m->rows / r;
    size_t lists = m->by_row ? down : 1, per_column = m->by_row ? 1 : down, n = across * per_column, at = m->first / c;
    float *sum = m->scratch, *rest = sum + across * down; /* a block has two weights or more, so both fit */
    for (size_t i = 0; i < down; i++)
        for (size_t j = 0; j < across; j++) {
            double s = 0;
            for (size_t k = 0; k < r * c; k++) s += m->score[(i * r + k / c) * m->cols + j * c + k % c];
            sum[i * across + j] = (float)s;
        }
    size_t zeros = pare_zeros_of(m->sparsity, (at + across) * per_column) - pare_zeros_of(m->sparsity, at * per_column);
    /* marks of the blocks lie at the front of zero for a while; the sums, no longer needed, remember them */
    for (size_t i = 0; i < lists; i++) pare_mark_smallest(sum + i * n, n, zeros, rest, m->zero + i * n);
    for (size_t b = 0; b < across * down; b++) {
        if (m->zero[b]) sum[b] = -1;
        m->zero[b] = 0;
    }
    for (size_t b = 0; b < across * down; b++)
        for (size_t k = 0; sum[b] < 0 && k < r * c; k++)
            m->zero[(b / across * r + k / c) * m->cols + b % across * c + k % c] = 1;
}

const pare_pattern pare_pattern_block = {.name = "block[:RxC]",
                                         .text = "whole blocks (4x4)",
                                         .claims = claims,
                                         .parse = parse,
                                         .mask = mask};
