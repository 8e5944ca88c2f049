/* SPDX-License-Identifier: Apache-2.0
 *
 * The life of a temporary name: created and locked, renamed or removed. rename(2) is the only step that touches the
 * final name; a folder that replaces another is exchanged with it (renameat2), so that the name never lacks a whole
 * model. */
#define _GNU_SOURCE /* renameat2 */
#include "formats/out_place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/log.h"
#include "core/status.h"
#include "formats/out_check.h"

#define TEMP ".pare-tmp-"
#define OLD  ".pare-old-" /* only where folders cannot be exchanged: the replaced one, between two renames */
#define HEX  8

static void remove_tree(int at, const char *name) {
    if (unlinkat(at, name, 0) == 0 || errno == ENOENT) return;
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *f = fd < 0 ? NULL : fdopendir(fd);
    if (!f) {
        if (fd >= 0) close(fd);
        return;
    }
    for (struct dirent *e; (e = readdir(f));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) remove_tree(fd, e->d_name);
    closedir(f);
    unlinkat(at, name, AT_REMOVEDIR);
}

static bool is_ours(const char *name, const char *base, const char *word) {
    size_t n = strlen(base), k = strlen(word);
    return strlen(name) == n + k + HEX && strncmp(name, base, n) == 0 && strncmp(name + n, word, k) == 0 &&
           strspn(name + n + k, "0123456789abcdef") == HEX;
}

/* What killed runs left beside the output. A temporary name that is locked belongs to a run that lives. */
static void remove_stale(pare_out_place *p) {
    DIR *f = opendir(p->dir);
    if (!f) return;
    for (struct dirent *e; (e = readdir(f));) {
        if (is_ours(e->d_name, p->base, OLD)) {
            if (faccessat(dirfd(f), p->base, F_OK, 0) == 0) remove_tree(dirfd(f), e->d_name);
            else if (renameat(dirfd(f), e->d_name, dirfd(f), p->base) == 0) {
                p->exists = true;
                pare_log(PARE_LOG_WARN, "%s: restored what an interrupted run was about to replace", p->final);
            }
        }
        if (!is_ours(e->d_name, p->base, TEMP)) continue;
        int fd = openat(dirfd(f), e->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0) continue;
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            pare_log(PARE_LOG_INFO, "%s/%s: removed, left by an interrupted run", p->dir, e->d_name);
            remove_tree(dirfd(f), e->d_name);
        }
        close(fd);
    }
    closedir(f);
}

static pare_status random_name(const pare_out_place *p, const char *word, char *out, pare_diag *d) {
    uint32_t r = 0;
    if (getrandom(&r, sizeof r, 0) != sizeof r) r = (uint32_t)getpid();
    if (snprintf(out, PATH_MAX, "%s%s%08x", p->final, word, r) >= PATH_MAX)
        return pare_fail(d, PARE_ERR_USAGE, p->final, NULL, "the output's full path is too long");
    return PARE_OK;
}

static pare_status cannot_create(const pare_out_place *p, pare_diag *d) {
    pare_status code = errno == ENOSPC || errno == EDQUOT ? PARE_ERR_NOSPACE : PARE_ERR_IO;
    return pare_fail(d, code, p->final, NULL, "cannot create the output in %s: %s", p->dir, strerror(errno));
}

