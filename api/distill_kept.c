/* SPDX-License-Identifier: Apache-2.0
 *
 * Memory first, then a file (api/distill_kept.h). */
#define _GNU_SOURCE
#include "api/distill_kept.h"

#include "core/alloc.h"
#include "core/status.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE ((size_t)4096)

pare_status pare_beside_map(const char *beside, const char *what, const char *option, size_t bytes, void **out,
                            pare_diag *d) {
    char *path = pare_sprintf("%s.pare-kept-XXXXXX", beside);
    if (!path) return pare_fail(d, PARE_ERR_NOMEM, NULL, option, "no memory for %s", what);
    int fd = mkstemp(path);
    pare_status s = PARE_OK;
    void *p = MAP_FAILED;
    if (fd < 0) s = pare_fail_errno(d, path, "cannot make a file for what a run keeps");
    else {
        unlink(path);
        if (posix_fallocate(fd, 0, (off_t)bytes) == 0) p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
        if (p == MAP_FAILED)
            s = pare_fail(d, PARE_ERR_NOSPACE, path, option,
                          "no room for %zu bytes of %s; keep fewer, or use less text", bytes, what);
        else *out = p;
    }
    pare_free(path);
    return s;
}

pare_status pare_kept_open(size_t n, size_t each, uint64_t *budget, const char *beside, pare_kept *k, pare_diag *d) {
    size_t bytes = each * sizeof(float);
    uint64_t fit = *budget / bytes;
    void *p = NULL;
    *k = (pare_kept){.n = n, .each = each, .in_memory = fit < n ? (size_t)fit : n};
    if (k->in_memory && !(k->memory = pare_malloc_aligned(k->in_memory * bytes)))
        return pare_fail(d, PARE_ERR_NOMEM, NULL, "--block-memory", "no memory for %zu bytes of activations",
                         k->in_memory * bytes);
    *budget -= k->in_memory * bytes;
    if (k->in_memory == n) return PARE_OK;
    PARE_TRY(pare_beside_map(beside, "activations", "--steps", (n - k->in_memory) * bytes, &p, d));
    k->file = p, k->file_bytes = (n - k->in_memory) * bytes;
    return PARE_OK;
}

void pare_kept_close(pare_kept *k) {
    if (k->file) munmap(k->file, k->file_bytes);
    pare_free(k->memory);
    *k = (pare_kept){0};
}

float *pare_kept_at(const pare_kept *k, size_t i) {
    return i < k->in_memory ? k->memory + i * k->each : k->file + (i - k->in_memory) * k->each;
}

void pare_kept_release(const pare_kept *k, size_t i) {
    if (i < k->in_memory) return;
    size_t bytes = k->each * sizeof(float), at = (i - k->in_memory) * bytes;
    size_t a = (at + PAGE - 1) / PAGE * PAGE, b = (at + bytes) / PAGE * PAGE;
    if (b > a) madvise((char *)k->file + a, b - a, MADV_DONTNEED); /* a shared mapping: the file keeps the bytes */
}
