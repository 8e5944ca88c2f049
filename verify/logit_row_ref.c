/* SPDX-License-Identifier: Apache-2.0
 *
 * Logit sums, the specification, and the choice among the variants. */
#include "verify/logit_exp.h"

#include "core/cpu_features.h"

void pare_logit_row_ref(const float *p, const float *q, size_t n, pare_logit_sums *out) {
    float max_p = p[0], max_q = q[0];
    for (size_t i = 1; i < n; i++) {
        if (p[i] > max_p) max_p = p[i];
        if (q[i] > max_q) max_q = q[i];
    }
    double sum[6][8] = {{0}};
    for (size_t i = 0; i < n; i++) pare_logit_element(sum, i & 7, p[i], q[i], max_p, max_q);
    pare_logit_finish(sum, max_p, max_q, out);
}

static const struct {
    pare_logit_row_fn *fn;
    uint32_t mask;
} variants[] = {
#define PARE_KERNEL(op, isa, mask) {pare_##op##_##isa, mask},
#include "verify/logit_row.def"
#undef PARE_KERNEL
};

pare_logit_row_fn *pare_logit_row_pick(void) {
    pare_logit_row_fn *best = variants[0].fn;
    for (size_t i = 1; i < sizeof variants / sizeof *variants; i++)
        if ((pare_cpu_mask() & variants[i].mask) == variants[i].mask) best = variants[i].fn;
    return best;
}
