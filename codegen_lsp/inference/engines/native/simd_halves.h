/* simd.h for instructions on 128 bits: NEON, with or without dot products, and SSE4.1. A vector is two halves. */

#ifndef CODEGEN_SIMD_HALVES_H
#define CODEGEN_SIMD_HALVES_H

#define LANES 8
#define TILE_ROWS 2
#define TILE_GROUPS 4
typedef float vf __attribute__((vector_size(32)));
typedef int32_t vi __attribute__((vector_size(32)));

#ifdef __aarch64__
#include <arm_neon.h>
#define WEIGHT_OFFSET 0
typedef float32x4_t hf;
typedef int32x4_t hi;
#define MAX_OF vmaxq_f32
#define FMA_OF(a, b, c) vfmaq_f32((c), (a), (b))
#define ABS_OF vabsq_f32
#define ROUND_OF vcvtnq_s32_f32
#define PAIRS_OF vpaddq_f32
#define PAIRS_I_OF vpaddq_s32
#define LOW_BYTES_OF(a, b) vmovn_s16(vcombine_s16(vmovn_s32(a), vmovn_s32(b)))
#define STORE_BYTES vst1_s8
#define ALL_OF vdupq_n_f32
#define EXACT_FMA_OF FMA_OF
ALWAYS float half(uint16_t bits) {
    __fp16 value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
ALWAYS hi dot4_half(hi sum, hi weights, hi input) {
    int8x16_t w = vreinterpretq_s8_s32(weights), x = vreinterpretq_s8_s32(input);
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(sum, w, x);
#else
    int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(x))), high = vpaddlq_s16(vmull_high_s8(w, x));
    return vaddq_s32(sum, vpaddq_s32(low, high));
#endif
}
#define DOT4_NIBBLES_OF dot4_half
#else
#include <smmintrin.h>
#define WEIGHT_OFFSET 128
typedef __m128 hf;
typedef __m128i hi;
#define MAX_OF _mm_max_ps
/* There is no fused one. In doubles the product is exact, so the results are those of AVX2 but for rare ties. */
ALWAYS __m128 fma_of(__m128 a, __m128 b, __m128 c) {
    __m128d low = _mm_add_pd(_mm_mul_pd(_mm_cvtps_pd(a), _mm_cvtps_pd(b)), _mm_cvtps_pd(c));
    a = _mm_movehl_ps(a, a), b = _mm_movehl_ps(b, b), c = _mm_movehl_ps(c, c);
    __m128d high = _mm_add_pd(_mm_mul_pd(_mm_cvtps_pd(a), _mm_cvtps_pd(b)), _mm_cvtps_pd(c));
    return _mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high));
}
#define FMA_OF fma_of
#define EXACT_FMA_OF(a, b, c) _mm_add_ps(_mm_mul_ps((a), (b)), (c))
#define ALL_OF _mm_set1_ps
/* The exponent of a float16 is 112 less; those with the least one are not normalized in either format. */
ALWAYS float half(uint16_t bits) {
    uint32_t magnitude = (uint32_t)(bits & 0x7fff) << 13, sign = (uint32_t)(bits & 0x8000) << 16;
    float value;
    memcpy(&value, &magnitude, sizeof value);
    value *= 0x1p112f;
    memcpy(&magnitude, &value, sizeof value);
    magnitude |= sign;
    memcpy(&value, &magnitude, sizeof value);
    return value;
}
#define ABS_OF(a) _mm_andnot_ps(_mm_set1_ps(-0.0f), (a))
#define ROUND_OF _mm_cvtps_epi32
#define PAIRS_OF _mm_hadd_ps
#define PAIRS_I_OF _mm_hadd_epi32
#define LOW_BYTES_OF(a, b) _mm_packs_epi16(_mm_packs_epi32((a), (b)), _mm_setzero_si128()) /* the values fit */
#define STORE_BYTES(to, a) _mm_storel_epi64((__m128i *)(to), (a))
ALWAYS hi dot4_half(hi sum, hi weights, hi input) { /* as with AVX2 */
    hi even = _mm_madd_epi16(_mm_and_si128(weights, _mm_set1_epi16(255)), _mm_srai_epi16(_mm_slli_epi16(input, 8), 8));
    hi odd = _mm_madd_epi16(_mm_srli_epi16(weights, 8), _mm_srai_epi16(input, 8));
    return _mm_add_epi32(sum, _mm_add_epi32(even, odd));
}
ALWAYS hi dot4_nibbles_half(hi sum, hi weights, hi input) { /* two products fit in 16 bits */
    return _mm_add_epi32(sum, _mm_madd_epi16(_mm_maddubs_epi16(weights, input), _mm_set1_epi16(1)));
}
#define DOT4_NIBBLES_OF dot4_nibbles_half
#endif

