/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs are scanned in pieces that ask only "any?"; the index is looked for once, where the answer was yes. */
#include "formats/validate.h"

#include <math.h>
#include <string.h>

#include "core/cpu_features.h"

#define PIECE 4096

bool pare_any_exponent16_ref(const void *src, size_t n, uint32_t mask) {
    uint16_t w, m = (uint16_t)mask;
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        memcpy(&w, (const char *)src + 2 * i, 2);
        any |= (w & m) == m;
    }
    return any;
}

bool pare_any_exponent32_ref(const void *src, size_t n, uint32_t mask) {
    uint32_t w;
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        memcpy(&w, (const char *)src + 4 * i, 4);
        any |= (w & mask) == mask;
    }
    return any;
}

static size_t find_slow(const pare_qtype *qt, const char *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float v;
        double x;
        if (qt == &pare_qtype_f64) memcpy(&x, p + 8 * i, 8);
        else qt->decode(qt, p + i * qt->block_bytes, &v, 1), x = v;
        if (!isfinite(x)) return i;
    }
    return SIZE_MAX;
}

size_t pare_find_nonfinite(const pare_qtype *qt, const void *src, size_t n) {
    bool avx2 = pare_cpu_mask() & PARE_CPU_AVX2, wide = qt == &pare_qtype_f32;
    uint32_t mask = wide ? 0x7F800000 : qt == &pare_qtype_f16 ? 0x7C00 : 0x7F80;
    pare_any_exponent_fn *any = wide ? (avx2 ? pare_any_exponent32_avx2 : pare_any_exponent32_ref)
                                     : (avx2 ? pare_any_exponent16_avx2 : pare_any_exponent16_ref);
    if (qt->kind != PARE_QK_FLOAT) return SIZE_MAX;
    if (!wide && qt != &pare_qtype_f16 && qt != &pare_qtype_bf16) return find_slow(qt, src, n);
    for (size_t i = 0; i < n; i += PIECE) {
        size_t piece = n - i < PIECE ? n - i : PIECE;
        const char *p = (const char *)src + i * qt->block_bytes;
        if (any(p, piece, mask)) return i + find_slow(qt, p, piece);
    }
    return SIZE_MAX;
}
