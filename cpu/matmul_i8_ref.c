/* SPDX-License-Identifier: Apache-2.0
 *
 * Integer products, scalar: the specification of cpu/matmul_i8.h. */
#include "cpu/matmul_kernels.h"

#include <string.h>

void pare_panel_i8_ref(const pare_i8_slab *slabs, int r0, pare_i8_panel *p) {
    for (int r = 0; r < 16; r++) {
        for (int q = 0; q < PARE_I8_SLAB / 4; q++)
            memcpy(p->codes + (q * PARE_I8_ROWS + r0 + r) * 4, slabs[r].codes + 4 * q, 4);
        for (int g = 0; g < PARE_I8_SLAB / 16; g++) {
            p->scale[g][r0 + r] = slabs[r].scale[g];
            p->minimum[g][r0 + r] = slabs[r].minimum[g];
        }
    }
}

void pare_decode_slab_ref(const pare_i8_source *s, const pare_i8_slab *w, float *out) {
    const pare_int_format *f = s->type->int_format;
    for (int j = 0; j < PARE_I8_SLAB; j++) {
        int g = j / 16;
        if (!f) {
            out[j] = (float)(w->codes[j] - s->offset) * w->scale[g] + w->minimum[g]; /* the product is exact */
            continue;
        }
        float v = ((float)(w->codes[j] - s->offset) - (f->asym ? w->zero[g] : 0)) * w->scale[g];
        if (f->scale_type == &pare_qtype_f16) v = pare_f16_to_f32(pare_f32_to_f16(v));
        else if (f->scale_type == &pare_qtype_bf16) v = pare_bf16_to_f32(pare_f32_to_bf16(v));
        out[j] = v;
    }
}

static float tile_one(const pare_i8_shape *s, const pare_i8_panel *w, const pare_i8_tile *x, int r, int t) {
    int n = s->blocks * 32, per = s->group;
    float acc = 0;
    for (int c = 0, g = 0; c < n; c += per, g++) {
        int32_t sum = x->start[g][t];
        for (int j = c; j < c + per && j < n; j++)
            sum += w->codes[(j / 4 * PARE_I8_ROWS + r) * 4 + j % 4] * x->codes[j / 32][t][j % 32];
        float scale = w->scale[c / 16][r];
        acc += (float)sum * (s->by_slab ? scale : scale * x->scale[c / 32][t]);
        if (s->minima) acc += w->minimum[c / 16][r] * x->extra[g][t];
    }
    return s->by_slab ? acc * x->scale[0][t] : acc;
}

void pare_gemm_i8_ref(const pare_i8_shape *s, const pare_i8_panel *w, const pare_i8_tile *x, int tokens, float *c,
                      bool accumulate) {
    for (int t = 0; t < tokens; t++)
        for (int r = 0; r < PARE_I8_ROWS; r++) {
            float v = tile_one(s, w, x, r, t);
            c[t * PARE_I8_ROWS + r] = accumulate ? c[t * PARE_I8_ROWS + r] + v : v;
        }
}

float pare_dot_i8_ref(const pare_i8_source *s, const pare_i8_slab *w, const pare_i8_act *x, size_t first) {
    float acc = 0;
    for (size_t g = 0; g < PARE_I8_SLAB / 16; g++) {
        size_t at = first / 16 + g;
        int32_t sum = -s->offset * x->sum[at];
        for (size_t j = 16 * g; j < 16 * g + 16; j++) sum += w->codes[j] * x->codes[first + j];
        acc += (float)sum * (w->scale[g] * x->scale[at]);
        if (s->minima) acc += w->minimum[g] * x->scaled_sum[at];
    }
    return acc;
}
