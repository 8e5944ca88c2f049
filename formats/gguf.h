/* SPDX-License-Identifier: Apache-2.0
 *
 * GGUF inside formats/: one file of a possibly split model, and the writer's header. */
#ifndef PARE_FORMATS_GGUF_H
#define PARE_FORMATS_GGUF_H

#include "formats/source_impl.h"

/* Appends one file's tensors and keys. */
pare_status pare_gguf_read_one(pare_source_impl *im, const char *path, pare_diag *d);

#endif
