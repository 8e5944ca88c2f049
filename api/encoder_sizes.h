/* SPDX-License-Identifier: Apache-2.0
 *
 * What the small files beside a sentence encoder say of its sizes.
 *
 * op:     a module's config.json says the embeddings' width, sentence_bert_config.json how long a sentence may be;
 * where that was the one model's, it becomes the other's (the length only if it is less) equal:  everything else of the
 * file fails:  never: a file that says nothing of sizes, or is no JSON, stays as it is */
#ifndef PARE_API_ENCODER_SIZES_H
#define PARE_API_ENCODER_SIZES_H

#include "models/arch.h"
#include "models/mapping.h"

/* Whether j, the file of that name, has changed. */
bool pare_encoder_resize(const char *name, struct json_t *j, const pare_arch *was, const pare_arch *is);
/* The same for all files of a mapping into a folder; copies that change become files. folder: what copies are of. */
pare_status pare_encoder_resize_all(pare_mapping *m, const char *folder, const pare_arch *was, const pare_arch *is,
                                    pare_diag *d);

#endif
