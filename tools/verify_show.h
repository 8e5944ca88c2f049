/* SPDX-License-Identifier: Apache-2.0
 *
 * What pare verify prints. */
#ifndef PARE_TOOLS_VERIFY_SHOW_H
#define PARE_TOOLS_VERIFY_SHOW_H

#include "pare/pare.h"

void pare_show_report(const pare_verify_report *r);  /* to standard output */
void pare_show_seconds(const pare_verify_report *r); /* one line to standard error */

#endif
