/* SPDX-License-Identifier: Apache-2.0
 *
 * Decoder and post-processor of a tokenizer.json. The post-processor boils down to the ids put before and behind one
 * sequence; pairs are not built. */
#include "formats/tok_internal.h"

#include <jansson.h>

#define DEPTH_MAX 16

static pare_status nomem(pare_tokenizer *t, pare_diag *d) {
    return pare_fail(d, PARE_ERR_NOMEM, t->file, NULL, "out of memory");
}

static pare_status decoder_fields(pare_tokenizer *t, const json_t *o, tok_step *s, pare_diag *d) {
    switch (s->kind) {
    case TOK_D_WORDPIECE:
        s->clean = tok_json_bool(o, "cleanup", true);
        PARE_TRY(tok_json_str(t, o, "prefix", &s->a, d));
        if (!s->a.n) s->a = (pare_str){"##", 2};
        return PARE_OK;
    case TOK_D_META: {
        const char *scheme = json_string_value(json_object_get(o, "prepend_scheme"));
        bool never = scheme ? !strcmp(scheme, "never") : !tok_json_bool(o, "add_prefix_space", true);
        s->prepend = never ? TOK_NEVER : TOK_ALWAYS;
        PARE_TRY(tok_json_str(t, o, "replacement", &s->a, d));
        if (!s->a.n) s->a = (pare_str){TOK_META, 3};
        return PARE_OK;
    }
    case TOK_D_REPLACE: PARE_TRY(tok_json_pattern(t, o, s, d)); return tok_json_str(t, o, "content", &s->b, d);
    case TOK_D_STRIP:
        s->start = (int)json_integer_value(json_object_get(o, "start"));
        s->stop = (int)json_integer_value(json_object_get(o, "stop"));
        PARE_TRY(tok_json_str(t, o, "content", &s->a, d));
        for (size_t i = 0; s->stop && i + 1 < t->dec.n; i++)
            if (t->dec.v[i].kind == TOK_D_FUSE)
                return pare_fail(d, PARE_ERR_UNSUPPORTED, t->file, "decoder",
                                 "Strip at the end of fused text is not supported");
        return PARE_OK;
    case TOK_D_BPE:
        PARE_TRY(tok_json_str(t, o, "suffix", &s->a, d));
        if (!json_object_get(o, "suffix")) s->a = (pare_str){"</w>", 4};
        return PARE_OK;
    default: return PARE_OK;
    }
}

pare_status tok_load_decoder(pare_tokenizer *t, const json_t *o, int depth, pare_diag *d) {
    static const struct {
        const char *name;
        tok_kind kind;
    } kinds[] = {{"ByteLevel", TOK_D_BYTES},       {"WordPiece", TOK_D_WORDPIECE}, {"Metaspace", TOK_D_META},
                 {"ByteFallback", TOK_D_FALLBACK}, {"Fuse", TOK_D_FUSE},           {"Replace", TOK_D_REPLACE},
                 {"Strip", TOK_D_STRIP},           {"BPEDecoder", TOK_D_BPE}};
    if (!o || json_is_null(o)) return PARE_OK;
    const char *type = json_string_value(json_object_get(o, "type"));
    if (!type) return pare_fail(d, PARE_ERR_INPUT, t->file, "decoder", "has no type");
    if (depth > DEPTH_MAX) return pare_fail(d, PARE_ERR_INPUT, t->file, "decoder", "Sequences are nested too deep");
    if (!strcmp(type, "Sequence")) {
        const json_t *list = json_object_get(o, "decoders");
        if (!json_is_array(list))
            return pare_fail(d, PARE_ERR_INPUT, t->file, "decoder", "a Sequence needs a list of decoders");
        for (size_t i = 0; i < json_array_size(list); i++)
            PARE_TRY(tok_load_decoder(t, json_array_get(list, i), depth + 1, d));
        return PARE_OK;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(type, kinds[i].name)) {
            tok_step *s = tok_add_step(&t->dec, kinds[i].kind);
            return s ? decoder_fields(t, o, s, d) : nomem(t, d);
        }
    return pare_fail(d, PARE_ERR_UNSUPPORTED, t->file, "decoder", "decoder %s is not supported", type);
}

