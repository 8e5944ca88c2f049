/* SPDX-License-Identifier: Apache-2.0
 *
 * Where an output appears: checked against its input, built under a temporary name beside it, put in place in one step.
 * NAME.pare-tmp-XXXXXXXX is locked (flock) by the process that fills it; one that nobody locks was left by a killed run
 * and is removed when the next run writes to NAME. */
#ifndef PARE_FORMATS_OUT_PLACE_H
#define PARE_FORMATS_OUT_PLACE_H

#include <limits.h>

#include "pare/pare.h"

typedef struct pare_out_place {
    char final[PATH_MAX], temp[PATH_MAX], dir[PATH_MAX]; /* absolute, links resolved */
    const char *base;                                    /* last component of final */
    bool folder, force, exists;
    int fd; /* of temp: locked, read-write for a file; -1 when nothing was created */
} pare_out_place;

/* Refuses an output that is the input, lies in its folder or contains it, that exists (without force), that is not a
 * model folder (with force), or that lacks need_bytes of free space; removes what killed runs left; creates temp. */
pare_status pare_out_begin(pare_out_place *p, const char *path, bool folder, bool single_model, bool force,
                           const char *not_path, uint64_t need_bytes, pare_diag *d);
/* The same refusals without creating anything, for work whose output comes hours later. */
pare_status pare_out_check(const char *path, bool folder, bool single_model, bool force, const char *not_path,
                           pare_diag *d);
/* A file, or a folder with all that is in it; links are removed, not followed. */
void pare_out_remove(const char *path);
/* temp becomes final, whole. pre: everything below temp was fsynced. */
pare_status pare_out_commit(pare_out_place *p, pare_diag *d);
/* Removes temp. Safe to call after commit. */
void pare_out_abort(pare_out_place *p);

#endif
