/* SPDX-License-Identifier: Apache-2.0
 *
 * The part of pare.h that is about recipes (docs/recipe.md); pare.h includes it. */
#ifndef PARE_PARE_RECIPE_H
#define PARE_PARE_RECIPE_H

#include "pare/pare.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Steps from a JSON file (docs/recipe.md): each makes a model from the one before, or looks at it. All are planned when
 * the recipe is opened, one plan on another, so that what cannot be is refused before any work. Models between two
 * steps lie in a folder beside the output until all is done; a run that was interrupted finds there what is finished.
 */
typedef struct pare_recipe pare_recipe;
typedef struct pare_recipe_opts {
    const char *model, *out, *calib; /* in the place of the recipe's own (whose paths begin at its folder) */
    bool force;                      /* replace an existing output */
    bool again;                      /* look again at what an earlier, interrupted run has looked at already */
} pare_recipe_opts;

typedef struct pare_recipe_info {
    const char *model, *out, *calib, *steps_folder;
    size_t n_steps;
} pare_recipe_info;

typedef struct pare_recipe_at {
    const char *kind;    /* "prune", "distill", "quantize", "verify" */
    const char *in;      /* the model that it reads */
    const char *out;     /* that it writes; NULL: it looks only */
    const pare_job *job; /* its plan; after it ran and until the next one runs, what it did; NULL when reused, too */
    pare_verify_report *report;     /* after it ran; NULL when reused */
    pare_distill_report *distilled; /* likewise */
    bool done, reused;              /* reused: by an earlier run */
    size_t n_failed;                /* gates */
    double seconds;
    const char *note; /* from pare_recipe_keep, also by an earlier run; or NULL */
} pare_recipe_at;

PARE_API PARE_MUST_USE pare_status pare_recipe_open(const char *path, const pare_recipe_opts *o, pare_recipe **out,
                                                    pare_diag *d);
PARE_API pare_recipe_info pare_recipe_describe(const pare_recipe *r);
PARE_API pare_recipe_at pare_recipe_step_at(const pare_recipe *r, size_t i);
/* Runs step i, unless it is done; those before it are. PARE_OK also when its gates failed: see n_failed. */
PARE_API PARE_MUST_USE pare_status pare_recipe_run(pare_recipe *r, size_t i, pare_diag *d);
/* Keeps a text with a step that is done. */
PARE_API PARE_MUST_USE pare_status pare_recipe_keep(pare_recipe *r, size_t i, const char *note, pare_diag *d);
PARE_API void pare_recipe_finish(pare_recipe *r); /* all is done: the folder of the steps goes */
PARE_API void pare_recipe_close(pare_recipe **r);
/* The kinds of steps that there are, and the keys of each: false past the last. text: half a line. */
PARE_API bool pare_recipe_step_kind(size_t i, const char **name, const char **text);
PARE_API bool pare_recipe_step_key(size_t i, size_t k, const char **name, const char **text);

#ifdef __cplusplus
}
#endif
#endif
