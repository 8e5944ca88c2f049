/* SPDX-License-Identifier: Apache-2.0
 *
 * Readers and writers for scripts. usage:
 *   model_copy dump MODEL RAW            a line per tensor: name, type, shape, bytes; their data one after another to
 * RAW model_copy copy MODEL OUT KIND [SHARD_BYTES] [force]   KIND: gguf, safetensors or folder model_copy fill OUT
 * BYTES KIND [force]  an output of about that size, written slowly enough to be killed on the way */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/writer.h"

static int fail(const pare_diag *d) {
    char line[1200];
    fprintf(stderr, "%s\n", pare_diag_line(d, line, sizeof line));
    return pare_exit_status(d->code);
}

static int dump(const char *path, const char *raw) {
    pare_diag d = {0};
    pare_source *s;
    FILE *f = fopen(raw, "wb");
    if (!f || pare_source_open(path, &s, &d) != PARE_OK) return fail(&d);
    for (size_t i = 0; i < s->n_tensors; i++) {
        const pare_stored *t = &s->tensors[i];
        size_t cols = t->ndim ? (size_t)t->shape[t->ndim - 1] : 1, rb = pare_row_bytes(t->type, cols),
               rows = rb ? t->bytes / rb : 0;
        char *buf = malloc(t->bytes + 1);
        printf("%s\t%s\t", t->name, t->type->name);
        for (int k = 0; k < t->ndim; k++) printf("%s%" PRId64, k ? "," : "", t->shape[k]);
        printf("\t%zu\n", t->bytes);
        fwrite(rows ? pare_source_rows(s, t, 0, rows, buf) : buf, 1, t->bytes, f);
        free(buf);
    }
    pare_source_close(&s);
    return fclose(f) == 0 ? 0 : 4;
}

static pare_source_kind kind_of(const char *word) {
    return strcmp(word, "gguf") == 0     ? PARE_SOURCE_GGUF
           : strcmp(word, "folder") == 0 ? PARE_SOURCE_FOLDER
                                         : PARE_SOURCE_SAFETENSORS;
}

static int copy(int argc, char **argv) {
    pare_diag d = {0};
    pare_source *s;
    pare_writer *w;
    if (pare_source_open(argv[2], &s, &d) != PARE_OK) return fail(&d);
    pare_out_tensor *t = calloc(s->n_tensors + 1, sizeof *t);
    for (size_t i = 0; i < s->n_tensors; i++) {
        t[i] = (pare_out_tensor){.name = s->tensors[i].name, .type = s->tensors[i].type, .ndim = s->tensors[i].ndim};
        memcpy(t[i].shape, s->tensors[i].shape, sizeof t[i].shape);
    }
    pare_out_file config = {"config.json", "{}", 2};
    pare_writer_opts o = {.kind = kind_of(argv[4]),
                          .force = argc > 6,
                          .not_path = argv[2],
                          .max_shard_bytes = argc > 5 ? strtoull(argv[5], NULL, 10) : 0,
                          .n_tensors = s->n_tensors,
                          .tensors = t,
                          .n_meta = s->n_meta,
                          .meta = s->meta};
    if (o.kind == PARE_SOURCE_FOLDER)
        o.n_files = 1, o.files = &config, o.n_copies = s->n_sidecars, o.copies = s->sidecars, o.copy_from = s->path;
    if (pare_writer_open(argv[3], &o, &w, &d) != PARE_OK) return fail(&d);
    for (size_t i = 0; i < s->n_tensors; i++) pare_writer_put(w, i, 0, s->tensors[i].data, s->tensors[i].bytes, &d);
    pare_status r = pare_writer_finish(w, &d);
    pare_writer_close(&w);
    pare_source_close(&s);
    free(t);
    return r == PARE_OK ? 0 : fail(&d);
}

/* Tensors of 1 MiB, each filled with its number, so that a script knows every byte of a whole output. */
static int fill(int argc, char **argv) {
    enum { N = 1 << 20 };
    pare_diag d = {0};
    pare_writer *w;
    size_t n = strtoull(argv[3], NULL, 10) / N + 1;
    pare_out_tensor *t = calloc(n, sizeof *t);
    char *names = calloc(n, 32);
    unsigned char *buf = malloc(N);
    for (size_t i = 0; i < n; i++) {
        snprintf(names + 32 * i, 32, "t.%zu", i);
        t[i] = (pare_out_tensor){.name = names + 32 * i, .type = &pare_qtype_i8, .ndim = 2, .shape = {1024, 1024}};
    }
    pare_out_file config = {"config.json", "{}", 2};
    pare_writer_opts o = {.kind = kind_of(argv[4]), .force = argc > 5, .n_tensors = n, .tensors = t};
    if (o.kind == PARE_SOURCE_FOLDER) o.n_files = 1, o.files = &config, o.max_shard_bytes = (size_t)N * n / 3 + N;
    if (pare_writer_open(argv[2], &o, &w, &d) != PARE_OK) return fail(&d);
    for (size_t i = 0; i < n; i++) {
        memset(buf, (int)(i * 37 + 11), N);
        pare_writer_put(w, i, 0, buf, N, &d);
    }
    pare_status r = pare_writer_finish(w, &d);
    pare_writer_close(&w);
    free(t), free(names), free(buf);
    return r == PARE_OK ? 0 : fail(&d);
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "dump") == 0) return dump(argv[2], argv[3]);
    if (argc >= 5 && strcmp(argv[1], "copy") == 0) return copy(argc, argv);
    if (argc >= 5 && strcmp(argv[1], "fill") == 0) return fill(argc, argv);
    return 2;
}
