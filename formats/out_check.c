/* SPDX-License-Identifier: Apache-2.0
 *
 * A wrong output name must never cost somebody a model or a home directory: all names are resolved, inodes compared. */
#include "formats/out_check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/status.h"
#include "formats/sidecars.h"

pare_status pare_out_resolve(pare_out_place *p, const char *path, pare_diag *d) {
    char typed[PATH_MAX], parent[PATH_MAX];
    struct stat st;
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    if (n == 0) return pare_fail(d, PARE_ERR_USAGE, NULL, NULL, "the output's name is empty");
    if (n >= PATH_MAX)
        return pare_fail(d, PARE_ERR_USAGE, NULL, NULL, "the output's name has %zu bytes, at most %d are possible", n,
                         PATH_MAX - 1);
    memcpy(typed, path, n);
    typed[n] = 0;
    if (lstat(typed, &st) == 0) { /* also through a link: its target is replaced, the link stays */
        if (!realpath(typed, p->final)) return pare_fail_errno(d, path, "the output is a link that leads nowhere");
        p->exists = true;
    } else {
        if (errno != ENOENT) return pare_fail_errno(d, path, "cannot look at the output's name");
        char *slash = strrchr(typed, '/');
        const char *base = slash ? slash + 1 : typed;
        snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - typed) + (slash == typed) : 1,
                 slash ? typed : ".");
        if (!realpath(parent, p->dir))
            return pare_fail(d, PARE_ERR_IO, path, NULL,
                             "the folder %s does not exist or cannot be entered; create it first", parent);
        if (snprintf(p->final, PATH_MAX, "%s%s%s", p->dir, p->dir[1] ? "/" : "", base) >= PATH_MAX)
            return pare_fail(d, PARE_ERR_USAGE, path, NULL, "the output's full path is too long");
    }
    char *slash = strrchr(p->final, '/');
    p->base = slash + 1;
    snprintf(p->dir, PATH_MAX, "%.*s", slash == p->final ? 1 : (int)(slash - p->final), p->final);
    if (!*p->base) return pare_fail(d, PARE_ERR_USAGE, path, NULL, "the output cannot be the root folder");
    return PARE_OK;
}

/* a is b, or lies below it. */
static bool within(const char *a, const char *b) {
    size_t n = strlen(b);
    return strncmp(a, b, n) == 0 && (a[n] == 0 || a[n] == '/' || (n == 1 && *b == '/'));
}

static bool ends(const char *s, const char *tail) {
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && strcmp(s + n - k, tail) == 0;
}

/* "model-00002-of-00003.gguf": one of several files that are opened together. */
static bool is_split_part(const char *name) {
    const char *of = strstr(name, "-of-");
    return of && of - name >= 6 && of[-6] == '-';
}

/* True when an entry of `dir` (all, or only parts of a split model) has this inode. */
static bool holds_inode(const char *dir, const struct stat *st, bool parts_only) {
    DIR *f = opendir(dir);
    bool found = false;
    struct stat e;
    for (struct dirent *x; f && !found && (x = readdir(f));) {
        if (strcmp(x->d_name, ".") == 0 || strcmp(x->d_name, "..") == 0 || (parts_only && !is_split_part(x->d_name)))
            continue;
        found = fstatat(dirfd(f), x->d_name, &e, 0) == 0 && e.st_dev == st->st_dev && e.st_ino == st->st_ino;
    }
    if (f) closedir(f);
    return found;
}

pare_status pare_out_check_input(const pare_out_place *p, const char *input, bool model, pare_diag *d) {
    struct stat in, out;
    char real[PATH_MAX], dir[PATH_MAX];
    if (!input || stat(input, &in) != 0 || !realpath(input, real)) return PARE_OK;
    bool there = p->exists && stat(p->final, &out) == 0, in_folder = S_ISDIR(in.st_mode);
    if (strcmp(real, p->final) == 0 || (there && in.st_dev == out.st_dev && in.st_ino == out.st_ino))
        return pare_fail(d, PARE_ERR_USAGE, p->final, NULL, "the output is the input; choose another name");
    if (within(real, p->final))
        return pare_fail(d, PARE_ERR_USAGE, p->final, NULL,
                         "the output folder contains the input %s; choose another name", input);
    if (in_folder && (model || p->folder) && within(p->final, real))
        return pare_fail(d, PARE_ERR_USAGE, p->final, NULL,
                         "the output lies inside the input folder %s; choose a name outside", input);
    if (!there || p->folder) return PARE_OK;
    snprintf(dir, sizeof dir, "%s", real);
    if (!in_folder) *(strrchr(dir, '/') + 1) = 0;
    bool parts = !in_folder && (ends(real, ".index.json") || is_split_part(strrchr(real, '/') + 1));
    if ((in_folder || parts) && holds_inode(dir, &out, parts))
        return pare_fail(d, PARE_ERR_USAGE, p->final, NULL,
                         "the output is one of the input's own files; choose another name");
    return PARE_OK;
}

/* Whether an entry of a folder is what pare or other tools put into model folders. */
static bool is_model_file(int dir_fd, const char *name) {
    struct stat st;
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) return false;
    if (S_ISDIR(st.st_mode)) return pare_sidecar_folder(name);
    return pare_sidecar_known(name) || pare_weights_name(name) || strcmp(name, "config.json") == 0 ||
           strcmp(name, "quantize_config.json") == 0 || strcmp(name, "quant_config.json") == 0 ||
           strcmp(name, "recipe.yaml") == 0 || strcmp(name, ".gitattributes") == 0;
}

pare_status pare_out_check_existing(const pare_out_place *p, pare_diag *d) {
    struct stat st;
    if (!p->exists) return PARE_OK;
    if (!p->force) return pare_fail(d, PARE_ERR_EXISTS, p->final, NULL, "already exists; --force replaces it");
    if (stat(p->final, &st) != 0) return pare_fail_errno(d, p->final, "cannot look at the existing output");
    if (!p->folder)
        return S_ISREG(st.st_mode)
                   ? PARE_OK
                   : pare_fail(d, PARE_ERR_EXISTS, p->final, NULL, "exists and is not a file: not replaced");
    DIR *f = S_ISDIR(st.st_mode) ? opendir(p->final) : NULL;
    if (!f)
        return pare_fail(d, PARE_ERR_EXISTS, p->final, NULL,
                         "exists and is not a folder that can be read: not replaced");
    char odd[300] = "";
    for (struct dirent *e; !*odd && (e = readdir(f));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && !is_model_file(dirfd(f), e->d_name))
            snprintf(odd, sizeof odd, "%s", e->d_name);
    closedir(f);
    if (!*odd) return PARE_OK;
    return pare_fail(d, PARE_ERR_EXISTS, p->final, odd,
                     "does not belong to a model: the folder is not replaced, move this away first");
}
