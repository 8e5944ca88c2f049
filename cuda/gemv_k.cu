/* SPDX-License-Identifier: Apache-2.0
 *
 * One token or two, formats of 256 columns (cuda/gemv.cuh). */
#include "cuda/gemv.cuh"

bool pare_gemv_k(pare_cuda *dev, const pare_cuda_mm *p) {
#define PARE_GEMV(cf, F)                                                                                               \
    case cf:                                                                                                           \
        if (p->rule >= PARE_CR_Q8_0) pare_gemv_codes<F, PARE_GEMV_INT8, PARE_CR_Q8_K>(dev, p);                         \
        else pare_gemv_codes<F, PARE_GEMV_FIXED, PARE_CR_Q8_K>(dev, p);                                                \
        return true;
    switch (p->format) {
        PARE_GEMV(PARE_CF_Q2_K, pare_format_q2_k)
        PARE_GEMV(PARE_CF_Q3_K, pare_format_q3_k)
        PARE_GEMV(PARE_CF_Q4_K, pare_format_q4_k)
        PARE_GEMV(PARE_CF_Q5_K, pare_format_q5_k)
        PARE_GEMV(PARE_CF_Q6_K, pare_format_q6_k)
        PARE_GEMV(PARE_CF_IQ4_XS, pare_format_iq4_xs)
    default: return false;
    }
}
