/* SPDX-License-Identifier: Apache-2.0
 *
 * What training keeps on a device (distill_resident.c), and its exchange with other processes' (distill_gather.c). */
#ifndef PARE_API_DISTILL_RESIDENT_H
#define PARE_API_DISTILL_RESIDENT_H

#include "api/distill.h"

struct pare_resident {
    pare_exec *e;
    pare_param *at; /* per parameter: as the trainer's, arrays on the device */
    float **sum;    /* per parameter; NULL where a step is one pass */
    double *square, *square_host;
    size_t n, runs, bytes; /* bytes: taken here */
    /* Several processes: */
    size_t room;      /* floats that each gives at once */
    float *own, *all; /* [room], [processes][room] */
};

/* Collective. *joined: devices can exchange gradients by themselves; if not, process 0 says why. */
pare_status pare_gather_join(pare_distill_run *x, bool *joined, pare_diag *d);
/* own and all. *full: they do not fit. */
pare_status pare_gather_room(pare_resident *r, bool *full, pare_diag *d);
/* Collective. *any: of all processes. */
pare_status pare_gather_any(bool own, bool *any, pare_diag *d);
/* Collective. Part `number` of a step's parts, this process's, whose gradients lie where the pass left them; where
 * there is no such part, the process helps the others. Sums are taken element by element in the order of parts. */
pare_status pare_gather_add(pare_distill_run *x, int64_t number, int64_t parts, pare_diag *d);

#endif
