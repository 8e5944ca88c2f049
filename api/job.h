/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside of a job: the source, its mapping to the output format, the format of every tensor, and how the engine turns
 * rows of the one into rows of the other. */
#ifndef PARE_API_JOB_H
#define PARE_API_JOB_H

#include "api/journal.h"
#include "core/sparse.h"
#include "formats/imatrix.h"
#include "formats/writer.h"
#include "models/mapping.h"
#include "pare/pare.h"
#include "prune/solve.h"
#include "quant/method.h"
#include "quant/plan.h"

/* How a tensor lies in the output: as rows, or as the parts of a layout. */
typedef enum pare_emit {
    PARE_EMIT_ROWS,
    PARE_EMIT_CT_PACKED,
    PARE_EMIT_CT_INT8,
    PARE_EMIT_GPTQ,
    PARE_EMIT_SPARSE
} pare_emit;

/* What a calibrated method made of a matrix; part of its record in the journal. Errors are squared and relative. */
typedef struct pare_job_quality {
    double weight_error;             /* of the stored weights against the original's */
    double output_error, rtn_output; /* of the outputs on the calibration data, against those of the weights aimed at;
                                        the same for weights rounded to nearest */
    double damping;
} pare_job_quality;

typedef struct pare_job_tensor {
    const pare_mapped *map;
    const pare_qtype *from, *to;
    pare_emit emit;
    char note[96];
    bool fallback;
    bool encoded;            /* map->src holds rows made by a calibrated method, in memory of the job */
    bool paged;              /* encoded, and these rows are a file's pages: they leave memory once written */
    const float *importance; /* from a file: per column, one row of them for every importance_rows rows; or NULL */
    size_t importance_rows;
    const pare_qtype *was; /* remade: the source's format and bytes; or NULL */
    uint64_t was_bytes;
    const char *was_name;  /* in the source, when map->src is gone */
    bool pruned;           /* to be, or after the run: was */
    double sparsity;       /* wanted */
    float *gradient;       /* as in prune/solve.h, once asked for; memory of the job */
    uint64_t zeros;        /* after the run: counted in the output */
    uint64_t zeros_wanted; /* keep_zeros: those of the source */
    bool measured;         /* after the run: quality is filled */
    pare_job_quality quality;
    int64_t rows, cols;                    /* of the work: a vector that is permuted counts as rows of 1 */
    const uint32_t *pick_rows, *pick_cols; /* a narrowed tensor: the source's rows and columns that stay; NULL = all */
    const pare_qtype *sparse;              /* compact layout: stored so (rows are made in `to`, then packed); or NULL */
    unsigned sparse_run;                   /* columns to a mask bit; 0: two of four */
    const int64_t *sparse_at;              /* masks: where each row's values begin, in bytes; [rows + 1] */
    uint64_t dense_bytes;                  /* compact layout: with the zeros */
    size_t out0, n_out;                    /* its tensors in the output */
    uint64_t bytes_out;
} pare_job_tensor;

/* What a pruning job does to every tensor that is marked. */
typedef struct pare_job_prune {
    const pare_criterion *criterion;
    pare_pattern_spec spec;
    pare_prune_scope scope;
    pare_prune_limit limit; /* PARE_SCOPE_GLOBAL */
} pare_job_prune;

struct pare_job {
    pare_source *src;
    pare_mapping *map;
    pare_arena *arena;
    char *out_path;        /* NULL: plan only */
    pare_source_kind kind; /* of the output */
    pare_hold hold;
    const char *layout; /* "ct", "pack", "gptq", "compact" or "" */
    bool compact;       /* zeros are left out of linear layers: api/compact.c */
    bool force;
    uint64_t max_shard_bytes;
    int file_type; /* GGUF: general.file_type */
    size_t n;
    pare_job_tensor *t;
    size_t n_out;
    pare_out_tensor *out;
    pare_meta_list meta;
    const pare_method *method;
    const char *calib; /* calibrated methods: the text, NULL = built in */
    int64_t calib_ctx, calib_windows;
    bool no_refine;                     /* gptq: no passes after the sweep */
    pare_job_prune *prune;              /* NULL: nothing is pruned */
    bool keep_zeros;                    /* quantizing: no zero of the source is lost */
    const struct pare_job *before;      /* the source is what this job will make: a plan of plans; else NULL */
    const char *imatrix, *save_imatrix; /* importance taken from a file; saved to one */
    pare_imatrix_entry *seen;           /* to be saved; names and numbers in the arena */
    size_t n_seen, cap_seen;
    pare_job *earlier;      /* pare_job_from; closed with this one */
    bool on_the_way;        /* likewise */
    const char *journal_at; /* likewise */
    pare_journal *journal;  /* of a calibrated method: where encoded rows are until the output is written */
    void **kept;            /* memory of encoded rows */
    size_t n_kept, cap_kept;
    uint64_t bytes_before; /* narrowed: of all tensors of the source */
    bool narrowed;         /* the output is a smaller model (api/narrow.h) */
    bool sizes_only;       /* a plan of shapes: nothing is judged, nothing can be run */
    const char *timed;     /* compact layout, after pruning: the matrix whose product was timed */
    double dense_s, sparse_s;
    char ran[128];                  /* pruning, after the run: how the output was tried */
    double work_s, check_s, sync_s; /* after run */
    char *config_text, *quant_text; /* folder: config.json; GPTQ's quantize_config.json; in the arena */
};

