/* SPDX-License-Identifier: Apache-2.0
 *
 * A recipe's JSON into options, by the tables of its kinds of steps. Nothing is guessed and nothing unknown is passed
 * over: what is wrong is named with its place, and an unknown word with the known one that is nearest. */
#include "api/recipe.h"

#include "core/status.h"
#include "formats/source_impl.h"
#include "verify/metrics.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_BYTES ((size_t)1 << 20)

typedef struct place {
    pare_recipe *r;
    char at[160]; /* "steps[1].tensor" */
} place;

static const pare_recipe_kind *const kinds[] = {
#define PARE_RECIPE_KIND(sym) &sym,
#include "api/recipe_kinds.def"
#undef PARE_RECIPE_KIND
};

const pare_recipe_kind *pare_recipe_kind_at(size_t i) { return i < sizeof kinds / sizeof *kinds ? kinds[i] : NULL; }

static pare_status nomem(const pare_recipe *r, pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, r->path, NULL, "no memory for the recipe");
}

static pare_status wrong(const place *p, const char *expected, pare_diag *d) {
    return pare_fail(d, PARE_ERR_INPUT, p->r->path, p->at, "%s was expected", expected);
}

static place below(const place *p, const char *name) {
    place q = {.r = p->r};
    snprintf(q.at, sizeof q.at, "%.80s%s%.70s", p->at, *p->at ? "." : "", name);
    return q;
}

static place item(const place *p, size_t i) {
    place q = {.r = p->r};
    snprintf(q.at, sizeof q.at, "%.140s[%u]", p->at, (unsigned)i);
    return q;
}

/* ---- words and their neighbours ---- */
static size_t distance(const char *a, const char *b) { /* Levenshtein, short strings */
    size_t n = strlen(b), row[64];
    if (n > 62) return 99;
    for (size_t j = 0; j <= n; j++) row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t diag = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            size_t best = diag + (a[i] != b[j]);
            diag = row[j + 1];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (diag + 1 < best) best = diag + 1;
            row[j + 1] = best;
        }
    }
    return row[n];
}

typedef struct words { /* the known ones, as they are seen */
    const char *wanted, *near;
    size_t best;
    char list[400];
} words;

static void known(words *w, const char *name) {
    size_t far = distance(w->wanted, name), n = strlen(w->list);
    if (far < w->best) w->best = far, w->near = name;
    snprintf(w->list + n, sizeof w->list - n, "%s%s", n ? ", " : "", name);
}

static pare_status unknown(const place *p, const char *what, const words *w, pare_diag *d) {
    if (w->best <= 3 && w->best < strlen(w->wanted))
        return pare_fail(d, PARE_ERR_INPUT, p->r->path, p->at, "there is no %s `%s`; did you mean `%s`?", what,
                         w->wanted, w->near);
    return pare_fail(d, PARE_ERR_INPUT, p->r->path, p->at, "there is no %s `%s`; there are %s", what, w->wanted,
                     w->list);
}

/* ---- values ---- */
const char *pare_recipe_path(const pare_recipe *r, const char *path) {
    if (*path == '/') return pare_arena_strndup(r->arena, path, strlen(path));
    size_t n = strlen(r->folder) + strlen(path) + 1;
    char *s = pare_arena_alloc(r->arena, n);
    if (s) snprintf(s, n, "%s%s", r->folder, path);
    return s;
}

static pare_status word(const place *p, json_t *v, bool path, const char **out, pare_diag *d) {
    const char *s = json_string_value(v);
    if (!s || !*s) return wrong(p, path ? "the name of a file" : "a word in quotes", d);
    *out = path ? pare_recipe_path(p->r, s) : pare_arena_strndup(p->r->arena, s, strlen(s));
    return *out ? PARE_OK : nomem(p->r, d);
}

static pare_status word_list(const place *p, json_t *v, const char *const **out, size_t *n, pare_diag *d) {
    size_t count = json_is_array(v) ? json_array_size(v) : 1;
    const char **list = pare_arena_alloc(p->r->arena, (count + 1) * sizeof *list);
    if (!list) return nomem(p->r, d);
    for (size_t i = 0; i < count; i++) {
        place q = item(p, i);
        PARE_TRY(word(json_is_array(v) ? &q : p, json_is_array(v) ? json_array_get(v, i) : v, false, &list[i], d));
    }
    *out = list, *n = count;
    return PARE_OK;
}

