/* SPDX-License-Identifier: Apache-2.0
 *
 * Tensor names in both worlds, from models/roles.def. */
#include "models/arch.h"

#include <stdio.h>
#include <string.h>

static const struct {
    pare_family family;
    bool per_layer;
    const char *hf, *gguf;
} roles[PARE_ROLE_COUNT] = {
#define PARE_ROLE(id, family, per_layer, hf, gguf) [PARE_ROLE_##id] = {PARE_FAMILY_##family, per_layer, hf, gguf},
#include "models/roles.def"
#undef PARE_ROLE
};

/* What may stand before (or be missing from) a Hugging Face name, by family. */
static const struct {
    pare_family family;
    const char *pattern_prefix, *name_prefix;
} variants[] = {
    {PARE_FAMILY_LLAMA, "model.", ""},
    {PARE_FAMILY_BERT, "", "bert."},
};

/* Matches pattern, where %d stands for a layer number without leading zeros; returns the characters used, 0 for none.
 */
static size_t match(const char *pattern, const char *name, int *layer) {
    const char *n = name;
    *layer = -1;
    for (; *pattern; pattern++) {
        if (pattern[0] != '%') {
            if (*n++ != *pattern) return 0;
            continue;
        }
        pattern++;
        int v = 0, digits = 0;
        while (*n >= '0' && *n <= '9' && digits < 6) v = v * 10 + (*n++ - '0'), digits++;
        if (!digits || (digits > 1 && n[-digits] == '0')) return 0;
        *layer = v;
    }
    return (size_t)(n - name);
}

/* ".weight" or ".bias"; Hugging Face's oldest BERT files call a norm's parameters gamma and beta. */
static bool suffix(const char *s, bool hf, bool *bias) {
    *bias = strcmp(s, ".bias") == 0 || (hf && strcmp(s, ".beta") == 0);
    return *bias || strcmp(s, ".weight") == 0 || (hf && strcmp(s, ".gamma") == 0);
}

static bool parse_as(pare_family family, bool hf, size_t skip, const char *name, pare_tensor_name *out) {
    for (int r = 0; r < PARE_ROLE_COUNT; r++) {
        const char *pattern = hf ? roles[r].hf : roles[r].gguf;
        if (roles[r].family != family || !pattern || strlen(pattern) <= skip) continue;
        int layer;
        size_t used = match(pattern + skip, name, &layer);
        bool bias;
        if (!used || !suffix(name + used, hf, &bias)) continue;
        *out = (pare_tensor_name){(pare_role)r, layer, bias};
        return true;
    }
    return false;
}

bool pare_name_parse(pare_family family, pare_source_kind kind, const char *name, pare_tensor_name *out) {
    bool hf = kind != PARE_SOURCE_GGUF;
    if (parse_as(family, hf, 0, name, out)) return true;
    for (size_t i = 0; hf && i < sizeof variants / sizeof *variants; i++) {
        if (variants[i].family != family) continue;
        size_t n = strlen(variants[i].name_prefix), skip = strlen(variants[i].pattern_prefix);
        if (strncmp(name, variants[i].name_prefix, n) != 0) continue;
        /* Without the prefix every pattern that has it is cut; those that do not (lm_head) were tried above. */
        if (parse_as(family, hf, skip, name + n, out)) return true;
    }
    return false;
}

bool pare_name_format(pare_family family, pare_source_kind kind, pare_tensor_name n, char *buf, size_t buf_bytes) {
    if ((unsigned)n.role >= PARE_ROLE_COUNT || roles[n.role].family != family) return false;
    const char *pattern = kind == PARE_SOURCE_GGUF ? roles[n.role].gguf : roles[n.role].hf;
    if (!pattern || roles[n.role].per_layer != (n.layer >= 0)) return false;
    const char *d = strstr(pattern, "%d");
    int len = d ? snprintf(buf, buf_bytes, "%.*s%d%s%s", (int)(d - pattern), pattern, n.layer, d + 2,
                           n.bias ? ".bias" : ".weight")
                : snprintf(buf, buf_bytes, "%s%s", pattern, n.bias ? ".bias" : ".weight");
    return len > 0 && (size_t)len < buf_bytes;
}

/* Tries the usual name, then the variants that the parser accepts. */
const pare_stored *pare_arch_tensor(const pare_source *s, const pare_arch *a, pare_role role, int layer, bool bias) {
    char name[160], other[176];
    if (!pare_name_format(a->family, s->kind, (pare_tensor_name){role, layer, bias}, name, sizeof name)) return NULL;
    const pare_stored *t = pare_source_find(s, name);
    if (t || s->kind == PARE_SOURCE_GGUF) return t;
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
        if (variants[i].family != a->family) continue;
        size_t skip = strlen(variants[i].pattern_prefix);
        if (strncmp(name, variants[i].pattern_prefix, skip) != 0) continue;
        snprintf(other, sizeof other, "%s%s", variants[i].name_prefix, name + skip);
        if ((t = pare_source_find(s, other))) return t;
    }
    char *dot = strrchr(name, '.');
    if (a->family != PARE_FAMILY_BERT || !strstr(name, "LayerNorm")) return NULL;
    snprintf(dot, sizeof name - (size_t)(dot - name), "%s", bias ? ".beta" : ".gamma");
    if ((t = pare_source_find(s, name))) return t;
    snprintf(other, sizeof other, "bert.%s", name);
    return pare_source_find(s, other);
}
