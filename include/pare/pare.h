/* SPDX-License-Identifier: Apache-2.0
 *
 * pare makes trained models smaller and proves that they still work. The public header, with all it includes.
 *
 * Conventions. Shapes are row-major, outermost dimension first. Sizes name their unit (`_bytes`, `_elems`). Every call
 * that can fail returns a pare_status and takes an optional pare_diag, which says which file, which tensor or byte,
 * what was expected and what to do. Objects are closed with the matching x_close(T **), which accepts NULL and clears
 * the pointer. Strings handed out belong to the object they came from. Nothing here prints; progress and log lines go
 * through the callbacks of pare_hooks.
 */
#ifndef PARE_PARE_H
#define PARE_PARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define PARE_API          __attribute__((visibility("default")))
#define PARE_MUST_USE     __attribute__((warn_unused_result))
#define PARE_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define PARE_API
#define PARE_MUST_USE
#define PARE_PRINTF(f, a)
#endif

#define PARE_VERSION  "0.1.0"
#define PARE_MAX_DIMS 8

/* ---- status and diagnosis ------------------------------------------------------------------------------------- */

/* Each status maps to one exit status of the command line (pare_exit_status). */
typedef enum pare_status {
#define PARE_STATUS(id, value, exit_code, text) PARE_##id = value,
#include "pare/status.def"
#undef PARE_STATUS
} pare_status;

/* What went wrong and where. `file` and `where` (tensor name, byte offset, key, option) may be empty. */
typedef struct pare_diag {
    pare_status code;
    char file[256];
    char where[192];
    char text[640];
} pare_diag;

PARE_API const char *pare_status_text(pare_status s);
PARE_API int pare_exit_status(pare_status s); /* 0 done, 1 gate, 2 usage, 3 input, 4 machine, 130 interrupted */
/* "FILE: WHERE: text" into buf (always terminated); returns buf. */
PARE_API const char *pare_diag_line(const pare_diag *d, char *buf, size_t buf_bytes);

/* ---- hooks and common options --------------------------------------------------------------------------------- */

typedef enum pare_log_level { PARE_LOG_ERROR, PARE_LOG_WARN, PARE_LOG_INFO, PARE_LOG_DEBUG } pare_log_level;

/* One step of long work: `done` of `total` units (bytes, windows, ...). Called from one thread at a time. */
typedef struct pare_progress {
    const char *what; /* "quantize", "verify", ... */
    const char *item; /* the tensor or window in hand; may be NULL */
    const char *unit; /* "bytes", "windows", "tokens" */
    uint64_t done, total;
    double elapsed_s, eta_s; /* eta_s < 0 while unknown */
} pare_progress;

typedef struct pare_hooks {
    void (*log)(void *user, pare_log_level level, const char *line);
    void (*progress)(void *user, const pare_progress *p);
    void *user;
} pare_hooks;

/* Sets the process-wide hooks (copied). NULL restores silence. */
PARE_API void pare_set_hooks(const pare_hooks *hooks);
/* Asks running work to stop at the next safe point with PARE_ERR_INTERRUPTED. Async-signal-safe. */
PARE_API void pare_interrupt(void);
/* Number of threads used by all work; 0 = one per core available to the process. */
PARE_API void pare_set_threads(int n);
PARE_API int pare_threads(void);

/* ---- models: api/model.c ----------------------------------------------------------------------------------------- */

/* A model file or folder, opened for looking: names, shapes, sizes, metadata. Its weights stay on disk. */
typedef struct pare_model pare_model;

PARE_API PARE_MUST_USE pare_status pare_model_open(const char *path, pare_model **out, pare_diag *d);
PARE_API void pare_model_close(pare_model **m);

typedef struct pare_model_info {
    const char *format;       /* "GGUF", "safetensors", "folder" */
    const char *architecture; /* GGUF's word or config.json's model_type; "" when the file does not say */
    const char *cannot_run;   /* NULL when `pare run` and `pare verify` know the architecture, else why not */
    uint64_t params;          /* weights: elements of all tensors that are not indices or opaque bytes */
    uint64_t weight_bytes;    /* stored bytes of all tensors */
    uint64_t file_bytes;      /* of the weight files */
    size_t n_tensors, n_meta, n_files, n_facts;
} pare_model_info;
PARE_API void pare_model_describe(const pare_model *m, pare_model_info *out);

