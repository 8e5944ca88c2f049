/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading the output back: every range that was put is read again and its checksum compared, by all threads, in pieces
 * of 1 MiB, so that memory stays small. Also the proof that every byte of every tensor was written, once. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/threads.h"
#include "formats/checksum.h"
#include "formats/writer_impl.h"

static int by_place(const void *pa, const void *pb) {
    const pare_out_range *a = pa, *b = pb;
    if (a->file != b->file) return a->file < b->file ? -1 : 1;
    return a->at < b->at ? -1 : a->at > b->at;
}

static const char *name_of(const pare_writer *w, const pare_out_range *r) {
    return r->tensor == UINT32_MAX ? "header" : w->tensors[r->tensor].name;
}

static pare_status check_complete(const pare_writer *w, pare_diag *d) {
    for (size_t i = 0; i < w->n_tensors; i++)
        if (w->tensors[i].done != w->tensors[i].bytes)
            return pare_fail(d, PARE_ERR_INTERNAL, w->place.final, w->tensors[i].name,
                             "%llu of its %llu bytes were written", (unsigned long long)w->tensors[i].done,
                             (unsigned long long)w->tensors[i].bytes);
    for (size_t i = 1; i < w->n_ranges; i++) {
        const pare_out_range *a = &w->ranges[i - 1], *b = &w->ranges[i];
        if (a->file == b->file && a->at + a->n > b->at)
            return pare_fail(d, PARE_ERR_INTERNAL, w->place.final, name_of(w, b), "bytes were written twice");
    }
    return PARE_OK;
}

typedef struct job {
    pare_writer *w;
    size_t *first;
    uint8_t *buf;
    pare_diag bad;
} job;

static bool read_at(int fd, uint8_t *to, size_t n, uint64_t at) {
    while (n) {
        ssize_t r = pread(fd, to, n, (off_t)at);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) {
            if (r == 0) errno = EIO;
            return false;
        }
        to += r, at += (uint64_t)r, n -= (size_t)r;
    }
    return true;
}

static void complain(job *j, const pare_out_range *r, bool unreadable) {
    pthread_mutex_lock(&j->w->lock);
    if (unreadable) pare_fail_errno(&j->bad, j->w->place.final, "cannot read back what was written");
    else
        pare_fail(&j->bad, PARE_ERR_IO, j->w->place.final, name_of(j->w, r),
                  "reading back gave other bytes than were written: the disk or the memory is faulty, nothing was left "
                  "behind");
    pthread_mutex_unlock(&j->w->lock);
}

/* Ranges first[item] .. first[item + 1]: one large range, or neighbours that lie within one chunk of one file. */
static void compare(void *ctx, size_t item) {
    job *j = ctx;
    const pare_out_range *r = j->w->ranges + j->first[item], *end = j->w->ranges + j->first[item + 1];
    uint8_t *buf = j->buf + (size_t)pare_thread_index() * PARE_CHECKSUM_CHUNK;
    int fd = j->w->files[r->file].fd;
    uint64_t base = r->at, sum = 0;
    if (r->n > PARE_CHECKSUM_CHUNK) {
        for (uint64_t at = 0; at < r->n; at += PARE_CHECKSUM_CHUNK) {
            size_t n = r->n - at < PARE_CHECKSUM_CHUNK ? (size_t)(r->n - at) : PARE_CHECKSUM_CHUNK;
            if (!read_at(fd, buf, n, base + at)) {
                complain(j, r, true);
                return;
            }
            sum = pare_checksum(sum, buf, n);
        }
        if (sum != r->sum) complain(j, r, false);
        return;
    }
    if (!read_at(fd, buf, (size_t)(end[-1].at + end[-1].n - base), base)) {
        complain(j, r, true);
        return;
    }
    for (; r < end; r++)
        if (pare_checksum(0, buf + (r->at - base), (size_t)r->n) != r->sum) complain(j, r, false);
}

static size_t group(const pare_writer *w, size_t *first) {
    size_t n = 0;
    for (size_t i = 0; i < w->n_ranges; i++) {
        const pare_out_range *r = &w->ranges[i], *g = n ? &w->ranges[first[n - 1]] : NULL;
        if (!g || g->file != r->file || r->at + r->n - g->at > PARE_CHECKSUM_CHUNK) first[n++] = i;
    }
    first[n] = w->n_ranges;
    return n;
}

pare_status pare_writer_verify(pare_writer *w, pare_diag *d) {
    if (w->n_ranges) qsort(w->ranges, w->n_ranges, sizeof *w->ranges, by_place);
    PARE_TRY(check_complete(w, d));
    job j = {.w = w,
             .first = pare_malloc((w->n_ranges + 1) * sizeof *j.first),
             .buf = pare_malloc_aligned((size_t)pare_threads() * PARE_CHECKSUM_CHUNK)};
    if (!j.first || !j.buf)
        pare_fail(&j.bad, PARE_ERR_NOMEM, w->place.final, NULL, "no memory to read the output back");
    else pare_parallel(group(w, j.first), 1, compare, &j);
    pare_free(j.first);
    pare_free(j.buf);
    if (j.bad.code != PARE_OK && d && d->code == PARE_OK) *d = j.bad;
    return j.bad.code;
}
