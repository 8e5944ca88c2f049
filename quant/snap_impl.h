/* SPDX-License-Identifier: Apache-2.0
 *
 * Part of quant/qops_impl.h: ranges and nearest codes. */

static void minmax(const float *x, size_t ld, size_t rows, size_t n, float *lo, float *hi) {
    for (size_t r = 0; r < rows; r++, x += ld) {
        size_t i = 0;
        float a = x[0], b = x[0];
        if (n >= LANES) {
            vf va = v_load(x), vb = va;
            for (i = LANES; i + LANES <= n; i += LANES) {
                vf v = v_load(x + i);
                va = v_min(va, v);
                vb = v_max(vb, v);
            }
            a = v_hmin(va);
            b = v_hmax(vb);
        }
        for (; i < n; i++) {
            a = x[i] < a ? x[i] : a;
            b = x[i] > b ? x[i] : b;
        }
        lo[r] = a + 0.0f; /* which zero wins a comparison of -0 and +0 depends on the order: keep only +0 */
        hi[r] = b + 0.0f;
    }
}

static void snap_runs(const float *x, size_t run, size_t runs, const float *off, const float *inv, float lo, float hi,
                      int8_t *codes) {
    vf vlo = v_set(lo), vhi = v_set(hi);
    for (size_t r = 0; r < runs; r++, x += run, codes += run) {
        vf o = v_set(off[r]), m = v_set(inv[r]);
        size_t i = 0;
        for (; i + LANES <= run; i += LANES) v_store_i8(codes + i, v_rne(v_clamp((v_load(x + i) + o) * m, vlo, vhi)));
        for (; i < run; i++) codes[i] = (int8_t)s_rne(s_clamp((x[i] + off[r]) * inv[r], lo, hi));
    }
}

static void snap_div(const float *x, size_t n, float scale, float zero, float lo, float hi, int8_t *codes) {
    vf vlo = v_set(lo), vhi = v_set(hi), s = v_set(scale), z = v_set(zero);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) v_store_i8(codes + i, v_rne(v_clamp(v_load(x + i) / s + z, vlo, vhi)));
    for (; i < n; i++) codes[i] = (int8_t)s_rne(s_clamp(x[i] / scale + zero, lo, hi));
}

/* 16 columns into 16 partial sums each. */
static inline void sums_int_16(const float *x, const float *w, vf s, vf z, vf lo, vf hi, int round, float *part) {
    for (size_t k = 0; k < 16; k += LANES) {
        vf v = v_load(x + k), m = v_load(w + k), c = v_rne(v_clamp(v / s + z, lo, hi)) - z;
        vf e = v - round_lanes(c * s, round);
        v_store(part + k, v_load(part + k) + m * v * c);
        v_store(part + 16 + k, v_load(part + 16 + k) + m * c * c);
        v_store(part + 32 + k, v_load(part + 32 + k) + m * e * e);
    }
}

static void sums_int(const float *x, const float *w, size_t n, float scale, float zero, float lo, float hi, int round,
                     float sums[3]) {
    vf vlo = v_set(lo), vhi = v_set(hi), s = v_set(scale), z = v_set(zero);
    float part[48] = {0};
    size_t i = 0;
    for (; i + 16 <= n; i += 16) sums_int_16(x + i, w + i, s, z, vlo, vhi, round, part);
    if (i < n) { /* columns of weight 0 fill up */
        float last[32] = {0};
        memcpy(last, x + i, (n - i) * sizeof *x);
        memcpy(last + 16, w + i, (n - i) * sizeof *w);
        sums_int_16(last, last + 16, s, z, vlo, vhi, round, part);
    }
    for (int p = 0; p < 3; p++) {
        sums[p] = 0;
        for (int k = 0; k < 16; k++) sums[p] += part[p * 16 + k];
    }
}
