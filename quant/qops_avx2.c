/* SPDX-License-Identifier: Apache-2.0
 *
 * The inner loops of the storage formats, compiled for AVX2. */
#if defined(__x86_64__)
#define PARE_QOPS_TABLE pare_qops_avx2
#include "quant/qops_impl.h"
#endif
