/* SPDX-License-Identifier: Apache-2.0
 *
 * The folder and the model that benchmarks make for themselves. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/bench.h"
#include "core/alloc.h"
#include "core/log.h"
#include "core/rng.h"
#include "core/status.h"
#include "formats/writer.h"

enum { LAYERS = 16, DIM = 2048, FFN = 8192, HEADS = 32, KV_HEADS = 8, KV_DIM = DIM / HEADS * KV_HEADS, VOCAB = 32000 };
#define PER_LAYER 9
#define N_TENSORS (LAYERS * PER_LAYER + 3)
#define TABLE     (1 << 15) /* normal numbers to draw from: filling must not outlast the benchmark */

pare_status pare_bench_dir_make(pare_bench_dir *dir, pare_diag *d) {
    const char *tmp = getenv("TMPDIR");
    dir->path = pare_sprintf("%s/pare-bench-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!dir->path) return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for a path");
    if (mkdtemp(dir->path)) return PARE_OK;
    pare_status s = pare_fail_errno(d, dir->path, "a folder for the benchmark cannot be made; set TMPDIR");
    pare_free(dir->path);
    dir->path = NULL;
    return s;
}

char *pare_bench_dir_file(const pare_bench_dir *dir, const char *name) {
    return pare_sprintf("%s/%s", dir->path, name);
}

void pare_bench_dir_remove(pare_bench_dir *dir) {
    if (!dir->path) return;
    DIR *list = opendir(dir->path);
    for (struct dirent *e; list && (e = readdir(list));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        char *file = pare_bench_dir_file(dir, e->d_name);
        if (file) unlink(file);
        pare_free(file);
    }
    if (list) closedir(list);
    rmdir(dir->path);
    pare_free(dir->path);
    dir->path = NULL;
}

typedef struct plan {
    pare_out_tensor t[N_TENSORS];
    char names[N_TENSORS][40];
    size_t n;
} plan;

static void add(plan *p, const char *name, int layer, int64_t rows, int64_t cols) {
    size_t i = p->n++;
    if (layer >= 0) snprintf(p->names[i], sizeof p->names[i], "blk.%d.%s.weight", layer, name);
    else snprintf(p->names[i], sizeof p->names[i], "%s.weight", name);
    p->t[i] = (pare_out_tensor){.name = p->names[i], .type = rows ? &pare_qtype_f16 : &pare_qtype_f32};
    p->t[i].ndim = rows ? 2 : 1;
    p->t[i].shape[0] = rows ? rows : cols;
    p->t[i].shape[1] = cols;
}

static void make_plan(plan *p) {
    static const struct {
        const char *name;
        int rows, cols;
    } layer[PER_LAYER] = {{"attn_norm", 0, DIM},   {"attn_q", DIM, DIM},      {"attn_k", KV_DIM, DIM},
                          {"attn_v", KV_DIM, DIM}, {"attn_output", DIM, DIM}, {"ffn_norm", 0, DIM},
                          {"ffn_gate", FFN, DIM},  {"ffn_up", FFN, DIM},      {"ffn_down", DIM, FFN}};
    add(p, "token_embd", -1, VOCAB, DIM);
    for (int l = 0; l < LAYERS; l++)
        for (int i = 0; i < PER_LAYER; i++) add(p, layer[i].name, l, layer[i].rows, layer[i].cols);
    add(p, "output_norm", -1, 0, DIM);
    add(p, "output", -1, VOCAB, DIM);
}

/* One row of random weights of the usual size, its own scale, and an outlier now and then. */
static void make_row(pare_rng *rng, const float *table, int64_t cols, float *row, uint16_t *half) {
    float scale = expf(0.4f * pare_rng_normal(rng)) / sqrtf((float)cols);
    for (int64_t i = 0; i < cols; i += 4) {
        uint64_t r = pare_rng_u64(rng);
        for (int j = 0; j < 4; j++, r >>= 16) row[i + j] = scale * table[r % TABLE];
        if (r % 1024 == 0) row[i] *= 8;
    }
    pare_f32_to_f16_n(row, half, (size_t)cols);
}

