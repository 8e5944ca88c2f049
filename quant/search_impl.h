/* SPDX-License-Identifier: Apache-2.0
 *
 * Part of quant/qops_impl.h: the searches for scales and offsets, PARE_BATCH sub-blocks at a time, one per lane. The
 * errors compared are weighted least squares in closed form: with the codes fixed, the best scale of a symmetric
 * sub-block is S_xl / S_ll and explains S_xl^2 / S_ll of the energy; with an offset the two normal equations are
 * solved. */

static void batch_load(const float *const *src, const float *mul, int n, float *x) {
    for (int l = 0; l < PARE_BATCH; l++) {
        const float *s = src[l];
        float m = mul[l];
        if (s)
            for (int i = 0; i < n; i++) x[i * PARE_BATCH + l] = s[i] * m;
        else
            for (int i = 0; i < n; i++) x[i * PARE_BATCH + l] = 0;
    }
}

static void batch_energy(const float *x, int n, float *energy) {
    for (int l = 0; l < PARE_BATCH; l += LANES) {
        vf s = v_set(0);
        for (int i = 0; i < n; i++) {
            vf v = v_load(x + i * PARE_BATCH + l);
            s = s + v * v;
        }
        v_store(energy + l, s);
    }
}

static void batch_weights(int kind, const float *x, const float *q, int n, const float *c, float *w) {
    for (int l = 0; l < PARE_BATCH; l += LANES) {
        vf add = v_load(c + l);
        for (int i = 0, at = l; i < n; i++, at += PARE_BATCH) {
            vf v = v_load(x + at), r;
            if (kind == PARE_W_SQUARE) r = v * v;
            else if (kind == PARE_W_ABS) r = add + v_abs(v);
            else if (kind == PARE_W_IMPORTANCE) r = v_load(q + at) * v_sqrt(add + v * v);
            else r = v_load(q + at);
            v_store(w + at, r);
        }
    }
}

/* Value of largest magnitude, the first of several. */
static inline vf signed_max(const float *x, int n) {
    vf top = v_set(0), best = v_set(0);
    for (int i = 0; i < n; i++) {
        vf v = v_load(x + i * PARE_BATCH), a = v_abs(v);
        vmask m = v_lt(best, a);
        best = v_sel(m, a, best);
        top = v_sel(m, v, top);
    }
    return top;
}

/* x / y, 0 where y is 0 */
static inline vf ratio(vf x, vf y) {
    vf zero = v_set(0), a = v_abs(y);
    vmask some = v_lt(zero, a);
    return v_sel(some, x / v_sel(some, y, v_set(1)), zero);
}

/* Rounds of least squares and nearest codes from the best start. */
#define SYM_ROUNDS  2
#define ASYM_ROUNDS 4

typedef struct sym_best {
    vf sxl, sll; /* of the best codes so far; sll 0: none */
} sym_best;

static inline void keep_better(sym_best *b, vf sxl, vf sll) {
    vmask better = v_lt(b->sxl * b->sxl * sll, sxl * sxl * b->sll);
    vmask first = v_lt(b->sll, v_set(0x1p-126f)); /* nothing yet: take any */
    b->sxl = v_sel(better, sxl, v_sel(first, sxl, b->sxl));
    b->sll = v_sel(better, sll, v_sel(first, sll, b->sll));
}

static inline void sym_try(const float *x, const float *w, int n, vf inv, vf lo, vf hi, sym_best *b) {
    vf sxl = v_set(0), sll = v_set(0);
    for (int i = 0, at = 0; i < n; i++, at += PARE_BATCH) {
        vf v = v_load(x + at), code = v_rne(v_clamp(v * inv, lo, hi)), wl = v_load(w + at) * code;
        sxl = sxl + wl * v;
        sll = sll + wl * code;
    }
    keep_better(b, sxl, sll);
}

