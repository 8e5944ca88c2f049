/* SPDX-License-Identifier: Apache-2.0
 *
 * Names of targets, what each writer holds, and the fall to smaller groups. Grid names mean the same everywhere; a name
 * without a group is per channel in folders, and in GGUF, which has no whole-row format, blocks of 32. */
#include "quant/target.h"

#include "core/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define GRIDS "int8, int4, with :g32, :g64 or :g128 and :asym (int4:g32:asym)"

static void mix_list(char *buf, size_t bytes) {
    size_t n = 0;
    buf[0] = 0;
    for (size_t i = 0; pare_mix_name(i); i++) {
        const pare_mix *m = pare_mix_by_name(pare_mix_name(i));
        if (pare_mix_refusal(m) || !pare_mix_base(m)) continue;
        int w = snprintf(buf + n, bytes - n, "%s%s", n ? " " : "", pare_mix_name(i));
        if (w < 0 || (size_t)w >= bytes - n) break;
        n += (size_t)w;
    }
}

/* After "int4" or "int8": ":gN" and ":asym" in this order, each at most once. */
static bool parse_grid(const char *s, pare_target *t) {
    if (strncasecmp(s, "int4", 4) != 0 && strncasecmp(s, "int8", 4) != 0) return false;
    t->bits = s[3] - '0';
    s += 4;
    if (strncasecmp(s, ":g", 2) == 0) {
        char *end;
        unsigned long g = strtoul(s + 2, &end, 10);
        if (g != 32 && g != 64 && g != 128) return false;
        t->group = (unsigned)g;
        s = end;
    }
    if (strcasecmp(s, ":asym") == 0) t->asym = true, s += 5;
    return *s == 0;
}

pare_status pare_target_parse(const char *text, bool single, pare_target *out, pare_diag *d) {
    const char *option = single ? "--tensor" : "--to";
    *out = (pare_target){0};
    if (parse_grid(text, out)) return PARE_OK;
    *out = (pare_target){0};
    const pare_qtype *q = pare_qtype_by_name(text);
    bool plain = q && (q == &pare_qtype_f32 || q == &pare_qtype_f16 || q == &pare_qtype_bf16);
    const pare_mix *m = pare_mix_by_name(text);
    if (plain || (single && q && q->kind == PARE_QK_BLOCK && q->grid)) {
        out->type = q;
        return PARE_OK;
    }
    if (single && q && q->kind == PARE_QK_BLOCK)
        return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, option, "%s can be read but not written by this version",
                         q->name);
    if (!single && m && pare_mix_refusal(m))
        return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, option, "%s cannot be made: %s", text, pare_mix_refusal(m));
    if (!single && m && (!pare_mix_base(m) || !pare_mix_base(m)->grid))
        return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, option, "%s is not part of this version yet", text);
    if (!single && m) {
        out->mix = m;
        return PARE_OK;
    }
    char mixes[256];
    mix_list(mixes, sizeof mixes);
    return pare_fail(d, PARE_ERR_USAGE, NULL, option, "`%s` is no grid; known are %s; f16 bf16 f32; %s%s", text, GRIDS,
                     single ? "GGUF types such as q4_k q6_k q8_0" : "for GGUF ", single ? "" : mixes);
}

static bool is_float(const pare_target *t) { return t->type && t->type->kind == PARE_QK_FLOAT; }

pare_status pare_target_check(const pare_target *t, pare_hold hold, const char *option, const char *text,
                              pare_diag *d) {
    char mixes[256];
    if (is_float(t) || (t->mix && pare_mix_is_float(t->mix))) return PARE_OK;
    switch (hold) {
    case PARE_HOLD_GGUF:
        if (!t->bits || (!t->asym && t->group <= 32)) return PARE_OK;
        mix_list(mixes, sizeof mixes);
        return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, option,
                         "GGUF cannot hold %s; it holds int8 (q8_0), int4:g32 (q4_0), and %s", text, mixes);
    case PARE_HOLD_CT:
        if (t->bits) return PARE_OK;
        return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, option,
                         "a folder cannot hold %s; it holds " GRIDS
                         ", f16, bf16 and f32; write a .gguf file for the rest",
                         text);
    case PARE_HOLD_GPTQ:
        if (t->bits && !t->asym) return PARE_OK;
        return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, option,
                         "the GPTQ layout cannot hold %s; it holds int4 and int8, with :g32, :g64 or :g128, symmetric "
                         "only",
                         text);
    case PARE_HOLD_FLOAT: break;
    }
    return pare_fail(d, PARE_ERR_UNSUPPORTED, NULL, option, "this output cannot hold %s; it holds f16, bf16 and f32",
                     text);
}

static const pare_qtype *resolve_int(const pare_target *t, pare_hold hold, int64_t cols, const pare_qtype *scale,
                                     const pare_qtype *float16, char *note, size_t note_bytes) {
    unsigned group = t->group;
    if (hold == PARE_HOLD_GPTQ && cols % (32 / t->bits) != 0) {
        snprintf(note, note_bytes, "row of %lld is no multiple of %d", (long long)cols, 32 / t->bits);
        return float16;
    }
    if (group && cols % group != 0) {
        for (group = 128; group >= 32 && cols % group != 0;) group /= 2;
        if (group < 32) {
            snprintf(note, note_bytes, "row of %lld is no multiple of 32", (long long)cols);
            return float16;
        }
        snprintf(note, note_bytes, "row of %lld is no multiple of %u", (long long)cols, t->group);
    }
    return pare_qtype_int(t->bits, group, t->asym, scale);
}

const pare_qtype *pare_target_resolve(const pare_target *t, pare_hold hold, int64_t cols, const pare_qtype *scale,
                                      const pare_qtype *float16, char *note, size_t note_bytes) {
    note[0] = 0;
    if (t->bits && hold != PARE_HOLD_GGUF) return resolve_int(t, hold, cols, scale, float16, note, note_bytes);
    const pare_qtype *q = t->bits ? pare_qtype_by_name(t->bits == 8 ? "q8_0" : "q4_0") : t->type;
    if (!q || pare_qtype_fits(q, (size_t)cols)) return q;
    const pare_qtype *f = pare_mix_fallback(q, cols);
    snprintf(note, note_bytes, "row of %lld does not fit %s", (long long)cols, q->name);
    return f;
}