/* ---- api/job.c: opening is shared; the caller then sets t[i].to and finishes the layout ---- */
typedef struct pare_job_from {
    const char *path;       /* of the model */
    const char *title;      /* what it is called, where its path does not say that; NULL; lives as long as the job */
    const pare_job *before; /* or what this job will write, as planned; outlives the new job, which cannot be run */
    const char *journal;    /* the journal lies beside this name, whatever lies there now; NULL: beside the output */
    pare_job *earlier;      /* `before`, where nobody else keeps it: the new job closes it. Once the new job is there */
    bool sizes_only;        /* which parts go makes no difference: only shapes are wanted, no data is looked at */
    bool on_the_way;        /* pare alone will read the output: shapes that others cannot load are fine */
} pare_job_from;
pare_status pare_job_begin(const pare_job_from *from, const char *out, const pare_job_opts *o, pare_job **job,
                           pare_diag *d);
/* Which format an output of that name has; kind stays as it is where nothing says (both NULL). */
pare_status pare_job_kind_of(const char *out, const char *format, pare_source_kind *kind, pare_diag *d);
/* pare_quantize_open and pare_prune_open are these, from a path. */
pare_status pare_job_quantize(const pare_job_from *from, const char *out, const pare_job_opts *o, pare_job **job,
                              pare_diag *d);
pare_status pare_job_prune_from(const pare_job_from *from, const char *out, const pare_prune_opts *o, pare_job **job,
                                pare_diag *d);
/* After every t[i].to is known: emits, output tensors, metadata, config. */
pare_status pare_job_layout(pare_job *job, pare_diag *d);

/* Of the whole output as it will be, small files included. Makes and removes its temporary file. */
pare_status pare_job_output_bytes(pare_job *job, uint64_t *out, pare_diag *d);

/* The rows of t are these from now on (memory that lives as long as the job), in the source's order, in format t->to.
 */
pare_status pare_job_adopt(pare_job *job, pare_job_tensor *t, void *rows, pare_diag *d);

/* ---- api/compact.c ---- */
/* The format that stores the same values with their zeros; q itself when it is not sparse. */
static inline const pare_qtype *pare_with_zeros(const pare_qtype *q) { return q->sparse ? q->sparse->dense : q; }
/* Once all rows can be made: looks at them, chooses what is stored sparsely, and lays the output out again. */
pare_status pare_job_compact(pare_job *job, pare_diag *d);
typedef pare_status pare_job_part_fn(pare_job *job, const pare_job_tensor *t, const char *suffix,
                                     const pare_qtype *type, int64_t a, int64_t b, pare_diag *d);
/* The parts of a sparse tensor, in order; rows [row0, row0 + n) of them from dense ones. */
pare_status pare_job_compact_parts(pare_job *job, pare_job_tensor *t, pare_job_part_fn *part, pare_diag *d);
pare_status pare_job_compact_put(const pare_job_tensor *t, pare_writer *w, size_t row0, size_t n, const void *rows,
                                 void *scratch, pare_diag *d);
/* Times one token through the largest sparse matrix of the written model: job->timed, dense_s, sparse_s. */
pare_status pare_job_compact_time(pare_job *job, const pare_source *src, pare_diag *d);
size_t pare_job_compact_scratch(const pare_job_tensor *t, size_t rows);

/* ---- the plans of quantize and convert: t[i].to and the layout ---- */
pare_status pare_job_plan_quantize(pare_job *job, const pare_job_opts *o, pare_diag *d);
pare_status pare_job_plan_convert(pare_job *job, const pare_job_opts *o, pare_diag *d);