static void search_sym(const float *x, const float *w, int n, float lo, float hi, int tries, float *s) {
    for (int l = 0; l < PARE_BATCH; l += LANES) {
        sym_best b = {v_set(0), v_set(0)};
        vf inv_top = ratio(v_set(1), signed_max(x + l, n)), vlo = v_set(lo), vhi = v_set(hi);
        for (int k = -tries; k <= tries; k++)
            sym_try(x + l, w + l, n, v_set(lo - 0.1f * (float)k) * inv_top, vlo, vhi, &b);
        for (int k = 0; k < SYM_ROUNDS; k++) sym_try(x + l, w + l, n, ratio(b.sll, b.sxl), vlo, vhi, &b);
        v_store(s + l, ratio(b.sxl, b.sll));
    }
}

static inline void iq4_try(const float *x, const float *w, int n, vf inv, sym_best *b) {
    vf sxl = v_set(0), sll = v_set(0);
    for (int i = 0, at = 0; i < n; i++, at += PARE_BATCH) {
        vf v = v_load(x + at), value = iq4_value(iq4_find(v * inv)), wl = v_load(w + at) * value;
        sxl = sxl + wl * v;
        sll = sll + wl * value;
    }
    keep_better(b, sxl, sll);
}

static void search_iq4(const float *x, const float *w, int n, int tries, float *s) {
    for (int l = 0; l < PARE_BATCH; l += LANES) {
        sym_best b = {v_set(0), v_set(0)};
        vf inv_top = ratio(v_set(1), signed_max(x + l, n));
        iq4_try(x + l, w + l, n, v_set(127) * inv_top, &b);
        for (int k = -tries; k <= tries; k++) iq4_try(x + l, w + l, n, v_set((float)(k - 127)) * inv_top, &b);
        for (int k = 0; k < SYM_ROUNDS; k++) iq4_try(x + l, w + l, n, ratio(b.sll, b.sxl), &b);
        v_store(s + l, ratio(b.sxl, b.sll));
    }
}

typedef struct asym_best {
    vf s, m, gain;
} asym_best;

/* Values and codes are taken relative to a centre each, the weighted mean of the values and the code next to it: the
 * normal equations of a sub-block whose weight sits on few columns are hopeless in f32 otherwise. */
typedef struct asym_case {
    const float *x, *w; /* centred values and weights of LANES sub-blocks */
    int n;
    vf hi, mean, sum_w, sum_wx; /* sum_wx: of the centred values, about 0 */
    bool below;
} asym_case;

/* Error explained by x = s code + m (both relative to the centres), more is better. */
static inline vf asym_gain(const asym_case *c, vf s, vf m, vf sl, vf sll, vf sxl) {
    vf two = v_set(2);
    return two * (s * sxl + m * c->sum_wx) - (s * (s * sll + two * m * sl) + m * m * c->sum_w);
}

/* Codes of x under (x - base) * inv, then the least squares s and m for them; plain: also s0 and base themselves. */
static inline void asym_try(const asym_case *c, vf base, vf inv, const vf *s0, asym_best *b) {
    vf sl = v_set(0), sll = v_set(0), sxl = v_set(0), zero = v_set(0),
       centre = v_rne(v_clamp(zero - base * inv, zero, c->hi));
    for (int i = 0, at = 0; i < c->n; i++, at += LANES) {
        vf v = v_load(c->x + at), code = v_rne(v_clamp((v - base) * inv, zero, c->hi)) - centre;
        vf wl = v_load(c->w + i * PARE_BATCH) * code;
        sl = sl + wl;
        sll = sll + wl * code;
        sxl = sxl + wl * v;
    }
    if (s0) {
        b->s = *s0;
        b->m = base;
        b->gain = asym_gain(c, *s0, base + *s0 * centre, sl, sll, sxl);
    }
    vf wll = c->sum_w * sll, det = wll - sl * sl;
    vmask solvable = v_lt(v_set(1e-5f) * wll, det); /* else all codes are about equal */
    vf inv_det = v_set(1) / v_sel(solvable, det, v_set(1));
    vf s = (c->sum_w * sxl - c->sum_wx * sl) * inv_det, m = (sll * c->sum_wx - sl * sxl) * inv_det - s * centre;
    if (c->below) { /* an offset above 0 cannot be stored: the best line through 0 instead */
        vmask over = v_lt(zero, m + c->mean);
        vf xl = sxl + c->mean * sl + centre * (c->sum_wx + c->mean * c->sum_w);
        vf ll = sll + centre * (v_set(2) * sl + centre * c->sum_w);
        s = v_sel(over, ratio(xl, ll), s);
        m = v_sel(over, zero - c->mean, m);
    }
    vf gain = asym_gain(c, s, m + s * centre, sl, sll, sxl);
    vmask better = v_lt(b->gain, v_sel(solvable, v_sel(v_lt(zero, s), gain, b->gain), b->gain));
    b->gain = v_sel(better, gain, b->gain);
    b->s = v_sel(better, s, b->s);
    b->m = v_sel(better, m, b->m);
}

