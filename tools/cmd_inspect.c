/* SPDX-License-Identifier: Apache-2.0
 *
 * pare inspect: what is in a model file or folder. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli.h"

int pare_cmd_inspect(int argc, char **argv);

#define EXAMPLES                                                                                                       \
    "  pare inspect model/                      a Hugging Face folder: summary and storage types\n"                    \
    "  pare inspect model.gguf --meta           also the metadata\n"                                                   \
    "  pare inspect model.safetensors --tensors every tensor with shape, type, bytes and offset\n"                     \
    "  pare inspect model.gguf --json -         all of it as JSON on standard output\n"                                \
    "  pare inspect --devices                   what models can run on here\n"

static void shape_text(char *buf, size_t n, const pare_tensor_info *t) {
    size_t at = (size_t)snprintf(buf, n, "[");
    for (int i = 0; i < t->ndim && at + 24 < n; i++)
        at += (size_t)snprintf(buf + at, n - at, "%s%lld", i ? ", " : "", (long long)t->shape[i]);
    snprintf(buf + at, n - at, "]");
}

static const char *count_text(char buf[32], uint64_t n) {
    if (n >= 1000000000) snprintf(buf, 32, "%.2f B", (double)n / 1e9);
    else if (n >= 1000000) snprintf(buf, 32, "%.1f M", (double)n / 1e6);
    else snprintf(buf, 32, "%llu", (unsigned long long)n);
    return buf;
}

/* Bits of storage per weight, blocks' scales included. */
static const char *bits_text(char buf[32], uint64_t bytes, uint64_t elems) {
    if (elems) snprintf(buf, 32, "%.2f", 8.0 * (double)bytes / (double)elems);
    else snprintf(buf, 32, "-");
    return buf;
}

static void print_row(const char *label, const char *value) { printf("  %-20s %s\n", label, value); }

static void print_summary(const pare_model *m, const pare_model_info *i, uint64_t weight_bytes) {
    char a[32], b[32], line[96];
    print_row("format", i->format);
    print_row("architecture", *i->architecture ? i->architecture : "not named in the file");
    if (i->cannot_run) printf("  %-20s cannot be run: %s\n", "", i->cannot_run);
    for (size_t k = 0; k < i->n_facts; k++) {
        const char *label, *value;
        pare_model_fact(m, k, &label, &value);
        print_row(label, value);
    }
    int n = snprintf(line, sizeof line, "%s", count_text(a, i->params));
    if (i->params >= 1000000) snprintf(line + n, sizeof line - (size_t)n, " (%llu)", (unsigned long long)i->params);
    print_row("parameters", line);
    snprintf(line, sizeof line, "%s in %zu file%s", pare_cli_bytes(a, i->file_bytes), i->n_files,
             i->n_files == 1 ? "" : "s");
    print_row("size", line);
    snprintf(line, sizeof line, "%s", bits_text(b, weight_bytes, i->params));
    print_row("bits per weight", line);
    snprintf(line, sizeof line, "%zu", i->n_tensors);
    print_row("tensors", line);
}

typedef struct sum {
    const char *type, *assembled;
    size_t n;
    uint64_t elems, bytes;
} sum;

static int by_bytes(const void *pa, const void *pb) {
    const sum *a = pa, *b = pb;
    return a->bytes != b->bytes ? (a->bytes > b->bytes ? -1 : 1) : strcmp(a->type, b->type);
}

/* One row per storage type, the largest first. */
static void print_types(const pare_model *m, const pare_model_info *info) {
    sum v[128];
    size_t n = 0;
    for (size_t i = 0; i < info->n_tensors; i++) {
        pare_tensor_info t;
        pare_model_tensor(m, i, &t);
        size_t k = 0;
        while (k < n && (strcmp(v[k].type, t.type) != 0 || v[k].assembled != t.assembled)) k++;
        if (k == sizeof v / sizeof *v) continue;
        if (k == n) v[n++] = (sum){t.type, t.assembled, 0, 0, 0};
        v[k].n++, v[k].elems += t.elems, v[k].bytes += t.bytes;
    }
    qsort(v, n, sizeof *v, by_bytes);
    static const char *const head[] = {"type", "tensors", "elements", "bytes", "bits", "share", "layout"};
    pare_cli_table *table = pare_cli_table_new("lrrrrrl", head);
    for (size_t k = 0; k < n; k++) {
        char count[32], elems[32], bytes[32], bits[32], share[32];
        snprintf(count, sizeof count, "%zu", v[k].n);
        snprintf(share, sizeof share, "%.1f %%",
                 info->weight_bytes ? 100.0 * (double)v[k].bytes / (double)info->weight_bytes : 0.0);
        const char *cells[] = {v[k].type,
                               count,
                               count_text(elems, v[k].elems),
                               pare_cli_bytes(bytes, v[k].bytes),
                               bits_text(bits, v[k].bytes, v[k].elems),
                               share,
                               v[k].assembled ? v[k].assembled : ""};
        pare_cli_table_row(table, cells);
    }
    printf("\n");
    pare_cli_table_print(&table);
}

