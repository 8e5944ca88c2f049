/* SPDX-License-Identifier: Apache-2.0
 *
 * A Hugging Face folder: config.json, one .safetensors file or an index of several, and the files that travel along. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "formats/sidecars.h"
#include "formats/source_impl.h"

#define INDEX_TAIL ".safetensors.index.json"

static char *join(pare_source_impl *im, const char *dir, const char *name, pare_diag *d) {
    size_t a = strlen(dir), b = strlen(name), slash = a && dir[a - 1] != '/';
    char *p = pare_arena_alloc(im->arena, a + b + 2);
    if (!p) {
        pare_source_nomem(im, d);
        return NULL;
    }
    memcpy(p, dir, a);
    if (slash) p[a] = '/';
    memcpy(p + a + slash, name, b + 1);
    return p;
}

typedef struct listing {
    char **v;
    size_t n, cap;
} listing;

static void listing_free(listing *l) {
    for (size_t i = 0; i < l->n; i++) pare_free(l->v[i]);
    pare_free(l->v);
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Names in dir, sorted, without hidden ones. */
static pare_status list(const char *dir, listing *l, pare_diag *d) {
    *l = (listing){0};
    DIR *f = opendir(dir);
    if (!f) return pare_fail_errno(d, dir, "cannot list the folder");
    pare_status s = PARE_OK;
    for (struct dirent *e; s == PARE_OK && (e = readdir(f));) {
        if (e->d_name[0] == '.') continue;
        char *copy = pare_strdup(e->d_name);
        if (!copy || pare_grow((void **)&l->v, &l->cap, l->n + 1, sizeof *l->v) != PARE_OK) {
            pare_free(copy);
            s = pare_fail(d, PARE_ERR_NOMEM, dir, NULL, "no memory to list the folder");
        } else l->v[l->n++] = copy;
    }
    closedir(f);
    if (l->n) qsort(l->v, l->n, sizeof *l->v, by_name);
    return s;
}

/* The files of one module folder; an empty one travels as "NAME/". */
static pare_status add_module(pare_source_impl *im, const char *dir, const char *name, pare_diag *d) {
    listing l;
    char *sub = join(im, dir, name, d), rel[600];
    if (!sub) return PARE_ERR_NOMEM;
    pare_status s = list(sub, &l, d);
    snprintf(rel, sizeof rel, "%s/", name);
    if (s == PARE_OK && l.n == 0) s = pare_source_add_sidecar(im, rel, d);
    for (size_t i = 0; s == PARE_OK && i < l.n; i++) {
        struct stat st;
        snprintf(rel, sizeof rel, "%s/%s", name, l.v[i]);
        char *path = join(im, dir, rel, d);
        if (!path) s = PARE_ERR_NOMEM;
        else if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) s = pare_source_add_sidecar(im, rel, d);
    }
    listing_free(&l);
    return s;
}

static pare_status add_sidecars(pare_source_impl *im, const char *dir, const listing *l, pare_diag *d) {
    for (size_t i = 0; i < l->n; i++) {
        struct stat st;
        char *path = join(im, dir, l->v[i], d);
        if (!path) return PARE_ERR_NOMEM;
        if (stat(path, &st) != 0) continue;
        if (S_ISREG(st.st_mode) && pare_sidecar_known(l->v[i])) PARE_TRY(pare_source_add_sidecar(im, l->v[i], d));
        if (S_ISDIR(st.st_mode) && pare_sidecar_folder(l->v[i])) PARE_TRY(add_module(im, dir, l->v[i], d));
    }
    return PARE_OK;
}

static bool file_name_ok(const char *s) {
    return *s && !strchr(s, '/') && !strchr(s, '\\') && strcmp(s, "..") != 0 && s[0] != '.' && strlen(s) < 256;
}

static int shard_of(const pare_source_impl *im, const char *path) {
    for (size_t i = 0; i < im->s.n_shards; i++)
        if (strcmp(im->s.shards[i], path) == 0) return (int)i;
    return -1;
}

