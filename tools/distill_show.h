/* SPDX-License-Identifier: Apache-2.0
 *
 * What a distillation prints. */
#ifndef PARE_TOOLS_DISTILL_SHOW_H
#define PARE_TOOLS_DISTILL_SHOW_H

#include "tools/cli.h"

void pare_show_distilled(const pare_distill_report *r, const char *out); /* to standard output */

#endif