static void print_tensors(const pare_model *m, const pare_model_info *info) {
    static const char *const head[] = {"tensor", "type", "shape", "bytes", "offset"};
    pare_cli_table *table = pare_cli_table_new("lllrr", head);
    for (size_t i = 0; i < info->n_tensors; i++) {
        pare_tensor_info t;
        char shape[256], bytes[32], offset[32];
        pare_model_tensor(m, i, &t);
        shape_text(shape, sizeof shape, &t);
        snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)t.bytes);
        snprintf(offset, sizeof offset, "%llu", (unsigned long long)t.offset);
        const char *cells[] = {t.name, t.type, shape, bytes, t.assembled ? t.assembled : offset};
        pare_cli_table_row(table, cells);
    }
    printf("\n");
    pare_cli_table_print(&table);
}

static void print_meta(const pare_model *m, const pare_model_info *info) {
    static const char *const head[] = {"key", "type", "value"};
    pare_cli_table *table = pare_cli_table_new("lll", head);
    for (size_t i = 0; i < info->n_meta; i++) {
        const char *cells[3];
        pare_model_meta(m, i, &cells[0], &cells[1], &cells[2]);
        pare_cli_table_row(table, cells);
    }
    printf("\n");
    pare_cli_table_print(&table);
}

static int write_json(pare_model *m, const char *path) {
    const char *text = pare_model_json(m);
    if (!text) return pare_cli_fail(PARE_ERR_NOMEM, NULL);
    if (strcmp(path, "-") == 0) return fputs(text, stdout) < 0 ? 4 : 0;
    FILE *f = fopen(path, "w");
    bool ok = f && fputs(text, f) >= 0;
    if (f && fclose(f) != 0) ok = false;
    if (ok) return 0;
    fprintf(stderr, "pare: %s: cannot be written\n", path);
    return 4;
}

static int print_devices(void) {
    const char *text;
    pare_diag why = {0};
    int n = 0;
    for (; (text = pare_device_describe(n, &why)); n++) printf("%s\n", text);
    char line[1200];
    if (n == 1) printf("no GPU: %s\n", *why.file ? pare_diag_line(&why, line, sizeof line) : why.text);
    return 0;
}

int pare_cmd_inspect(int argc, char **argv) {
    bool tensors = false, meta = false, devices = false;
    const char *path = NULL;
    const pare_cli_opt opts[] = {
        {"--tensors", 't', 'f', &tensors, NULL, "list every tensor: shape, storage type, bytes, offset"},
        {"--meta", 'm', 'f', &meta, NULL, "list metadata: GGUF keys, config.json, safetensors metadata"},
        {"--devices", 0, 'f', &devices, NULL, "list what --device can name here: the CPU and every GPU"},
    };
    int n = pare_cli_parse(argc, argv, "inspect MODEL [--tensors] [--meta] [--json FILE] [--devices]", EXAMPLES, opts,
                           3, &path, 1);
    if (n < 0) return n == -2 ? 0 : 2;
    if (devices) print_devices();
    if (!path && devices) return 0;
    if (!path) {
        fprintf(stderr, "pare inspect: which model? `pare inspect --help` has examples\n");
        return 2;
    }
    pare_diag d = {0};
    pare_model *m;
    pare_status s = pare_model_open(path, &m, &d);
    if (s != PARE_OK) return pare_cli_fail(s, &d);
    pare_model_info info;
    pare_model_describe(m, &info);
    uint64_t weight_bytes = 0;
    for (size_t i = 0; i < info.n_tensors; i++) {
        pare_tensor_info t;
        pare_model_tensor(m, i, &t);
        if (t.weight) weight_bytes += t.bytes;
    }
    int rc = 0;
    const char *json = pare_cli_json();
    if (!json || strcmp(json, "-") != 0) {
        printf("%s\n", path);
        print_summary(m, &info, weight_bytes);
        print_types(m, &info);
        if (meta) print_meta(m, &info);
        if (tensors) print_tensors(m, &info);
    }
    if (json) rc = write_json(m, json);
    pare_model_close(&m);
    return rc;
}
