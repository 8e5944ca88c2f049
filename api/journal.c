/* SPDX-License-Identifier: Apache-2.0
 *
 * The journal (api/journal.h): a locked file, every record mapped by itself. A record's head is written after its rows,
 * so that a process killed in between leaves no valid head; against a failing machine there are the sums. */
#include "api/journal.h"

#include "core/alloc.h"
#include "core/log.h"
#include "core/status.h"
#include "core/team.h"
#include "formats/checksum.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE      ((size_t)4096)
#define MAX_NAME  ((size_t)1024) /* name and note share the first page with the head */
#define MAX_NOTE  ((size_t)1024)
#define MAX_BYTES ((uint64_t)1 << 46)

typedef struct file_head {
    char magic[16];
    uint64_t key[3], sum;
} file_head;

typedef struct record_head {
    char magic[8];
    uint64_t name_bytes, note_bytes, rows_bytes, body_sum, sum;
} record_head;

typedef struct record {
    uint8_t *map;
    size_t bytes; /* of the mapping: a multiple of PAGE */
} record;

struct pare_journal {
    char *path;
    int fd;
    record *v;
    size_t n, cap, next; /* records; v[next] is the one to be taken next */
    uint64_t end;        /* where the next record goes */
    bool loaded, open_record, removed;
};

static const char magic[16] = "pare-journal 1\n", record_magic[8] = {'P', 'A', 'R', 'E', '-', 'R', 'E', 'C'};

static size_t pages(size_t n) { return (n + PAGE - 1) / PAGE * PAGE; }

static record_head head_of(const record *r) {
    record_head h;
    memcpy(&h, r->map, sizeof h);
    return h;
}

static uint64_t sum_of(const record *r, const record_head *h) {
    uint64_t sum = pare_checksum(0, r->map + sizeof *h, h->name_bytes + h->note_bytes);
    return pare_checksum(sum, r->map + PAGE, h->rows_bytes);
}

static bool head_good(const record_head *h) {
    return memcmp(h->magic, record_magic, sizeof h->magic) == 0 &&
           h->sum == pare_checksum(0, h, offsetof(record_head, sum)) && h->name_bytes <= MAX_NAME &&
           h->note_bytes <= MAX_NOTE && h->rows_bytes <= MAX_BYTES;
}

/* The record at j->end, or false when there is no whole one. */
static bool read_record(pare_journal *j, uint64_t file_bytes, record *r) {
    record_head h;
    if (pread(j->fd, &h, sizeof h, (off_t)j->end) != (ssize_t)sizeof h || !head_good(&h)) return false;
    size_t bytes = PAGE + pages(h.rows_bytes);
    if (bytes > file_bytes - j->end) return false;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, j->fd, (off_t)j->end);
    if (p == MAP_FAILED) return false;
    *r = (record){p, bytes};
    bool good = sum_of(r, &h) == h.body_sum;
    if (good) madvise(p, bytes, MADV_DONTNEED);
    else munmap(p, bytes);
    return good;
}

static pare_status read_all(pare_journal *j, uint64_t file_bytes, pare_diag *d) {
    record r;
    j->end = PAGE;
    while (j->end < file_bytes && read_record(j, file_bytes, &r)) {
        if (pare_grow((void **)&j->v, &j->cap, j->n + 1, sizeof *j->v) != PARE_OK) {
            munmap(r.map, r.bytes);
            return pare_fail(d, PARE_ERR_NOMEM, j->path, NULL, "no memory for the journal");
        }
        j->v[j->n++] = r;
        j->end += r.bytes;
    }
    if (j->end < file_bytes)
        pare_log(PARE_LOG_WARN, "%s: damaged or cut short after %zu records; the work goes on from there", j->path,
                 j->n);
    return PARE_OK;
}

static pare_status begin(pare_journal *j, const pare_journal_key *key, pare_diag *d) {
    file_head h = {.key = {key->model, key->options, key->data}};
    memcpy(h.magic, magic, sizeof h.magic);
    h.sum = pare_checksum(0, &h, offsetof(file_head, sum));
    j->end = PAGE;
    if (ftruncate(j->fd, 0) != 0 || ftruncate(j->fd, (off_t)PAGE) != 0 ||
        pwrite(j->fd, &h, sizeof h, 0) != (ssize_t)sizeof h)
        return pare_fail_errno(d, j->path, "the journal cannot be written");
    return PARE_OK;
}