static pare_status byte_count(const place *p, json_t *v, uint64_t *out, pare_diag *d) {
    static const char letters[] = "KMG";
    char *end = "";
    const char *s = json_string_value(v);
    double x = s ? strtod(s, &end) : json_is_number(v) ? json_number_value(v) : -1;
    const char *unit = *end ? strchr(letters, *end & ~32) : NULL;
    for (const char *u = letters; unit && u <= unit; u++) x *= 1000;
    if (unit) end++;
    if (*end == 'B' || *end == 'b') end++;
    if (!(x > 0 && x < 1e18) || *end || (s && end == s)) return wrong(p, "a size (5000000 or \"5GB\")", d);
    *out = (uint64_t)x;
    return PARE_OK;
}

/* "max-kl", or "max-" and any metric. */
static pare_status gate(const place *p, const char *name, json_t *v, pare_gate *g, pare_diag *d) {
    const char *text;
    words w = {.wanted = name, .best = 99};
    bool bound = strncmp(name, "max-", 4) == 0 || strncmp(name, "min-", 4) == 0, found = false;
    for (size_t i = 0; !found && pare_gate_named(i, g, &text); i++)
        known(&w, g->name), found = strcmp(g->name, name) == 0;
    for (int i = 0; !found && bound && i < PARE_M_COUNT; i++) {
        const char *key = pare_metric_at(i)->key;
        if (strcmp(key, name + 4) == 0) *g = (pare_gate){NULL, key, name[1] == 'a', NAN}, found = true;
    }
    if (!found) return unknown(p, "gate", &w, d);
    if (!json_is_number(v)) return wrong(p, "a number", d);
    g->limit = json_number_value(v);
    g->name = pare_arena_strndup(p->r->arena, name, strlen(name));
    return g->name ? PARE_OK : nomem(p->r, d);
}

static pare_status gate_list(const place *p, json_t *v, const pare_gate **out, size_t *n, pare_diag *d) {
    if (!json_is_object(v)) return wrong(p, "an object of limits, {\"max-kl\": 0.05}", d);
    pare_gate *list = pare_arena_alloc(p->r->arena, (json_object_size(v) + 1) * sizeof *list);
    const char *name;
    json_t *limit;
    if (!list) return nomem(p->r, d);
    *out = list, *n = 0;
    json_object_foreach(v, name, limit) {
        place q = below(p, name);
        PARE_TRY(gate(&q, name, limit, &list[(*n)++], d));
    }
    return PARE_OK;
}

static pare_status value(const place *p, const pare_recipe_key *k, json_t *v, void *opts, pare_diag *d) {
    char *at = (char *)opts + k->at, *n_at = (char *)opts + k->n_at;
    switch (k->kind) {
    case 's': return word(p, v, false, (const char **)(void *)at, d);
    case 'p': return word(p, v, true, (const char **)(void *)at, d);
    case 'S': return word_list(p, v, (const char *const **)(void *)at, (size_t *)(void *)n_at, d);
    case 'g': return gate_list(p, v, (const pare_gate **)(void *)at, (size_t *)(void *)n_at, d);
    case 'z': return byte_count(p, v, (uint64_t *)(void *)at, d);
    case 'd':
        if (!json_is_number(v)) return wrong(p, "a number", d);
        *(double *)(void *)at = json_number_value(v);
        return PARE_OK;
    case 'i':
        if (!json_is_integer(v) || json_integer_value(v) < 1) return wrong(p, "a whole number from 1 on", d);
        *(int64_t *)(void *)at = json_integer_value(v);
        return PARE_OK;
    case 'b':
    case 't':
        if (!json_is_boolean(v)) return wrong(p, "true or false", d);
        if (k->kind == 'b') *(bool *)(void *)at = json_is_true(v);
        else *(int *)(void *)at = json_is_true(v) ? 1 : -1;
        return PARE_OK;
    }
    return pare_fail(d, PARE_ERR_INTERNAL, p->r->path, p->at, "a key of no kind");
}

/* Every entry of o by the table; `also` are those that the caller reads. */
static pare_status entries(const place *p, json_t *o, const pare_recipe_key *keys, size_t n, void *opts,
                           const char *const *also, pare_diag *d) {
    const char *name;
    json_t *v;
    json_object_foreach(o, name, v) {
        words w = {.wanted = name, .best = 99};
        size_t k = 0, a = 0;
        place q = below(p, name);
        while (also[a] && strcmp(also[a], name) != 0) a++;
        while (k < n && strcmp(keys[k].name, name) != 0) k++;
        if (also[a]) continue;
        if (k < n) {
            PARE_TRY(value(&q, &keys[k], v, opts, d));
            continue;
        }
        for (a = 0; also[a]; a++) known(&w, also[a]);
        for (k = 0; k < n; k++) known(&w, keys[k].name);
        return unknown(&q, "key", &w, d);
    }
    return PARE_OK;
}

