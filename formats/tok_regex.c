/* SPDX-License-Identifier: Apache-2.0
 *
 * Regular expressions through PCRE2 (JIT). Patterns of a tokenizer.json are written for Oniguruma's Ruby syntax; what
 * differs is rewritten (\s, \w, \h, \uHHHH, multi-line anchors) or refused. */
#include "formats/tok_internal.h"

#include "core/log.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>

#define MATCH_LIMIT 10000000 /* backtracking steps of one match; ordinary patterns need a few per byte */

#define SECONDS_MIN          5 /* of regular expressions in one call, before its speed is judged */
#define BYTES_PER_SECOND_MIN 100e3
#define WINDOW               64 /* start positions of one PCRE2 call; between calls the clock is looked at */

struct tok_regex {
    pcre2_code *code;
    pcre2_general_context *mem;
    int kind;
    bool oom; /* while compiling */
};

static void *re_alloc(PCRE2_SIZE n, void *u) {
    void *p = pare_malloc(n);
    if (!p) __atomic_store_n(&((tok_regex *)u)->oom, true, __ATOMIC_RELAXED);
    return p;
}
static void re_free(void *p, void *u) { pare_free(p); }

static const char spaces[] =
    "\\x{9}-\\x{d}\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";
static const char words[] =
    "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"; /* its \\w counts these six */

static bool add(tok_text *o, const char *s) { return tok_text_add(o, s, strlen(s)); }

/* One escape at p[0] == '\\'; *used = bytes eaten. false = out of memory. */
static bool escape(tok_text *o, const char *p, size_t n, bool in_class, size_t *used) {
    char e = n > 1 ? p[1] : 0;
    *used = n > 1 ? 2 : 1;
    const char *set = e == 's' || e == 'S'   ? spaces
                      : e == 'w' || e == 'W' ? words
                      : e == 'h' || e == 'H' ? "0-9a-fA-F"
                                             : NULL;
    if (set && (!in_class || (e >= 'a' && e <= 'z')))
        return in_class ? add(o, set) : add(o, e >= 'a' ? "[" : "[^") && add(o, set) && add(o, "]");
    if (e == 'u' && n >= 6) {
        char hex[16];
        snprintf(hex, sizeof hex, "\\x{%.4s}", p + 2);
        *used = 6;
        return add(o, hex);
    }
    return tok_text_add(o, p, *used);
}

static pare_status translate(tok_text *o, const char *p, size_t n, const char *file, pare_diag *d) {
    bool in_class = false, ok = true;
    for (size_t i = 0, used = 1; ok && i < n; i += used, used = 1) {
        if (p[i] == '\\') {
            ok = escape(o, p + i, n - i, in_class, &used);
            continue;
        }
        if (in_class &&
            ((p[i] == '&' && i + 1 < n && p[i + 1] == '&') || (p[i] == '[' && i + 1 < n && p[i + 1] != ':')))
            return pare_fail(d, PARE_ERR_UNSUPPORTED, file, "pattern",
                             "set operations inside [...] are not supported: %.*s", (int)(n > 200 ? 200 : n), p);
        if (p[i] == '[' && !in_class) {
            in_class = true;
            used = i + 1 < n && p[i + 1] == '^' ? 2 : 1;
            if (i + used < n && p[i + used] == ']') used++;
        } else if (p[i] == ']') in_class = false;
        ok = tok_text_add(o, p + i, used);
    }
    return ok ? PARE_OK : pare_fail(d, PARE_ERR_NOMEM, file, "pattern", "out of memory");
}

static pare_status compile(tok_regex *r, const char *p, size_t n, const char *file, pare_diag *d) {
    uint32_t opt = PCRE2_USE_OFFSET_LIMIT | PCRE2_DOLLAR_ENDONLY | PCRE2_NO_AUTO_CAPTURE;
    if (r->kind == TOK_RE_ONIG)
        opt = PCRE2_USE_OFFSET_LIMIT | PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    if (r->kind == TOK_RE_WIDE) opt |= PCRE2_UTF;
    r->mem = pcre2_general_context_create(re_alloc, re_free, r);
    pcre2_compile_context *cc = r->mem ? pcre2_compile_context_create(r->mem) : NULL;
    if (!cc) return pare_fail(d, PARE_ERR_NOMEM, file, "pattern", "out of memory");
    int err = 0;
    PCRE2_SIZE at = 0;
    pcre2_set_newline(cc, PCRE2_NEWLINE_LF);
    pcre2_set_max_pattern_length(cc, 1 << 16);
    r->code = pcre2_compile((PCRE2_SPTR)p, n, opt, &err, &at, cc);
    pcre2_compile_context_free(cc);
    if (!r->code && err == PCRE2_ERROR_HEAP_FAILED)
        return pare_fail(d, PARE_ERR_NOMEM, file, "pattern", "out of memory");
    if (!r->code) {
        char why[128] = "";
        pcre2_get_error_message(err, (PCRE2_UCHAR *)why, sizeof why);
        return pare_fail(d, PARE_ERR_INPUT, file, "pattern", "not a usable regular expression: %s at byte %zu of %.*s",
                         why, at, (int)(n > 200 ? 200 : n), p);
    }
    /* Without executable memory the interpreter does the same, slower. */
    if (pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE) != 0 && r->oom)
        return pare_fail(d, PARE_ERR_NOMEM, file, "pattern", "out of memory");
    return PARE_OK;
}

