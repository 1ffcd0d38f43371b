/* Vectors of floats and 32-bit integers, LANES of each.

   A header for each family of instructions (`simd_avx512.h`, `simd_avx2.h`, `simd_halves.h`) defines:
   LANES, TILE_ROWS, TILE_GROUPS, and WEIGHT_OFFSET, which dot4 needs added to the weights;
   vf and vi, to which the operators of C apply;
   vmax, vfma (a b + c), vabs, vround (to nearest, ties to even), vfloat;
   sums and sums_i, the sums of each of LANES vectors as one vector;
   sum_lanes, max_lanes and sum_lanes_i, if it has instructions for them;
   store_bytes (the low bytes);
   dot4, which adds the dot product of four bytes of weights and four signed bytes to each lane of a sum;
   dot4_nibbles, which does it for weights from 0 to 15, without WEIGHT_OFFSET;
   vfma_exact, which is vfma where a b has no more than 24 bits;
   half, the value of a float16; group_scales, which are described in groups.h. */

#ifndef CODEGEN_SIMD_H
#define CODEGEN_SIMD_H

#include <stdint.h>
#include <string.h>

#define ALWAYS static inline __attribute__((always_inline))

#if defined(__AVX512F__)
#include "simd_avx512.h"
#elif defined(__AVX2__)
#include "simd_avx2.h"
#else
#include "simd_halves.h"
#endif

#ifndef __AVX512F__
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
#endif

typedef float vf_any __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t vi_any __attribute__((vector_size(4 * LANES), aligned(1), may_alias));
ALWAYS vf load(const float *from) { return *(const vf_any *)from; }
ALWAYS void store(float *to, vf a) { *(vf_any *)to = a; }
ALWAYS vi load_i(const void *from) { return *(const vi_any *)from; }
ALWAYS void store_i(void *to, vi a) { *(vi_any *)to = a; }
ALWAYS vf all(float a) { return (vf){0} + a; }
ALWAYS vi all_i(int32_t a) { return (vi){0} + a; }

/* Signed bytes of weights as dot4 takes them: with WEIGHT_OFFSET added, which flips the sign bit, or as they are. */
ALWAYS vi operand(vi weights) { return WEIGHT_OFFSET ? weights ^ (int32_t)0x80808080 : weights; }

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
