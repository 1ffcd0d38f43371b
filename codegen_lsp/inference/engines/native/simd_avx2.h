/* simd.h for AVX2 with FMA, with or without AVX-VNNI. */

#ifndef CODEGEN_SIMD_AVX2_H
#define CODEGEN_SIMD_AVX2_H

#include <immintrin.h>

#define LANES 8
#define TILE_ROWS 2
#define TILE_GROUPS 4
#define WEIGHT_OFFSET 128
typedef float vf __attribute__((vector_size(32)));
typedef int32_t vi __attribute__((vector_size(32)));
ALWAYS vf vmax(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
ALWAYS vf vfma(vf a, vf b, vf c) { return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
ALWAYS vf vabs(vf a) { return (vf)_mm256_andnot_ps(_mm256_set1_ps(-0.0f), (__m256)a); }
ALWAYS vi vround(vf a) { return (vi)_mm256_cvtps_epi32((__m256)a); }
ALWAYS vf vfloat(vi a) { return (vf)_mm256_cvtepi32_ps((__m256i)a); }
ALWAYS void store_bytes(int8_t *to, vi a) {
    for (int i = 0; i < LANES; i++) to[i] = (int8_t)a[i];
}

ALWAYS vi dot4(vi sum, vi weights, vi input) {
#ifdef __AVXVNNI__
    return (vi)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)weights, (__m256i)input);
#else /* multiply in 16 bits and add in 32, so that nothing saturates */
    __m256i u = (__m256i)weights, s = (__m256i)input;
    __m256i even = _mm256_madd_epi16(_mm256_and_si256(u, _mm256_set1_epi16(255)),
                                     _mm256_srai_epi16(_mm256_slli_epi16(s, 8), 8));
    __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(u, 8), _mm256_srai_epi16(s, 8));
    return sum + (vi)even + (vi)odd;
#endif
}

ALWAYS vi dot4_nibbles(vi sum, vi weights, vi input) {
#ifdef __AVXVNNI__
    return dot4(sum, weights, input);
#else /* two products fit in 16 bits */
    __m256i pairs = _mm256_maddubs_epi16((__m256i)weights, (__m256i)input);
    return sum + (vi)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#endif
}

ALWAYS vf vfma_exact(vf a, vf b, vf c) { return vfma(a, b, c); }
ALWAYS float half(uint16_t bits) { return _cvtsh_ss(bits); }
ALWAYS vf group_scales(const void *from, vi group_of_lane) {
    __m128 four = _mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)from));
    return (vf)_mm256_permutevar8x32_ps(_mm256_castps128_ps256(four), (__m256i)group_of_lane);
}

ALWAYS vi sums_i(const vi *v) {
    __m256i a = _mm256_hadd_epi32((__m256i)v[0], (__m256i)v[1]), b = _mm256_hadd_epi32((__m256i)v[2], (__m256i)v[3]);
    __m256i c = _mm256_hadd_epi32((__m256i)v[4], (__m256i)v[5]), d = _mm256_hadd_epi32((__m256i)v[6], (__m256i)v[7]);
    a = _mm256_hadd_epi32(a, b), c = _mm256_hadd_epi32(c, d);
    return (vi)_mm256_add_epi32(_mm256_permute2x128_si256(a, c, 0x20), _mm256_permute2x128_si256(a, c, 0x31));
}
ALWAYS vf sums(const vf *v) {
    __m256 a = _mm256_hadd_ps((__m256)v[0], (__m256)v[1]), b = _mm256_hadd_ps((__m256)v[2], (__m256)v[3]);
    __m256 c = _mm256_hadd_ps((__m256)v[4], (__m256)v[5]), d = _mm256_hadd_ps((__m256)v[6], (__m256)v[7]);
    a = _mm256_hadd_ps(a, b), c = _mm256_hadd_ps(c, d);
    return (vf)_mm256_add_ps(_mm256_permute2f128_ps(a, c, 0x20), _mm256_permute2f128_ps(a, c, 0x31));
}

#endif