typedef struct pare_tensor_info {
    const char *name;
    const char *type;      /* storage format: "f16", "q4_k", "int4:g128" */
    const char *assembled; /* NULL, or the layout it is assembled from: "compressed-tensors", "gptq", "awq",
                              "sparse" */
    const char *file;
    int ndim;
    int64_t shape[PARE_MAX_DIMS];
    uint64_t elems, bytes, offset; /* offset in file; 0 for assembled ones */
    bool weight;                   /* counted in params */
} pare_tensor_info;
PARE_API void pare_model_tensor(const pare_model *m, size_t i,
                                pare_tensor_info *out); /* i < n_tensors, in file order */

/* One thing worth knowing ("layers", "30"): i < n_facts. */
PARE_API void pare_model_fact(const pare_model *m, size_t i, const char **label, const char **value);
/* Metadata i < n_meta as text: GGUF keys, config.json's entries ("config.hidden_size"), safetensors __metadata__. Long
 * values and lists are cut. */
PARE_API void pare_model_meta(const pare_model *m, size_t i, const char **key, const char **type, const char **text);
PARE_API const char *pare_model_file(const pare_model *m, size_t i); /* weight file i < n_files */
/* All of the above as one JSON object; NULL when out of memory. Belongs to the model. */
PARE_API const char *pare_model_json(pare_model *m);

/* Devices that work can run on: 0 is the CPU, with the instruction set in use, then GPUs; NULL past the last, and d
 * then says why there is no GPU, if there is none. Asking for more than the CPU loads the GPU backend. */
PARE_API const char *pare_device_describe(int i, pare_diag *d);

/* (end of models) */

/* ---- quantize: api/quantize.c ------------------------------------------------------------------------------------ */

/* Work from one model file or folder to another, in two steps: open makes the plan (nothing is written), run does it.
 * Quantizing and converting share everything but the plan. */
typedef struct pare_job pare_job;

typedef struct pare_job_opts {
    const char *to;     /* quantize: a mix ("q4_k_m"), a grid ("int4:g32:asym") or a float type; convert: a float type,
                           or NULL to keep what is stored */
    const char *format; /* "gguf", "folder", "safetensors"; NULL: by OUT's ending, else as MODEL */
    const char
        *layout; /* folders: "ct" (compressed-tensors: int8 per channel as W8A8, the rest packed; the default),
                    "pack" (all packed), "gptq" or "compact" (zeros of linear layers are left out; pare reads it) */
    const char *const *tensor; /* "REGEX=GRID", searched in the name of either side; the first that matches decides */
    size_t n_tensor;
    const char *const *keep; /* "REGEX": not quantized */
    size_t n_keep;
    const char *method;               /* quantize: "rtn" (NULL) or "gptq" */
    const char *calib;                /* calibrated methods: a text; NULL = the one built in */
    int64_t calib_ctx, calib_windows; /* its windows: tokens each, how many; 0 = 512 and 128, encoders 64 and 512 */
    const char *imatrix;              /* method "search": importance from a file of llama.cpp instead of a text */
    const char *save_imatrix; /* calibrated methods: the original's inputs as such a file (.dat: the older format) */
    bool no_refine;           /* method "gptq": one sweep, no passes after it */
    bool keep_zeros;          /* quantize: what is 0 in a linear matrix stays 0 (a pruned model stays pruned); a grid
                                 without an exact 0 is refused. After the run the output was run and its zeros counted */
    bool pure;                /* mixes: the base type for every matrix */
    bool allow_requantize;    /* rounding what is already rounded is refused without this */
    bool force;               /* replace an existing output */
    uint64_t max_shard_bytes; /* 0 = one file */
} pare_job_opts;

typedef struct pare_job_row {
    const char *name, *source_name; /* in the output; in the source (NULL: made here) */
    const char *from, *to;          /* storage formats */
    const char *note;               /* reason of a choice or fallback; "" = nothing to say */
    bool quantized, fallback;       /* fallback: not what was asked for */
    bool pruned;
    double sparsity;         /* pruned: the share that was asked for */
    uint64_t zeros, elems;   /* pruned, after the run: counted in the output; of the tensor */
    uint64_t dense_bytes;    /* compact layout: of the tensor with its zeros; else 0 */
    bool measured;           /* calibrated methods, after the run: the errors below are known */
    double weight_error;     /* squared and relative: of the weights against the original's */
    double output_error;     /* of the outputs on the calibration data, against those of the weights aimed at */
    double rtn_output_error; /* the same for weights rounded to nearest */
    int ndim;
    int64_t shape[PARE_MAX_DIMS];
    uint64_t bytes_in, bytes_out;
} pare_job_row;

