/* SPDX-License-Identifier: Apache-2.0
 *
 * A student that a config.json describes: an architecture without weights. Where it is a narrowing of the teacher it
 * begins as what of the teacher matters most, else at random; the folder it begins in lies beside the output until the
 * run ends.
 *
 *   distill_config.c  reading it, its tensors, what of the teacher stays
 *   distill_begin.c   the folder */
#ifndef PARE_API_DISTILL_CONFIG_H
#define PARE_API_DISTILL_CONFIG_H

#include "api/job.h"

struct pare_distill_run;

typedef struct pare_given {
    char *path, *title; /* of config.json; what the student is called */
    struct json_t *config;
    pare_arch arch;
    double range;     /* standard deviation of what begins at random */
    const char *type; /* what trained weights are stored as, where it says so; or NULL */
    bool from_teacher;
    const char *why;                              /* it could not be from the teacher; or NULL */
    int64_t hidden, groups, queries, ffn, layers; /* what stays of the teacher, where something goes; else 0 */
    int *layer_of;                                /* of the teacher, each layer's; NULL: by place */
    char *folder;                                 /* made; or NULL */
} pare_given;

typedef struct pare_given_tensor {
    pare_tensor_name name;
    const char *text; /* as in a folder */
    int ndim;
    int64_t shape[2];
} pare_given_tensor;

/* A configuration, or a folder that has one and no weights. */
bool pare_given_is(const char *student);
/* x->given, compared with the teacher. fails: PARE_ERR_INPUT, naming the key */
pare_status pare_given_open(struct pare_distill_run *x, pare_diag *d);
void pare_given_close(pare_given **g);
/* Everything the architecture has, in memory of the arena. */
pare_status pare_given_tensors(const pare_given *g, pare_arena *arena, pare_given_tensor **out, size_t *n,
                               pare_diag *d);

/* g->folder. Process 0 makes it, the others wait. */
pare_status pare_given_begin(struct pare_distill_run *x, pare_diag *d);
/* A job that would write it, as shapes alone. */
pare_status pare_given_plan(struct pare_distill_run *x, const pare_job_from *from, pare_job **job, pare_diag *d);

#endif
