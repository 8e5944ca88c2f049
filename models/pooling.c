/* SPDX-License-Identifier: Apache-2.0
 *
 * How a sentence-transformers folder turns token vectors into one embedding: modules.json names a Pooling module, whose
 * folder has config.json, and maybe a Normalize module. Only small files beside the weights are read. */
#include "models/arch_read.h"

#include "core/alloc.h"
#include "core/status.h"

#include <jansson.h>
#include <string.h>
#include <unistd.h>

static bool ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

/* NULL with status PARE_OK: there is no such file. */
static json_t *load(const pare_source *s, const char *dir, const char *name, pare_status *status, pare_diag *d) {
    char *path = pare_sprintf("%s/%s%s%s", s->path, dir, *dir ? "/" : "", name);
    *status = path ? PARE_OK : PARE_ERR_NOMEM;
    if (!path) return NULL;
    json_error_t e;
    json_t *j = NULL;
    if (access(path, F_OK) == 0) {
        j = json_load_file(path, JSON_REJECT_DUPLICATES, &e);
        if (!j) *status = pare_fail(d, PARE_ERR_INPUT, path, NULL, "not valid JSON: %s (line %d)", e.text, e.line);
    }
    pare_free(path);
    return j;
}

static int mode_by_name(const char *w) {
    return strcmp(w, "mean") == 0 ? 1 : strcmp(w, "cls") == 0 ? 2 : strcmp(w, "lasttoken") == 0 ? 3 : -1;
}

/* pooling_mode (a word, since sentence-transformers 5) or one of the older pooling_mode_X booleans. */
static int mode_of(const json_t *c) {
    const char *w = json_string_value(json_object_get(c, "pooling_mode"));
    if (w) return mode_by_name(w);
    static const struct {
        const char *key;
        int mode;
    } keys[] = {{"pooling_mode_mean_tokens", 1},
                {"pooling_mode_cls_token", 2},
                {"pooling_mode_lasttoken", 3},
                {"pooling_mode_max_tokens", -1},
                {"pooling_mode_mean_sqrt_len_tokens", -1},
                {"pooling_mode_weightedmean_tokens", -1}};
    int mode = 0, on = 0;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (json_is_true(json_object_get(c, keys[i].key))) mode = keys[i].mode, on++;
    return on > 1 ? -1 : on ? mode : 1;
}

static pare_status read_module(const pare_source *s, const char *dir, pare_arch *a, pare_diag *d) {
    if (strstr(dir, "..") || dir[0] == '/')
        return pare_fail(d, PARE_ERR_INPUT, s->path, "modules.json", "the path `%s` leaves the folder", dir);
    pare_status st;
    json_t *c = load(s, dir, "config.json", &st, d);
    if (!c) return st;
    int mode = mode_of(c);
    json_decref(c);
    if (mode < 0)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, s->path, dir, "only mean, cls and last-token pooling are supported");
    a->pooling = mode;
    return PARE_OK;
}

pare_status pare_arch_read_pooling(const pare_source *s, pare_arch *a, pare_diag *d) {
    if (s->kind != PARE_SOURCE_FOLDER) return PARE_OK;
    pare_status st;
    json_t *mods = load(s, "", "modules.json", &st, d), *m;
    if (st != PARE_OK) return st;
    if (!mods) return read_module(s, "1_Pooling", a, d);
    size_t i;
    json_array_foreach(mods, i, m) {
        const char *type = json_string_value(json_object_get(m, "type")),
                   *dir = json_string_value(json_object_get(m, "path"));
        if (!type) continue;
        if (ends_with(type, ".Pooling") && dir) st = read_module(s, dir, a, d);
        else if (ends_with(type, ".Normalize")) a->normalize = true;
        else if (!ends_with(type, ".Transformer"))
            st = pare_fail(d, PARE_ERR_UNSUPPORTED, s->path, "modules.json",
                           "module `%s` is not supported; Transformer, "
                           "Pooling and Normalize are",
                           type);
        if (st != PARE_OK) break;
    }
    json_decref(mods);
    return st;
}