ALWAYS hf low(vf a) { return (hf)__builtin_shufflevector(a, a, 0, 1, 2, 3); }
ALWAYS hf high(vf a) { return (hf)__builtin_shufflevector(a, a, 4, 5, 6, 7); }
ALWAYS hi low_i(vi a) { return (hi)__builtin_shufflevector(a, a, 0, 1, 2, 3); }
ALWAYS hi high_i(vi a) { return (hi)__builtin_shufflevector(a, a, 4, 5, 6, 7); }
typedef float four __attribute__((vector_size(16)));
typedef int32_t four_i __attribute__((vector_size(16)));
ALWAYS vf both(hf a, hf b) { return __builtin_shufflevector((four)a, (four)b, 0, 1, 2, 3, 4, 5, 6, 7); }
ALWAYS vi both_i(hi a, hi b) { return __builtin_shufflevector((four_i)a, (four_i)b, 0, 1, 2, 3, 4, 5, 6, 7); }

ALWAYS vf vmax(vf a, vf b) { return both(MAX_OF(low(a), low(b)), MAX_OF(high(a), high(b))); }
ALWAYS vf vfma(vf a, vf b, vf c) {
    return both(FMA_OF(low(a), low(b), low(c)), FMA_OF(high(a), high(b), high(c)));
}
ALWAYS vf vabs(vf a) { return both(ABS_OF(low(a)), ABS_OF(high(a))); }
ALWAYS vi vround(vf a) { return both_i(ROUND_OF(low(a)), ROUND_OF(high(a))); }
ALWAYS vf vfloat(vi a) { return __builtin_convertvector(a, vf); }
ALWAYS void store_bytes(int8_t *to, vi a) { STORE_BYTES(to, LOW_BYTES_OF(low_i(a), high_i(a))); }
ALWAYS vi dot4(vi sum, vi weights, vi input) {
    return both_i(dot4_half(low_i(sum), low_i(weights), low_i(input)),
                  dot4_half(high_i(sum), high_i(weights), high_i(input)));
}
ALWAYS vi dot4_nibbles(vi sum, vi weights, vi input) {
    return both_i(DOT4_NIBBLES_OF(low_i(sum), low_i(weights), low_i(input)),
                  DOT4_NIBBLES_OF(high_i(sum), high_i(weights), high_i(input)));
}
ALWAYS vf vfma_exact(vf a, vf b, vf c) {
    return both(EXACT_FMA_OF(low(a), low(b), low(c)), EXACT_FMA_OF(high(a), high(b), high(c)));
}
ALWAYS vf group_scales(const void *from, vi group_of_lane) {
    uint16_t bits[2];
    memcpy(bits, from, sizeof bits);
    return both(ALL_OF(half(bits[0])), ALL_OF(half(bits[group_of_lane[LANES - 1]])));
}
/* In the order of simd_avx2.h: pairs, then fours, then both halves. */
ALWAYS vi sums_i(const vi *v) {
    hi l[8];
    for (int i = 0; i < 8; i++) l[i] = PAIRS_I_OF(low_i(v[i]), high_i(v[i]));
    hi a = PAIRS_I_OF(PAIRS_I_OF(l[0], l[1]), PAIRS_I_OF(l[2], l[3]));
    return both_i(a, PAIRS_I_OF(PAIRS_I_OF(l[4], l[5]), PAIRS_I_OF(l[6], l[7])));
}
ALWAYS vf sums(const vf *v) {
    hf a = PAIRS_OF(PAIRS_OF(low(v[0]), low(v[1])), PAIRS_OF(low(v[2]), low(v[3])));
    hf b = PAIRS_OF(PAIRS_OF(high(v[0]), high(v[1])), PAIRS_OF(high(v[2]), high(v[3])));
    hf c = PAIRS_OF(PAIRS_OF(low(v[4]), low(v[5])), PAIRS_OF(low(v[6]), low(v[7])));
    hf d = PAIRS_OF(PAIRS_OF(high(v[4]), high(v[5])), PAIRS_OF(high(v[6]), high(v[7])));
    return both(a, c) + both(b, d);
}

#endif
