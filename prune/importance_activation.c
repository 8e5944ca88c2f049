/* SPDX-License-Identifier: Apache-2.0
 *
 * Activation importance (Minitron, arXiv 2407.14679, section 2.2): the mean over the calibration tokens of a neuron's
 * or channel's absolute activation, of a head's output norm; places where the same channel is read (the norms of all
 * layers, for the residual stream) add up. */
#include "prune/importance.h"

static pare_status score(const pare_graph *g, const pare_unit_stats *s, size_t n, double *out, pare_diag *d) {
    for (size_t i = 0; i < n; i++) {
        bool again = false; /* q, k and v read one value: counted once */
        for (size_t k = 0; k < i; k++) again |= s[k].slot == s[i].slot && s[k].dim == s[i].dim;
        for (int32_t u = 0; !again && s[i].tokens > 0 && u < s[i].dim->units; u++) out[u] += s[i].norm[u] / s[i].tokens;
    }
    return PARE_OK;
}

const pare_importance pare_importance_activation = {"activation", "mean size of the activation (Minitron)",
                                                    PARE_UNITS_ACTIVATIONS, score};
