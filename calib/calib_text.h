/* SPDX-License-Identifier: Apache-2.0
 *
 * The calibration text built in: calib/data/text.txt, 62 kB of prose, dialogue, letters, reports, questions and
 * answers, mathematics, lists, code in several languages, and passages in a dozen human languages. All of it was
 * written for pare; the technical end is pare's own documentation and source. Nothing of it is in verify/data, which
 * models are judged on. */
#ifndef PARE_CALIB_TEXT_H
#define PARE_CALIB_TEXT_H

#include <stddef.h>

const char *pare_calib_text(size_t *n_bytes);

#endif
