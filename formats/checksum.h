/* SPDX-License-Identifier: Apache-2.0
 *
 * A 64-bit checksum of what was written, for reading it back: fast (8 multiplies in flight), not cryptographic, not
 * part of any file. */
#ifndef PARE_FORMATS_CHECKSUM_H
#define PARE_FORMATS_CHECKSUM_H

#include "pare/pare.h"

#define PARE_CHECKSUM_CHUNK ((size_t)1 << 20)

/* Of one run of bytes, continuing from `before` (0 to begin). Chunks of PARE_CHECKSUM_CHUNK bytes, the last one
 * shorter, give the same result as one call over all of them. */
uint64_t pare_checksum(uint64_t before, const void *bytes, size_t n);

#endif
