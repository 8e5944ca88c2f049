/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of a distillation: a job whose tensors become f32 masters that a graph with losses and gradients reads, a
 * teacher beside it, a text in windows.
 *
 *   distill.c         options, the order of things
 *   distill_student.c the job's tensors as masters, and as a source that the graph builder reads
 *   distill_cut.c     a student cut from the teacher
 *   distill_config.h  a student that a config.json describes
 *   distill_scales.c  a quantized matrix's scales as what is trained
 *   distill_codes.c   its codes as what is trained
 *   distill_qat.c     which matrices these are, and what they begin at
 *   distill_adapters.c  low-rank adapters as what is trained
 *   distill_data.c    windows of the text
 *   distill_tokens.c  its tokens, in memory or beside the output
 *   distill_sentences.c  for encoders: sentences, and what is measured on them
 *   distill_terms.c   the terms of the loss, distill_project.c where widths differ
 *   distill_graph.c   losses and gradients behind the student's graph
 *   distill_step.c    passes: training, measuring
 *   distill_device.c  where the passes run
 *   distill_resident.c  parameters and optimizer on a device, distill_gather.c gradients between devices
 *   distill_cache.c   the teacher's distributions, kept for epochs that repeat
 *   distill_team.c    what several processes exchange
 *   distill_blocks.c  layer after layer (api/distill_blocks.h)
 *   distill_report.c  JSON and the curve as SVG */
#ifndef PARE_API_DISTILL_H
#define PARE_API_DISTILL_H

#include "api/distill_adapters.h"
#include "api/distill_codes.h"
#include "api/distill_config.h"
#include "api/distill_tokens.h"
#include "api/job.h"
#include "core/log.h"
#include "distill/loss.h"
#include "distill/train.h"
#include "formats/source_impl.h"
#include "formats/tokenizer.h"
#include "models/lm_run.h"

typedef enum pare_term {
#define PARE_TERM(id, name, models, teacher, build) PARE_TERM_##id,
#include "api/distill_terms.def"
#undef PARE_TERM
    PARE_TERMS
} pare_term;
enum { PARE_FOR_LM = 1, PARE_FOR_ENCODER = 2 };

typedef enum pare_train {
    PARE_TRAIN_ALL,
    PARE_TRAIN_NORMS,
    PARE_TRAIN_SCALES,
    PARE_TRAIN_QAT,
    PARE_TRAIN_ADAPTERS
} pare_train;

/* The scales of one matrix (distill_scales.c). factor and grad: [rows][blocks][parts]. owns: pare_scales_close */
typedef struct pare_scales {
    const pare_qtype *type;
    size_t rows, cols, block, blocks, block_bytes, row_bytes, n; /* n: factors */
    int parts, at[2];                                            /* where a block's numbers lie; -1 = none */
    uint8_t *data;                                               /* the rows as stored */
    float *factor, *grad;
} pare_scales;
bool pare_scales_known(const pare_qtype *q);
pare_status pare_scales_open(const pare_source *src, const pare_stored *t, size_t rows, size_t cols, pare_scales *s,
                             pare_diag *d);
/* The same with room for rows that the caller fills. */
pare_status pare_scales_room(const pare_qtype *type, size_t rows, size_t cols, pare_scales *s, pare_diag *d);
void pare_scales_close(pare_scales *s);
/* grad from the matrix's gradient; the matrix from the factors. */
pare_status pare_scales_gradient(pare_scales *s, const float *dw, pare_diag *d);
pare_status pare_scales_values(pare_scales *s, float *w, pare_diag *d);
/* Into the rows, rounded as they store it; w becomes what they decode to. */
void pare_scales_settle(pare_scales *s, float *w);

/* The student as training sees it. owns: pare_student_close; the job owns nothing of it, but reads masters when it is
 * run. */
