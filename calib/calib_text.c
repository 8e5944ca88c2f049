/* SPDX-License-Identifier: Apache-2.0
 *
 * calib/data/text.txt, assembled into the library as it is (make runs at the top of the tree). */
#include "calib/calib_text.h"

__asm__(".section .rodata\n.balign 16\npare_calib_bytes:\n.incbin \"calib/data/text.txt\"\npare_calib_bytes_end:\n"
        ".previous\n");
extern const char pare_calib_bytes[], pare_calib_bytes_end[];

const char *pare_calib_text(size_t *n_bytes) {
    *n_bytes = (size_t)(pare_calib_bytes_end - pare_calib_bytes);
    return pare_calib_bytes;
}
