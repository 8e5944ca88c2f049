/* SPDX-License-Identifier: Apache-2.0
 *
 * The evaluation data built in, so that verify works without --data: verify/data/text.txt (English prose, dialogue,
 * code and lists) and verify/data/pairs.tsv (score from 0 to 5, tab, sentence, tab, sentence). Written for pare. They
 * are small: good for a first look and for comparing two reductions of one model, not for numbers to publish. */
#ifndef PARE_VERIFY_BUILTIN_H
#define PARE_VERIFY_BUILTIN_H

#include <stddef.h>

const char *pare_builtin_text(size_t *n_bytes);
const char *pare_builtin_pairs(size_t *n_bytes);

#endif
