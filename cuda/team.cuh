/* SPDX-License-Identifier: Apache-2.0
 *
 * Processes with a GPU each, over NCCL (pare_backend's team_ calls). libnccl.so.2, or the file in $PARE_NCCL, is opened
 * when it is first asked for; nothing of it is linked. */
#ifndef PARE_CUDA_TEAM_CUH
#define PARE_CUDA_TEAM_CUH

#include "cuda/backend.cuh"

pare_status pare_cuda_team_ready(void *dev, pare_diag *d);
pare_status pare_cuda_team_id(void *dev, void *id, pare_diag *d);
pare_status pare_cuda_team_join(void *dev, const void *id, int rank, int size, pare_diag *d);
pare_status pare_cuda_team_gather(void *dev, const void *own, void *all, size_t bytes);

#endif