static const char *difference(const file_head *h, const pare_journal_key *key) {
    if (h->key[0] != key->model) return "is of another model";
    if (h->key[1] != key->options) return "is of a run with other options";
    return h->key[2] != key->data ? "is of a run with other calibration data" : NULL;
}

static pare_status load(pare_journal *j, const pare_journal_key *key, bool force, pare_diag *d) {
    struct stat st;
    file_head h;
    if (fstat(j->fd, &st) != 0) return pare_fail_errno(d, j->path, "the journal cannot be read");
    if (st.st_size == 0) return begin(j, key, d);
    const char *why = pread(j->fd, &h, sizeof h, 0) == (ssize_t)sizeof h && memcmp(h.magic, magic, 16) == 0 &&
                              h.sum == pare_checksum(0, &h, offsetof(file_head, sum))
                          ? difference(&h, key)
                          : "is no journal of this version";
    if (!why) return read_all(j, (uint64_t)st.st_size, d);
    if (!force)
        return pare_fail(d, PARE_ERR_EXISTS, j->path, NULL,
                         "this file, left by an interrupted run, %s; remove it, or replace it with --force", why);
    pare_log(PARE_LOG_INFO, "%s: replaced; it %s", j->path, why + 3);
    return begin(j, key, d);
}

pare_status pare_journal_open(const char *out_path, const pare_journal_key *key, bool force, pare_journal **out,
                              pare_diag *d) {
    size_t n = strlen(out_path);
    while (n > 1 && out_path[n - 1] == '/') n--;
    pare_journal *j = *out = pare_calloc(1, sizeof *j);
    if (!j || !(j->path = pare_sprintf("%.*s.pare-journal", (int)n, out_path))) {
        pare_free(j);
        *out = NULL;
        return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for the journal");
    }
    j->fd = open(j->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    pare_status s = j->fd < 0 ? pare_fail_errno(d, j->path, "the journal cannot be opened") : PARE_OK;
    if (s == PARE_OK && flock(j->fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        s = pare_fail(d, PARE_ERR_EXISTS, j->path, NULL, "another run is working on this output");
        close(j->fd);
        j->fd = -1;
    }
    if (s == PARE_OK) s = load(j, key, force, d);
    j->loaded = s == PARE_OK;
    if (s != PARE_OK) pare_journal_close(out);
    return s;
}

void pare_journal_close(pare_journal **jp) {
    pare_journal *j = jp ? *jp : NULL;
    if (!j) return;
    size_t whole = j->open_record ? j->n - 1 : j->n, half = j->open_record ? j->v[whole].bytes : 0;
    for (size_t i = 0; i < j->n; i++) munmap(j->v[i].map, j->v[i].bytes);
    if (j->fd >= 0) {
        if (j->open_record && ftruncate(j->fd, (off_t)(j->end - half)) != 0)
            pare_log(PARE_LOG_WARN, "%s: the unfinished end stays", j->path);
        if (j->removed || (j->loaded && !whole)) unlink(j->path);
        else if (whole)
            pare_log(PARE_LOG_INFO, "%s holds %zu finished matrices; the same command goes on from there", j->path,
                     whole);
        close(j->fd);
    }
    pare_free(j->v);
    pare_free(j->path);
    pare_free(j);
    *jp = NULL;
}

void pare_journal_remove(pare_journal *j) { j->removed = true; }

bool pare_journal_has(const pare_journal *j, size_t ahead, const char *name, size_t note_bytes, size_t rows_bytes) {
    if (j->next + ahead >= j->n) return false;
    const record *r = &j->v[j->next + ahead];
    record_head h = head_of(r);
    return h.name_bytes == strlen(name) && memcmp(r->map + sizeof h, name, h.name_bytes) == 0 &&
           h.note_bytes == note_bytes && h.rows_bytes == rows_bytes;
}

void *pare_journal_take(pare_journal *j, void *note, size_t note_bytes) {
    const record *r = &j->v[j->next++];
    record_head h = head_of(r);
    if (note_bytes) memcpy(note, r->map + sizeof h + h.name_bytes, note_bytes);
    return r->map + PAGE;
}

/* Records that were not taken do not belong to what comes now. */
static void forget(pare_journal *j) {
    while (j->n > j->next) {
        record *r = &j->v[--j->n];
        j->end -= r->bytes;
        munmap(r->map, r->bytes);
    }
}

/* A mapped place for one more record, at the end. */
static pare_status append(pare_journal *j, size_t bytes, pare_diag *d) {
    if (pare_grow((void **)&j->v, &j->cap, j->n + 1, sizeof *j->v) != PARE_OK)
        return pare_fail(d, PARE_ERR_NOMEM, j->path, NULL, "no memory for the journal");
    int err = ftruncate(j->fd, (off_t)j->end) != 0 ? errno : posix_fallocate(j->fd, (off_t)j->end, (off_t)bytes);
    void *p = err ? MAP_FAILED : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, j->fd, (off_t)j->end);
    if (p == MAP_FAILED) {
        if (err) errno = err;
        return pare_fail_errno(d, j->path, "no room for the next matrix in the journal");
    }
    j->v[j->n++] = (record){p, bytes};
    j->end += bytes;
    return PARE_OK;
}

pare_status pare_journal_room(pare_journal *j, const char *name, size_t note_bytes, size_t rows_bytes, void **rows,
                              pare_diag *d) {
    size_t name_bytes = strlen(name), bytes = PAGE + pages(rows_bytes);
    if (name_bytes > MAX_NAME || note_bytes > MAX_NOTE)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, j->path, NULL,
                         "a tensor's name has %zu bytes, too many for a journal", name_bytes);
    forget(j);
    PARE_TRY(append(j, bytes, d));
    void *p = j->v[j->n - 1].map;
    j->next = j->n;
    j->open_record = true;
    record_head h = {.name_bytes = name_bytes, .note_bytes = note_bytes, .rows_bytes = rows_bytes};
    memcpy(p, &h, sizeof h); /* without magic: not valid yet */
    memcpy((uint8_t *)p + sizeof h, name, name_bytes);
    *rows = (uint8_t *)p + PAGE;
    return PARE_OK;
}

