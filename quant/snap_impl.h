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
