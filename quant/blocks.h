/* SPDX-License-Identifier: Apache-2.0
 *
 * Byte layouts of the GGUF block formats, by offset. f16 fields are d (scale) and m or dmin (offset).
 *
 *   32 columns    q4_0    d 0, nibbles 2 (byte i: column i low, i + 16 high)              18
 *                 q4_1    d 0, m 2, nibbles 4                                             20
 *                 q5_0    d 0, fifth bits 2 (u32, bit = column), nibbles 6                22
 *                 q5_1    d 0, m 2, fifth bits 4, nibbles 8                               24
 *                 q8_0    d 0, signed bytes 2                                             34
 *                 q8_1    d 0, s 2 (d times the sum of the codes), signed bytes 4         36
 *                 iq4_nl  d 0, nibbles 2: index into pare_iq4_values                      18
 *                 mxfp4   e8m0 exponent 0, nibbles 1: e2m1                                17
 *   256 columns   q2_k    16 x (scale | min << 4) 0, bit pairs 16, d 80, dmin 82          84
 *                 q3_k    high bits 0, bit pairs 32, 16 x 6-bit scale + 32 at 96, d 108   110
 *                 q4_k    d 0, dmin 2, 8 x 6-bit scale and min at 4, nibbles 16           144
 *                 q5_k    d 0, dmin 2, the same at 4, fifth bits 16, nibbles 48           176
 *                 q6_k    low nibbles 0, high bit pairs 128, 16 signed scales 192, d 208  210
 *                 q8_k    d 0 (f32), signed bytes 4, 16 x i16 sums 260                    292
 *                 iq4_xs  d 0, high scale bits 2, low nibbles of the scales 4, codes 8    136
 */
#ifndef PARE_QUANT_BLOCKS_H
#define PARE_QUANT_BLOCKS_H

#include <stdint.h>

extern const float pare_iq4_values[16];

static inline uint32_t pare_le32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* q4_k, q5_k: scale and min of sub-blocks 0-3 are the low six bits of bytes 0-3 and 4-7; of 4-7 the low four bits are
 * the nibbles of bytes 8-11 and the high two bits are the top bits of bytes 0-3 and 4-7. */
static inline void pare_k_scales(const uint8_t *p, uint8_t *sc, uint8_t *mn) {
    for (int j = 0; j < 4; j++) {
        sc[j] = p[j] & 63;
        mn[j] = p[j + 4] & 63;
        sc[j + 4] = (uint8_t)((p[j + 8] & 15) | (p[j] >> 6) << 4);
        mn[j + 4] = (uint8_t)(p[j + 8] >> 4 | (p[j + 4] >> 6) << 4);
    }
}

/* q3_k: low nibbles in bytes 0-7 (0-7 low, 8-15 high), two high bits each in bytes 8-11; stored + 32. */
static inline void pare_q3_k_scales(const uint8_t *p, int8_t *sc) {
    for (int j = 0; j < 16; j++) {
        int low = j < 8 ? p[j] & 15 : p[j - 8] >> 4, high = p[8 + j % 4] >> (2 * (j / 4)) & 3;
        sc[j] = (int8_t)((low | high << 4) - 32);
    }
}

static inline int pare_iq4_xs_scale(const uint8_t *block, int j) {
    int low = block[4 + j / 2] >> (4 * (j % 2)) & 15, high = (block[2] | block[3] << 8) >> (2 * j) & 3;
    return (low | high << 4) - 32;
}

#endif
