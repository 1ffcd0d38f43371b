/* simd.h for AVX-512 with VNNI. */

#ifndef CODEGEN_SIMD_AVX512_H
#define CODEGEN_SIMD_AVX512_H

#include <immintrin.h>

#define LANES 16
#define TILE_ROWS 6
#define TILE_GROUPS 4
#define WEIGHT_OFFSET 128
typedef float vf __attribute__((vector_size(64)));
typedef int32_t vi __attribute__((vector_size(64)));
ALWAYS vf vmax(vf a, vf b) { return (vf)_mm512_max_ps((__m512)a, (__m512)b); }
ALWAYS vf vfma(vf a, vf b, vf c) { return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
ALWAYS vf vabs(vf a) { return (vf)_mm512_abs_ps((__m512)a); }
ALWAYS vi vround(vf a) { return (vi)_mm512_cvtps_epi32((__m512)a); }
ALWAYS vf vfloat(vi a) { return (vf)_mm512_cvtepi32_ps((__m512i)a); }
ALWAYS float sum_lanes(vf a) { return _mm512_reduce_add_ps((__m512)a); }
ALWAYS float max_lanes(vf a) { return _mm512_reduce_max_ps((__m512)a); }
ALWAYS int32_t sum_lanes_i(vi a) { return _mm512_reduce_add_epi32((__m512i)a); }
ALWAYS void store_bytes(int8_t *to, vi a) { _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8((__m512i)a)); }

ALWAYS vi dot4(vi sum, vi weights, vi input) {
    return (vi)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)weights, (__m512i)input);
}

ALWAYS vi dot4_nibbles(vi sum, vi weights, vi input) { return dot4(sum, weights, input); }

ALWAYS vf vfma_exact(vf a, vf b, vf c) { return vfma(a, b, c); }
ALWAYS float half(uint16_t bits) { return _cvtsh_ss(bits); }
ALWAYS vf group_scales(const void *from, vi group_of_lane) {
    __m128 four = _mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)from));
    return (vf)_mm512_permutexvar_ps((__m512i)group_of_lane, _mm512_castps128_ps512(four));
}

#define UNPACK(lo, hi, a, b)                                                                                           \
    (_mm512_add_epi32(_mm512_unpacklo_##lo((a), (b)), _mm512_unpackhi_##hi((a), (b))))
ALWAYS vi sums_i(const vi *v) {
    __m512i a[8], b[4], c[2];
    for (int i = 0; i < 8; i++) a[i] = UNPACK(epi32, epi32, (__m512i)v[2 * i], (__m512i)v[2 * i + 1]);
    for (int i = 0; i < 4; i++) b[i] = UNPACK(epi64, epi64, a[2 * i], a[2 * i + 1]);
    for (int i = 0; i < 2; i++)
        c[i] = _mm512_add_epi32(_mm512_shuffle_i32x4(b[2 * i], b[2 * i + 1], 0x88),
                                _mm512_shuffle_i32x4(b[2 * i], b[2 * i + 1], 0xdd));
    return (vi)_mm512_add_epi32(_mm512_shuffle_i32x4(c[0], c[1], 0x88), _mm512_shuffle_i32x4(c[0], c[1], 0xdd));
}
#define UNPACK_F(a, b) (_mm512_add_ps(_mm512_unpacklo_ps((a), (b)), _mm512_unpackhi_ps((a), (b))))
#define UNPACK_D(a, b)                                                                                                 \
    (_mm512_add_ps((__m512)_mm512_unpacklo_pd((__m512d)(a), (__m512d)(b)),                                             \
                   (__m512)_mm512_unpackhi_pd((__m512d)(a), (__m512d)(b))))
ALWAYS vf sums(const vf *v) {
    __m512 a[8], b[4], c[2];
    for (int i = 0; i < 8; i++) a[i] = UNPACK_F((__m512)v[2 * i], (__m512)v[2 * i + 1]);
    for (int i = 0; i < 4; i++) b[i] = UNPACK_D(a[2 * i], a[2 * i + 1]);
    for (int i = 0; i < 2; i++)
        c[i] = _mm512_add_ps(_mm512_shuffle_f32x4(b[2 * i], b[2 * i + 1], 0x88),
                             _mm512_shuffle_f32x4(b[2 * i], b[2 * i + 1], 0xdd));
    return (vf)_mm512_add_ps(_mm512_shuffle_f32x4(c[0], c[1], 0x88), _mm512_shuffle_f32x4(c[0], c[1], 0xdd));
}

#endif
