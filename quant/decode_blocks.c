/* SPDX-License-Identifier: Apache-2.0
 *
 * Block formats that are only read here: q8_1 and q8_k (activations in llama.cpp, but legal in files) and mxfp4. */
#include "quant/blocks.h"
#include "quant/qops.h"

#include "core/qtype.h"

const float pare_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

#define READ_ONLY(id, nm, ggml, elems, bytes)                                                                          \
    static void decode_##id(const pare_qtype *qt, const void *src, float *dst, size_t n) {                             \
        pare_qops_get()->decode_##id(src, dst, n / elems);                                                             \
    }                                                                                                                  \
    const pare_qtype pare_qtype_##id = {.name = nm,                                                                    \
                                        .kind = PARE_QK_BLOCK,                                                         \
                                        .ggml_type = ggml,                                                             \
                                        .block_elems = elems,                                                          \
                                        .block_bytes = bytes,                                                          \
                                        .decode = decode_##id};

READ_ONLY(q8_1, "q8_1", 9, 32, 36)
READ_ONLY(q8_k, "q8_k", 15, 256, 292)
READ_ONLY(mxfp4, "mxfp4", 39, 32, 17)
