/* SPDX-License-Identifier: Apache-2.0
 *
 * A small file that appears under its name whole or not at all. */
#include "verify/report.h"

#include "core/alloc.h"
#include "core/status.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool write_all(int fd, const char *p, size_t n) {
    while (n) {
        ssize_t k = write(fd, p, n);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return false;
        p += k, n -= (size_t)k;
    }
    return fsync(fd) == 0;
}

static void sync_folder_of(const char *path) { /* the rename itself reaches the disk; best effort, as not all can */
    const char *slash = strrchr(path, '/');
    char folder[PATH_MAX];
    int n = slash ? snprintf(folder, sizeof folder, "%.*s", slash == path ? 1 : (int)(slash - path), path)
                  : snprintf(folder, sizeof folder, ".");
    int fd = n < (int)sizeof folder ? open(folder, O_RDONLY | O_DIRECTORY) : -1;
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
}

pare_status pare_write_file_atomic(const char *path, const void *bytes, size_t n_bytes, pare_diag *d) {
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) { /* /dev/stdout, a pipe: nothing to rename onto */
        if (S_ISDIR(st.st_mode))
            return pare_fail(d, PARE_ERR_IO, path, NULL, "is a folder; a report wants a file name");
        int out = open(path, O_WRONLY);
        if (out < 0) return pare_fail_errno(d, path, "cannot be opened for writing");
        bool ok = write_all(out, bytes, n_bytes) || errno == EINVAL || errno == ENOTSUP; /* fsync of a pipe */
        close(out);
        return ok ? PARE_OK : pare_fail_errno(d, path, "cannot be written");
    }
    char *temp = pare_sprintf("%s.tmp%ld", path, (long)getpid());
    if (!temp) return pare_fail(d, PARE_ERR_NOMEM, path, NULL, "no memory");
    pare_status s = PARE_OK;
    int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        s = errno == ENOENT ? pare_fail(d, PARE_ERR_IO, path, NULL, "the folder for the report does not exist")
                            : pare_fail_errno(d, path, "the report cannot be written there");
        goto done;
    }
    bool ok = write_all(fd, bytes, n_bytes);
    if (!ok) s = pare_fail_errno(d, path, "the report cannot be written");
    if (close(fd) != 0 && ok) ok = false, s = pare_fail_errno(d, path, "the report cannot be written");
    if (ok && rename(temp, path) != 0)
        ok = false, s = pare_fail_errno(d, path, "the report cannot be renamed into place");
    if (ok) sync_folder_of(path);
    else unlink(temp);
done:
    pare_free(temp);
    return s;
}
