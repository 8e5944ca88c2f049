/* SPDX-License-Identifier: Apache-2.0
 *
 * Choice of the row kernels. The tables are constant and the choice is made at each call, so that a changed mask
 * (tests) needs no refill. */
#include "cpu/vec.h"

#include "core/cpu_features.h"

static const pare_vec_table tables[3] = {
    {
#define PARE_VEC(family, op, a, b) .op = pare_##op##_ref,
#include "cpu/vec.def"
#undef PARE_VEC
    },
    {
#define PARE_VEC(family, op, a, b) .op = pare_##op##_##a,
#include "cpu/vec.def"
#undef PARE_VEC
    },
    {
#define PARE_VEC(family, op, a, b) .op = pare_##op##_##b,
#include "cpu/vec.def"
#undef PARE_VEC
    },
};

const pare_vec_table *pare_vec(void) {
    uint32_t mask = pare_cpu_mask();
    return &tables[mask & PARE_CPU_AVX512 ? 2 : mask & PARE_CPU_AVX2 ? 1 : 0];
}