/* Creates and locks temp. Another run that cleans up may take it in the moment before the lock: then once more. */
static pare_status create_temp(pare_out_place *p, pare_diag *d) {
    for (int tries = 0; tries < 20; tries++) {
        struct stat a, b;
        PARE_TRY(random_name(p, TEMP, p->temp, d));
        if (p->folder) {
            if (mkdir(p->temp, 0777) != 0) {
                if (errno == EEXIST) continue;
                return cannot_create(p, d);
            }
            p->fd = open(p->temp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        } else p->fd = open(p->temp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (p->fd < 0) {
            if (errno == EEXIST || (p->folder && errno == ENOENT)) continue;
            return cannot_create(p, d);
        }
        flock(p->fd, LOCK_EX | LOCK_NB); /* where locks are missing, stale names are not recognised: no harm */
        if (stat(p->temp, &a) == 0 && fstat(p->fd, &b) == 0 && a.st_ino == b.st_ino && a.st_dev == b.st_dev)
            return PARE_OK;
        close(p->fd);
        p->fd = -1;
    }
    return pare_fail(d, PARE_ERR_IO, p->final, NULL, "cannot find a free temporary name in %s", p->dir);
}

pare_status pare_out_begin(pare_out_place *p, const char *path, bool folder, bool single_model, bool force,
                           const char *not_path, uint64_t need_bytes, pare_diag *d) {
    *p = (pare_out_place){.folder = folder, .force = force, .fd = -1};
    struct statvfs vfs;
    PARE_TRY(pare_out_resolve(p, path, d));
    PARE_TRY(pare_out_check_input(p, not_path, single_model, d));
    remove_stale(p);
    PARE_TRY(pare_out_check_existing(p, d));
    if (statvfs(p->dir, &vfs) == 0 && vfs.f_blocks) {
        uint64_t free_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
        if (need_bytes > free_bytes)
            return pare_fail(d, PARE_ERR_NOSPACE, p->final, NULL, "the output needs %.1f MB, %s has %.1f MB free",
                             (double)need_bytes / 1e6, p->dir, (double)free_bytes / 1e6);
    }
    return create_temp(p, d);
}

pare_status pare_out_check(const char *path, bool folder, bool single_model, bool force, const char *not_path,
                           pare_diag *d) {
    pare_out_place p = {.folder = folder, .force = force, .fd = -1};
    PARE_TRY(pare_out_resolve(&p, path, d));
    PARE_TRY(pare_out_check_input(&p, not_path, single_model, d));
    return pare_out_check_existing(&p, d);
}

void pare_out_remove(const char *path) { remove_tree(AT_FDCWD, path); }

static bool no_such_flag(void) { return errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP; }

/* The new folder takes the name, the replaced one gets the temporary name. */
static pare_status exchange(pare_out_place *p, pare_diag *d) {
    char old[PATH_MAX];
    if (renameat2(AT_FDCWD, p->temp, AT_FDCWD, p->final, RENAME_EXCHANGE) == 0) return PARE_OK;
    if (!no_such_flag()) return pare_fail_errno(d, p->final, "cannot put the output in place");
    PARE_TRY(
        random_name(p, OLD, old, d)); /* a run killed between these renames is repaired by the next (remove_stale) */
    if (rename(p->final, old) != 0) return pare_fail_errno(d, p->final, "cannot set the replaced folder aside");
    if (rename(p->temp, p->final) != 0) {
        pare_status s = pare_fail_errno(d, p->final, "cannot put the output in place");
        if (rename(old, p->final) != 0) pare_log(PARE_LOG_ERROR, "%s: the replaced folder is now %s", p->final, old);
        return s;
    }
    snprintf(p->temp, sizeof p->temp, "%s", old);
    return PARE_OK;
}

static pare_status appear(pare_out_place *p, pare_diag *d) {
    if (renameat2(AT_FDCWD, p->temp, AT_FDCWD, p->final, RENAME_NOREPLACE) == 0) return PARE_OK;
    if (no_such_flag() && access(p->final, F_OK) != 0 && rename(p->temp, p->final) == 0) return PARE_OK;
    if (errno == EEXIST || access(p->final, F_OK) == 0)
        return pare_fail(d, PARE_ERR_EXISTS, p->final, NULL,
                         "appeared while the output was written; --force replaces it");
    return pare_fail_errno(d, p->final, "cannot put the output in place");
}

pare_status pare_out_commit(pare_out_place *p, pare_diag *d) {
    struct stat st;
    bool there = stat(p->final, &st) == 0, swapped = false;
    p->exists = there;
    if (there && p->force) PARE_TRY(pare_out_check_existing(p, d)); /* hours may have passed since the first look */
    if (there && p->force && p->folder) {
        PARE_TRY(exchange(p, d));
        swapped = true;
    } else if (there && p->force) {
        if (rename(p->temp, p->final) != 0) return pare_fail_errno(d, p->final, "cannot put the output in place");
    } else PARE_TRY(appear(p, d));
    int dir = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool synced = dir >= 0 && fsync(dir) == 0;
    if (dir >= 0) close(dir);
    if (swapped) remove_tree(AT_FDCWD, p->temp);
    if (p->fd >= 0) close(p->fd);
    p->fd = -1;
    *p->temp = 0;
    return synced ? PARE_OK : pare_fail_errno(d, p->dir, "the output is in place, but its folder cannot be synced");
}

void pare_out_abort(pare_out_place *p) {
    if (p->fd < 0) return;
    if (*p->temp) remove_tree(AT_FDCWD, p->temp);
    close(p->fd);
    p->fd = -1;
}