/* ---- api/prune_run.c ---- */
/* Fills the rows of the job's pruned tensors, by criteria that need no data. */
pare_status pare_job_prune_rows(pare_job *job, pare_diag *d);
/* One layer: w [rows, cols] its values, which become those that stay; out: room for the rows as they will be stored. s
 * and u as in prune/solve.h. */
pare_status pare_job_prune_layer(pare_job *job, const pare_job_tensor *t, const char *name, float *w,
                                 const pare_stats *s, const float *u, void *out, pare_diag *d);
/* Runs a written model on a few tokens: finite outputs, or a reason why it cannot be run (both told in ran) are fine.
 */
pare_status pare_job_try(const pare_source *src, char ran[128], pare_diag *d);
/* Opens what was written, counts the zeros of every pruned tensor (t->zeros), and runs it. */
pare_status pare_job_prune_check(pare_job *job, pare_diag *d);
const char *pare_job_why_not_pruned(const pare_job_tensor *t); /* api/prune.c: NULL when it can be */

/* ---- api/zeros.c ---- */
/* A grid keeps zeros when, its parameters fitted to anything, 0 still decodes to 0. */
bool pare_keeps_zeros(const pare_qtype *q);
/* Counts t's zeros in a written model into t->zeros; fewer than wanted is an error. */
pare_status pare_job_count_zeros(const pare_source *src, pare_job_tensor *t, double wanted, pare_diag *d);
/* keep_zeros: finds them, and refuses a grid without 0 for a tensor that has some. */
pare_status pare_job_zeros_plan(pare_job *job, pare_diag *d);
/* Opens what was written, sees that they are there, and runs it. */
pare_status pare_job_zeros_check(pare_job *job, pare_diag *d);

/* ---- api/folder_config.c ---- */
pare_status pare_job_config(pare_job *job, pare_diag *d); /* config_text, quant_text */

/* ---- api/regroup.c: codes and scales moved exactly between grids that hold the same values ---- */
bool pare_regroup_possible(const pare_qtype *from, const pare_qtype *to, int64_t cols); /* as far as types tell */
/* False when a scale has no exact counterpart. from == to copies. */
bool pare_regroup_rows(const pare_qtype *from, const pare_qtype *to, const void *src, void *dst, size_t rows,
                       size_t cols);
/* The grid of the other format that holds the same values, or NULL: folders' integer grids and GGUF's blocks. */
const pare_qtype *pare_regroup_twin(const pare_qtype *from, pare_source_kind to, int64_t cols);

/* ---- api/rows.c: one run of rows, storage format to storage format ---- */
typedef struct pare_row_work {
    const pare_job *job;
    const pare_job_tensor *t;
    float *values;   /* scratch: PARE_WORK_ELEMS floats, or one row (a head's rows) if longer */
    void *rtn, *raw; /* scratch of RTN; rows of the source that must be assembled or permuted */
} pare_row_work;
/* Elements of a sub-block that is decoded, checked and encoded while it is in the cache. */
enum { PARE_WORK_ELEMS = 1 << 16 };
size_t pare_row_work_values(const pare_job_tensor *t);
size_t pare_row_work_rtn_bytes(const pare_job_tensor *t);
size_t pare_row_work_raw_bytes(const pare_job_tensor *t, size_t chunk_rows);
/* Rows [row0, row0 + n) of the output to dst. Fails on NaN, Inf, a value too large for the format, inexact transcoding.
 */
pare_status pare_row_work_run(pare_row_work *w, size_t row0, size_t n, void *dst, pare_diag *d);

/* Memory that lives as long as the job; NULL on failure. */
void *pare_job_keep(pare_job *job, size_t bytes);

/* True when rows are made by a walk over calibration data before they are written. */
bool pare_job_walks(const pare_job *job);

/* api/calib_key.c: goes on from *sum over a model's identity: its files' sizes and times, its tensors. fails:
 * PARE_ERR_IO
 */
pare_status pare_source_sum(const pare_source *src, uint64_t *sum, pare_diag *d);

/* ---- api/job_imatrix.c ---- */
pare_status pare_job_use_imatrix(pare_job *job, pare_diag *d);         /* job->imatrix into the tensors' importance */
pare_status pare_job_imatrix_check(const pare_job *job, pare_diag *d); /* of the file to be saved, before the work */

/* ---- api/stream.c ---- */
pare_status pare_job_stream(pare_job *job, pare_writer *w, pare_diag *d);

#endif
