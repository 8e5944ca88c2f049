/* SPDX-License-Identifier: Apache-2.0
 *
 * Tokenizer behind a pipe, for comparisons with what others compute. tok_dump PATH encode|decode FLAGS [REPEAT]
 * PATH is a tokenizer.json, a folder or a GGUF. encode: records of u32 length + bytes in, u32 count + i32 ids out.
 * decode: the other way round. Little endian. REPEAT > 0 repeats the encoding and tells the time on stderr.
 * tok_dump PATH gguf VOCAB_SIZE prints the GGUF view; tok_dump PATH differ OTHER compares two vocabularies, size -
 * prints the number of ids. */
#include "core/alloc.h"
#include "core/log.h"
#include "formats/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const pare_diag *d) {
    char line[1200];
    fprintf(stderr, "%s\n", pare_diag_line(d, line, sizeof line));
    return pare_exit_status(d->code);
}

static char *read_all(FILE *f, size_t *n) {
    char *p = NULL;
    size_t cap = 0;
    *n = 0;
    for (size_t k = 1; k; *n += k) {
        if (pare_grow((void **)&p, &cap, *n + (1 << 20), 1) != PARE_OK) exit(4);
        k = fread(p + *n, 1, cap - *n, f);
    }
    return p;
}

static pare_status open_any(const char *path, pare_source **src, pare_tokenizer **t, pare_diag *d) {
    size_t k = strlen(path), n;
    if (k > 5 && !strcmp(path + k - 5, ".json")) {
        FILE *f = fopen(path, "rb");
        if (!f) return d->code = PARE_ERR_NOT_FOUND;
        char *json = read_all(f, &n);
        fclose(f);
        pare_status s = pare_tokenizer_from_json(json, n, path, t, d);
        pare_free(json);
        return s;
    }
    pare_status s = pare_source_open(path, src, d);
    return s == PARE_OK ? pare_tokenizer_open(*src, t, d) : s;
}

static int encode(const pare_tokenizer *t, unsigned flags, int repeat, pare_diag *d) {
    size_t n, bytes = 0, ids_n = 0;
    char *in = read_all(stdin, &n);
    pare_ids ids = {0};
    double t0 = pare_now_s();
    for (int r = 0; r < (repeat ? repeat : 1); r++)
        for (size_t at = 0; at + 4 <= n;) {
            uint32_t len;
            memcpy(&len, in + at, 4);
            ids.n = 0;
            if (pare_tokenize(t, in + at + 4, len, flags, &ids, d) != PARE_OK) return fail(d);
            at += 4 + len, bytes += len, ids_n += ids.n;
            if (repeat) continue;
            uint32_t c = (uint32_t)ids.n;
            fwrite(&c, 4, 1, stdout);
            for (size_t i = 0; i < ids.n; i++) {
                int32_t v = (int32_t)ids.v[i];
                fwrite(&v, 4, 1, stdout);
            }
        }
    double s = pare_now_s() - t0;
    if (repeat) fprintf(stderr, "%.1f MB/s, %.2f M ids/s\n", (double)bytes / s / 1e6, (double)ids_n / s / 1e6);
    pare_ids_free(&ids);
    pare_free(in);
    return 0;
}

static int decode(const pare_tokenizer *t) {
    size_t n, out_n, cap;
    char *in = read_all(stdin, &n), *out;
    for (size_t at = 0; at + 4 <= n;) {
        uint32_t c;
        memcpy(&c, in + at, 4);
        out = NULL, out_n = cap = 0;
        for (uint32_t i = 0; i < c; i++) { /* one by one, as a stream would */
            int32_t v;
            memcpy(&v, in + at + 4 + 4 * i, 4);
            int64_t id = v;
            if (pare_detokenize(t, &id, 1, &out, &out_n, &cap) != PARE_OK) return 4;
        }
        uint32_t len = (uint32_t)out_n;
        fwrite(&len, 4, 1, stdout);
        if (out_n) fwrite(out, 1, out_n, stdout);
        pare_free(out);
        at += 4 + 4 * (size_t)c;
    }
    pare_free(in);
    return 0;
}

static int view(pare_tokenizer *t, size_t n, pare_diag *d) {
    pare_gguf_vocab v;
    if (pare_tokenizer_gguf(t, n, &v, d) != PARE_OK) return fail(d);
    printf("model %s pre %s n %zu merges %zu\n", v.model, v.pre ? v.pre : "-", v.n, v.n_merges);
    printf("bos %ld eos %ld unk %ld sep %ld pad %ld cls %ld mask %ld\n", (long)v.bos, (long)v.eos, (long)v.unk,
           (long)v.sep, (long)v.pad, (long)v.cls, (long)v.mask);
    printf("add_bos %d add_eos %d add_space %d lower %d accents %d\n", v.add_bos, v.add_eos, v.add_space_prefix,
           v.lowercase, v.strip_accents);
    for (size_t i = 0; i < v.n; i++) {
        printf("%zu %d %.9g ", i, v.types[i], v.scores ? (double)v.scores[i] : 0.0);
        for (size_t k = 0; k < v.tokens[i].n; k++) printf("%02x", (unsigned char)v.tokens[i].p[k]);
        printf("\n");
    }
    for (size_t i = 0; i < v.n_merges; i++) {
        printf("m ");
        for (size_t k = 0; k < v.merges[i].n; k++) printf("%02x", (unsigned char)v.merges[i].p[k]);
        printf("\n");
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 4)
        return fprintf(stderr, "usage: tok_dump PATH encode|decode FLAGS [REPEAT] | gguf SIZE | differ OTHER\n"), 2;
    pare_diag d = {0};
    pare_source *src = NULL, *src2 = NULL;
    pare_tokenizer *t = NULL, *t2 = NULL;
    int rc = 2;
    double t0 = pare_now_s();
    if (open_any(argv[1], &src, &t, &d) != PARE_OK) return fail(&d);
    if (argc > 4) fprintf(stderr, "open %.3f s\n", pare_now_s() - t0);
    if (!strcmp(argv[2], "encode")) rc = encode(t, (unsigned)atoi(argv[3]), argc > 4 ? atoi(argv[4]) : 0, &d);
    else if (!strcmp(argv[2], "decode")) rc = decode(t);
    else if (!strcmp(argv[2], "size")) rc = printf("%zu\n", pare_tokenizer_describe(t)->vocab) < 0;
    else if (!strcmp(argv[2], "gguf")) rc = view(t, (size_t)atoll(argv[3]), &d);
    else if (!strcmp(argv[2], "differ")) {
        int64_t at;
        if (open_any(argv[3], &src2, &t2, &d) != PARE_OK) return fail(&d);
        rc = pare_tokenizer_differ(t, t2, &at) ? (printf("differ at %ld\n", (long)at), 1) : (printf("same\n"), 0);
    }
    pare_tokenizer_close(&t);
    pare_tokenizer_close(&t2);
    pare_source_close(&src);
    pare_source_close(&src2);
    return rc;
}