typedef struct pare_student {
    pare_job *job;
    pare_arch arch;
    pare_source_impl view; /* the job's source with other tensors: names as the source has them, layers as the output */
    size_t n, n_extra, room;  /* extra: behind the view's, trained along and not written (distill_project.c) */
    pare_stored *tensors;     /* the view's */
    pare_job_tensor **of;     /* per tensor of the view */
    float **master;           /* per tensor of the view: trained values, or NULL */
    pare_scales **scales;     /* per tensor of the view: what makes master, or NULL */
    pare_codes **codes;       /* per tensor of the view: what makes the scales' rows, or NULL */
    pare_adapter **adapters;  /* per tensor of the view: what makes master, or NULL */
    int *layer;               /* per tensor of the view: -1 outside layers */
    bool *taught;             /* per tensor of the view: its data are trained rows already (distill_blocks.c) */
    const int *teacher_layer; /* per layer of the student: the teacher's it is compared with */
    pare_weights *w;
    pare_lm_run run;
    pare_arena *arena;
    const char *on_the_way[6]; /* models that were cut before the last cut */
    int n_on_the_way;
} pare_student;

typedef struct pare_windows { /* window i: tokens i * ctx .. (i + 1) * ctx, the last of them only a label */
    pare_text_tokens tokens;  /* of a text */
    int64_t *ids, *start;     /* of sentences, window i being ids[start[i]] .. ids[start[i + 1]]; NULL: a text */
    int64_t pad;
    int64_t ctx, n, train; /* windows in all; those trained on come first */
    int64_t together;      /* this many follow one another in every order: 2 where sentences are pairs, else 1 */
    int64_t bos;           /* in place of a window's first token; -1 = not wanted */
    uint64_t sum;          /* over the tokens */
    char note[192];
} pare_windows;

typedef struct pare_teacher_top pare_teacher_top;
typedef struct pare_resident pare_resident;
typedef struct pare_blocks pare_blocks;

typedef struct pare_tap {
    pare_value from, to; /* of the teacher's graph; the input of the student's that is bound to it */
} pare_tap;

typedef struct pare_distill_run {
    pare_distill_opts o; /* with defaults in place */
    const char *title;   /* what the student is called, where its path does not say that; or NULL */
    float weight[PARE_TERMS];
    pare_divergence divergence;
    pare_train train;
    bool bf16;         /* products of both models */
    const char *kept;  /* path of the checkpoint */
    pare_given *given; /* the configuration that --student names; or NULL */
    bool needs_teacher;
    pare_source *teacher_src;
    pare_arch teacher_arch;
    pare_weights *teacher_w;
    pare_lm_run teacher;
    pare_teacher_top *top; /* NULL: its whole distributions, asked each time */
    pare_student student;
    pare_windows data;
    pare_blocks *blocks; /* NULL: all layers at once */
    /* the student's graph */
    int forward_stages;
    pare_value teacher_logits, labels, scale, loss, term[PARE_TERMS];
    pare_value token_weight, pool_weight, relation_mask; /* inputs; PARE_NO_VALUE where no term wants them */
    pare_value pair_self, pair_partner;                  /* likewise */
    pare_tap *tap;
    size_t n_taps, cap_taps;
    pare_value *grad; /* per parameter */
    pare_param *param;
    size_t n_params;
    uint8_t **mask; /* per parameter, NULL: dense */
    size_t *tensor; /* per parameter: of the student's view */
    float **unit;   /* per parameter: what its rates are relative to, or NULL */
    bool *second;   /* per parameter: the other one of its tensor: latents behind scales, an adapter's b behind its a */
    pare_trainer trainer;
    pare_resident *resident; /* NULL: the host's memory has parameters and optimizer */
    /* a pass */
    int64_t *ids, *labels_at; /* [micro][ctx] */
    float scale_at;
    int64_t seq, *lengths; /* encoders: tokens of a row, and how many of them are the sentence's */
    float *token_weight_at, *pool_weight_at, *relation_mask_at, *pair_self_at;
    int64_t *pair_partner_at;
    pare_binding *bind;
    pare_distill_report *r;
} pare_distill_run;

/* distill.c: as pare_distill. From a recipe, title is its model's path. */
pare_status pare_distill_titled(const pare_distill_opts *o, const char *title, pare_distill_report **out, pare_diag *d);
/* Only the job of the student's output, from `from`, which may be a plan. job: closed by the caller, also after errors
 */
pare_status pare_distill_plan(const pare_distill_opts *o, const pare_job_from *from, pare_job **job, pare_diag *d);