/* ---- the whole ---- */
static pare_status step(const place *p, json_t *o, pare_recipe_step *s, pare_diag *d) {
    static const char *const also[] = {"do", NULL};
    if (!json_is_object(o)) return wrong(p, "an object, {\"do\": \"prune\", ...}", d);
    const char *name = json_string_value(json_object_get(o, "do"));
    place q = below(p, "do");
    words w = {.wanted = name ? name : "", .best = 99};
    for (size_t i = 0; pare_recipe_kind_at(i); i++) {
        known(&w, pare_recipe_kind_at(i)->name);
        if (name && strcmp(pare_recipe_kind_at(i)->name, name) == 0) s->kind = pare_recipe_kind_at(i);
    }
    if (!name)
        return pare_fail(d, PARE_ERR_INPUT, p->r->path, q.at, "every step says what it does; there are %s", w.list);
    if (!s->kind) return unknown(&q, "step", &w, d);
    s->json = o;
    if (!(s->opts = pare_arena_alloc(p->r->arena, s->kind->opts_bytes))) return nomem(p->r, d);
    if (s->kind->init) s->kind->init(s->opts);
    return entries(p, o, s->kind->keys, s->kind->n_keys, s->opts, also, d);
}

static pare_status steps(pare_recipe *r, pare_diag *d) {
    place p = {.r = r, .at = "steps"};
    json_t *list = json_object_get(r->json, "steps");
    size_t writers = 0;
    if (!json_is_array(list) || !json_array_size(list)) return wrong(&p, "a list of steps, in their order,", d);
    r->n = json_array_size(list);
    if (!(r->steps = pare_arena_alloc(r->arena, r->n * sizeof *r->steps))) return nomem(r, d);
    for (size_t i = 0; i < r->n; i++) {
        place q = item(&p, i);
        pare_recipe_step *s = &r->steps[i];
        PARE_TRY(step(&q, json_array_get(list, i), s, d));
        s->number = i;
        if (!s->kind->open && !writers)
            return pare_fail(d, PARE_ERR_INPUT, r->path, q.at,
                             "there is nothing to look at yet: a step before it must "
                             "write a model");
        writers += s->kind->open != NULL;
    }
    return PARE_OK;
}

static pare_status parse(pare_recipe *r, pare_diag *d) {
    char *text, at[64];
    size_t n;
    json_error_t e;
    PARE_TRY(pare_read_file(r->path, MAX_BYTES, &text, &n, d));
    r->json = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e);
    pare_free(text);
    snprintf(at, sizeof at, "line %d, column %d", e.line, e.column);
    if (!r->json) return pare_fail(d, PARE_ERR_INPUT, r->path, at, "not JSON: %s", e.text);
    if (!json_is_object(r->json)) return pare_fail(d, PARE_ERR_INPUT, r->path, NULL, "an object was expected");
    return PARE_OK;
}

#define KEY(name, kind, field)                                                                                         \
    { name, kind, offsetof(pare_recipe, field), 0, "" }
pare_status pare_recipe_read(pare_recipe *r, pare_diag *d) {
    static const char *const also[] = {"about", "calib", "steps", NULL}, *const none[] = {NULL};
    static const pare_recipe_key keys[] = {KEY("model", 'p', model),
                                           KEY("output", 'p', out),
                                           KEY("format", 's', format),
                                           KEY("layout", 's', layout),
                                           KEY("max_shard_size", 'z', max_shard_bytes),
                                           {"keep", 'S', offsetof(pare_recipe, keep), offsetof(pare_recipe, n_keep),
                                            ""}},
                                 calib[] = {KEY("text", 'p', calib), KEY("windows", 'i', calib_windows),
                                            KEY("ctx", 'i', calib_ctx)};
    place top = {.r = r}, in_calib = {.r = r, .at = "calib"};
    PARE_TRY(parse(r, d));
    PARE_TRY(entries(&top, r->json, keys, sizeof keys / sizeof *keys, r, also, d));
    json_t *c = json_object_get(r->json, "calib");
    if (c && !json_is_object(c)) return wrong(&in_calib, "an object, {\"text\": \"wiki.txt\", \"windows\": 64},", d);
    if (c) PARE_TRY(entries(&in_calib, c, calib, sizeof calib / sizeof *calib, r, none, d));
    return steps(r, d);
}
