/* SPDX-License-Identifier: Apache-2.0
 *
 * What tokenizer_config.json and config.json add to a tokenizer.json: the ids of bos, eos, ..., and whether the first
 * two are put around a text. Names in tokenizer_config.json win over ids in config.json, as in the GGUF converter. */
#include "formats/tok_internal.h"

#include <jansson.h>

/* "bos_token": "<s>" or {"content": "<s>", ...}; -1 when absent or unknown. */
static int64_t named(const pare_tokenizer *t, const json_t *config, const char *key) {
    const json_t *v = json_object_get(config, key);
    if (json_is_object(v)) v = json_object_get(v, "content");
    return json_is_string(v) ? tok_vocab_find(&t->vocab, json_string_value(v), json_string_length(v)) : -1;
}

static int64_t numbered(const pare_tokenizer *t, const json_t *config, const char *key) {
    const json_t *v = json_object_get(config, key);
    if (json_is_array(v)) v = json_array_get(v, 0);
    json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
    return id >= 0 && (uint64_t)id < t->vocab.n ? (int64_t)id : -1;
}

/* add_bos_token / add_eos_token: one id more or less at that end. */
static pare_status set_end(pare_tokenizer *t, bool want, int64_t id, bool front, pare_diag *d) {
    int32_t **v = front ? &t->head : &t->tail;
    size_t *n = front ? &t->n_head : &t->n_tail;
    bool has = *n == 1 && (*v)[0] == id;
    if (id < 0 || has == want || *n > 1) return PARE_OK;
    *n = 0;
    if (!want) return PARE_OK;
    *v = pare_arena_alloc(t->arena, sizeof **v);
    if (!*v) return pare_fail(d, PARE_ERR_NOMEM, t->file, NULL, "out of memory");
    (*v)[0] = (int32_t)id;
    *n = 1;
    return PARE_OK;
}

pare_status tok_load_config(pare_tokenizer *t, const pare_source *src, pare_diag *d) {
    pare_tokenizer_info *o = &t->info;
    const struct {
        const char *name, *number;
        int64_t *to;
    } ids[] = {{"bos_token", "bos_token_id", &o->bos},   {"eos_token", "eos_token_id", &o->eos},
               {"unk_token", "unk_token_id", &o->unk},   {"sep_token", "sep_token_id", &o->sep},
               {"pad_token", "pad_token_id", &o->pad},   {"cls_token", "cls_token_id", &o->cls},
               {"mask_token", "mask_token_id", &o->mask}};
    bool set_bos = false, set_eos = false;
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        int64_t id = named(t, src->tokenizer_config, ids[i].name);
        if (id < 0) id = numbered(t, src->config, ids[i].number);
        if (id < 0) continue;
        *ids[i].to = id;
        set_bos |= i == 0, set_eos |= i == 1;
    }
    if (t->model == TOK_WORDPIECE) {
        if (!set_bos) o->bos = o->cls;
        if (!set_eos) o->eos = o->sep;
        return PARE_OK;
    }
    const json_t *bos = json_object_get(src->tokenizer_config, "add_bos_token"),
                 *eos = json_object_get(src->tokenizer_config, "add_eos_token");
    if (json_is_boolean(bos)) PARE_TRY(set_end(t, json_is_true(bos), o->bos, true, d));
    if (json_is_boolean(eos)) PARE_TRY(set_end(t, json_is_true(eos), o->eos, false, d));
    o->add_bos = t->n_head > 0, o->add_eos = t->n_tail > 0;
    return PARE_OK;
}
