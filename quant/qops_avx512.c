/* SPDX-License-Identifier: Apache-2.0
 *
 * The inner loops of the storage formats, compiled for AVX-512. */
#if defined(__x86_64__)
#define PARE_QOPS_TABLE pare_qops_avx512
#include "quant/qops_impl.h"
#endif
