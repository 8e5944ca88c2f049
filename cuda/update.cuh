/* SPDX-License-Identifier: Apache-2.0
 *
 * pare_backend.update of the CUDA backend. */
#ifndef PARE_CUDA_UPDATE_CUH
#define PARE_CUDA_UPDATE_CUH

#include "cuda/backend.cuh"

pare_status pare_cuda_update(void *dev, const pare_update *u);

#endif