typedef struct pare_job_totals {
    const char *format, *layout; /* of the output; layout "" unless integers go into a folder */
    size_t tensors, quantized, fallbacks, dropped;
    uint64_t weights, bytes_in, bytes_out; /* tensor data only */
    double bits_per_weight;
    size_t pruned; /* tensors; their weights, and how many of those are zero in the output (after the run) */
    uint64_t pruned_weights, zeros;
    const char *ran;                           /* pruning, after the run: how the output was tried */
    uint64_t pruned_bytes, pruned_dense_bytes; /* after the run: of the pruned tensors as written; with their zeros */
    const char *timed; /* compact layout, after the run: the pruned matrix whose product with one token was timed, */
    double dense_s, sparse_s; /* stored densely and as written; NULL and 0 where nothing was timed */
    double work_s, check_s,
        sync_s; /* after pare_job_run: reading, computing and writing; reading back; the disk's sync */
} pare_job_totals;

/* out may be NULL when only the plan is wanted. *job is the caller's. */
PARE_API PARE_MUST_USE pare_status pare_quantize_open(const char *model, const char *out, const pare_job_opts *o,
                                                      pare_job **job, pare_diag *d);
PARE_API size_t pare_job_count(const pare_job *job);
PARE_API pare_job_row pare_job_at(const pare_job *job, size_t i);
PARE_API pare_job_totals pare_job_sum(const pare_job *job);
/* A source tensor that the output has no place for; NULL past the last. */
PARE_API const char *pare_job_dropped(const pare_job *job, size_t i);
/* Streams the model through; memory stays at a few megabytes per thread. The output appears whole or not at all. */
PARE_API PARE_MUST_USE pare_status pare_job_run(pare_job *job, pare_diag *d);
PARE_API void pare_job_close(pare_job **job);

/* (end of quantize) */

/* ---- convert: api/convert.c -------------------------------------------------------------------------------------- */

/* Another format, the same codes: what cannot be moved exactly is refused unless o->to names a float type to decode to.
 */
PARE_API PARE_MUST_USE pare_status pare_convert_open(const char *model, const char *out, const pare_job_opts *o,
                                                     pare_job **job, pare_diag *d);

/* (end of convert) */

/* ---- prune: api/prune.c ------------------------------------------------------------------------------------------ */

/* Weights become zero and shapes stay: the output is dense, it saves bytes only where a grid is given in `to`. Or, with
 * a structured pattern (heads, query-heads, ffn, hidden, width, layers), the output is a smaller model of the same
 * architecture; which parts go is decided, and what reads them refitted, while the job is opened. After pare_job_run
 * the output was opened again, its zeros were counted, and it was run. */
typedef struct pare_prune_opts {
    const char *method;  /* "magnitude", "wanda", "sparsegpt", ... (pare_prune_method); structured: NULL = its own */
    const char *pattern; /* "unstructured" (NULL), "2:4" (N of M stay), "block", "block:RxC", "ffn", ... */
    const char *scope;   /* which weights compete: "row", "layer", "global"; NULL = the method's own */
    double sparsity;     /* share of zeros, 0 < sparsity < 1; 0 = what the pattern fixes (N:M); structured: share of
                            the parts that go, or 0: see stay and drop */
    int64_t stay;        /* structured: how many key/value groups, query heads, neurons, channels or layers stay */
    const char *drop;    /* layers: by number, "3,20-22" */
    int64_t multiple;    /* ffn, hidden: what stays is a multiple of this; 0 = 32 */
    bool no_heal;        /* structured: leave what reads the parts that go as it is */
    const char *const
        *tensor; /* "REGEX=SPARSITY", searched in the name of either side; the first that matches decides */
    size_t n_tensor;
    const char *const *keep; /* "REGEX": not touched */
    size_t n_keep;
    const char *calib; /* the rest as in pare_job_opts */
    int64_t calib_ctx, calib_windows;
    const char *to; /* sparsegpt, structured: round to this target too; NULL = keep the float type */
    const char *format, *layout;
    bool force;
    uint64_t max_shard_bytes;
} pare_prune_opts;