/* Opens every file of weight_map, then checks that map and files name the same tensors. */
static pare_status read_map(pare_source_impl *im, const char *dir, const char *path, json_t *map, pare_diag *d) {
    const char *name;
    json_t *file;
    size_t dup;
    json_object_foreach(map, name, file) {
        const char *f = json_string_value(file);
        int shard;
        if (!f) return pare_fail(d, PARE_ERR_INPUT, path, name, "weight_map must map names to file names");
        if (!file_name_ok(f))
            return pare_fail(d, PARE_ERR_INPUT, path, name, "\"%.80s\" is not a file name inside the folder", f);
        char *full = join(im, dir, f, d);
        if (!full) return PARE_ERR_NOMEM;
        if ((shard = shard_of(im, full)) < 0) PARE_TRY(pare_safetensors_read(im, full, im->s.n_shards == 0, d));
    }
    if (pare_name_index_build(&im->by_name, im->raw, sizeof *im->raw, im->n_raw, &dup) != PARE_OK)
        return pare_source_nomem(im, d);
    if (dup != SIZE_MAX)
        return pare_fail(d, PARE_ERR_INPUT, im->s.shards[im->raw[dup].shard], im->raw[dup].name,
                         "the tensor is in two files");
    json_object_foreach(map, name, file) {
        size_t i = pare_name_index_find(&im->by_name, name);
        const char *f = json_string_value(file),
                   *in = i == SIZE_MAX ? NULL : strrchr(im->s.shards[im->raw[i].shard], '/');
        if (i == SIZE_MAX || strcmp(in ? in + 1 : im->s.shards[im->raw[i].shard], f) != 0)
            return pare_fail(d, PARE_ERR_INPUT, path, name, "the index says that %.80s holds this tensor, it does not",
                             f);
    }
    for (size_t i = 0; i < im->n_raw; i++)
        if (!json_object_get(map, im->raw[i].name))
            return pare_fail(d, PARE_ERR_INPUT, im->s.shards[im->raw[i].shard], im->raw[i].name,
                             "the tensor is not in the index");
    return PARE_OK;
}

static pare_status read_index(pare_source_impl *im, const char *dir, const char *path, pare_diag *d) {
    json_t *root;
    PARE_TRY(pare_json_load(path, &root, d));
    json_t *map = json_object_get(root, "weight_map");
    pare_status s = PARE_OK;
    if (!json_is_object(map) || json_object_size(map) == 0)
        s = pare_fail(d, PARE_ERR_INPUT, path, "weight_map",
                      "expected an index of safetensors files: an object of names and files");
    if (s == PARE_OK) s = read_map(im, dir, path, map, d);
    json_decref(root);
    return s;
}

static bool ends(const char *s, const char *tail) {
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && strcmp(s + n - k, tail) == 0;
}

static bool has(const listing *l, const char *name) {
    return l->n && bsearch(&name, l->v, l->n, sizeof *l->v, by_name);
}

/* model.safetensors.index.json, model.safetensors, or the only index, or the only file there is. */
static pare_status find_weights(const listing *l, const char *dir, const char **name, pare_diag *d) {
    const char *index = NULL, *single = NULL, *pickle = NULL;
    size_t n_index = 0, n_single = 0;
    for (size_t i = 0; i < l->n; i++) {
        if (ends(l->v[i], INDEX_TAIL)) index = l->v[i], n_index++;
        else if (ends(l->v[i], ".safetensors")) single = l->v[i], n_single++;
        else if (ends(l->v[i], ".bin") || ends(l->v[i], ".pth") || ends(l->v[i], ".pt")) pickle = l->v[i];
    }
    *name = has(l, "model" INDEX_TAIL)    ? "model" INDEX_TAIL
            : has(l, "model.safetensors") ? "model.safetensors"
            : n_index == 1                ? index
            : n_single == 1 && !n_index   ? single
                                          : NULL;
    if (*name) return PARE_OK;
    if (n_single || n_index)
        return pare_fail(d, PARE_ERR_INPUT, dir, NULL,
                         "%zu .safetensors files and %zu indexes, none named model.*: name the file to read", n_single,
                         n_index);
    if (pickle)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, dir, pickle,
                         "weights in a pickle are not read by this version: save the model as safetensors");
    return pare_fail(d, PARE_ERR_INPUT, dir, NULL,
                     "no .safetensors file in this folder: expected a Hugging Face model folder");
}

static pare_status load_optional(pare_source_impl *im, const char *dir, const listing *l, const char *name,
                                 json_t **out, pare_diag *d) {
    if (!has(l, name)) return PARE_OK;
    char *path = join(im, dir, name, d);
    return path ? pare_json_load(path, out, d) : PARE_ERR_NOMEM;
}

pare_status pare_folder_read(pare_source_impl *im, const char *dir, const char *index_path, pare_diag *d) {
    listing l;
    pare_status s = list(dir, &l, d);
    const char *weights = NULL;
    char *path = NULL;
    if (s == PARE_OK) s = load_optional(im, dir, &l, "config.json", &im->s.config, d);
    if (s == PARE_OK) s = load_optional(im, dir, &l, "tokenizer_config.json", &im->s.tokenizer_config, d);
    if (s == PARE_OK) s = add_sidecars(im, dir, &l, d);
    if (s == PARE_OK && !index_path) s = find_weights(&l, dir, &weights, d);
    if (s == PARE_OK && weights && !(path = join(im, dir, weights, d))) s = PARE_ERR_NOMEM;
    if (s == PARE_OK) {
        const char *p = index_path ? index_path : path;
        bool one = !index_path && !ends(p, INDEX_TAIL);
        s = one ? pare_safetensors_read(im, p, true, d) : read_index(im, dir, p, d);
    }
    listing_free(&l);
    return s;
}
