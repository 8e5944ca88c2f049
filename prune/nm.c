/* SPDX-License-Identifier: Apache-2.0
 *
 * N:M: of every M consecutive columns of a row, N stay (Mishra et al., arXiv 2104.08378: 2:4 is what tensor cores run).
 */
#include "prune/pattern.h"

#include "core/status.h"

#include <stdlib.h>
#include <string.h>

enum { MOST = 256 };

static bool claims(const char *text) { return *text >= '0' && *text <= '9' && strchr(text, ':'); }

static pare_status parse(const char *text, pare_pattern_spec *s, pare_diag *d) {
    char *colon, *end;
    unsigned long n = strtoul(text, &colon, 10), m = *colon == ':' ? strtoul(colon + 1, &end, 10) : 0;
    if (colon == text || *colon != ':' || end == colon + 1 || *end || n < 1 || m <= n || m > MOST)
        return pare_fail(d, PARE_ERR_USAGE, NULL, "--pattern",
                         "`%s` should read N:M, N weights of M that stay, 1 <= N < M <= %d (2:4)", text, MOST);
    s->keep = n, s->unit_cols = m, s->ratio = 1 - (double)n / (double)m, s->together = false;
    return PARE_OK;
}

static void mask(const pare_mask_in *m) {
    size_t of = m->spec->unit_cols, drop = of - m->spec->keep;
    for (size_t g = 0; g < m->rows * m->cols / of; g++) { /* cols is a multiple of `of` */
        const float *score = m->score + g * of;
        uint8_t *zero = m->zero + g * of;
        for (size_t i = 0; i < drop; i++) {
            size_t best = of;
            for (size_t j = 0; j < of; j++)
                if (!zero[j] && (best == of || score[j] < score[best])) best = j;
            zero[best] = 1;
        }
    }
}

const pare_pattern pare_pattern_nm = {.name = "N:M",
                                      .text = "N of every M columns stay (2:4, 4:8)",
                                      .claims = claims,
                                      .parse = parse,
                                      .mask = mask};
