/* SPDX-License-Identifier: Apache-2.0
 *
 * Part of quant/qops_impl.h: nearest entry of the codebook pare_iq4_values, on lanes. Midpoints between neighbouring
 * entries are exact in f32; a value on one belongs to the higher entry. With permutations the 15 midpoints are searched
 * in four steps (k becomes 2 k + 1 where the value is not below the edge that k selects), without them all are
 * compared. */

static const float iq4_edges[15] = {-115.5f, -93.5f, -74,   -57,   -42, -28.5f, -16, -4.5f,
                                    7,       19,     31.5f, 45.5f, 61,  79,     101};

#if defined(__AVX512F__)
typedef __m512i viq4;
static inline viq4 iq4_step(viq4 k, vf v, vf edge) {
    k = _mm512_add_epi32(k, k);
    return _mm512_mask_add_epi32(k, _mm512_cmp_ps_mask(v, edge, _CMP_NLT_UQ), k, _mm512_set1_epi32(1));
}
static inline viq4 iq4_find(vf v) {
    const __m512 two = _mm512_setr_ps(-57, 45.5f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m512 four = _mm512_setr_ps(-93.5f, -28.5f, 19, 79, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m512 eight = _mm512_setr_ps(-115.5f, -74, -42, -16, 7, 31.5f, 61, 101, 0, 0, 0, 0, 0, 0, 0, 0);
    viq4 k = iq4_step(_mm512_setzero_si512(), v, v_set(-4.5f));
    k = iq4_step(k, v, _mm512_permutexvar_ps(k, two));
    k = iq4_step(k, v, _mm512_permutexvar_ps(k, four));
    return iq4_step(k, v, _mm512_permutexvar_ps(k, eight));
}
static inline vf iq4_value(viq4 k) { return _mm512_permutexvar_ps(k, v_load(pare_iq4_values)); }
static inline void iq4_store(int8_t *p, viq4 k) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(k)); }

#elif defined(__AVX2__)
typedef __m256i viq4;
static inline viq4 iq4_step(viq4 k, vf v, vf edge) {
    return _mm256_sub_epi32(_mm256_add_epi32(k, k), _mm256_castps_si256(_mm256_cmp_ps(v, edge, _CMP_NLT_UQ)));
}
static inline viq4 iq4_find(vf v) {
    const __m256 two = _mm256_setr_ps(-57, 45.5f, 0, 0, 0, 0, 0, 0);
    const __m256 four = _mm256_setr_ps(-93.5f, -28.5f, 19, 79, 0, 0, 0, 0);
    const __m256 eight = _mm256_setr_ps(-115.5f, -74, -42, -16, 7, 31.5f, 61, 101);
    viq4 k = iq4_step(_mm256_setzero_si256(), v, v_set(-4.5f));
    k = iq4_step(k, v, _mm256_permutevar8x32_ps(two, k));
    k = iq4_step(k, v, _mm256_permutevar8x32_ps(four, k));
    return iq4_step(k, v, _mm256_permutevar8x32_ps(eight, k));
}
static inline vf iq4_value(viq4 k) {
    vf low = _mm256_permutevar8x32_ps(v_load(pare_iq4_values), k);
    vf high = _mm256_permutevar8x32_ps(v_load(pare_iq4_values + 8), k);
    return v_sel(_mm256_castsi256_ps(_mm256_slli_epi32(k, 28)), high, low); /* bit 3 to the sign */
}
static inline void iq4_store(int8_t *p, viq4 k) { v_store_i8(p, _mm256_cvtepi32_ps(k)); }

#else
typedef vmask viq4;
static inline viq4 iq4_find(vf v) {
    viq4 k = {0, 0, 0, 0};
    for (int e = 0; e < 15; e++) k -= ~v_lt(v, v_set(iq4_edges[e]));
    return k;
}
static inline vf iq4_value(viq4 k) {
    return (vf){pare_iq4_values[k[0]], pare_iq4_values[k[1]], pare_iq4_values[k[2]], pare_iq4_values[k[3]]};
}
static inline void iq4_store(int8_t *p, viq4 k) {
    for (int i = 0; i < LANES; i++) p[i] = (int8_t)k[i];
}
#endif

static void snap_iq4(const float *x, size_t run, size_t runs, const float *inv, int8_t *codes) {
    for (size_t r = 0; r < runs; r++, x += run, codes += run) {
        vf m = v_set(inv[r]);
        size_t i = 0;
        for (; i + LANES <= run; i += LANES) iq4_store(codes + i, iq4_find(v_load(x + i) * m));
        for (; i < run; i++) {
            int k = 0;
            for (int e = 0; e < 15; e++) k += !(x[i] * inv[r] < iq4_edges[e]);
            codes[i] = (int8_t)k;
        }
    }
}