PARE_API PARE_MUST_USE pare_status pare_prune_open(const char *model, const char *out, const pare_prune_opts *o,
                                                   pare_job **job, pare_diag *d);
/* The methods and the patterns that there are; false past the last. text: half a line. */
PARE_API bool pare_prune_method(size_t i, const char **name, const char **text);
PARE_API bool pare_prune_pattern(size_t i, const char **name, const char **text);

/* (end of prune) */

/* ---- verify: api/verify.c ---------------------------------------------------------------------------------------- */

/* Runs an original and its reduced version on the same inputs and says what was lost. Language models: a text in
 * windows (protocol of llama-perplexity); sentence encoders: sentences or scored pairs; anything else: the weights.
 * Metrics are rows, columns are (model, device): for each device the original, then the reduced model; column 0 is the
 * yardstick. */

typedef enum pare_verify_kind { PARE_VERIFY_LM, PARE_VERIFY_ENCODER, PARE_VERIFY_WEIGHTS } pare_verify_kind;
#define PARE_VERIFY_COLUMNS 4

typedef struct pare_estimate {
    bool has;       /* this column has this metric */
    bool has_range; /* lo..hi is a 95 % interval (exact quantities have lo = hi = value) */
    double value, lo, hi;
} pare_estimate;

typedef struct pare_metric {
    const char *key;   /* stable name: "kl_mean", "top1", "ppl_ratio", "cosine_mean", "spearman", "sqnr", ... */
    const char *label; /* for people */
    int better;        /* +1 higher is better, -1 lower is better, 0 neither */
    pare_estimate at[PARE_VERIFY_COLUMNS];
} pare_metric;

/* A limit on a metric of every reduced column ("parity": of every column of the second device). */
typedef struct pare_gate {
    const char *name; /* shown in reports: "max-kl" */
    const char *key;  /* the metric; one that this kind of model does not have is PARE_ERR_USAGE */
    bool upper;       /* value <= limit, else value >= limit */
    double limit;
} pare_gate;

/* Gates with names of their own, "max-kl" for kl_mean <= limit (the limit is not set): false past the last. text: half
 * a line. */
PARE_API bool pare_gate_named(size_t i, pare_gate *g, const char **text);

typedef struct pare_gate_result {
    const char *name, *key;
    int column;
    bool upper, pass, straddles; /* straddles: the limit lies inside the 95 % interval */
    double limit;
    pare_estimate got;
} pare_gate_result;

/* A node of the graph (layer view) or a tensor (comparison by weights). */
typedef struct pare_part {
    const char *name, *what; /* what: the operator, or "f32 -> q8_0" */
    double sqnr_db;          /* 10 log10(sum original^2 / sum difference^2); infinite when equal */
    double cosine, max_error;
    bool flagged; /* stands out among its neighbours */
} pare_part;

typedef struct pare_protocol {
    const char *key, *text;
    double number;
    bool is_number;
} pare_protocol;
typedef struct pare_column {
    const char *model, *role, *device, *act, *arch;
    uint64_t bytes;
    const char *device_text; /* the device in words; "" unless it was used */
    size_t n_fallbacks;      /* nodes that the device does not run and the CPU ran */
    const char *const *fallbacks;
    uint64_t memory_bytes; /* taken on the device by the end of the pass; 0 = not known, or the host's */
    bool streamed;         /* the weights did not fit into the device and came stage by stage */
    double seconds;        /* inside the model; never in files */
} pare_column;

/* A node of one model on two devices, both given the first device's inputs. */
typedef struct pare_parity_node {
    const char *name, *what;   /* what: the operator */
    double sqnr_db, max_error; /* as in pare_part */
    double channel_db;         /* the same as sqnr_db for the worst channel (last dimension) alone */
    int64_t channel;           /* which one; -1 when equal */
    bool diverges;             /* by more than kernels may differ: docs/verify.md */
} pare_parity_node;

/* One model, second device against first. */
typedef struct pare_parity {
    bool has;         /* two devices were asked for */
    int columns[2];   /* on the first and on the second device */
    pare_part output; /* logits or embeddings of the whole pass */
    size_t n_nodes;   /* layer view */
    pare_parity_node *nodes;
    const pare_parity_node *first_diverging; /* NULL: none, or no layer view */
} pare_parity;
#define PARE_VERIFY_BINS 40 /* of log10(KL) from -8 to 2, four per decade; the ends catch what lies beyond */

