/* SPDX-License-Identifier: Apache-2.0
 *
 * Block-wise distillation: the student's layers learn one after another, each towards what the teacher has behind the
 * layers that it stands for (the teacher's layer before the next one that was kept; the same layer where all are
 * there), from what the student's trained layers before it give, or from the teacher's own activations.
 *
 * op:     minimize the mean over tokens of |y - t|^2 / |t|^2, y what leaves the layer, t the target: the next layer's
 *         norm sees directions, and the first token's activations are often a hundred times the others'. A text's
 *         windows that the steps meet go through the two models layer by layer, their activations kept
 * memory: masters, gradients and optimizer of one layer; of every window met two rows of activations (its input, its
 *         target), in memory up to a budget and then in a file. Weights of both models are read where they are stored,
 *         finished layers lie in OUT.pare-journal
 * equal:  the same bytes at every thread count, and after an interruption, which costs the forward passes of the
 *         finished layers
 * fails:  PARE_ERR_UNSUPPORTED for encoders; PARE_ERR_USAGE for a student of another width
 * papers: FitNets, Romero et al. 2015; block-wise knowledge distillation, Li et al. 2020, arXiv 1911.13053, section
 *         3.2, with the student's own inputs in place of the teacher's */
#ifndef PARE_API_DISTILL_BLOCKS_H
#define PARE_API_DISTILL_BLOCKS_H

#include "api/distill.h"
#include "api/distill_kept.h"

struct pare_blocks {
    bool teachers;          /* inputs are the teacher's own */
    size_t n, held;         /* windows trained on, held out; activations lie in this order */
    int64_t *window, *slot; /* [n]: which windows; per window of the text that may be met: where, or -1 */
    pare_kept in, target;   /* [n + held]: before the student's layer at hand, and behind it what there should be */
    pare_kept untaught, held_in; /* [held]: through the student's layers as they were; with the teacher's inputs: as
                                    they became */
    float *x, *y, *weight;       /* of a pass: inputs, targets, and one over the mean square of each token's target */
    int layer, reached;          /* the student's at hand; how many of the teacher's lie before target */
    pare_value from, to, aim, each; /* of the graph at hand */
    void **rows;                    /* per parameter of the layer at hand: its tensor's rows in the journal */
    pare_journal *journal;
    pare_meter meter;
    int64_t done; /* steps of layers before this one, by this run */
    char name[48];
};

/* distill_blocks.c */
pare_status pare_blocks_check(pare_distill_run *x, pare_diag *d); /* options alone */
pare_status pare_blocks_open(pare_distill_run *x, pare_diag *d);
void pare_blocks_close(pare_blocks **b);
/* All layers, and what was gained. */
pare_status pare_blocks_work(pare_distill_run *x, pare_distill_text *t, pare_diag *d);

/* distill_block.c */
pare_status pare_block_learn(pare_distill_run *x, pare_distill_text *t, int layer, pare_diag *d);
const char *pare_blocks_name(const pare_distill_run *x);      /* "layer 3 of 30" */
bool pare_blocks_trains(const pare_distill_run *x, size_t i); /* the view's tensor i is of the layer at hand */
/* The bindings of a pass over these windows. */
pare_status pare_blocks_inputs(pare_distill_run *x, const int64_t *window, int *n_bindings, pare_diag *d);

/* distill_stage.c: one stage of a model over activations that are kept */
pare_status pare_stage_open(pare_weights *w, int stage, pare_lm_run *run, pare_value *in, pare_value *out,
                            pare_diag *d); /* its graph alone */
pare_status pare_stage_start(pare_distill_run *x, pare_weights *w, pare_lm_run *run, pare_diag *d);
/* Up to `out` for windows first .. first + count of `from` (at most a pass); in < 0: the tokens themselves, of windows
 * that lie there. *y: valid until the run's next. */
pare_status pare_stage_pass(pare_distill_run *x, pare_lm_run *run, pare_value in, pare_value out, const pare_kept *from,
                            size_t first, size_t count, const float **y, pare_diag *d);
/* The same for n windows; results go to `to` (which may be `from`, or NULL) from `at` on. error, unless NULL: the mean
 * over tokens of their distance from x->blocks->target, windows from target0 on. */
pare_status pare_stage_walk(pare_distill_run *x, pare_lm_run *run, pare_value in, pare_value out, const pare_kept *from,
                            size_t first, size_t n, const pare_kept *to, size_t at, double *error, size_t target0,
                            pare_diag *d);
/* The layer's weights are not read again soon: their pages leave memory. */
void pare_stage_release(const pare_source *src, const pare_arch *a, int layer);

#endif
