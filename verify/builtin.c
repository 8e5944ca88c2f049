/* SPDX-License-Identifier: Apache-2.0
 *
 * The files of verify/data, assembled into the library as they are (make runs at the top of the tree). */
#include "verify/builtin.h"

#define PARE_EMBED(symbol, path)                                                                                       \
    __asm__(".section .rodata\n.balign 16\n" #symbol ":\n.incbin \"" path "\"\n" #symbol "_end:\n.previous\n");        \
    extern const char symbol[], symbol##_end[]

PARE_EMBED(pare_data_text, "verify/data/text.txt");
PARE_EMBED(pare_data_pairs, "verify/data/pairs.tsv");

const char *pare_builtin_text(size_t *n_bytes) {
    *n_bytes = (size_t)(pare_data_text_end - pare_data_text);
    return pare_data_text;
}

const char *pare_builtin_pairs(size_t *n_bytes) {
    *n_bytes = (size_t)(pare_data_pairs_end - pare_data_pairs);
    return pare_data_pairs;
}
