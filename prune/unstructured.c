/* SPDX-License-Identifier: Apache-2.0
 *
 * Unstructured: zeros anywhere, the same share of each row or of the whole. */
#include "prune/pattern.h"

#include <string.h>

static bool claims(const char *text) { return strcmp(text, "unstructured") == 0; }

static pare_status parse(const char *text, pare_pattern_spec *s, pare_diag *d) { return PARE_OK; }

static void mask(const pare_mask_in *m) {
    size_t lists = m->by_row ? m->rows : 1, per_column = m->by_row ? 1 : m->rows, n = m->cols * per_column;
    size_t k = pare_zeros_of(m->sparsity, (m->first + m->cols) * per_column) -
               pare_zeros_of(m->sparsity, m->first * per_column);
    for (size_t i = 0; i < lists; i++) pare_mark_smallest(m->score + i * n, n, k, m->scratch, m->zero + i * n);
}

const pare_pattern pare_pattern_unstructured = {.name = "unstructured",
                                                .text = "zeros anywhere",
                                                .claims = claims,
                                                .parse = parse,
                                                .mask = mask};
