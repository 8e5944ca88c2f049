/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of a recipe: steps of several kinds, read from JSON by tables, planned one on another, run one after another
 * in a folder beside the output. A kind of step is a file api/recipe_KIND.c and a line of api/recipe_kinds.def.
 *
 *   recipe.c        opening, running, what callers see
 *   recipe_read.c   JSON into options; what is wrong is said with the place in the file
 *   recipe_keep.c   the folder OUT.pare-steps: finished steps, found again after an interruption */
#ifndef PARE_API_RECIPE_H
#define PARE_API_RECIPE_H

#include "api/job.h"

/* A key that a step may have, and where its value goes in the options of its kind. */
typedef struct pare_recipe_key {
    const char *name;
    char kind;       /* 's' word; 'p' file, relative to the recipe; 'd' number; 'i' whole number; 'z' bytes; 'b' true or
                        false; 't' the same as 1 and -1, 0 = not given; 'S' words; 'g' limits of gates */
    size_t at, n_at; /* offsetof the value; of the count of 'S' and 'g' */
    const char *text; /* for --help */
} pare_recipe_key;

typedef struct pare_recipe_step pare_recipe_step;
typedef struct pare_recipe_kind {
    const char *name, *text; /* text: half a line */
    const pare_recipe_key *keys;
    size_t n_keys, opts_bytes;
    /* Steps that write a model: the job from `from` to out, with the shared options. */
    pare_status (*open)(const pare_recipe *r, const pare_recipe_step *s, const pare_job_from *from, const char *out,
                        pare_job **job, pare_diag *d);
    pare_status (*run)(const pare_recipe *r, pare_recipe_step *s, pare_diag *d); /* in place of the job's; or NULL */
    void (*init)(void *opts);                                                    /* defaults other than 0; or NULL */
    /* Steps that look at one: what can be known before any work; then original against reduced. */
    pare_status (*check)(const pare_recipe_step *s, const pare_source *original, pare_diag *d);
    pare_status (*judge)(const pare_recipe_step *s, const char *original, const char *reduced, pare_verify_report **out,
                         pare_diag *d);
    bool packs; /* from here on models have the format of the output, which has the grids that the recipe asks for */
    bool (*zeros)(const pare_recipe_step *s); /* the model has zeros that later steps must keep; NULL: never */
} pare_recipe_kind;

#define PARE_RECIPE_KIND(sym) extern const pare_recipe_kind sym;
#include "api/recipe_kinds.def"
#undef PARE_RECIPE_KIND
const pare_recipe_kind *pare_recipe_kind_at(size_t i); /* NULL past the last */

struct pare_recipe_step {
    const pare_recipe_kind *kind;
    void *opts;          /* of the kind */
    struct json_t *json; /* borrowed from the recipe's */
    size_t number;       /* from 0 */
    bool last;           /* of those that write a model: it writes OUT */
    bool sparse;         /* what it reads has zeros made by an earlier step */
    char *in, *out;      /* paths; out NULL: it writes none */
    char *between;       /* the path it would have between two steps; of the last, where its journal lies */
    uint64_t key;        /* of all that its result depends on, earlier steps included */
    pare_job *job;       /* planned, then run */
    pare_verify_report *report;
    pare_distill_report *distilled;
    bool done, reused;
    size_t n_failed;
    double seconds;
    const char *note; /* what the caller keeps with it */
};

struct pare_recipe {
    pare_arena *arena;
    const char *path, *folder; /* of the recipe; folder ends with a slash, or is "" */
    struct json_t *json;
    const char *model, *out, *format, *layout;
    uint64_t max_shard_bytes;
    const char *calib;
    int64_t calib_ctx, calib_windows;
    const char *const *keep;
    size_t n_keep;
    bool force, again;
    pare_source_kind source_kind;
    size_t n;
    pare_recipe_step *steps;
    char *steps_folder; /* OUT.pare-steps */
    int lock;           /* of it, or -1 */
};

/* ---- api/recipe_read.c ---- */
/* Reads r->path: shared options, steps with their options. fails: PARE_ERR_INPUT, with the line where it is no JSON,
 * with the place ("steps[1].method") where it says what this version does not know */
pare_status pare_recipe_read(pare_recipe *r, pare_diag *d);
const char *pare_recipe_path(const pare_recipe *r, const char *path); /* beside the recipe; NULL: no memory */

/* ---- api/recipe_keep.c ---- */
/* Fills the key of every step. */
pare_status pare_recipe_keys(pare_recipe *r, pare_diag *d);
/* Which steps an earlier run has finished: they are done and reused. Creates nothing. */
pare_status pare_recipe_find_finished(pare_recipe *r, pare_diag *d);
/* Creates and locks the folder. */
pare_status pare_recipe_enter(pare_recipe *r, pare_diag *d);
/* Writes down which steps are done. */
pare_status pare_recipe_save(const pare_recipe *r, pare_diag *d);
void pare_recipe_leave(pare_recipe *r);

#endif
