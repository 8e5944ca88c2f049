/* SPDX-License-Identifier: Apache-2.0
 *
 * Codes as what is trained (quantization-aware training): behind every weight of a quantized matrix is a number that
 * moves, its latent; the matrix that the graph reads has the value of the code nearest to it.
 *
 * op:     code = snap(latent * step * SPAN); value = what it decodes to, times the factors of its block
 *         (pare_scales); step: the mean distance of neighbouring values of the weight's sub-block, so that one rate
 *         fits every grid. The gradient of a value is handed to its latent as it is (straight through: Bengio et al.
 *         2013, arXiv 1308.3432; Jacob et al. 2018, arXiv 1712.05877). A latent outside of what its codes can say is
 *         put back to the border, so it never has a way to come back from
 * shape:  at [rows, cols]
 * pre:    a grid with known scales (pare_scales_known); the parameters of every group stay as they were when the codes
 *         were opened, until pare_scales_settle
 * equal:  the same bytes at every thread count; opened and snapped at once, the codes are those that were there
 * fails:  PARE_ERR_NOMEM */
#ifndef PARE_API_DISTILL_CODES_H
#define PARE_API_DISTILL_CODES_H

#include "core/qtype.h"

struct pare_scales;

typedef struct pare_codes {
    struct pare_scales *scales; /* whose rows hold the codes */
    float *at;
    uint8_t *zeros; /* pruned weights, which stay 0: bit i % 8 of byte i / 8; or NULL */
} pare_codes;

/* Latents in the middle of the codes that are in the rows. owns: pare_codes_close; not the scales. */
pare_status pare_codes_open(struct pare_scales *scales, pare_codes *out, pare_diag *d);
void pare_codes_close(pare_codes *c);
/* Latents anew: from the middle `share` (0 to 1) of the way to w [rows, cols], to the border where w lies beyond it. A
 * codebook's neighbours lie closer than its mean step in places: up to a share of 0.6 no code changes, but for products
 * rounded to bf16, which lie beside their codes. */
pare_status pare_codes_lean(pare_codes *c, const float *w, float share, pare_diag *d);
/* Into the scales' rows, from the latents. */
pare_status pare_codes_snap(pare_codes *c, pare_diag *d);

#endif
