/* Vectors of floats and 32-bit integers, LANES of each, for AVX-512 or AVX2. */

#ifndef CODEGEN_SIMD_H
#define CODEGEN_SIMD_H

#include <immintrin.h>
#include <stdint.h>

#define ALWAYS static inline __attribute__((always_inline))

#ifdef __AVX512F__
#define LANES 16
#define TILE_ROWS 6
#define TILE_GROUPS 4
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
ALWAYS vf load_bytes(const int8_t *from) {
    return (vf)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)from)));
}
#else
#define LANES 8
#define TILE_ROWS 2
#define TILE_GROUPS 4
typedef float vf __attribute__((vector_size(32)));
typedef int32_t vi __attribute__((vector_size(32)));
ALWAYS vf vmax(vf a, vf b) { return (vf)_mm256_max_ps((__m256)a, (__m256)b); }
ALWAYS vf vfma(vf a, vf b, vf c) { return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
ALWAYS vf vabs(vf a) { return (vf)_mm256_andnot_ps(_mm256_set1_ps(-0.0f), (__m256)a); }
ALWAYS vi vround(vf a) { return (vi)_mm256_cvtps_epi32((__m256)a); }
ALWAYS vf vfloat(vi a) { return (vf)_mm256_cvtepi32_ps((__m256i)a); }
ALWAYS float sum_lanes(vf a) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += a[i];
    return sum;
}
ALWAYS float max_lanes(vf a) {
    float most = a[0];
    for (int i = 1; i < LANES; i++) most = a[i] > most ? a[i] : most;
    return most;
}
ALWAYS int32_t sum_lanes_i(vi a) {
    int32_t sum = 0;
    for (int i = 0; i < LANES; i++) sum += a[i];
    return sum;
}
ALWAYS void store_bytes(int8_t *to, vi a) {
    for (int i = 0; i < LANES; i++) to[i] = (int8_t)a[i];
}
ALWAYS vf load_bytes(const int8_t *from) {
    return (vf)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)from)));
}
#endif

typedef float vf_any __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t vi_any __attribute__((vector_size(4 * LANES), aligned(1), may_alias));
ALWAYS vf load(const float *from) { return *(const vf_any *)from; }
ALWAYS void store(float *to, vf a) { *(vf_any *)to = a; }
ALWAYS vi load_i(const void *from) { return *(const vi_any *)from; }
ALWAYS void store_i(void *to, vi a) { *(vi_any *)to = a; }
ALWAYS vf all(float a) { return (vf){0} + a; }
ALWAYS vi all_i(int32_t a) { return (vi){0} + a; }

/* Add to each lane of `sum` the dot product of four unsigned bytes and four signed bytes. */
ALWAYS vi dot4(vi sum, vi unsigned_bytes, vi signed_bytes) {
#if defined(__AVX512VNNI__)
    return (vi)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)unsigned_bytes, (__m512i)signed_bytes);
#elif defined(__AVXVNNI__)
    return (vi)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)unsigned_bytes, (__m256i)signed_bytes);
#else /* multiply in 16 bits and add in 32, so that nothing saturates */
    __m256i u = (__m256i)unsigned_bytes, s = (__m256i)signed_bytes;
    __m256i even = _mm256_madd_epi16(_mm256_and_si256(u, _mm256_set1_epi16(255)),
                                     _mm256_srai_epi16(_mm256_slli_epi16(s, 8), 8));
    __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(u, 8), _mm256_srai_epi16(s, 8));
    return sum + (vi)even + (vi)odd;
#endif
}

#define SIGN_BITS ((int32_t)0x80808080)

/* The sums over the lanes of each of LANES vectors, as one vector. */
#if LANES == 16
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
#else
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

/* exp(x): x = n ln 2 + r; a polynomial for exp(r) (expf of Cephes, Moshier); n is added to the exponent. */
ALWAYS vf vexp(vf x) {
    x = vmax(x, all(-87.0f));
    vi n = vround(x * 1.44269504088896341f);
    vf whole = vfloat(n);
    vf r = vfma(whole, all(2.12194440e-4f), vfma(whole, all(-0.693359375f), x));
    vf p = all(1.9875691500e-4f);
    p = vfma(p, r, all(1.3981999507e-3f));
    p = vfma(p, r, all(8.3334519073e-3f));
    p = vfma(p, r, all(4.1665795894e-2f));
    p = vfma(p, r, all(1.6666665459e-1f));
    p = vfma(p, r, all(5.0000001201e-1f));
    p = vfma(p * r, r, r) + 1.0f;
    return (vf)((vi)p + (n << 23));
}

/* x times the logistic function of z, for any z. */
ALWAYS vf gated_by(vf x, vf z) {
    z = -vmax(-z, all(-80.0f)); /* clamp: exp(-z) must not overflow */
    z = vmax(z, all(-80.0f));
    return x / (1.0f + vexp(-z));
}
ALWAYS vf gelu(vf x) { return gated_by(x, 1.5957691216057308f * (x + 0.044715f * x * x * x)); } /* tanh approximation */
ALWAYS vf silu(vf x) { return gated_by(x, x); }

#endif