/* A sum over all that the run depends on, once parameters are listed and options told. */
uint64_t pare_distill_key(const pare_distill_run *x);
/* sum, and the names and first bytes of a model's tensors. */
uint64_t pare_distill_sample(uint64_t sum, const pare_source *src);
pare_status pare_distill_open_trainer(pare_distill_run *x, pare_diag *d);
/* From the checkpoint, if there is one of this run. */
pare_status pare_distill_go_on(pare_distill_run *x, uint64_t key, bool *found, pare_diag *d);
/* Steps until all of the trainer's are done. before: steps that the meter has seen */
pare_status pare_distill_train(pare_distill_run *x, uint64_t key, pare_meter *meter, int64_t before, pare_diag *d);
/* The masters as they will be written: their average, scales as their format has them. */
pare_status pare_distill_average(pare_distill_run *x, pare_diag *d);

/* distill_cut.c: student.job, and its arch, from `of`, cut as the options say; of->earlier is the job's. */
pare_status pare_student_cut(pare_distill_run *x, const pare_job_from *of, const pare_job_opts *jo, pare_diag *d);
/* The teacher as a folder of the shapes that x->given asks for; *path is the teacher's own where it is that already. */
pare_status pare_student_cut_to(pare_distill_run *x, const char **path, pare_diag *d);
void pare_student_cut_close(pare_student *s);
bool pare_student_is_cut(const pare_distill_opts *o);
/* distill_width.c: the heads of an encoder that stay, with their channels, of --hidden and --heads; 0: all. */
pare_status pare_student_width(const pare_distill_run *x, int64_t *heads, pare_diag *d);
void pare_student_width_tell(const pare_distill_run *x); /* what --hidden alone implies */

/* distill_student.c */
/* student.job alone. */
pare_status pare_student_plan(pare_distill_run *x, const pare_job_from *from, pare_diag *d);
pare_status pare_student_open(pare_distill_run *x, pare_diag *d);
void pare_student_close(pare_student *s);
/* The view's tensor i as a master, with what it is made of, where it is trained or the file has it otherwise. Opening
 * does that for all but in a run block by block. */
pare_status pare_student_hold(pare_distill_run *x, size_t i, pare_diag *d);
/* A settled tensor's rows as they will be kept, f32 or its own format; their bytes. */
size_t pare_student_rows(const pare_student *s, size_t i, const void **rows);
void pare_student_take(pare_student *s, size_t i, const void *rows); /* into what is held */
/* Nothing is held any longer: the tensor is these rows, which outlive the student. */
void pare_student_release(pare_student *s, size_t i, void *rows);
/* The job's trained tensors are the masters from now on. */
pare_status pare_student_settle(pare_student *s, pare_diag *d);

/* distill_qat.c */
/* Formats of the output's matrices, before anything is read. */
pare_status pare_qat_plan(pare_distill_run *x, const pare_job_opts *jo, pare_diag *d);
/* A matrix whose codes are trained. */
bool pare_qat_trains(const pare_job_tensor *t);
/* scales and codes of the view's tensor i, which becomes t; w [rows, cols]: its values now, then those of its codes. */
pare_status pare_qat_add(pare_student *s, size_t i, const pare_job_tensor *t, float *w, pare_diag *d);

/* distill_data.c */
pare_status pare_windows_open(pare_distill_run *x, pare_diag *d);
void pare_windows_close(pare_windows *w);
void pare_windows_fill(const pare_windows *w, int64_t window, int64_t vocab, int64_t row, int64_t *ids,
                       int64_t *labels);

/* distill_sentences.c */
pare_status pare_distill_sentences_open(pare_distill_run *x, pare_diag *d);
/* The pass's inputs, and both runs' shapes. sentence: [micro] */
pare_status pare_distill_sentences_fill(pare_distill_run *x, const int64_t *sentence, pare_diag *d);
/* Adds the first count sentences of the pass, and their pairs. */
pare_status pare_distill_sentences_held(pare_distill_run *x, int64_t count, pare_distill_held *sum, pare_diag *d);

/* distill_terms.c */
const char *pare_term_name(pare_term t);
pare_status pare_terms_parse(pare_distill_run *x, const char *text, pare_diag *d);
/* With the models known: the default, and whether they have what the terms compare. */
pare_status pare_terms_check(pare_distill_run *x, pare_diag *d);
/* Terms and loss into the student's graph; taps into the teacher's, which is built and not yet started. */
pare_status pare_terms_add(pare_distill_run *x, pare_diag *d);
#define PARE_TERM(id, name, models, teacher, build)                                                                    \
    pare_status pare_term_##build(pare_distill_run *x, pare_value *out, pare_diag *d);