typedef struct pare_verify_report {
    pare_verify_kind kind;
    int n_columns;
    pare_column columns[PARE_VERIFY_COLUMNS];
    size_t n_protocol;
    pare_protocol *protocol;
    size_t n_metrics;
    pare_metric *metrics;
    size_t n_gates;
    pare_gate_result *gates;
    size_t n_failed; /* gates that failed */
    size_t n_layers;
    pare_part *layers;
    size_t n_tensors;
    pare_part *tensors;
    pare_parity parity[2]; /* of the original and of the reduced model */
    bool has_histogram;    /* of column 1 */
    uint64_t kl_histogram[PARE_VERIFY_BINS];
    const char *first_differing;   /* first node or tensor that is not equal; NULL when all are, or no such view */
    double seconds, model_seconds; /* wall time of the pass, and of it inside the models; never in files */
    void *impl;
} pare_verify_report;

typedef struct pare_verify_opts {
    const char *data; /* text, STS-B file, or sentences one per line; NULL = the small text built in */
    int64_t ctx;      /* window; 0 = 512, at most the model's context */
    int64_t windows;  /* first N windows (encoders: first N samples); 0 = all */
    int64_t top_k;    /* retrieval overlap at k; 0 = 10 */
    const char *act;  /* activations of the reduced model: "none" (NULL), "f16", "int8-token", "int8-block" */
    const char *act_original;
    const char *device; /* one or two of cpu and cuda, separated by a comma: "cpu" (NULL), "cuda", "cpu,cuda" */
    bool layers;        /* also compare node by node */
    bool weights;       /* compare by weights although the models can be run */
    uint64_t seed;      /* of the bootstrap; 0 = a fixed one */
    size_t n_gates;
    const pare_gate *gates;
    const char *baseline; /* JSON report: every metric of it that has a direction becomes a gate */
    double tolerance;     /* allowed relative loss against the baseline: 0.02 = 2 % */
    bool strict;          /* gates compare the interval's bad end */
} pare_verify_opts;

/* PARE_OK also when gates failed: see n_failed. NaN or Inf in an output is PARE_ERR_INPUT. Close with
 * pare_verify_close. */
PARE_API pare_status pare_verify(const char *original, const char *reduced, const pare_verify_opts *opts,
                                 pare_verify_report **out, pare_diag *d);
PARE_API void pare_verify_close(pare_verify_report **r);

typedef enum pare_verify_format { PARE_VERIFY_JSON, PARE_VERIFY_JUNIT, PARE_VERIFY_HTML } pare_verify_format;
/* The report as text; it belongs to the report, and is the same for every number of threads. */
PARE_API pare_status pare_verify_render(pare_verify_report *r, pare_verify_format f, const char **text, size_t *n_bytes,
                                        pare_diag *d);
/* The same into a file: temporary name, fsync, rename; an existing file is replaced. */
PARE_API pare_status pare_verify_save(pare_verify_report *r, pare_verify_format f, const char *path, pare_diag *d);

/* (end of verify) */

/* ---- run: api/run.c ---------------------------------------------------------------------------------------------- */

/* Text from a language model, embeddings from a sentence encoder. A runner is one opened model. */

typedef struct pare_runner pare_runner;
typedef struct pare_runner_opts {
    const char *device; /* "cpu" (NULL) or "cuda" */
    const char *act;    /* rounding of activations: "none" (NULL), "f16", "int8-token", "int8-block" */
} pare_runner_opts;

typedef struct pare_runner_info {
    bool decoder;     /* else encoder */
    const char *arch; /* "llama", "qwen2", "qwen3", "bert" */
    int64_t vocab, dim, layers, context;
    double open_s; /* time to open the model and its tokenizer */
} pare_runner_info;

/* PARE_ERR_UNSUPPORTED when the architecture cannot be run. Close with pare_runner_close. */
PARE_API pare_status pare_runner_open(const char *model, const pare_runner_opts *opts, pare_runner **out, pare_diag *d);
PARE_API void pare_runner_close(pare_runner **r);
PARE_API const pare_runner_info *pare_runner_describe(const pare_runner *r);

typedef enum pare_stop { PARE_STOP_END, PARE_STOP_COUNT, PARE_STOP_CONTEXT, PARE_STOP_CALLER } pare_stop;

