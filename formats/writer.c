/* SPDX-License-Identifier: Apache-2.0
 *
 * The layout is settled and all files have their full size before the first tensor byte; then pwrite from any thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/log.h"
#include "formats/checksum.h"
#include "formats/source_impl.h"
#include "formats/writer_impl.h"

#define HEADER UINT32_MAX

static pare_status nomem(const pare_writer *w, pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, w->place.final, NULL, "no memory to write the output");
}

static const char *shown(const pare_writer *w, uint32_t file) {
    return w->files[file].name ? w->files[file].name : w->place.final;
}

/* ---- writing ---- */

static pare_status sticky(pare_writer *w, pare_diag *d, const pare_diag *own) {
    pthread_mutex_lock(&w->lock);
    if (own && w->first.code == PARE_OK) w->first = *own;
    pare_status s = w->first.code;
    if (s != PARE_OK && d && d->code == PARE_OK) *d = w->first;
    pthread_mutex_unlock(&w->lock);
    return s;
}

static pare_status write_all(pare_writer *w, uint32_t file, uint64_t at, const char *p, size_t n, pare_diag *d) {
    while (n) {
        ssize_t r = pwrite(w->files[file].fd, p, n < (1u << 30) ? n : 1u << 30, (off_t)at);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) return pare_fail_errno(d, shown(w, file), "cannot write");
        p += r, at += (uint64_t)r, n -= (size_t)r;
    }
    return PARE_OK;
}

pare_status pare_writer_raw(pare_writer *w, uint32_t file, uint32_t tensor, uint64_t at, const void *bytes, size_t n,
                            pare_diag *d) {
    pare_diag own = {0};
    PARE_TRY(sticky(w, d, NULL));
    if (n == 0) return PARE_OK;
    if (write_all(w, file, at, bytes, n, &own) != PARE_OK) return sticky(w, d, &own);
    pare_out_range r = {file, tensor, at, n, pare_checksum(0, bytes, n)};
    pthread_mutex_lock(&w->lock);
    bool ok = pare_grow((void **)&w->ranges, &w->cap_ranges, w->n_ranges + 1, sizeof r) == PARE_OK;
    if (ok) w->ranges[w->n_ranges++] = r;
    if (ok && tensor != HEADER) w->tensors[tensor].done += n;
    pthread_mutex_unlock(&w->lock);
    if (ok) return PARE_OK;
    nomem(w, &own);
    return sticky(w, d, &own);
}

pare_status pare_writer_put(pare_writer *w, size_t i, uint64_t offset, const void *bytes, size_t n_bytes,
                            pare_diag *d) {
    if (i >= w->n_tensors || offset > w->tensors[i].bytes || n_bytes > w->tensors[i].bytes - offset)
        return pare_fail(d, PARE_ERR_INTERNAL, w->place.final, i < w->n_tensors ? w->tensors[i].name : NULL,
                         "bytes beyond the tensor's end were to be written");
    return pare_writer_raw(w, w->tensors[i].file, (uint32_t)i, w->tensors[i].at + offset, bytes, n_bytes, d);
}

/* ---- creating ---- */

static bool name_ok(const char *s) { /* relative, at most one folder deep, no way out */
    const char *slash = strchr(s, '/');
    return *s && *s != '/' && !strchr(s, '\\') && strlen(s) < 512 && strncmp(s, "..", 2) != 0 && strcmp(s, ".") != 0 &&
           !(slash && (strchr(slash + 1, '/') || strncmp(slash + 1, "..", 2) == 0));
}

/* Adds a file of n bytes to the output folder (or takes the temporary file itself), with its space reserved. */
static pare_status add_file(pare_writer *w, const char *name, uint64_t n, uint32_t *index, pare_diag *d) {
    if (pare_grow((void **)&w->files, &w->cap_files, w->n_files + 1, sizeof *w->files) != PARE_OK) return nomem(w, d);
    pare_out_slot f = {.fd = w->place.fd, .bytes = n};
    if (name) {
        if (!name_ok(name))
            return pare_fail(d, PARE_ERR_INPUT, w->place.final, name, "not a name of a file inside the output folder");
        if (!(f.name = pare_arena_strndup(w->arena, name, strlen(name)))) return nomem(w, d);
        char dir[512];
        const char *slash = strchr(name, '/');
        snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash - name) : 0, name);
        if (slash && mkdirat(w->place.fd, dir, 0777) != 0 && errno != EEXIST)
            return pare_fail_errno(d, name, "cannot create the folder");
        f.fd = openat(w->place.fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (f.fd < 0) return pare_fail_errno(d, name, "cannot create");
    }
    *index = (uint32_t)w->n_files;
    w->files[w->n_files++] = f;
    if (ftruncate(f.fd, (off_t)n) != 0) return pare_fail_errno(d, shown(w, *index), "cannot set the size");
    /* space is reserved now, so that hours of work do not end at a full disk; file systems without it say so and go on
     */
    if (n && fallocate(f.fd, 0, 0, (off_t)n) != 0 && errno != EOPNOTSUPP && errno != ENOSYS && errno != EINTR &&
        errno != EINVAL)
        return pare_fail_errno(d, shown(w, *index), "cannot reserve the space");
    return PARE_OK;
}