static pare_status write_rows(pare_writer *w, const plan *p, pare_diag *d) {
    enum { BATCH = 64 };
    float *table = pare_malloc(TABLE * sizeof *table), *row = pare_malloc(FFN * sizeof *row);
    uint16_t *half = pare_malloc((size_t)BATCH * FFN * sizeof *half);
    pare_status s =
        table && row && half ? PARE_OK : pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory to make a model");
    pare_rng rng;
    pare_rng_seed(&rng, 11);
    for (int i = 0; s == PARE_OK && i < TABLE; i++) table[i] = pare_rng_normal(&rng);
    for (size_t i = 0; s == PARE_OK && i < p->n; i++) {
        const pare_out_tensor *t = &p->t[i];
        if (t->ndim == 1) { /* norms: ones */
            for (int64_t j = 0; j < t->shape[0]; j++) row[j] = 1;
            s = pare_writer_put(w, i, 0, row, (size_t)t->shape[0] * 4, d);
            continue;
        }
        size_t rb = (size_t)t->shape[1] * 2;
        for (int64_t r = 0; s == PARE_OK && r < t->shape[0]; r += BATCH) {
            int64_t n = t->shape[0] - r < BATCH ? t->shape[0] - r : BATCH;
            for (int64_t j = 0; j < n; j++) make_row(&rng, table, t->shape[1], row, half + j * t->shape[1]);
            s = pare_writer_put(w, i, (uint64_t)r * rb, half, (size_t)n * rb, d);
            if (s == PARE_OK && pare_is_interrupted()) s = pare_interrupted(d);
        }
    }
    pare_free(table);
    pare_free(row);
    pare_free(half);
    return s;
}

#define U32(k, value)                                                                                                  \
    { .key = k, .type = PARE_META_U32, .v.u = value }
#define F32(k, value)                                                                                                  \
    { .key = k, .type = PARE_META_F32, .v.f = value }
#define TEXT(k, value)                                                                                                 \
    {                                                                                                                  \
        .key = k, .type = PARE_META_STR, .v.str = { value, sizeof value - 1 }                                          \
    }

pare_status pare_bench_model_make(const char *path, pare_diag *d) {
    static const pare_meta meta[] = {TEXT("general.architecture", "llama"),
                                     TEXT("general.name", "random weights for benchmarks"),
                                     U32("general.file_type", 1),
                                     U32("llama.block_count", LAYERS),
                                     U32("llama.context_length", 4096),
                                     U32("llama.embedding_length", DIM),
                                     U32("llama.feed_forward_length", FFN),
                                     U32("llama.attention.head_count", HEADS),
                                     U32("llama.attention.head_count_kv", KV_HEADS),
                                     F32("llama.attention.layer_norm_rms_epsilon", 1e-5),
                                     F32("llama.rope.freq_base", 10000),
                                     U32("llama.rope.dimension_count", DIM / HEADS),
                                     U32("llama.vocab_size", VOCAB),
                                     TEXT("tokenizer.ggml.model", "none")};
    plan *p = pare_calloc(1, sizeof *p);
    if (!p) return pare_fail(d, PARE_ERR_NOMEM, path, NULL, "no memory to make a model");
    make_plan(p);
    pare_writer_opts o = {.kind = PARE_SOURCE_GGUF,
                          .n_tensors = p->n,
                          .tensors = p->t,
                          .n_meta = sizeof meta / sizeof *meta,
                          .meta = meta};
    pare_writer *w = NULL;
    pare_status s = pare_writer_open(path, &o, &w, d);
    if (s == PARE_OK) s = write_rows(w, p, d);
    if (s == PARE_OK) s = pare_writer_finish(w, d);
    pare_writer_close(&w);
    pare_free(p);
    return s;
}