pare_status tok_regex_new(const char *pattern, size_t n, int kind, const char *file, tok_regex **out, pare_diag *d) {
    tok_text o = {0};
    tok_regex *r = pare_calloc(1, sizeof *r);
    if (!r) return pare_fail(d, PARE_ERR_NOMEM, file, "pattern", "out of memory");
    r->kind = kind;
    pare_status s = kind == TOK_RE_ONIG ? translate(&o, pattern, n, file, d) : PARE_OK;
    if (s == PARE_OK && kind != TOK_RE_ONIG && !tok_text_add(&o, pattern, n))
        s = pare_fail(d, PARE_ERR_NOMEM, file, "pattern", "out of memory");
    if (s == PARE_OK) s = compile(r, o.p ? o.p : "", o.n, file, d);
    pare_free(o.p);
    if (s != PARE_OK) tok_regex_free(&r);
    *out = r;
    return s;
}

void tok_regex_free(tok_regex **r) {
    if (!*r) return;
    pcre2_code_free((*r)->code);
    pcre2_general_context_free((*r)->mem);
    pare_free(*r);
    *r = NULL;
}

static size_t char_start(const char *p, size_t at) {
    while (at && ((unsigned char)p[at] & 0xC0) == 0x80) at--;
    return at;
}

static bool prepare(const tok_regex *r, tok_matcher *m) {
    if (m->data) return true;
    pcre2_match_data *md = pcre2_match_data_create(64, r->mem);
    pcre2_match_context *ctx = pcre2_match_context_create(r->mem);
    pcre2_jit_stack *stack = pcre2_jit_stack_create(32 << 10, 8 << 20, r->mem);
    m->data = md, m->ctx = ctx, m->stack = stack;
    if (!md || !ctx || !stack) return tok_matcher_free(m), false;
    pcre2_set_match_limit(ctx, MATCH_LIMIT);
    pcre2_set_heap_limit(ctx, 256 << 10);
    pcre2_jit_stack_assign(ctx, NULL, stack);
    m->start_s = pare_now_s();
    return true;
}

/* Hostile patterns may take millions of steps at every position without ever matching. */
static bool in_time(tok_matcher *m, size_t progress) {
    m->bytes += progress;
    return pare_now_s() - m->start_s < SECONDS_MIN + (double)m->bytes / BYTES_PER_SECOND_MIN;
}

int tok_regex_next(const tok_regex *r, tok_matcher *m, const char *p, size_t n, size_t at, size_t *from, size_t *to,
                   pare_diag *d) {
    if (!prepare(r, m)) return pare_fail(d, PARE_ERR_NOMEM, NULL, NULL, "out of memory"), -1;
    while (at < n) {
        size_t limit = n - at < WINDOW ? n : at + WINDOW;
        pcre2_set_offset_limit(m->ctx, limit);
        int k = pcre2_match(r->code, (PCRE2_SPTR)p, n, at, PCRE2_NO_UTF_CHECK, m->data, m->ctx);
        if (k == PCRE2_ERROR_JIT_STACKLIMIT)
            k = pcre2_match(r->code, (PCRE2_SPTR)p, n, at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, m->data, m->ctx);
        PCRE2_SIZE *o = pcre2_get_ovector_pointer(m->data);
        if (k >= 0 && o[1] > o[0]) {
            *from = o[0], *to = o[1];
            if (in_time(m, o[1] - at)) return 1;
            break;
        }
        if (k < 0 && k != PCRE2_ERROR_NOMATCH) break;
        size_t next = k >= 0 ? o[0] : limit; /* an empty match cuts nothing: go on behind it */
        if (next >= n) return 0;
        if (r->kind == TOK_RE_BYTES) next++;
        else next = char_start(p, next), (void)tok_utf8_get(p, &next);
        if (!in_time(m, next - at)) break;
        at = next;
    }
    if (at >= n) return 0;
    pare_fail(d, PARE_ERR_INPUT, NULL, "pattern", "the tokenizer's regular expression takes too long on this text");
    return -1;
}

void tok_matcher_free(tok_matcher *m) {
    pcre2_match_data_free(m->data);
    pcre2_match_context_free(m->ctx);
    pcre2_jit_stack_free(m->stack);
    *m = (tok_matcher){0};
}
