/* SPDX-License-Identifier: Apache-2.0
 *
 * The folder OUT.pare-steps: models between two steps, and state.json, which says what is finished. A step is found
 * again when everything that its result depends on is the same: the model's files, its own options and those of the
 * steps before, the bytes of every text; and when its files are those that it wrote. */
#include "api/recipe.h"

#include "api/verify_impl.h"
#include "core/log.h"
#include "core/status.h"
#include "formats/checksum.h"
#include "formats/out_place.h"
#include "formats/source_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_BYTES ((size_t)64 << 20)

static pare_status nomem(const pare_recipe *r, pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, r->path, NULL, "no memory for the recipe");
}

/* ---- keys ---- */
static uint64_t add(uint64_t sum, const char *s) { return pare_checksum(sum, s ? s : "", s ? strlen(s) + 1 : 1); }

static pare_status add_file(const char *path, uint64_t *sum, pare_diag *d) {
    pare_verify_data data;
    if (!path) return PARE_OK;
    PARE_TRY(pare_verify_data_open(path, false, &data, d));
    *sum = pare_checksum(*sum, data.bytes, data.n_bytes);
    pare_verify_data_close(&data);
    return PARE_OK;
}

static pare_status shared(const pare_recipe *r, uint64_t *sum, pare_diag *d) {
    pare_source *src;
    PARE_TRY(pare_source_open(r->model, &src, d));
    pare_status s = pare_source_sum(src, sum, d);
    pare_source_close(&src);
    PARE_TRY(s);
    *sum = add(*sum, PARE_VERSION);
    const int64_t calib[2] = {r->calib_ctx, r->calib_windows};
    *sum = pare_checksum(*sum, calib, sizeof calib);
    for (size_t i = 0; i < r->n_keep; i++) *sum = add(*sum, r->keep[i]);
    return add_file(r->calib, sum, d);
}

static pare_status step_key(const pare_recipe *r, pare_recipe_step *s, uint64_t before, pare_diag *d) {
    char *text = json_dumps(s->json, JSON_COMPACT | JSON_SORT_KEYS);
    if (!text) return nomem(r, d);
    s->key = add(before, text);
    free(text); /* jansson's */
    const uint64_t more[2] = {s->sparse, s->last ? r->max_shard_bytes : 0};
    s->key = pare_checksum(s->key, more, sizeof more);
    if (s->last) s->key = add(add(s->key, r->format), r->layout);
    for (size_t k = 0; k < s->kind->n_keys; k++) {
        const pare_recipe_key *key = &s->kind->keys[k];
        if (key->kind == 'p') PARE_TRY(add_file(*(char *const *)(void *)((char *)s->opts + key->at), &s->key, d));
    }
    return PARE_OK;
}

pare_status pare_recipe_keys(pare_recipe *r, pare_diag *d) {
    uint64_t before = 0;
    PARE_TRY(shared(r, &before, d));
    for (size_t i = 0; i < r->n; i++) {
        PARE_TRY(step_key(r, &r->steps[i], before, d));
        if (r->steps[i].out) before = r->steps[i].key;
    }
    return PARE_OK;
}

/* ---- state.json ---- */
static char *state_path(const pare_recipe *r) { return pare_sprintf("%s/state.json", r->steps_folder); }

static pare_status files_sum(const char *model, uint64_t *sum, pare_diag *d) {
    pare_source *src;
    *sum = 0;
    PARE_TRY(pare_source_open(model, &src, d));
    pare_status s = pare_source_sum(src, sum, d);
    pare_source_close(&src);
    return s;
}

static uint64_t number(const json_t *entry, const char *key) {
    const char *s = json_string_value(json_object_get(entry, key));
    return s ? strtoull(s, NULL, 16) : 0;
}

/* What the earlier run said of this step, if it holds. */
static pare_status find(pare_recipe *r, pare_recipe_step *s, const json_t *entry, pare_diag *d) {
    uint64_t sum = 0;
    pare_diag why = {0};
    if (!entry || number(entry, "key") != s->key || (!s->out && r->again)) return PARE_OK;
    pare_status looked = s->out ? files_sum(s->out, &sum, &why) : PARE_OK;
    if (looked == PARE_ERR_NOMEM) return nomem(r, d);
    if (looked != PARE_OK || (s->out && sum != number(entry, "files"))) return PARE_OK;
    const char *note = json_string_value(json_object_get(entry, "note"));
    if (note && !(s->note = pare_arena_strndup(r->arena, note, strlen(note)))) return nomem(r, d);
    s->n_failed = (size_t)json_integer_value(json_object_get(entry, "failed"));
    s->seconds = json_number_value(json_object_get(entry, "seconds"));
    s->done = s->reused = true;
    return PARE_OK;
}