void pare_journal_seal(pare_journal *j, const void *note) {
    record *r = &j->v[j->n - 1];
    record_head h = head_of(r);
    if (h.note_bytes) memcpy(r->map + sizeof h + h.name_bytes, note, h.note_bytes);
    memcpy(h.magic, record_magic, sizeof h.magic);
    h.body_sum = sum_of(r, &h);
    h.sum = pare_checksum(0, &h, offsetof(record_head, sum));
    memcpy(r->map, &h, sizeof h);
    j->open_record = false;
}

/* A file without a name. */
static pare_status open_private(pare_journal **out, pare_diag *d) {
    const char *tmp = getenv("TMPDIR");
    pare_journal *j = *out = pare_calloc(1, sizeof *j);
    if (!j || !(j->path = pare_sprintf("%s/pare-journal-XXXXXX", tmp && *tmp ? tmp : "/tmp"))) {
        pare_free(j);
        *out = NULL;
        return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "no memory for the journal");
    }
    j->end = PAGE, j->removed = true;
    if ((j->fd = mkstemp(j->path)) < 0) {
        pare_status s = pare_fail_errno(d, j->path, "the journal cannot be opened");
        pare_journal_close(out);
        return s;
    }
    unlink(j->path);
    return PARE_OK;
}

pare_status pare_journal_share(pare_journal **jp, pare_diag *d) {
    PARE_TRY(pare_team_agree(*jp ? PARE_OK : open_private(jp, d), d));
    pare_journal *j = *jp;
    uint64_t n = j->n, bytes = 0;
    pare_team_broadcast(&n, sizeof n);
    for (uint64_t i = 0; i < n; i++) {
        pare_status s = PARE_OK;
        if (i < j->n) bytes = j->v[i].bytes; /* process 0 */
        pare_team_broadcast(&bytes, sizeof bytes);
        if (i == j->n) s = append(j, bytes, d);
        PARE_TRY(pare_team_agree(s, d));
        pare_team_broadcast(j->v[i].map, bytes);
    }
    return PARE_OK;
}

void pare_journal_release(const pare_journal *j, const void *rows, size_t bytes) {
    uintptr_t a = ((uintptr_t)rows + PAGE - 1) / PAGE * PAGE, b = ((uintptr_t)rows + bytes) / PAGE * PAGE;
    if (b > a) madvise((void *)a, b - a, MADV_DONTNEED); /* shared mapping: the file's pages stay as they are */
}

size_t pare_journal_waiting(const pare_journal *j) { return j->n - j->next; }
const char *pare_journal_path(const pare_journal *j) { return j->path; }
