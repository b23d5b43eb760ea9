/* Vectors of one instruction set and one type: the only file that knows intrinsics.
 *
 * A kernel's source is compiled once for each pair, with -DISA=scalar|avx2|avx512|neon -DBITS=32|64 and without
 * contraction of a * b + c (-ffp-contract=off). It sees `real`, `vec` (WIDTH reals), `dvec` (doubles: a vec widens to
 * DPARTS of them) and NAME(f), its own name in that variant. + - * / and comparisons are the compiler's own on vectors;
 * a comparison gives integers with all bits set where it holds, which `pick` takes.
 */
#ifndef HPCNN_SIMD_H
#define HPCNN_SIMD_H

#include <math.h>
#include <string.h>

#include "operations.h"

#define PASTE3(a, b, c) a##_##b##_##c
#define EXPAND3(a, b, c) PASTE3(a, b, c)
#define NAME(f) EXPAND3(f, ISA, BITS)
#define ISA_scalar 1
#define ISA_avx2 2
#define ISA_avx512 3
#define ISA_neon 4
#define PASTE2(a, b) a##b
#define EXPAND2(a, b) PASTE2(a, b)
#define ISA_NUMBER EXPAND2(ISA_, ISA)

#if BITS == 32
typedef float real;
typedef int32_t whole; /* as wide as a real */
#define REAL_MIN 1.17549435e-38f
#else
typedef double real;
typedef int64_t whole;
#define REAL_MIN 2.2250738585072014e-308
#endif

#if ISA_NUMBER == ISA_avx512
#include <immintrin.h>
#define VECTOR_BYTES 64
#elif ISA_NUMBER == ISA_avx2
#include <immintrin.h>
#define VECTOR_BYTES 32
#elif ISA_NUMBER == ISA_neon
#include <arm_neon.h>
#define VECTOR_BYTES 16
#else
#define VECTOR_BYTES (BITS / 8)
#endif

#define WIDTH (VECTOR_BYTES / (BITS / 8))
typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef whole ivec __attribute__((vector_size(VECTOR_BYTES)));
#if BITS == 32 && WIDTH > 1
#define DPARTS 2
#define DWIDTH (WIDTH / 2)
#else
#define DPARTS 1
#define DWIDTH WIDTH
#endif
typedef double dvec __attribute__((vector_size(DWIDTH * 8)));
typedef int64_t divec __attribute__((vector_size(DWIDTH * 8)));

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const real *from) { vec v; memcpy(&v, from, sizeof v); return v; }
INLINE void store(real *to, vec v) { memcpy(to, &v, sizeof v); }
INLINE vec all(real x) { return x - (vec){0}; }
INLINE dvec dall(double x) { return x - (dvec){0}; }

/* The first `n` < WIDTH entries, 0 for the others. */
INLINE vec load_part(const real *from, index_t n) {
    vec v = {0};
    memcpy(&v, from, (size_t)n * sizeof(real));
    return v;
}
INLINE void store_part(real *to, vec v, index_t n) { memcpy(to, &v, (size_t)n * sizeof(real)); }

INLINE vec pick(ivec where, vec yes, vec no) { return (vec)((where & (ivec)yes) | (~where & (ivec)no)); }
INLINE dvec dpick(divec where, dvec yes, dvec no) { return (dvec)((where & (divec)yes) | (~where & (divec)no)); }

