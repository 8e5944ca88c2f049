/* SPDX-License-Identifier: Apache-2.0
 *
 * The part of pare.h that is about distillation (docs/distill.md); pare.h includes it. */
#ifndef PARE_PARE_DISTILL_H
#define PARE_PARE_DISTILL_H

#include "pare/pare.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A student learns from a teacher on a text: a model that was pruned or quantized (decoded for training), or some of
 * the teacher's layers. Zeros of a sparse student stay zeros. The student is written as any job's output. A run that is
 * interrupted keeps a checkpoint beside the output (OUT.pare-train) and goes on from it with the same bytes. */
typedef struct pare_distill_opts {
    const char *teacher, *student; /* student NULL: from the teacher, by keep_layers or layers; or a config.json (or a
                                      folder that has one and no weights): what it describes, with the teacher's
                                      tokenizer */
    const char *init;              /* what a config.json's student begins as: "teacher" (what of it matters most), or
                                      "random"; NULL: the first where it is a narrowing of the teacher, else the other
                                    */
    const char *keep_layers;       /* "0-3,8,11" */
    int64_t layers;                /* so many, those of the largest influence */
    int64_t hidden, heads, ffn;    /* so many channels, attention heads, neurons of the feed-forward part, chosen and
                                      refitted as pare_prune_open does; 0: all. Encoders: channels with their
                                      heads, hidden / heads being the teacher's; heads may be 0, hidden may not */
    const char *out, *to, *format; /* to: the format of the trained tensors (a float type or a grid); NULL: as the
                                      student's, f16 where that is quantized */
    const char *data;              /* text; for encoders sentences, as pare_verify has them; NULL: the one built in */
    int64_t ctx, batch, micro;     /* tokens a window; windows a step; windows at once. 0: 256, 8, as many as fit */
    int64_t eval;                  /* windows at the text's end that are not trained on but measured; 0: 8 */
    int64_t steps;                 /* 0: 100 */
    const char *loss;              /* "kl=1,ce=0.5,hidden=1,cosine=1"; NULL: "kl", for encoders "embed" */
    int64_t relation_heads;        /* of the term "relation"; 0: the student's heads of keys */
    const char *divergence;        /* "forward" (NULL), "reverse", "js" */
    double temperature;            /* 0: 1, with contrastive 0.05 */
    const char *train;     /* "all" (NULL), "norms" (and biases), "scales" (these, and what multiplies a quantized
                              student's codes, which stay), "qat" (these, and the codes), or
                              "adapters" (a product of low rank added to each matrix of a layer) */
    int64_t rank;          /* train "adapters": of the product that is added to every matrix of a layer; 0: 8 */
    double alpha;          /* its factor is alpha / rank; 0: rank */
    const char *optimizer; /* "adamw" (NULL) or "sgd" */
    const char *schedule;  /* "cosine" (NULL), "linear", "constant" */
    double rate;           /* 0: 1e-4 */
    double min_rate, decay, clip, beta1, beta2, momentum, ema; /* negative: 0.1, 0.01, 1, 0.9, 0.95, 0.9, none */
    int64_t warmup;                                            /* steps; negative: a twentieth of all */
    uint64_t seed;
    const char *precision;  /* of both models' products of matrices: "f32", or "bf16": operands rounded to bf16, sums in
                             * f32; weights, the optimizer and everything else stay f32 (f32) */
    bool recompute;         /* activation checkpointing: less memory, a third more time */
    int64_t save_every;     /* steps between checkpoints; 0: every five minutes */
    int64_t teacher_top;    /* only the teacher's so many largest log-probabilities of a position, and the mass of the
                               others; a window is asked of it once. 0: all, asked each time */
    uint64_t teacher_bytes; /* of memory for these, a file beside the output has the rest; 0: 512 MiB */
    bool force;
    uint64_t max_shard_bytes;
    /* Each layer by itself, in order: --steps steps each, towards what the teacher has behind the layers that it stands
     * for; memory for one layer's training at a time, and the activations of all windows */
    bool blockwise;
    const char *block_inputs; /* "student" (NULL): what its trained layers before give; "teacher": the teacher's own */
    uint64_t block_bytes;     /* of memory for activations, a file beside the output has the rest; 0: 1 GiB */
    const char *device;       /* where models run and gradients are computed: "cpu" (NULL) or "cuda" */
} pare_distill_opts;

#define PARE_DISTILL_TERMS 4
/* On the windows that were held out: nats a token. */
typedef struct pare_distill_held {
    double kl;   /* of the teacher's distribution from the student's */
    double loss; /* of the text itself: the mean -log p of the next token */
    double top1; /* share of positions where both have the same most likely token */
    /* encoders: the mean cosine of a sentence's two embeddings (where widths differ, in the teacher's, by the matrix
     * that is trained along; 0 without one), and the root mean square of what the cosine of two sentences changed by,
     * over pairs of one pass */
    double cosine, similarity;
} pare_distill_held;

/* A layer that learned by itself. Errors: of what leaves it, squared, over the square of what it should be; the mean
 * over tokens that were held out. */
typedef struct pare_distill_block {
    int layer, target; /* the student's; the teacher's behind which lies what it aims at */
    double before, after;
} pare_distill_block;

typedef struct pare_distill_report {
    bool encoder;                /* sentences; else a text in windows */
    int64_t steps, resumed_from; /* of them done by earlier runs */
    int64_t tokens_per_step, train_windows, eval_windows;
    uint64_t parameters, trained; /* of the student */
    int64_t teacher_windows;      /* that the teacher was asked for training, by this run */
    int n_terms;
    const char *terms[PARE_DISTILL_TERMS]; /* "kl", ... */
    const double *curve;                   /* [steps][6]: rate, norm of the gradient, loss, up to three terms */
    int64_t n_blocks;                      /* 0: not layer by layer; else the steps are theirs, one after another */
    const pare_distill_block *blocks;
    uint64_t kept_bytes; /* activations of a run by layers */
    pare_distill_held before, after;
    uint64_t memory_bytes; /* of the student's pass forward and back */
    uint64_t device_bytes; /* taken on --device by both models and, where resident, the optimizer; 0: the CPU */
    bool resident;         /* parameters and optimizer stayed on the device */
    double seconds, tokens_per_second;
    const char *ran;  /* how the output was tried */
    const char *note; /* the data, for people */
    void *impl;
} pare_distill_report;

/* fails: PARE_ERR_MISMATCH when the two do not speak of the same tokens; PARE_ERR_INPUT when loss or gradient is no
 * longer finite (the last checkpoint stays); PARE_ERR_INTERRUPTED after a checkpoint. Close with pare_distill_close. */
PARE_API PARE_MUST_USE pare_status pare_distill(const pare_distill_opts *o, pare_distill_report **out, pare_diag *d);
PARE_API void pare_distill_close(pare_distill_report **r);
typedef enum pare_distill_format { PARE_DISTILL_JSON, PARE_DISTILL_SVG } pare_distill_format;
/* The report, or the curve of the loss as a picture; the text belongs to the report. */
PARE_API PARE_MUST_USE pare_status pare_distill_render(pare_distill_report *r, pare_distill_format f, const char **text,
                                                       size_t *n_bytes, pare_diag *d);
/* The same into a file, whole or not at all. */
PARE_API PARE_MUST_USE pare_status pare_distill_save(pare_distill_report *r, pare_distill_format f, const char *path,
                                                     pare_diag *d);

#ifdef __cplusplus
}
#endif

#endif
