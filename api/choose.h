/* SPDX-License-Identifier: Apache-2.0
 *
 * How much to prune, from what is wanted (pare/pare_search.h). One number, the step, says how much; what it means
 * depends on the pattern: parts that go (ffn, heads, ...), layers that get the pattern (N:M), hundredths of all
 * weights, shared out by sensitivity (unstructured).
 *
 *   choose.c        the goals, the search
 *   choose_steps.c  what a step is */
#ifndef PARE_API_CHOOSE_H
#define PARE_API_CHOOSE_H

#include "api/narrow.h"
#include "api/search.h"

typedef enum pare_step_kind { PARE_STEP_PARTS, PARE_STEP_LAYERS, PARE_STEP_SHARE } pare_step_kind;

typedef struct pare_chooser {
    const char *model, *out;
    const pare_prune_opts *o;
    const pare_prune_goal *goal;
    pare_arena *arena;
    pare_prune_choice *choice;
    pare_step_kind kind;
    int64_t steps;     /* 1 .. steps; more prunes more */
    int64_t all, unit; /* parts: how many there are; how many go at a step */
    const char *what;  /* "neurons" */
    size_t n_layers;   /* zeros */
    double *share;     /* of each layer, relative (PARE_STEP_SHARE) */
    size_t *order;     /* layers, the least sensitive first (PARE_STEP_LAYERS) */
    uint64_t overhead; /* bytes of an output that are no tensor's */
    char *scratch;     /* folder of candidates */
} pare_chooser;

/* Finds kind and steps; zeros: measures every layer. */
pare_status pare_chooser_steps(pare_chooser *c, pare_diag *d);
/* The options of this step, and in words; in the chooser's arena. share: of every layer, or NULL. */
pare_status pare_chooser_options(pare_chooser *c, int64_t step, pare_prune_opts *o, const char **text, double *share,
                                 pare_diag *d);

#endif