/* a x b + c, rounded once. */
#if ISA_NUMBER == ISA_avx512
#if BITS == 32
INLINE vec fma_(vec a, vec b, vec c) { return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
INLINE vec root(vec a) { return (vec)_mm512_sqrt_ps((__m512)a); }
INLINE vec larger(vec a, vec b) { return (vec)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE vec smaller(vec a, vec b) { return (vec)_mm512_min_ps((__m512)a, (__m512)b); }
#else
INLINE vec larger(vec a, vec b) { return (vec)_mm512_max_pd((__m512d)a, (__m512d)b); }
INLINE vec smaller(vec a, vec b) { return (vec)_mm512_min_pd((__m512d)a, (__m512d)b); }
#endif
INLINE dvec dfma(dvec a, dvec b, dvec c) { return (dvec)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c); }
INLINE dvec droot(dvec a) { return (dvec)_mm512_sqrt_pd((__m512d)a); }
#elif ISA_NUMBER == ISA_avx2
#if BITS == 32
INLINE vec fma_(vec a, vec b, vec c) { return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
INLINE vec root(vec a) { return (vec)_mm256_sqrt_ps((__m256)a); }
INLINE vec larger(vec a, vec b) { return (vec)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE vec smaller(vec a, vec b) { return (vec)_mm256_min_ps((__m256)a, (__m256)b); }
#else
INLINE vec larger(vec a, vec b) { return (vec)_mm256_max_pd((__m256d)a, (__m256d)b); }
INLINE vec smaller(vec a, vec b) { return (vec)_mm256_min_pd((__m256d)a, (__m256d)b); }
#endif
INLINE dvec dfma(dvec a, dvec b, dvec c) { return (dvec)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
INLINE dvec droot(dvec a) { return (dvec)_mm256_sqrt_pd((__m256d)a); }
#elif ISA_NUMBER == ISA_neon
#if BITS == 32
INLINE vec fma_(vec a, vec b, vec c) { return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
INLINE vec root(vec a) { return (vec)vsqrtq_f32((float32x4_t)a); }
#endif
INLINE vec larger(vec a, vec b) { return pick((ivec)(a > b), a, b); }
INLINE vec smaller(vec a, vec b) { return pick((ivec)(a < b), a, b); }
INLINE dvec dfma(dvec a, dvec b, dvec c) { return (dvec)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b); }
INLINE dvec droot(dvec a) { return (dvec)vsqrtq_f64((float64x2_t)a); }
#else
#if BITS == 32
INLINE vec fma_(vec a, vec b, vec c) { return (vec){fmaf(a[0], b[0], c[0])}; }
INLINE vec root(vec a) { return (vec){sqrtf(a[0])}; }
#endif
INLINE vec larger(vec a, vec b) { return pick((ivec)(a > b), a, b); }  /* b where one is NaN */
INLINE vec smaller(vec a, vec b) { return pick((ivec)(a < b), a, b); }
INLINE dvec dfma(dvec a, dvec b, dvec c) { return (dvec){fma(a[0], b[0], c[0])}; }
INLINE dvec droot(dvec a) { return (dvec){sqrt(a[0])}; }
#endif
#if BITS == 64
INLINE vec fma_(vec a, vec b, vec c) { return dfma(a, b, c); }
INLINE vec root(vec a) { return droot(a); }
#endif

/* Part number `part` of a vec as doubles, and DPARTS of them as a vec. */
INLINE dvec widen(vec v, int part) {
#if BITS == 64
    (void)part;
    return v;
#else
    typedef float piece __attribute__((vector_size(DWIDTH * 4)));
    piece p;
    memcpy(&p, (const char *)&v + (size_t)part * sizeof p, sizeof p);
    return __builtin_convertvector(p, dvec);
#endif
}
INLINE vec narrow(const dvec *parts) {
#if BITS == 64
    return parts[0];
#else
    typedef float piece __attribute__((vector_size(DWIDTH * 4)));
    vec v;
    for (int part = 0; part < DPARTS; part++) {
        piece p = __builtin_convertvector(parts[part], piece);
        memcpy((char *)&v + (size_t)part * sizeof p, &p, sizeof p);
    }
    return v;
#endif
}

INLINE vec magnitude(vec v) { return (vec)((ivec)v & ~(((whole)1 << (BITS - 1)) - (ivec){0})); }
/* 0 (of the same sign) for numbers below the smallest normal one. */
INLINE vec flushed(vec v) {
    ivec small = (ivec)(magnitude(v) < all(REAL_MIN));
    return (vec)((ivec)v & ~(small & ~(((whole)1 << (BITS - 1)) - (ivec){0})));
}

/* Whole numbers of 64 bits, as many as a dvec has doubles: the products of the low 32 bits. */
typedef uint64_t uvec __attribute__((vector_size(DWIDTH * 8)));
#if ISA_NUMBER == ISA_avx512
INLINE uvec multiply_low(uvec a, uvec b) { return (uvec)_mm512_mul_epu32((__m512i)a, (__m512i)b); }
#elif ISA_NUMBER == ISA_avx2
INLINE uvec multiply_low(uvec a, uvec b) { return (uvec)_mm256_mul_epu32((__m256i)a, (__m256i)b); }
#elif ISA_NUMBER == ISA_neon
INLINE uvec multiply_low(uvec a, uvec b) { return (uvec)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b)); }
#else
INLINE uvec multiply_low(uvec a, uvec b) { return (a & 0xffffffffu) * (b & 0xffffffffu); }
#endif

#endif