#include "api/distill_terms.def"
#undef PARE_TERM

/* distill_project.c: *v in the teacher's width, by a projection of that name, which is made when it is first wanted. */
pare_status pare_student_project(pare_distill_run *x, const char *name, pare_value *v, pare_diag *d);
/* Its matrix [the student's width, the teacher's], as trained so far; NULL: there is none. */
const float *pare_student_projection(const pare_student *s, const char *name);

/* distill_graph.c: the student's run is built, with losses and gradients, and started; parameters are listed. */
pare_status pare_distill_graph(pare_distill_run *x, pare_diag *d);
/* Parameters and their gradients, for a student's run that is built and has its loss. */
pare_status pare_distill_gradients(pare_distill_run *x, pare_diag *d);
void pare_distill_forget(pare_distill_run *x); /* what that has listed */

/* distill_device.c */
/* The device and the precision that options name. */
pare_status pare_distill_device(const pare_distill_run *x, pare_exec_opts *out, pare_diag *d);
/* After the masters have changed: the device's copies of them. */
pare_status pare_distill_upload(pare_distill_run *x, pare_diag *d);
/* Says what of a pass the device leaves to the CPU. */
void pare_distill_tell_device(pare_distill_run *x);

/* distill_resident.c */
/* x->resident, where the run can have it; after the trainer has its state. owns: pare_resident_close */
pare_status pare_resident_open(pare_distill_run *x, pare_diag *d);
void pare_resident_close(pare_distill_run *x);
/* The trainer's arrays as the device has them, if it has them. */
pare_status pare_resident_fetch(pare_distill_run *x, pare_diag *d);
/* As pare_distill_add, with the gradients of the pass that was just run, and pare_trainer_step. */
pare_status pare_resident_add(pare_distill_run *x, int64_t number, int64_t parts, pare_diag *d);
pare_status pare_resident_step(pare_distill_run *x, double loss, const double *terms, int n_terms, pare_diag *d);

/* distill_cache.c */
/* x->top, where it is asked for; after the windows are there. */
pare_status pare_teacher_top_open(pare_distill_run *x, pare_diag *d);
void pare_teacher_top_close(pare_teacher_top **t);
/* Logits for the pass in x->ids, whose windows these are; valid until the next call. */
pare_status pare_teacher_top_logits(pare_distill_run *x, const int64_t *window, const float **logits, pare_diag *d);

/* distill_step.c */
/* Matrices from their scales, after these have changed. */
pare_status pare_distill_refresh(pare_distill_run *x, pare_diag *d);
pare_status pare_distill_step(pare_distill_run *x, pare_diag *d);
pare_status pare_distill_measure(pare_distill_run *x, pare_distill_held *out, pare_diag *d);
/* Adds n rows of logits, q the student's, p the teacher's or NULL, and labels in x->labels_at. */
pare_status pare_distill_rows(pare_distill_run *x, const float *q, const float *p, int64_t n, pare_distill_held *sum,
                              pare_diag *d);
/* Means of sums over all that was held out. */
pare_status pare_distill_mean(const pare_distill_run *x, const pare_distill_held *sum, pare_distill_held *out,
                              pare_diag *d);

/* distill_team.c: all is collective (core/team.h). */
/* Chooses o.micro: `most`, or fewer so that every process has a share of the step, or what the run had whose checkpoint
 * is there. */
pare_status pare_distill_passes(pare_distill_run *x, int64_t most, pare_diag *d);
/* Part `number` of a step of `parts`; grad NULL: this process has none in this round. */
pare_status pare_distill_add(pare_distill_run *x, int64_t number, int64_t parts, const float *const *grad,
                             pare_diag *d);
/* Process 0's state of the trainer. loaded: what loading it there gave. */
pare_status pare_distill_spread(pare_distill_run *x, pare_status loaded, bool *found, pare_diag *d);

/* distill_report.c: what of options and models goes into the report's text. */
typedef struct pare_distill_text {
    pare_distill_report r;
    char *json, *svg; /* once asked for */
    double *curve;
    char note[200], ran[128];
    char *options; /* JSON object */
    const char *names[PARE_DISTILL_TERMS];
    pare_distill_block *block;
} pare_distill_text;

#include "api/distill_blocks.h"

#endif
