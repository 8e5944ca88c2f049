/* SPDX-License-Identifier: Apache-2.0
 *
 * safetensors inside formats/: header limits shared by reader and writer. */
#ifndef PARE_FORMATS_SAFETENSORS_H
#define PARE_FORMATS_SAFETENSORS_H

#include "formats/source_impl.h"

#define PARE_SAFETENSORS_MAX_HEADER ((uint64_t)100000000) /* the reference implementation's limit */

#endif
