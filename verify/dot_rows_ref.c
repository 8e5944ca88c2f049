/* SPDX-License-Identifier: Apache-2.0
 *
 * Dot products with many rows, the specification, and the choice among the variants. */
#include "verify/dot_rows.h"

#include "core/cpu_features.h"

void pare_dot_rows_ref(const float *x, const float *rows, size_t n_rows, size_t n, float *out) {
    for (size_t r = 0; r < n_rows; r++, rows += n) {
        float lane[16] = {0};
        for (size_t j = 0; j < n; j++) lane[j & 15] += x[j] * rows[j];
        for (int half = 8; half; half /= 2)
            for (int j = 0; j < half; j++) lane[j] += lane[j + half];
        out[r] = lane[0];
    }
}

static const struct {
    pare_dot_rows_fn *fn;
    uint32_t mask;
} variants[] = {
#define PARE_KERNEL(op, isa, mask) {pare_##op##_##isa, mask},
#include "verify/dot_rows.def"
#undef PARE_KERNEL
};

pare_dot_rows_fn *pare_dot_rows_pick(void) {
    pare_dot_rows_fn *best = variants[0].fn;
    for (size_t i = 1; i < sizeof variants / sizeof *variants; i++)
        if ((pare_cpu_mask() & variants[i].mask) == variants[i].mask) best = variants[i].fn;
    return best;
}
