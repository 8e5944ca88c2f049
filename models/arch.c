/* SPDX-License-Identifier: Apache-2.0
 *
 * Architecture of a source: dispatch by kind, and the sanity that both readers share. */
#include "models/arch_read.h"

#include "core/status.h"

#include <math.h>

static pare_status absurd(const pare_source *s, const char *what, int64_t v, pare_diag *d) {
    return pare_fail(d, PARE_ERR_INPUT, s->path, what,
                     "%lld is not a possible value; the model's configuration is damaged", (long long)v);
}

/* Bounds are generous (ten times the largest model known) and keep every product below within int64. */
static pare_status validate(const pare_source *s, const pare_arch *a, pare_diag *d) {
    const struct {
        const char *what;
        int64_t v, max;
    } rows[] = {
        {"vocabulary size", a->vocab, 1 << 26},
        {"hidden size", a->dim, 1 << 20},
        {"number of layers", a->layers, 4096},
        {"number of attention heads", a->heads, 1 << 16},
        {"number of key/value heads", a->kv_heads, 1 << 16},
        {"head size", a->head_dim, 1 << 16},
        {"feed-forward size", a->ffn, 1 << 22},
        {"context length", a->context, (int64_t)1 << 28},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].v < 1 || rows[i].v > rows[i].max) return absurd(s, rows[i].what, rows[i].v, d);
    if (a->heads % a->kv_heads != 0)
        return pare_fail(d, PARE_ERR_INPUT, s->path, "number of key/value heads", "%lld does not divide the %lld heads",
                         (long long)a->kv_heads, (long long)a->heads);
    if (!(a->norm_eps > 0 && a->norm_eps < 1))
        return pare_fail(d, PARE_ERR_INPUT, s->path, "norm epsilon", "%g is not between 0 and 1", a->norm_eps);
    if (a->family == PARE_FAMILY_BERT) {
        if (a->type_vocab < 1 || a->type_vocab > 1 << 16) return absurd(s, "token type count", a->type_vocab, d);
        if (a->head_dim * a->heads != a->dim) return absurd(s, "head size", a->head_dim, d);
        return PARE_OK;
    }
    if (a->head_dim % 2 != 0) return absurd(s, "head size", a->head_dim, d);
    if (!(a->rope_theta >= 1 && isfinite(a->rope_theta)))
        return pare_fail(d, PARE_ERR_INPUT, s->path, "rope base", "%g is not at least 1", a->rope_theta);
    bool scaled = a->rope_scaling != PARE_ROPE_NONE;
    if (scaled && !(a->rope_factor > 0 && isfinite(a->rope_factor)))
        return pare_fail(d, PARE_ERR_INPUT, s->path, "rope scaling factor", "%g is not positive", a->rope_factor);
    if (a->rope_scaling == PARE_ROPE_LLAMA3 &&
        !(a->rope_low > 0 && a->rope_high > a->rope_low && a->rope_original >= 1))
        return pare_fail(d, PARE_ERR_INPUT, s->path, "rope scaling",
                         "llama3 scaling needs 0 < low_freq_factor < "
                         "high_freq_factor and original_max_position_embeddings");
    if (a->rope_scaling == PARE_ROPE_YARN && !(a->rope_beta_slow > 0 && a->rope_beta_fast > 0 && a->rope_original >= 1))
        return pare_fail(d, PARE_ERR_INPUT, s->path, "rope scaling",
                         "yarn scaling needs positive beta_fast, beta_slow and original_max_position_embeddings");
    if (!(a->rope_attn_factor > 0 && isfinite(a->rope_attn_factor)))
        return pare_fail(d, PARE_ERR_INPUT, s->path, "rope scaling", "attention factor %g is not positive",
                         a->rope_attn_factor);
    return PARE_OK;
}

pare_status pare_arch_read(const pare_source *s, pare_arch *out, pare_diag *d) {
    *out = (pare_arch){.rope_attn_factor = 1, .rope_beta_fast = 32, .rope_beta_slow = 1};
    if (s->kind == PARE_SOURCE_GGUF) PARE_TRY(pare_arch_from_gguf(s, out, d));
    else if (s->config) PARE_TRY(pare_arch_from_config(s, out, d));
    else
        return pare_fail(d, PARE_ERR_UNSUPPORTED, s->path, NULL,
                         "no config.json beside the weights, so the architecture is unknown; give the model's folder");
    return validate(s, out, d);
}

int64_t pare_arch_context(const pare_arch *a) {
    return a->sliding_window > 0 && a->sliding_window < a->context ? a->sliding_window : a->context;
}
