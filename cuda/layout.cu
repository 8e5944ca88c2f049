/* SPDX-License-Identifier: Apache-2.0
 *
 * Packing of weights for the device (cuda/layout.cuh). */
#include "cuda/layout.cuh"

size_t pare_cuda_weight_bytes(const pare_tensor *w) { return pare_cuda_host->tensor_bytes(w); }

pare_status pare_cuda_weight_upload(pare_cuda *dev, void *dst, const pare_tensor *w, pare_diag *d) {
    size_t bytes = pare_cuda_host->tensor_bytes(w);
    if (!bytes || rt_upload(&dev->rt, dst, w->data, bytes)) return PARE_OK;
    return pare_cuda_host->fail(d, PARE_ERR_DEVICE, NULL, "cuda", "copying %zu bytes to the device failed", bytes);
}