static pare_status add_small(pare_writer *w, const char *name, const void *bytes, size_t n, pare_diag *d) {
    uint32_t file;
    PARE_TRY(add_file(w, name, n, &file, d));
    return pare_writer_raw(w, file, HEADER, 0, bytes, n, d);
}

static bool given(const pare_writer_opts *o, const char *name) {
    for (size_t i = 0; i < o->n_files; i++)
        if (strcmp(o->files[i].name, name) == 0) return true;
    return false;
}

/* A sidecar, byte for byte; "NAME/" is an empty folder. One that is also given whole is not copied. */
static pare_status copy_sidecar(pare_writer *w, const pare_writer_opts *o, const char *name, pare_diag *d) {
    size_t n = strlen(name);
    char path[PATH_MAX];
    if (given(o, name)) return PARE_OK;
    if (n && name[n - 1] == '/') {
        snprintf(path, sizeof path, "%.*s", (int)n - 1, name);
        if (strchr(path, '/') || !name_ok(path))
            return pare_fail(d, PARE_ERR_INPUT, w->place.final, name, "not a folder inside the output folder");
        return mkdirat(w->place.fd, path, 0777) == 0 || errno == EEXIST
                   ? PARE_OK
                   : pare_fail_errno(d, name, "cannot create the folder");
    }
    if (snprintf(path, sizeof path, "%s/%s", o->copy_from, name) >= (int)sizeof path)
        return pare_fail(d, PARE_ERR_INPUT, o->copy_from, name, "the path is too long");
    pare_map m = {0};
    struct stat st;
    if (stat(path, &st) != 0) return pare_fail_errno(d, path, "cannot copy");
    if (st.st_size > 0) PARE_TRY(pare_map_file(path, &m, d));
    pare_status s = add_small(w, name, m.p, m.n, d);
    pare_map_close(&m);
    return s;
}

/* ---- layout ---- */

static pare_status add_weights(pare_writer *w, const char *name, const pare_bytes *header, uint64_t n, pare_diag *d) {
    uint32_t file;
    PARE_TRY(add_file(w, name, n, &file, d));
    w->n_weights++;
    return pare_writer_raw(w, file, HEADER, 0, header->p, header->n, d);
}

/* Which file each tensor goes to: in the order given, a new file when the next tensor would pass the limit. */
static size_t split(pare_writer *w, uint64_t limit) {
    size_t n = 1;
    uint64_t used = 0;
    for (size_t i = 0; i < w->n_tensors; i++) {
        if (limit && used && w->tensors[i].bytes > limit - (used < limit ? used : limit)) n++, used = 0;
        used += w->tensors[i].bytes;
        w->tensors[i].file = (uint32_t)(n - 1);
    }
    return n;
}

static pare_status lay_safetensors(pare_writer *w, const pare_writer_opts *o, pare_diag *d) {
    bool folder = o->kind == PARE_SOURCE_FOLDER;
    size_t n_files = split(w, folder ? o->max_shard_bytes : 0), first = 0;
    uint32_t *pick = pare_calloc(w->n_tensors + 1, sizeof *pick);
    pare_bytes b = {0};
    pare_status s = pick ? PARE_OK : nomem(w, d);
    for (size_t f = 0; s == PARE_OK && f < n_files; f++) {
        char name[64] = "model.safetensors";
        uint64_t bytes = 0;
        size_t n = 0;
        for (; first < w->n_tensors && w->tensors[first].file == f; first++) pick[n++] = (uint32_t)first;
        b.n = 0;
        s = pare_safetensors_header(w, o, pick, n, &b, &bytes, d);
        if (n_files > 1) snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", f + 1, n_files);
        if (s == PARE_OK) s = add_weights(w, folder ? name : NULL, &b, bytes, d);
    }
    b.n = 0;
    if (s == PARE_OK && n_files > 1) {
        pare_safetensors_index(w, &b);
        s = b.failed ? nomem(w, d) : add_small(w, "model.safetensors.index.json", b.p, b.n, d);
    }
    pare_bytes_free(&b);
    pare_free(pick);
    return s;
}

static pare_status lay_gguf(pare_writer *w, const pare_writer_opts *o, pare_diag *d) {
    pare_bytes b = {0};
    uint64_t bytes = 0;
    pare_status s = pare_gguf_header(w, o, &b, &bytes, d);
    if (s == PARE_OK) s = add_weights(w, NULL, &b, bytes, d);
    pare_bytes_free(&b);
    return s;
}

