/* SPDX-License-Identifier: Apache-2.0
 *
 * Small files for the tests of readers and writers: built byte by byte, written to a folder of their own. */
#ifndef PARE_TESTS_FILES_H
#define PARE_TESTS_FILES_H

#include "harness.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/source.h"

typedef struct bytes {
    unsigned char p[1 << 16];
    size_t n;
} bytes;

static inline void put(bytes *b, const void *p, size_t n) {
    assert_true(b->n + n <= sizeof b->p);
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
}
static inline void put8(bytes *b, uint8_t v) { put(b, &v, 1); }
static inline void put16(bytes *b, uint16_t v) { put(b, &v, 2); }
static inline void put32(bytes *b, uint32_t v) { put(b, &v, 4); }
static inline void put64(bytes *b, uint64_t v) { put(b, &v, 8); }
static inline void put_text(bytes *b, const char *s) { put(b, s, strlen(s)); }
static inline void put_zero(bytes *b, size_t n) {
    while (n--) put8(b, 0);
}

static char test_dir[64];
static inline int make_dir(void **state) {
    strcpy(test_dir, "/tmp/pare-test-XXXXXX");
    return mkdtemp(test_dir) ? 0 : -1;
}
static inline int remove_dir(void **state) {
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", test_dir);
    return system(cmd);
}
/* Path of a name in the test's folder; four may be in use at a time. */
static inline const char *at(const char *name) {
    static char path[4][256];
    static int k;
    k = (k + 1) % 4;
    snprintf(path[k], sizeof path[k], "%s/%s", test_dir, name);
    return path[k];
}
static inline const char *save(const char *name, const void *p, size_t n) {
    const char *path = at(name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return path;
}
static inline const char *save_text(const char *name, const char *text) { return save(name, text, strlen(text)); }

/* Opening fails with this status and a text that holds `says`. */
static inline void refuses(const char *path, pare_status want, const char *says) {
    pare_diag d = {0};
    pare_source *s;
    char line[1200];
    pare_status got = pare_source_open(path, &s, &d);
    if (got == PARE_OK) fail_msg("%s: accepted, expected: %s", path, says);
    assert_null(s);
    pare_diag_line(&d, line, sizeof line);
    if (got != want || d.code != got || !strstr(line, says))
        fail_msg("status %d: %s\nexpected status %d: %s", (int)got, line, (int)want, says);
    assert_true(d.file[0]);
}
static inline pare_source *opens(const char *path) {
    pare_diag d = {0};
    pare_source *s;
    char line[1200];
    if (pare_source_open(path, &s, &d) != PARE_OK) fail_msg("%s", pare_diag_line(&d, line, sizeof line));
    return s;
}
static inline pare_status open_close(void *path) { /* for harness_fail_every_alloc */
    pare_source *s;
    pare_diag d = {0};
    pare_status r = pare_source_open(path, &s, &d);
    if (r == PARE_OK) pare_source_close(&s);
    return r;
}

#endif
