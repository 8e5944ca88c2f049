/* SPDX-License-Identifier: Apache-2.0
 *
 * GGUF tensors as Hugging Face tensors: names, and the row order of q and k undone. */
#include "models/mapping.h"

#include "core/status.h"

pare_status pare_map_to_hf(const pare_source *s, pare_mapping *m, pare_diag *d) {
    return pare_fail(d, PARE_ERR_UNSUPPORTED, s->path, NULL, "GGUF to a folder is not part of this version yet");
}