pare_status pare_recipe_find_finished(pare_recipe *r, pare_diag *d) {
    char *path = state_path(r), *text = NULL;
    size_t n;
    pare_diag why = {0};
    if (!path) return nomem(r, d);
    bool there = access(path, F_OK) == 0 && pare_read_file(path, STATE_BYTES, &text, &n, &why) == PARE_OK;
    if (why.code == PARE_ERR_NOMEM) {
        pare_free(path);
        return nomem(r, d);
    }
    json_t *j = there ? json_loadb(text, n, 0, NULL) : NULL, *list = json_object_get(j, "steps");
    if (there && !j) pare_log(PARE_LOG_WARN, "%s cannot be read: the steps are done again", path);
    pare_free(text);
    pare_free(path);
    pare_status s = PARE_OK;
    for (size_t i = 0; s == PARE_OK && i < r->n; i++) {
        s = find(r, &r->steps[i], json_array_get(list, i), d);
        if (r->steps[i].out && !r->steps[i].done) break; /* what comes after it is done again, too */
    }
    json_decref(j);
    return s;
}

static json_t *entry_of(const pare_recipe_step *s, pare_status *status, pare_diag *d) {
    char key[20], files[20];
    uint64_t sum = 0;
    if (!s->done) return json_null();
    if (s->out) *status = files_sum(s->out, &sum, d);
    snprintf(key, sizeof key, "%016llx", (unsigned long long)s->key);
    snprintf(files, sizeof files, "%016llx", (unsigned long long)sum);
    return json_pack("{s:s, s:s, s:s, s:I, s:f, s:s?}", "do", s->kind->name, "key", key, "files", files, "failed",
                     (json_int_t)s->n_failed, "seconds", s->seconds, "note", s->note);
}

pare_status pare_recipe_save(const pare_recipe *r, pare_diag *d) {
    json_t *list = json_array();
    pare_status s = PARE_OK;
    for (size_t i = 0; s == PARE_OK && i < r->n; i++) json_array_append_new(list, entry_of(&r->steps[i], &s, d));
    json_t *j = json_pack("{s:s, s:o}", "pare", PARE_VERSION, "steps", list);
    char *text = j ? json_dumps(j, JSON_INDENT(1)) : NULL, *path = state_path(r);
    if (s == PARE_OK && (!text || !path)) s = nomem(r, d);
    if (s == PARE_OK) s = pare_write_file_atomic(path, text, strlen(text), d);
    free(text); /* jansson's */
    json_decref(j);
    pare_free(path);
    return s;
}

/* ---- the folder ---- */
/* Ours: it has a state, or nothing. */
static bool is_ours(const pare_recipe *r) {
    size_t n = 0;
    bool state = false;
    DIR *f = opendir(r->steps_folder);
    for (struct dirent *e; f && (e = readdir(f));) {
        state |= strcmp(e->d_name, "state.json") == 0;
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    }
    if (f) closedir(f);
    return f && (state || !n);
}

pare_status pare_recipe_enter(pare_recipe *r, pare_diag *d) {
    if (r->lock >= 0) return PARE_OK;
    if (mkdir(r->steps_folder, 0777) != 0 && errno != EEXIST)
        return pare_fail_errno(d, r->steps_folder, "the folder for the steps cannot be created");
    if (!is_ours(r))
        return pare_fail(d, PARE_ERR_EXISTS, r->steps_folder, NULL,
                         "exists and holds no steps of a recipe; move it away, or choose another output");
    r->lock = open(r->steps_folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (r->lock < 0) return pare_fail_errno(d, r->steps_folder, "the folder for the steps cannot be opened");
    if (flock(r->lock, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return pare_fail(d, PARE_ERR_EXISTS, r->steps_folder, NULL, "another run is working on this output");
    return pare_recipe_save(r, d);
}

void pare_recipe_leave(pare_recipe *r) {
    if (r->lock >= 0) close(r->lock);
    r->lock = -1;
}