static pare_status build(pare_writer *w, const char *path, const pare_writer_opts *o, pare_diag *d) {
    bool folder = o->kind == PARE_SOURCE_FOLDER;
    if (o->kind == PARE_SOURCE_GGUF && o->max_shard_bytes)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, path, NULL,
                         "GGUF output is one file in this version: leave the shard size out");
    if (!folder && (o->n_files || o->n_copies))
        return pare_fail(d, PARE_ERR_INTERNAL, path, NULL, "small files can only go into a folder");
    PARE_TRY(pare_out_check_tensors(w, o, d));
    uint64_t need = w->total_bytes + ((uint64_t)1 << 20);
    for (size_t i = 0; i < o->n_files; i++) need += o->files[i].n_bytes;
    for (size_t i = 0; i < o->n_copies; i++) {
        struct stat st;
        char p[PATH_MAX];
        if (snprintf(p, sizeof p, "%s/%s", o->copy_from, o->copies[i]) < (int)sizeof p && stat(p, &st) == 0)
            need += (uint64_t)st.st_size;
    }
    PARE_TRY(pare_out_begin(&w->place, path, folder, o->kind != PARE_SOURCE_GGUF, o->force, o->not_path, need, d));
    PARE_TRY(o->kind == PARE_SOURCE_GGUF ? lay_gguf(w, o, d) : lay_safetensors(w, o, d));
    for (size_t i = 0; i < o->n_files; i++)
        PARE_TRY(add_small(w, o->files[i].name, o->files[i].bytes, o->files[i].n_bytes, d));
    for (size_t i = 0; i < o->n_copies; i++) PARE_TRY(copy_sidecar(w, o, o->copies[i], d));
    w->total_bytes = 0;
    for (size_t i = 0; i < w->n_files; i++) w->total_bytes += w->files[i].bytes;
    return PARE_OK;
}

pare_status pare_writer_open(const char *path, const pare_writer_opts *opts, pare_writer **out, pare_diag *d) {
    *out = NULL;
    pare_writer *w = pare_calloc(1, sizeof *w);
    if (!w) return pare_fail(d, PARE_ERR_NOMEM, path, NULL, "no memory to write the output");
    w->kind = opts->kind;
    w->place.fd = -1;
    pthread_mutex_init(&w->lock, NULL);
    w->arena = pare_arena_new();
    pare_status s = w->arena ? build(w, path, opts, d) : nomem(w, d);
    if (s == PARE_OK) *out = w;
    else pare_writer_close(&w);
    return s;
}

size_t pare_writer_bytes(const pare_writer *w) { return w->total_bytes; }

/* ---- finishing ---- */

static pare_status sync_all(pare_writer *w, pare_diag *d) {
    for (size_t i = 0; i < w->n_files; i++)
        if (fsync(w->files[i].fd) != 0) return pare_fail_errno(d, shown(w, (uint32_t)i), "cannot sync to disk");
    for (size_t i = 0; i < w->n_files; i++) { /* module folders; one sync each would do, files in them are few */
        const char *slash = w->files[i].name ? strchr(w->files[i].name, '/') : NULL;
        if (!slash) continue;
        char dir[512];
        snprintf(dir, sizeof dir, "%.*s", (int)(slash - w->files[i].name), w->files[i].name);
        int fd = openat(w->place.fd, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        bool ok = fd >= 0 && fsync(fd) == 0;
        if (fd >= 0) close(fd);
        if (!ok) return pare_fail_errno(d, dir, "cannot sync to disk");
    }
    return fsync(w->place.fd) == 0 ? PARE_OK : pare_fail_errno(d, w->place.final, "cannot sync to disk");
}

static void close_files(pare_writer *w) {
    for (size_t i = 0; i < w->n_files; i++)
        if (w->files[i].name && w->files[i].fd >= 0) close(w->files[i].fd), w->files[i].fd = -1;
}

pare_status pare_writer_finish(pare_writer *w, pare_diag *d) {
    PARE_TRY(sticky(w, d, NULL));
    for (size_t i = 0; i < w->n_files; i++)
        sync_file_range(w->files[i].fd, 0, 0, SYNC_FILE_RANGE_WRITE); /* starts, does not wait */
    double start = pare_now_s();
    PARE_TRY(pare_writer_verify(w, d));
    w->check_s = pare_now_s() - start;
    PARE_TRY(sync_all(w, d));
    w->sync_s = pare_now_s() - start - w->check_s;
    close_files(w);
    PARE_TRY(pare_out_commit(&w->place, d));
    w->finished = true;
    return PARE_OK;
}

void pare_writer_seconds(const pare_writer *w, double *check_s, double *sync_s) {
    *check_s = w->check_s;
    *sync_s = w->sync_s;
}

void pare_writer_close(pare_writer **wp) {
    pare_writer *w = wp ? *wp : NULL;
    if (!w) return;
    close_files(w);
    if (!w->finished) pare_out_abort(&w->place);
    pthread_mutex_destroy(&w->lock);
    pare_free(w->files);
    pare_free(w->tensors);
    pare_free(w->ranges);
    pare_arena_free(&w->arena);
    pare_free(w);
    *wp = NULL;
}
