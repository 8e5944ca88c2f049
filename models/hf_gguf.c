/* SPDX-License-Identifier: Apache-2.0
 *
 * Hugging Face tensors as GGUF tensors: names, the row order of q and k, Llama 3's rotary divisors, f32 where llama.cpp
 * aborts on anything else. */
#include "models/mapping.h"

#include "core/status.h"

#include <string.h>

static bool is_f32(const pare_stored *t, pare_role role, bool bias) {
    return bias || t->ndim < 2 || role == PARE_ROLE_BERT_POS_EMBD || role == PARE_ROLE_BERT_TYPE_EMBD;
}

static pare_status add(const pare_source *s, pare_mapping *m, const pare_stored *t, pare_tensor_name n, pare_diag *d) {
    char name[64]; /* GGUF names hold at most 63 bytes */
    if (!pare_name_format(m->arch.family, PARE_SOURCE_GGUF, n, name, sizeof name))
        return pare_fail(d, PARE_ERR_INTERNAL, s->path, t->name, "no GGUF name");
    pare_mapped *x = pare_mapping_add(m);
    if (!x || !(x->name = pare_arena_strndup(m->arena, name, strlen(name))))
        return pare_fail(d, PARE_ERR_NOMEM, s->path, NULL, "no memory for the list of tensors");
    x->src = t;
    x->ndim = t->ndim;
    memcpy(x->shape, t->shape, sizeof x->shape);
    x->f32 = is_f32(t, n.role, n.bias);
    x->linear = t->ndim == 2 && n.role != PARE_ROLE_TOKEN_EMBD && n.role != PARE_ROLE_OUTPUT;
    if (strcmp(m->arch.name, "llama") == 0 && (n.role == PARE_ROLE_ATTN_Q || n.role == PARE_ROLE_ATTN_K)) {
        x->order = PARE_ROWS_TO_PAIRS;
        x->head_dim = m->arch.head_dim;
    }
    return PARE_OK;
}

static pare_status add_rope_freqs(const pare_source *s, pare_mapping *m, pare_diag *d) {
    const pare_arch *a = &m->arch;
    if (a->family != PARE_FAMILY_LLAMA || a->rope_scaling != PARE_ROPE_LLAMA3) return PARE_OK;
    if (strcmp(a->name, "llama") != 0)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, s->path, "rope_scaling",
                         "GGUF has no llama3 rope scaling for %s models", a->name);
    float *f = pare_arena_alloc(m->arena, (size_t)a->head_dim / 2 * sizeof *f);
    pare_mapped *x = f ? pare_mapping_add(m) : NULL;
    if (!x) return pare_fail(d, PARE_ERR_NOMEM, s->path, NULL, "no memory for the list of tensors");
    pare_rope_freq_factors(a, f);
    *x = (pare_mapped){.data = f, .name = "rope_freqs.weight", .ndim = 1, .shape = {a->head_dim / 2}, .f32 = true};
    return PARE_OK;
}

pare_status pare_map_to_gguf(const pare_source *s, pare_mapping *m, pare_diag *d) {
    PARE_TRY(pare_arch_check(s, &m->arch, d));
    m->dropped = pare_arena_alloc(m->arena, (s->n_tensors + 1) * sizeof *m->dropped);
    if (!m->dropped) return pare_fail(d, PARE_ERR_NOMEM, s->path, NULL, "no memory for the list of tensors");
    for (size_t i = 0; i < s->n_tensors; i++) {
        const pare_stored *t = &s->tensors[i];
        pare_tensor_name n;
        bool placed = pare_name_parse(m->arch.family, s->kind, t->name, &n);
        if (!placed || (n.role == PARE_ROLE_OUTPUT && m->arch.tied)) m->dropped[m->n_dropped++] = t->name;
        else PARE_TRY(add(s, m, t, n, d));
    }
    PARE_TRY(add_rope_freqs(s, m, d));
    return pare_gguf_metadata(s, m, d);
}
