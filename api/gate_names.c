/* SPDX-License-Identifier: Apache-2.0
 *
 * Gates with names of their own: what people ask for most, on the command line and in recipes. */
#include "pare/pare.h"

#include <math.h>

static const struct {
    const char *name, *key;
    bool upper;
    const char *text;
} named[] = {
    {"max-kl", "kl_mean", true, "language models: mean KL divergence, nats"},
    {"max-kl99", "kl_p99", true, "its 99 % percentile"},
    {"min-top1", "top1", false, "share of positions with the same most likely token (0..1)"},
    {"max-ppl", "ppl", true, "perplexity of the reduced model"},
    {"max-ppl-ratio", "ppl_ratio", true, "perplexity, reduced / original"},
    {"min-cosine", "cosine_mean", false, "mean cosine (embeddings; logits; tensors)"},
    {"min-spearman", "spearman", false, "encoders: rank correlation with the scores of the pairs"},
    {"min-overlap", "overlap", false, "encoders: share of the same nearest sentences"},
    {"min-sqnr", "sqnr", false, "signal to quantization noise, dB (output; weights)"},
    {"max-error", "max_error", true, "weights: largest difference"},
    {"min-parity", "parity", false, "two devices: SQNR of the second one's output against the first one's, dB"},
};

bool pare_gate_named(size_t i, pare_gate *g, const char **text) {
    if (i >= sizeof named / sizeof *named) return false;
    *g = (pare_gate){named[i].name, named[i].key, named[i].upper, NAN};
    *text = named[i].text;
    return true;
}
