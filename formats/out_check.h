/* SPDX-License-Identifier: Apache-2.0
 *
 * Questions about an output's name that are asked before anything is created. */
#ifndef PARE_FORMATS_OUT_CHECK_H
#define PARE_FORMATS_OUT_CHECK_H

#include "formats/out_place.h"

/* Fills final, dir and base from what the user typed; exists tells whether final is there. */
pare_status pare_out_resolve(pare_out_place *p, const char *path, pare_diag *d);
/* The output is not the input, by name, inode, or one folder inside the other. model: the output is read by opening the
 * folder it lies in (safetensors), so it must not lie in the input's. */
pare_status pare_out_check_input(const pare_out_place *p, const char *input, bool model, pare_diag *d);
/* An existing final may be replaced: forced, of the same sort, and nothing but a model. */
pare_status pare_out_check_existing(const pare_out_place *p, pare_diag *d);

#endif
