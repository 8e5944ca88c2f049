/* SPDX-License-Identifier: Apache-2.0
 *
 * GGUF tensors as Hugging Face tensors: names, the row order of q and k undone, rope_freqs turned back into the
 * parameters of Llama 3's rope scaling where they are one of the published sets. */
#include "models/mapping.h"

#include "core/status.h"

#include <math.h>
#include <string.h>

static pare_status add(const pare_source *s, pare_mapping *m, const pare_stored *t, pare_tensor_name n, pare_diag *d) {
    char name[160];
    if (!pare_name_format(m->arch.family, PARE_SOURCE_FOLDER, n, name, sizeof name))
        return pare_fail(d, PARE_ERR_INTERNAL, s->path, t->name, "no Hugging Face name");
    pare_mapped *x = pare_mapping_add(m);
    if (!x || !(x->name = pare_arena_strndup(m->arena, name, strlen(name))))
        return pare_fail(d, PARE_ERR_NOMEM, s->path, NULL, "no memory for the list of tensors");
    x->src = t;
    x->ndim = t->ndim;
    memcpy(x->shape, t->shape, sizeof x->shape);
    bool table = n.role == PARE_ROLE_TOKEN_EMBD || n.role == PARE_ROLE_OUTPUT || n.role == PARE_ROLE_BERT_WORD_EMBD ||
                 n.role == PARE_ROLE_BERT_POS_EMBD || n.role == PARE_ROLE_BERT_TYPE_EMBD;
    x->linear = t->ndim == 2 && !n.bias && !table;
    if (m->arch.rope_interleaved && (n.role == PARE_ROLE_ATTN_Q || n.role == PARE_ROLE_ATTN_K)) {
        x->order = PARE_ROWS_TO_HALVES;
        x->head_dim = m->arch.head_dim;
    }
    return PARE_OK;
}

/* The divisors alone do not tell factor, low and high uniquely, so the published sets are tried. */
static pare_status recover_rope(const pare_source *s, pare_mapping *m, const pare_stored *t, pare_diag *d) {
    static const double factors[] = {8, 32, 16, 4, 2, 64}, originals[] = {8192, 4096, 2048, 16384, 32768};
    pare_arch *a = &m->arch;
    size_t n = (size_t)a->head_dim / 2;
    const void *raw = pare_source_rows(s, t, 0, 1, NULL);
    float *want = pare_arena_alloc(m->arena, n * sizeof *want), *got = pare_arena_alloc(m->arena, n * sizeof *got);
    if (!want || !got) return pare_fail(d, PARE_ERR_NOMEM, s->path, NULL, "no memory for the rope factors");
    t->type->decode(t->type, raw, want, n);
    for (size_t f = 0; f < sizeof factors / sizeof *factors; f++)
        for (size_t o = 0; o < sizeof originals / sizeof *originals; o++) {
            pare_arch b = *a;
            b.rope_scaling = PARE_ROPE_LLAMA3;
            b.rope_factor = factors[f], b.rope_low = 1, b.rope_high = 4, b.rope_original = originals[o];
            pare_rope_freq_factors(&b, got);
            size_t same = 0;
            while (same < n && fabsf(got[same] - want[same]) <= 1e-4f * fabsf(want[same])) same++;
            if (same < n) continue;
            *a = b;
            return PARE_OK;
        }
    return pare_fail(d, PARE_ERR_UNSUPPORTED, s->path, t->name,
                     "these divisors are none of Llama 3's published rope scalings, so config.json cannot say them");
}

pare_status pare_map_to_hf(const pare_source *s, pare_mapping *m, pare_diag *d) {
    PARE_TRY(pare_arch_check(s, &m->arch, d));
    for (size_t i = 0; i < s->n_tensors; i++) {
        const pare_stored *t = &s->tensors[i];
        pare_tensor_name n;
        if (!pare_name_parse(m->arch.family, s->kind, t->name, &n))
            return pare_fail(d, PARE_ERR_INPUT, s->path, t->name, "this tensor has no place in a %s model",
                             m->arch.name);
        PARE_TRY(n.role == PARE_ROLE_ROPE_FREQS ? recover_rope(s, m, t, d) : add(s, m, t, n, d));
    }
    return m->to == PARE_SOURCE_FOLDER ? pare_hf_files(s, m, d) : PARE_OK;
}
