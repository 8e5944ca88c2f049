/* SPDX-License-Identifier: Apache-2.0
 *
 * The part of pare.h that is about several processes; pare.h includes it. */
#ifndef PARE_PARE_TEAM_H
#define PARE_PARE_TEAM_H

#include "pare/pare.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Processes that mpirun (Open MPI) started can share one distillation or calibration: every one makes the same calls
 * with the same options; files are written, and progress is told, by process 0. How many were started (1: not by
 * mpirun); join, before the work, loads libpare-mpi.so and does nothing for one process; leave after it. */
PARE_API int pare_team_started(void);
PARE_API PARE_MUST_USE pare_status pare_team_join(pare_diag *d);
PARE_API void pare_team_leave(void);
PARE_API int pare_team_size(void); /* 1 unless joined */
PARE_API int pare_team_rank(void);
/* Whether this process is the one to say what happened: 0, or the first that failed. */
PARE_API bool pare_team_speaks(void);
/* Whether processes can share this job: it calibrates on data. Others are done by one, which then does not join. */
PARE_API bool pare_job_shares(const pare_job *job);
/* As pare_job_run, by all that have joined: process 0 writes, the others calibrate with it and wait. */
PARE_API PARE_MUST_USE pare_status pare_job_run_shared(pare_job *job, pare_diag *d);

#ifdef __cplusplus
}
#endif

#endif
