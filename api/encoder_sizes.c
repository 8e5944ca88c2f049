/* SPDX-License-Identifier: Apache-2.0
 *
 * Sizes in the small files beside a sentence encoder (api/encoder_sizes.h). */
#include "api/encoder_sizes.h"

#include "core/status.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static bool limits(const char *name) { return strcmp(name, "sentence_bert_config.json") == 0; }

static bool may_say(const char *name) {
    size_t n = strlen(name);
    return limits(name) || (n >= 12 && strcmp(name + n - 12, "/config.json") == 0);
}

bool pare_encoder_resize(const char *name, json_t *j, const pare_arch *was, const pare_arch *is) {
    static const char *const widths[] = {"word_embedding_dimension", "embedding_dimension"};
    bool any = false;
    for (int i = 0; j && !limits(name) && i < 2; i++) {
        json_t *v = json_object_get(j, widths[i]);
        if (json_is_integer(v) && json_integer_value(v) == was->dim && is->dim != was->dim)
            any |= json_integer_set(v, is->dim) == 0;
    }
    json_t *most = j && limits(name) ? json_object_get(j, "max_seq_length") : NULL;
    if (json_is_integer(most) && json_integer_value(most) > is->context && is->context < was->context)
        any |= json_integer_set(most, is->context) == 0;
    return any;
}

/* j's text if it changed, in the arena; takes j. NULL: as it was, or no memory. */
static const char *resized(pare_mapping *m, const char *name, json_t *j, const pare_arch *was, const pare_arch *is,
                           pare_status *st) {
    bool any = pare_encoder_resize(name, j, was, is);
    char *text = any ? json_dumps(j, JSON_INDENT(1)) : NULL;
    const char *copy = text ? pare_arena_strndup(m->arena, text, strlen(text)) : NULL;
    if (any && !copy) *st = PARE_ERR_NOMEM;
    free(text); /* jansson's */
    json_decref(j);
    return copy;
}

pare_status pare_encoder_resize_all(pare_mapping *m, const char *folder, const pare_arch *was, const pare_arch *is,
                                    pare_diag *d) {
    pare_status st = PARE_OK;
    size_t n_files = 0, n_copies = 0;
    pare_out_file *files = pare_arena_alloc(m->arena, (m->n_files + m->n_copies + 1) * sizeof *files);
    const char **copies = pare_arena_alloc(m->arena, (m->n_copies + 1) * sizeof *copies);
    if (!files || !copies) st = PARE_ERR_NOMEM;
    for (size_t i = 0; st == PARE_OK && i < m->n_files; i++) {
        pare_out_file f = m->files[i];
        json_t *j = may_say(f.name) ? json_loadb(f.bytes, f.n_bytes, 0, NULL) : NULL;
        const char *text = resized(m, f.name, j, was, is, &st);
        files[n_files++] = text ? (pare_out_file){f.name, text, strlen(text)} : f;
    }
    for (size_t i = 0; st == PARE_OK && i < m->n_copies; i++) {
        const char *name = m->copies[i];
        char *path = may_say(name) ? pare_sprintf("%s/%s", folder, name) : NULL;
        json_t *j = path ? json_load_file(path, JSON_REJECT_DUPLICATES, NULL) : NULL;
        const char *text = resized(m, name, j, was, is, &st);
        pare_free(path);
        if (text) files[n_files++] = (pare_out_file){name, text, strlen(text)};
        else copies[n_copies++] = name;
    }
    if (st != PARE_OK) return pare_fail(d, st, NULL, "configuration", "no memory for the small files");
    m->files = files, m->n_files = n_files;
    m->copies = copies, m->n_copies = n_copies;
    return PARE_OK;
}
