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
#define SIGN_BIT INT32_MIN
#else
typedef double real;
typedef int64_t whole;
#define REAL_MIN 2.2250738585072014e-308
#define SIGN_BIT INT64_MIN
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

/* What GCC lacks before 12, and before 9. */
#if defined(__clang__) || __GNUC__ >= 12
#define SHUFFLE(numbers_t, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(numbers_t, a, b, ...) __builtin_shuffle(a, b, (numbers_t){__VA_ARGS__})
#endif
#if defined(__clang__) || __GNUC__ >= 9
#define CONVERT(to_t, from) __builtin_convertvector(from, to_t)
#else
#define CONVERT(to_t, from) \
    ({ to_t to_; for (unsigned i_ = 0; i_ < sizeof to_ / sizeof to_[0]; i_++) to_[i_] = (from)[i_]; to_; })
#endif

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const real *from) { vec v; memcpy(&v, from, sizeof v); return v; }
INLINE void store(real *to, vec v) { memcpy(to, &v, sizeof v); }
INLINE vec all(real x) { return x - (vec){0}; }
INLINE dvec dall(double x) { return x - (dvec){0}; }

/* Whether parts of a vector are loaded and stored as fast as a whole one. */
#define HAS_MASKS (ISA_NUMBER == ISA_avx512 || ISA_NUMBER == ISA_avx2)

/* The first `n` < WIDTH entries, 0 for the others; what lies behind them in memory is neither read nor written. */
#if ISA_NUMBER == ISA_avx512 && BITS == 32
#define FIRST(n) ((__mmask16)((1u << (n)) - 1))
INLINE vec load_part(const real *from, index_t n) { return (vec)_mm512_maskz_loadu_ps(FIRST(n), from); }
INLINE void store_part(real *to, vec v, index_t n) { _mm512_mask_storeu_ps(to, FIRST(n), (__m512)v); }
#elif ISA_NUMBER == ISA_avx512
#define FIRST(n) ((__mmask8)((1u << (n)) - 1))
INLINE vec load_part(const real *from, index_t n) { return (vec)_mm512_maskz_loadu_pd(FIRST(n), from); }
INLINE void store_part(real *to, vec v, index_t n) { _mm512_mask_storeu_pd(to, FIRST(n), (__m512d)v); }
#elif ISA_NUMBER == ISA_avx2 && BITS == 32
/* Masked stores are slow on some processors. */
INLINE __m256i first(index_t n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)); }
INLINE vec load_part(const real *from, index_t n) { return (vec)_mm256_maskload_ps(from, first(n)); }
INLINE void store_part(real *to, vec v, index_t n) {
    __m128 left = _mm256_castps256_ps128((__m256)v);
    if (n & 4) {
        _mm_storeu_ps(to, left);
        left = _mm256_extractf128_ps((__m256)v, 1);
        to += 4;
    }
    if (n & 2) {
        _mm_storel_pi((void *)to, left);
        left = _mm_movehl_ps(left, left);
        to += 2;
    }
    if (n & 1) _mm_store_ss(to, left);
}
#elif ISA_NUMBER == ISA_avx2
INLINE __m256i first(index_t n) { return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3)); }
INLINE vec load_part(const real *from, index_t n) { return (vec)_mm256_maskload_pd(from, first(n)); }
INLINE void store_part(real *to, vec v, index_t n) {
    __m128d left = _mm256_castpd256_pd128((__m256d)v);
    if (n & 2) {
        _mm_storeu_pd(to, left);
        left = _mm256_extractf128_pd((__m256d)v, 1);
        to += 2;
    }
    if (n & 1) _mm_store_sd(to, left);
}
#else
INLINE vec load_part(const real *from, index_t n) {
    vec v = {0};
    for (index_t i = 0; i < WIDTH; i++)
        if (i < n) v[i] = from[i];
    return v;
}
INLINE void store_part(real *to, vec v, index_t n) {
    for (index_t i = 0; i < WIDTH; i++)
        if (i < n) to[i] = v[i];
}
#endif

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
    return CONVERT(dvec, p);
#endif
}
INLINE vec narrow(const dvec *parts) {
#if BITS == 64
    return parts[0];
#elif ISA_NUMBER == ISA_avx512 /* not through memory, from where a vector that was stored in parts comes late */
    return (vec)_mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps((__m512d)parts[0])), _mm512_cvtpd_ps((__m512d)parts[1]), 1);
