/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs a model on token ids from a file (i64, little endian) and writes raw numbers, for comparisons made elsewhere.
 * usage: logits_dump MODEL none|int8-token|int8-block forward|step|greedy|embed N IDS OUT
 *   forward  N = window: ids are rows of N; f32 logits or hidden states of every position
 *   step     N = tokens of the first piece; f32 logits after it and after each further token, from the KV cache
 *   greedy   N = tokens to make after all of ids; i64 ids
 *   embed    N = window; f32 embedding of each row; an id of -1 ends a row early */
#include "core/alloc.h"
#include "models/lm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pare_diag diag;

static void die(const char *what) {
    char line[1200];
    fprintf(stderr, "logits_dump: %s: %s\n", what, pare_diag_line(&diag, line, sizeof line));
    exit(1);
}

static int64_t *read_ids(const char *path, int64_t *n) {
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END)) die(path);
    *n = ftell(f) / 8;
    rewind(f);
    int64_t *v = malloc((size_t)*n * 8 + 8);
    if (!v || fread(v, 8, (size_t)*n, f) != (size_t)*n) die(path);
    fclose(f);
    return v;
}

static void put(FILE *f, const void *p, size_t bytes) {
    if (fwrite(p, 1, bytes, f) != bytes) die("write");
}

static void forward(pare_lm *lm, const int64_t *ids, int64_t n, int64_t window, FILE *f) {
    const pare_tensor *t;
    for (int64_t i = 0; i < n; i += window) {
        if (pare_lm_forward(lm, ids + i, NULL, 1, window, &t, &diag) != PARE_OK) die("forward");
        put(f, t->data, pare_tensor_bytes(t));
    }
}

static void step(pare_lm *lm, const int64_t *ids, int64_t n, int64_t first, FILE *f) {
    const float *logits;
    for (int64_t past = 0, piece = first; past < n; past += piece, piece = 1) {
        if (pare_lm_step(lm, ids + past, piece, past, &logits, &diag) != PARE_OK) die("step");
        put(f, logits, (size_t)pare_lm_describe(lm)->vocab * 4);
    }
}

static void greedy(pare_lm *lm, const int64_t *ids, int64_t n, int64_t make, FILE *f) {
    const float *logits;
    int64_t past = 0, next = 0;
    for (int64_t k = 0; k < make; k++) {
        if (pare_lm_step(lm, k ? &next : ids, k ? 1 : n, past, &logits, &diag) != PARE_OK) die("step");
        past += k ? 1 : n;
        next = 0;
        for (int64_t i = 1; i < pare_lm_describe(lm)->vocab; i++)
            if (logits[i] > logits[next]) next = i;
        put(f, &next, 8);
    }
}

static void embed(pare_lm *lm, int64_t *ids, int64_t n, int64_t window, FILE *f) {
    int64_t batch = n / window, dim = pare_lm_describe(lm)->dim, *lengths = malloc((size_t)batch * 8);
    float *out = malloc((size_t)(batch * dim) * 4);
    if (!lengths || !out) die("memory");
    for (int64_t b = 0; b < batch; b++) {
        lengths[b] = window;
        for (int64_t i = window; i-- > 0;)
            if (ids[b * window + i] < 0) lengths[b] = i, ids[b * window + i] = 0;
    }
    if (pare_lm_embed(lm, ids, lengths, batch, window, out, &diag) != PARE_OK) die("embed");
    put(f, out, (size_t)(batch * dim) * 4);
    free(lengths);
    free(out);
}

int main(int argc, char **argv) {
    if (argc != 7) die("six arguments");
    pare_act_round act = PARE_ACT_NONE;
    while (act < PARE_ACT_INT8_BLOCK && strcmp(pare_act_name(act), argv[2]) != 0) act++;
    int64_t n, count = atoll(argv[4]), *ids = read_ids(argv[5], &n);
    bool cached = strcmp(argv[3], "step") == 0 || strcmp(argv[3], "greedy") == 0;
    pare_lm_opts opts = {.act = act, .capacity = cached ? n + count : 0};
    pare_source *src = NULL;
    pare_lm *lm = NULL;
    if (pare_source_open(argv[1], &src, &diag) != PARE_OK) die("open");
    if (pare_lm_open(src, &opts, &lm, &diag) != PARE_OK) die("open");
    FILE *f = fopen(argv[6], "wb");
    if (!f) die(argv[6]);
    if (strcmp(argv[3], "forward") == 0) forward(lm, ids, n, count, f);
    else if (strcmp(argv[3], "step") == 0) step(lm, ids, n, count, f);
    else if (strcmp(argv[3], "greedy") == 0) greedy(lm, ids, n, count, f);
    else embed(lm, ids, n, count, f);
    if (fclose(f)) die("write");
    pare_lm_close(&lm);
    pare_source_close(&src);
    free(ids);
    return 0;
}
