/* SPDX-License-Identifier: Apache-2.0
 *
 * Rows of quantized layers, put together from the tensors that a checkpoint stores. */
#ifndef PARE_FORMATS_ASSEMBLE_H
#define PARE_FORMATS_ASSEMBLE_H

#include "formats/source.h"

/* Rows [row0, row0 + n_rows) of an assembled tensor into buf. Thread-safe. pre: t was checked by quantized.c. */
void pare_assemble_rows(const pare_stored *t, size_t row0, size_t n_rows, void *buf);

#endif
