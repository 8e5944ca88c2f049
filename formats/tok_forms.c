/* SPDX-License-Identifier: Apache-2.0
 *
 * Unicode normal forms (UAX #15). utf8proc knows the decompositions; marks are put in order here by counting, since its
 * own ordering is quadratic in the length of a run of marks, which a hostile text may choose. */
#include "formats/tok_internal.h"

#include <utf8proc.h>

static int ccc(int32_t cp) { return cp < 0x300 ? 0 : utf8proc_get_property(cp)->combining_class; }

/* Stable sort of a run of marks by combining class. */
static bool sort_marks(int32_t *v, size_t n) {
    if (n <= 16) {
        for (size_t i = 1; i < n; i++) {
            int32_t x = v[i];
            int k = ccc(x);
            size_t j = i;
            for (; j && ccc(v[j - 1]) > k; j--) v[j] = v[j - 1];
            v[j] = x;
        }
        return true;
    }
    size_t start[257] = {0};
    int32_t *tmp = pare_malloc(n * sizeof *tmp);
    if (!tmp) return false;
    for (size_t i = 0; i < n; i++) start[(ccc(v[i]) & 255) + 1]++;
    for (int k = 0; k < 256; k++) start[k + 1] += start[k];
    for (size_t i = 0; i < n; i++) tmp[start[ccc(v[i]) & 255]++] = v[i];
    memcpy(v, tmp, n * sizeof *v);
    pare_free(tmp);
    return true;
}

bool tok_decompose(bool compat, const char *p, size_t n, int32_t **cps, size_t *n_cps, size_t *cap) {
    utf8proc_option_t opt = UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0);
    *n_cps = 0;
    if (pare_grow((void **)cps, cap, n + 32, sizeof **cps) != PARE_OK) return false;
    for (size_t i = 0; i < n;) {
        int32_t c = (int32_t)tok_utf8_get(p, &i);
        if (*cap - *n_cps < 32 && pare_grow((void **)cps, cap, *n_cps + n - i + 64, sizeof **cps) != PARE_OK)
            return false;
        if (c < 0xA0) {
            (*cps)[(*n_cps)++] = c;
            continue;
        }
        int32_t *to = *cps + *n_cps;
        utf8proc_ssize_t k = utf8proc_decompose_char(c, to, 32, opt, NULL);
        if (k < 0 || k > 32) to[0] = c, k = 1;
        *n_cps += (size_t)k;
    }
    for (size_t i = 0; i < *n_cps;) {
        size_t j = i;
        while (j < *n_cps && ccc((*cps)[j])) j++;
        if (j - i > 1 && !sort_marks(*cps + i, j - i)) return false;
        i = j + 1;
    }
    return true;
}

bool tok_normal_form(int form, const char *p, size_t n, tok_text *out) {
    if (tok_is_ascii(p, n)) return tok_text_add(out, p, n);
    bool compose = form == TOK_NFC || form == TOK_NFKC, ok = false;
    int32_t *cps = NULL;
    size_t n_cps, cap = 0;
    if (!tok_decompose(form == TOK_NFKC || form == TOK_NFKD, p, n, &cps, &n_cps, &cap)) goto done;
    if (compose) {
        utf8proc_ssize_t k = utf8proc_normalize_utf32(cps, (utf8proc_ssize_t)n_cps, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
        n_cps = k < 0 ? 0 : (size_t)k;
    }
    for (size_t i = 0; i < n_cps; i++)
        if (!tok_text_add_cp(out, (uint32_t)cps[i])) goto done;
    ok = true;
done:
    pare_free(cps);
    return ok;
}
