/* SPDX-License-Identifier: Apache-2.0
 *
 * Storage formats that occur in files but have no row in the registry: they can be listed, measured and copied, not
 * decoded. Their kind is PARE_QK_INT, "raw bytes", so that nobody takes them for readable weights. */
#include <string.h>

#include "formats/source_impl.h"

#define OPAQUE(nm, ggml, st, elems, bytes)                                                                             \
    {                                                                                                                  \
        .name = nm, .kind = PARE_QK_INT, .ggml_type = ggml, .safetensors = st, .block_elems = elems,                   \
        .block_bytes = bytes                                                                                           \
    }

static const pare_qtype opaque[] = {
    OPAQUE("q4_0", 2, NULL, 32, 18),
    OPAQUE("q4_1", 3, NULL, 32, 20),
    OPAQUE("q5_0", 6, NULL, 32, 22),
    OPAQUE("q5_1", 7, NULL, 32, 24),
    OPAQUE("q8_0", 8, NULL, 32, 34),
    OPAQUE("q8_1", 9, NULL, 32, 36),
    OPAQUE("q2_k", 10, NULL, 256, 84),
    OPAQUE("q3_k", 11, NULL, 256, 110),
    OPAQUE("q4_k", 12, NULL, 256, 144),
    OPAQUE("q5_k", 13, NULL, 256, 176),
    OPAQUE("q6_k", 14, NULL, 256, 210),
    OPAQUE("q8_k", 15, NULL, 256, 292),
    OPAQUE("iq2_xxs", 16, NULL, 256, 66),
    OPAQUE("iq2_xs", 17, NULL, 256, 74),
    OPAQUE("iq3_xxs", 18, NULL, 256, 98),
    OPAQUE("iq1_s", 19, NULL, 256, 50),
    OPAQUE("iq4_nl", 20, NULL, 32, 18),
    OPAQUE("iq3_s", 21, NULL, 256, 110),
    OPAQUE("iq2_s", 22, NULL, 256, 82),
    OPAQUE("iq4_xs", 23, NULL, 256, 136),
    OPAQUE("iq1_m", 29, NULL, 256, 56),
    OPAQUE("tq1_0", 34, NULL, 256, 54),
    OPAQUE("tq2_0", 35, NULL, 256, 66),
    OPAQUE("mxfp4", 39, NULL, 32, 17),
    OPAQUE("nvfp4", 40, NULL, 64, 36),
    OPAQUE("q1_0", 41, NULL, 128, 18),
    OPAQUE("q2_0", 42, NULL, 64, 18),
    OPAQUE("c64", -1, "C64", 1, 8),
    OPAQUE("f4", -1, "F4", 2, 1),
    OPAQUE("f6_e2m3", -1, "F6_E2M3", 4, 3),
    OPAQUE("f6_e3m2", -1, "F6_E3M2", 4, 3),
    OPAQUE("f8_e4m3fnuz", -1, "F8_E4M3FNUZ", 1, 1),
    OPAQUE("f8_e5m2fnuz", -1, "F8_E5M2FNUZ", 1, 1),
};
#define N_OPAQUE (sizeof opaque / sizeof *opaque)

const pare_qtype *pare_opaque_ggml(int ggml_type) {
    for (size_t i = 0; i < N_OPAQUE; i++)
        if (opaque[i].ggml_type >= 0 && opaque[i].ggml_type == ggml_type) return &opaque[i];
    return NULL;
}

const pare_qtype *pare_opaque_safetensors(const char *dtype) {
    for (size_t i = 0; i < N_OPAQUE; i++)
        if (opaque[i].safetensors && strcmp(opaque[i].safetensors, dtype) == 0) return &opaque[i];
    return NULL;
}
