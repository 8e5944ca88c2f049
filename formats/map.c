/* SPDX-License-Identifier: Apache-2.0
 *
 * Files in: mapped whole, or read whole when small; and strict JSON from either. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/source_impl.h"

/* Deep enough for any configuration, small enough that a parser's recursion stays far from the stack's end. */
#define MAX_JSON_FILE ((size_t)256 << 20)

/* Opens a regular file; O_NONBLOCK so that a FIFO in its place cannot hang us. */
static pare_status open_regular(const char *path, int *fd, size_t *n, pare_diag *d) {
    struct stat st;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) return pare_fail_errno(d, path, "cannot open");
    if (fstat(*fd, &st) != 0) {
        pare_status s = pare_fail_errno(d, path, "cannot stat");
        close(*fd);
        return s;
    }
    if (S_ISREG(st.st_mode)) {
        *n = (size_t)st.st_size;
        return PARE_OK;
    }
    close(*fd);
    return pare_fail(d, PARE_ERR_INPUT, path, NULL, "expected a regular file, found a %s",
                     S_ISDIR(st.st_mode) ? "folder" : "device, pipe or socket");
}

pare_status pare_map_file(const char *path, pare_map *out, pare_diag *d) {
    int fd;
    size_t n = 0;
    *out = (pare_map){0};
    PARE_TRY(open_regular(path, &fd, &n, d));
    if (n == 0) {
        close(fd);
        return pare_fail(d, PARE_ERR_INPUT, path, NULL, "the file is empty; was a download or copy cut off?");
    }
    void *p = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, 0);
    pare_status s = p == MAP_FAILED ? pare_fail_errno(d, path, "cannot map") : PARE_OK;
    close(fd);
    if (s == PARE_OK) *out = (pare_map){p, n};
    return s;
}

void pare_map_close(pare_map *m) {
    if (m->p) munmap((void *)m->p, m->n);
    *m = (pare_map){0};
}

pare_status pare_read_file(const char *path, size_t max_bytes, char **bytes, size_t *n, pare_diag *d) {
    int fd;
    size_t size = 0, got = 0;
    *bytes = NULL;
    PARE_TRY(open_regular(path, &fd, &size, d));
    pare_status s = PARE_OK;
    char *buf = NULL;
    if (size > max_bytes)
        s = pare_fail(d, PARE_ERR_INPUT, path, NULL, "%zu bytes, expected at most %zu for such a file", size,
                      max_bytes);
    else if (!(buf = pare_malloc(size + 1)))
        s = pare_fail(d, PARE_ERR_NOMEM, path, NULL, "no memory for %zu bytes", size);
    while (s == PARE_OK && got < size) {
        ssize_t r = read(fd, buf + got, size - got);
        if (r > 0) got += (size_t)r;
        else if (r == 0) s = pare_fail(d, PARE_ERR_INPUT, path, NULL, "the file shrank while it was read");
        else if (errno != EINTR) s = pare_fail_errno(d, path, "cannot read");
    }
    close(fd);
    if (s != PARE_OK) {
        pare_free(buf);
        return s;
    }
    buf[size] = 0;
    *bytes = buf;
    *n = size;
    return PARE_OK;
}

pare_status pare_json_parse(const char *text, size_t n, const char *file, size_t base, json_t **out, pare_diag *d) {
    json_error_t e;
    *out = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
    char where[64];
    if (!*out) {
        if (json_error_code(&e) == json_error_out_of_memory || !*e.text) /* it names most of its failures, not these */
            return pare_fail(d, PARE_ERR_NOMEM, file, NULL, "no memory for %zu bytes of JSON", n);
        snprintf(where, sizeof where, "byte %zu", base + (e.position > 0 ? (size_t)e.position : 0));
        return pare_fail(d, PARE_ERR_INPUT, file, where, "not valid JSON: %s", e.text);
    }
    if (json_is_object(*out)) return PARE_OK;
    json_decref(*out);
    *out = NULL;
    snprintf(where, sizeof where, "byte %zu", base);
    return pare_fail(d, PARE_ERR_INPUT, file, where, "expected a JSON object");
}

pare_status pare_json_load(const char *path, json_t **out, pare_diag *d) {
    char *text;
    size_t n = 0;
    PARE_TRY(pare_read_file(path, MAX_JSON_FILE, &text, &n, d));
    pare_status s = pare_json_parse(text, n, path, 0, out, d);
    pare_free(text);
    return s;
}

bool pare_utf8_valid(const char *text, size_t n) {
    const uint8_t *s = (const uint8_t *)text, *end = s + n;
    while (s < end) {
        if (*s == 0) return false;
        if (*s < 0x80) {
            s++;
            continue;
        }
        int more = *s >= 0xF0 ? 3 : *s >= 0xE0 ? 2 : 1;
        if (*s < 0xC2 || *s > 0xF4 || end - s <= more) return false;
        uint32_t c = *s & (0x3Fu >> more);
        for (int i = 1; i <= more; i++) {
            if ((s[i] & 0xC0) != 0x80) return false;
            c = c << 6 | (s[i] & 0x3Fu);
        }
        if ((more == 2 && (c < 0x800 || (c >= 0xD800 && c < 0xE000))) || (more == 3 && (c < 0x10000 || c > 0x10FFFF)))
            return false;
        s += more + 1;
    }
    return true;
}