#elif ISA_NUMBER == ISA_avx2
    return (vec)_mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps((__m256d)parts[0])), _mm256_cvtpd_ps((__m256d)parts[1]), 1);
#else
    typedef float piece __attribute__((vector_size(DWIDTH * 4)));
    vec v;
    for (int part = 0; part < DPARTS; part++) {
        piece p = CONVERT(piece, parts[part]);
        memcpy((char *)&v + (size_t)part * sizeof p, &p, sizeof p);
    }
    return v;
#endif
}

INLINE vec magnitude(vec v) { return (vec)((ivec)v & ~(SIGN_BIT - (ivec){0})); }

/* Store what is not read soon past the caches, at a multiple of VECTOR_BYTES; `streamed` before another thread reads it. */
#if ISA_NUMBER == ISA_avx512
INLINE void stream(real *to, vec v) { _mm512_stream_si512((void *)to, (__m512i)v); }
#elif ISA_NUMBER == ISA_avx2
INLINE void stream(real *to, vec v) { _mm256_stream_si256((void *)to, (__m256i)v); }
#else
INLINE void stream(real *to, vec v) { store(to, v); }
#endif
#if ISA_NUMBER == ISA_avx512 || ISA_NUMBER == ISA_avx2
INLINE void streamed(void) { _mm_sfence(); }
#else
INLINE void streamed(void) {}
#endif

/* 0 (of the same sign) for numbers below the smallest normal one. */
#if ISA_NUMBER == ISA_avx512 && BITS == 32
INLINE vec flushed(vec v) {
    __mmask16 small = _mm512_fpclass_ps_mask((__m512)v, 0x20); /* denormal */
    return (vec)_mm512_mask_and_ps((__m512)v, small, (__m512)v, _mm512_set1_ps(-0.0f));
}
#elif ISA_NUMBER == ISA_avx512
INLINE vec flushed(vec v) {
    __mmask8 small = _mm512_fpclass_pd_mask((__m512d)v, 0x20); /* denormal */
    return (vec)_mm512_mask_and_pd((__m512d)v, small, (__m512d)v, _mm512_set1_pd(-0.0));
}
#elif ISA_NUMBER == ISA_avx2 && BITS == 32
INLINE vec flushed(vec v) {
    __m256 keep = _mm256_cmp_ps((__m256)magnitude(v), _mm256_set1_ps(REAL_MIN), _CMP_NLT_UQ);
    return (vec)_mm256_and_ps((__m256)v, _mm256_or_ps(keep, _mm256_set1_ps(-0.0f)));
}
#elif ISA_NUMBER == ISA_avx2
INLINE vec flushed(vec v) {
    __m256d keep = _mm256_cmp_pd((__m256d)magnitude(v), _mm256_set1_pd(REAL_MIN), _CMP_NLT_UQ);
    return (vec)_mm256_and_pd((__m256d)v, _mm256_or_pd(keep, _mm256_set1_pd(-0.0)));
}
#else
INLINE vec flushed(vec v) {
    const whole sign = SIGN_BIT;
    ivec small = (ivec)(magnitude(v) < all(REAL_MIN));
    return (vec)((ivec)v & ~(small & ~(sign - (ivec){0})));
}
#endif

/* Transpose a block: entry j of v[i] and entry i of v[j] change places. Each stage shuffles two halves like cards. */
#if WIDTH == 16
#define LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif WIDTH == 8
#define LOW 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#elif WIDTH == 4
#define LOW 0, 4, 1, 5
#define HIGH 2, 6, 3, 7
#elif WIDTH == 2
#define LOW 0, 2
#define HIGH 1, 3
#endif
INLINE void transpose(vec v[WIDTH]) {
#if WIDTH > 1
    for (int stage = 1; stage < WIDTH; stage *= 2) {
        vec shuffled[WIDTH];
        for (int i = 0; i < WIDTH / 2; i++) {
            shuffled[2 * i] = SHUFFLE(ivec, v[i], v[i + WIDTH / 2], LOW);
            shuffled[2 * i + 1] = SHUFFLE(ivec, v[i], v[i + WIDTH / 2], HIGH);
        }
        memcpy(v, shuffled, sizeof shuffled);
    }
#else
    (void)v;
#endif
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
