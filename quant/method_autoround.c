/* SPDX-License-Identifier: Apache-2.0
 *
 * Learned rounding: each stage begins with GPTQ's codes; then its codes and block scales learn to give the original
 * stage's output on the reduced model's own inputs (AutoRound's objective: Cheng et al. 2023, arXiv 2309.05516;
 * AdaRound, Nagel et al. 2020, arXiv 2004.10568). GPTQ sees one matrix at a time and its inputs' second moments; this
 * sees the whole stage, with its attention and its activation function. */
#include "quant/method.h"

static pare_status encode(const pare_method_layer *l, pare_diag *d) { return pare_method_gptq.encode(l, d); }

const pare_method pare_method_autoround =
    {.name = "autoround",
     .text = "gptq, then codes and scales learn to give each layer's output; takes longer",
     .calibrated = true,
     .factor = true,
     .ordered = true,
     .rounds = true,
     .want = PARE_STATS_CROSS | PARE_STATS_RESIDUAL | PARE_STATS_SPLIT,
     .encode = encode};