typedef struct pare_generate_opts {
    int64_t n;     /* tokens to make; 0 = until the model ends the text or its context is full */
    double temp;   /* 0 = the likeliest token every time */
    int64_t top_k; /* 0 = all */
    double top_p;  /* 0 or 1 = all */
    uint64_t seed; /* same seed, same text */
    /* Each token as it is made, and the text that it completed (not terminated, maybe empty); false stops. */
    bool (*token)(void *user, int64_t id, const char *text, size_t n_bytes);
    void *user;
} pare_generate_opts;

typedef struct pare_generate_result {
    int64_t prompt_tokens, tokens; /* tokens: those handed to the callback */
    double prompt_s, decode_s;     /* prompt_s: until the first token's logits; decode_s: the rest */
    pare_stop stop;
} pare_generate_result;

/* Continues the prompt (UTF-8). A prompt that fills the context is PARE_ERR_USAGE. */
PARE_API pare_status pare_generate(pare_runner *r, const char *prompt, const pare_generate_opts *opts,
                                   pare_generate_result *out, pare_diag *d);

/* One embedding of pare_runner_info.dim floats per text into out [n, dim], pooled and normalized as the model says;
 * texts beyond the context are cut there, and a warning is logged. */
PARE_API pare_status pare_embed(pare_runner *r, const char *const *texts, size_t n, float *out, pare_diag *d);

/* (end of run) */

/* ---- bench: api/bench.c ------------------------------------------------------------------------------------------ */

/* One measurement. Texts live until the callback returns. A figure is the best of several repetitions. */
typedef struct pare_bench_row {
    const char *bench;   /* "roofline", "kernels", ... */
    const char *name;    /* what was done: "read, 4 streams", "q4_0" */
    const char *variant; /* instruction set used, activation rounding, ...; may be "" */
    const char *shape;   /* "M 1 x N 65536 x K 2048"; may be "" */
    int threads;
    double seconds; /* of one repetition */
    double value;
    const char *unit;  /* "GB/s" (1e9 bytes), "GF/s", "GOP/s" (a multiply and an add are two), "tok/s", "MB" */
    double of_limit;   /* value / limit measured in this run; 0 = none applies */
    const char *limit; /* which limit: "read", "int8 peak", "f32 peak", "llama.cpp"; may be "" */
    double of_ref;     /* times the scalar kernels' rate; 0 = not measured */
} pare_bench_row;

typedef struct pare_bench_opts {
    const char *only;      /* kernels: this format only; NULL = a choice that covers every kernel.
                              quantize, decode, prompt: this grid or mix only; NULL = q8_0, q4_0 and q4_k_m */
    uint64_t memory_bytes; /* traffic per repetition where memory is the limit; 0 = 256 MB */
    double seconds;        /* time per measurement at most, but for one repetition; 0 = 0.3 */
    const char *model;     /* quantize, decode, prompt: a GGUF file of f16 weights; NULL = made for the run */
    const char *peer_bin;  /* folder with llama-quantize and llama-bench, run on the same files; NULL = none */
    int64_t prompt_tokens, decode_tokens; /* 0 = 512 and 32 */
    void (*row)(void *user, const pare_bench_row *row);
    void *user;
} pare_bench_opts;

/* what: "roofline" (memory and arithmetic ceilings, 1 and all threads); "kernels" (every variant of the matrix product,
 * against the ceilings measured first); "sparse" (sparse weights against the same stored densely; of_ref is the gain
 * over dense); "calib" (the solver behind GPTQ and SparseGPT, against sgemm); "quantize" (file to file, peak memory
 * too), "decode" and "prompt" (tokens per second of the quantized model, activations rounded as llama.cpp does). The
 * last three work in a folder of their own under $TMPDIR (about 5 GB for the model of 1.1e9 weights that they make;
 * removed at the end). Fails on an unknown word, for want of memory or room, on a model that cannot be run, or when
 * interrupted. */
PARE_API pare_status pare_bench(const char *what, const pare_bench_opts *opts, pare_diag *d);
/* The words `what` may be, NULL-terminated, each followed by one line of text. */
PARE_API const char *const *pare_bench_names(void);

/* (end of bench) */

#ifdef __cplusplus
}
#endif

#include "pare/pare_distill.h"
#include "pare/pare_team.h"
#include "pare/pare_recipe.h"
#include "pare/pare_search.h"
#endif