static pare_status wrap(pare_tokenizer *t, int32_t **v, size_t *n, const json_t *ids, bool front, pare_diag *d) {
    size_t k = json_array_size(ids);
    int32_t *w = pare_arena_alloc(t->arena, (*n + k + 1) * sizeof *w);
    if (!w) return nomem(t, d);
    if (*n) memcpy(front ? w + k : w, *v, *n * sizeof *w);
    for (size_t i = 0; i < k; i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || (uint64_t)json_integer_value(id) >= t->vocab.n)
            return pare_fail(d, PARE_ERR_INPUT, t->file, "post_processor", "names an id outside the vocabulary");
        w[(front ? 0 : *n) + i] = (int32_t)json_integer_value(id);
    }
    *v = w, *n += k;
    return PARE_OK;
}

/* "single": [{"SpecialToken": {"id": name}}, {"Sequence": {"id": "A"}}, ...]; names are explained in special_tokens. */
static pare_status template(pare_tokenizer *t, const json_t *o, pare_diag *d) {
    const json_t *single = json_object_get(o, "single"), *names = json_object_get(o, "special_tokens");
    if (!json_is_array(single))
        return pare_fail(d, PARE_ERR_INPUT, t->file, "post_processor", "TemplateProcessing needs a list named single");
    size_t n = json_array_size(single), text = n;
    for (size_t i = 0; i < n; i++)
        if (json_object_get(json_array_get(single, i), "Sequence")) {
            if (text < n)
                return pare_fail(d, PARE_ERR_UNSUPPORTED, t->file, "post_processor",
                                 "a template with the text twice is not supported");
            text = i;
        }
    if (text == n)
        return pare_fail(d, PARE_ERR_INPUT, t->file, "post_processor", "the template has no place for the text");
    for (size_t k = 0; k < n; k++) {
        bool front = k < text;
        size_t i = front ? text - 1 - k : k; /* outwards from the text */
        if (i == text) continue;
        const char *name =
            json_string_value(json_object_get(json_object_get(json_array_get(single, i), "SpecialToken"), "id"));
        const json_t *ids = name ? json_object_get(json_object_get(names, name), "ids") : NULL;
        if (!json_is_array(ids))
            return pare_fail(d, PARE_ERR_INPUT, t->file, "post_processor",
                             "a special token of the template is not explained");
        PARE_TRY(wrap(t, front ? &t->head : &t->tail, front ? &t->n_head : &t->n_tail, ids, front, d));
    }
    return PARE_OK;
}

/* BertProcessing and RobertaProcessing: "cls": ["[CLS]", 101], "sep": ["[SEP]", 102]. */
static pare_status bracket(pare_tokenizer *t, const json_t *o, pare_diag *d) {
    const json_t *cls = json_array_get(json_object_get(o, "cls"), 1),
                 *sep = json_array_get(json_object_get(o, "sep"), 1);
    json_t *a = json_array(), *b = json_array();
    pare_status s = PARE_OK;
    if (!a || !b || json_array_append(a, (json_t *)cls) || json_array_append(b, (json_t *)sep))
        s = pare_fail(d, PARE_ERR_INPUT, t->file, "post_processor", "expected cls and sep as [text, id]");
    if (s == PARE_OK) s = wrap(t, &t->head, &t->n_head, a, true, d);
    if (s == PARE_OK) s = wrap(t, &t->tail, &t->n_tail, b, false, d);
    json_decref(a);
    json_decref(b);
    return s;
}

pare_status tok_load_post(pare_tokenizer *t, const json_t *o, int depth, pare_diag *d) {
    if (!o || json_is_null(o)) return PARE_OK;
    const char *type = json_string_value(json_object_get(o, "type"));
    if (!type) return pare_fail(d, PARE_ERR_INPUT, t->file, "post_processor", "has no type");
    if (depth > DEPTH_MAX)
        return pare_fail(d, PARE_ERR_INPUT, t->file, "post_processor", "Sequences are nested too deep");
    if (!strcmp(type, "Sequence")) {
        const json_t *list = json_object_get(o, "processors");
        if (!json_is_array(list))
            return pare_fail(d, PARE_ERR_INPUT, t->file, "post_processor", "a Sequence needs a list of processors");
        for (size_t i = 0; i < json_array_size(list); i++)
            PARE_TRY(tok_load_post(t, json_array_get(list, i), depth + 1, d));
        return PARE_OK;
    }
    if (!strcmp(type, "TemplateProcessing")) return template(t, o, d);
    if (!strcmp(type, "BertProcessing") || !strcmp(type, "RobertaProcessing")) return bracket(t, o, d);
    if (!strcmp(type, "ByteLevel")) return PARE_OK; /* only trims offsets */
    return pare_fail(d, PARE_ERR_UNSUPPORTED, t->file, "post_processor", "post-processor %s is not supported", type);
}
