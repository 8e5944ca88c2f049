/* SPDX-License-Identifier: Apache-2.0
 *
 * The two readers behind pare_arch_read, and what they share. */
#ifndef PARE_MODELS_ARCH_READ_H
#define PARE_MODELS_ARCH_READ_H

#include "models/arch.h"

pare_status pare_arch_from_config(const pare_source *s, pare_arch *out, pare_diag *d);
pare_status pare_arch_from_gguf(const pare_source *s, pare_arch *out, pare_diag *d);
/* Pooling and normalization of a sentence-transformers folder (modules.json, *Pooling/config.json); leaves *out alone
 * where the folder says nothing. */
pare_status pare_arch_read_pooling(const pare_source *s, pare_arch *out, pare_diag *d);

#endif