static void search_asym(const float *x, const float *w, int n, float hi, float first, float step, int steps, int below,
                        float *s, float *m, float *sum_w, float *sum_wx) {
    for (int l = 0; l < PARE_BATCH; l += LANES) {
        float centred[PARE_BATCH * 32];
        asym_case c = {centred, w + l, n, v_set(hi), .sum_w = v_set(0), .sum_wx = v_set(0), .below = below};
        vf min = v_load(x + l), max = min, wx = v_set(0);
        for (int i = 0, at = l; i < n; i++, at += PARE_BATCH) {
            vf v = v_load(x + at), u = v_load(w + at);
            min = v_min(min, v);
            max = v_max(max, v);
            c.sum_w = c.sum_w + u;
            wx = wx + u * v;
        }
        c.mean = ratio(wx, c.sum_w);
        for (int i = 0, at = l; i < n; i++, at += PARE_BATCH) {
            vf v = v_load(x + at) - c.mean;
            c.sum_wx = c.sum_wx + v_load(w + at) * v;
            v_store(centred + i * LANES, v);
        }
        if (below) min = v_min(min, v_set(0));
        max = max - c.mean; /* from here on all is centred */
        vf range = max - (min - c.mean), s0 = range / c.hi;
        asym_best b;
        asym_try(&c, min - c.mean, c.hi * ratio(v_set(1), range), &s0, &b);
        for (int k = 0; k <= steps; k++) /* from the best offset so far up to the largest value */
            asym_try(&c, b.m, ratio(v_set(first + step * (float)k + hi), max - b.m), NULL, &b);
        for (int k = 0; k < ASYM_ROUNDS; k++) asym_try(&c, b.m, ratio(v_set(1), b.s), NULL, &b);
        v_store(s + l, b.s);
        v_store(m + l, b.m + c.mean);
        v_store(sum_w + l, c.sum_w);
        v_store(sum_wx + l, wx);
    }
}

static void eval_affine(const float *x, const float *w, int n, float lo, float hi, const float *a, const float *b,
                        float *error, float *sum_wl) {
    for (int l = 0; l < PARE_BATCH; l += LANES) {
        vf e = v_set(0), sl = v_set(0), va = v_load(a + l), vb = v_load(b + l), inv = ratio(v_set(1), va);
        for (int i = 0, at = l; i < n; i++, at += PARE_BATCH) {
            vf v = v_load(x + at) + vb, u = v_load(w + at);
            vf code = v_rne(v_clamp(v * inv, v_set(lo), v_set(hi))), d = va * code - v;
            e = e + u * (d * d);
            sl = sl + u * code;
        }
        v_store(error + l, e);
        v_store(sum_wl + l, sl);
    }
}

static void eval_iq4(const float *x, const float *w, int n, const float *a, float *error) {
    for (int l = 0; l < PARE_BATCH; l += LANES) {
        vf e = v_set(0), va = v_load(a + l), inv = ratio(v_set(1), va);
        for (int i = 0, at = l; i < n; i++, at += PARE_BATCH) {
            vf v = v_load(x + at), d = va * iq4_value(iq4_find(v * inv)) - v;
            e = e + v_load(w + at) * (d * d);
        }
        v_store(error + l, e);
    }
}
