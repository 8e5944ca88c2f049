/* SPDX-License-Identifier: Apache-2.0
 *
 * One token or two, formats of 32 columns (cuda/gemv.cuh). */
#include "cuda/gemv.cuh"

bool pare_gemv_blocks(pare_cuda *dev, const pare_cuda_mm *p) {
#define PARE_GEMV(cf, own, F)                                                                                          \
    case cf:                                                                                                           \
        if (p->rule >= PARE_CR_Q8_0) pare_gemv_codes<F, PARE_GEMV_INT8, own>(dev, p);                                  \
        else pare_gemv_codes<F, PARE_GEMV_FIXED, own>(dev, p);                                                         \
        return true;
    switch (p->format) {
        PARE_GEMV(PARE_CF_Q4_0, PARE_CR_Q8_0, pare_format_q4_0)
        PARE_GEMV(PARE_CF_Q4_1, PARE_CR_Q8_1, pare_format_q4_1)
        PARE_GEMV(PARE_CF_Q5_0, PARE_CR_Q8_0, pare_format_q5_0)
        PARE_GEMV(PARE_CF_Q5_1, PARE_CR_Q8_1, pare_format_q5_1)
        PARE_GEMV(PARE_CF_Q8_0, PARE_CR_Q8_0, pare_format_q8_0)
        PARE_GEMV(PARE_CF_IQ4_NL, PARE_CR_Q8_0, pare_format_iq4_nl)
        PARE_GEMV(PARE_CF_MXFP4, PARE_CR_Q8_0, pare_format_mxfp4)
    default: return false;
    }
}
