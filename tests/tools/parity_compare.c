/* SPDX-License-Identifier: Apache-2.0
 *
 * Is an output what it should be? Bits against the reference, or numbers against sums in double. The reference itself
 * must come near: else the expectation is wrong, not the device. */
#include "tests/tools/parity.h"

#include <math.h>
#include <string.h>

#define NEAR 4 /* times the bound: the reference sums hundreds of numbers of one sign one after the other */

static void where(const pare_tensor *t, int64_t i, char *buf, size_t n) {
    int64_t at[PARE_MAX_DIMS];
    size_t used = 0;
    for (int k = t->ndim - 1; k >= 0; k--) at[k] = i % t->shape[k], i /= t->shape[k];
    buf[0] = 0;
    for (int k = 0; k < t->ndim && used < n; k++)
        used += (size_t)snprintf(buf + used, n - used, "%s%lld", k ? "," : "", (long long)at[k]);
}

static bool same_bits(const pare_tensor *t, int o, const void *got, const void *ref, char *text, size_t text_bytes) {
    bool f32 = t->type == &pare_qtype_f32;
    if (memcmp(got, ref, pare_tensor_bytes(t)) == 0) return true;
    size_t size = t->type->block_elems == 1 ? t->type->block_bytes : pare_tensor_bytes(t);
    for (size_t i = 0; i < pare_tensor_bytes(t) / size; i++) {
        const char *g = (const char *)got + i * size, *w = (const char *)ref + i * size;
        if (memcmp(g, w, size) == 0) continue;
        float a = 0, b = 0;
        char at[100];
        if (f32) memcpy(&a, g, 4), memcpy(&b, w, 4);
        if (f32 && isnan(a) && isnan(b)) continue;
        where(t, (int64_t)i, at, sizeof at);
        if (f32)
            snprintf(text, text_bytes, "output %d [%s]: %.9g, the reference has %.9g", o, at, (double)a, (double)b);
        else snprintf(text, text_bytes, "output %d [%s] differs from the reference", o, at);
        return false;
    }
    return true;
}

/* error / bound; infinite when one is NaN or infinite and the other is not */
static double off_by(double got, double want, double bound) {
    if (isnan(want)) return isnan(got) ? 0 : INFINITY;
    if (isinf(want) || !isfinite(got)) return got == want ? 0 : INFINITY;
    double e = fabs(got - want);
    return e == 0 ? 0 : e / bound;
}

static bool within(const pc_case *c, int o, const float *got, const char *who, double most_allowed, double *worst,
                   char *text, size_t text_bytes) {
    int64_t n = pare_tensor_elems(&c->out[o]), bad = -1;
    double most = 0;
    for (int64_t i = 0; i < n; i++) {
        double e = off_by((double)got[i], c->want[o][i], c->bound[o][i]);
        if (e > most) most = e, bad = i;
    }
    if (most > *worst) *worst = most;
    if (most <= most_allowed) return true;
    char at[100];
    where(&c->out[o], bad, at, sizeof at);
    snprintf(text, text_bytes, "%soutput %d [%s]: %.9g, in double %.9g, %.2f times the bound", who, o, at,
             (double)got[bad], c->want[o][bad], most);
    return false;
}

bool pc_judge(const pc_case *c, void *const *out, void *const *reference, double *worst, char *text,
              size_t text_bytes) {
    double of_reference = 0;
    for (int o = 0; o < c->n_out; o++) {
        if (!c->out[o].type) continue;
        if (!c->want[o]) {
            if (!same_bits(&c->out[o], o, out[o], reference[o], text, text_bytes)) return false;
            continue;
        }
        if (!within(c, o, reference[o], "the CPU's reference: ", NEAR, &of_reference, text, text_bytes)) return false;
        if (!within(c, o, out[o], "", 1, worst, text, text_bytes)) return false;
    }
    return true;
}
