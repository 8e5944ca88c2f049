/* SPDX-License-Identifier: Apache-2.0
 *
 * SHA-256 (FIPS 180-4), so that a report names its data exactly; the same as sha256sum prints. */
#ifndef PARE_VERIFY_SHA256_H
#define PARE_VERIFY_SHA256_H

#include <stddef.h>

void pare_sha256_hex(const void *bytes, size_t n_bytes, char hex[65]);

#endif
