/* Elementary functions on vectors of doubles: + - x / fma and integers alone, so that any width gives the same bits.
 *
 * Kernels of floats widen to doubles, compute here with what a float needs, and round once. Errors of floats and of
 * doubles are below 2 ulp (see scripts/ulp_errors.py), special values those of C99, Annex F. Constants are those of the
 * functions themselves: terms of their series, and for erf minimax fits.
 */
#ifndef HPCNN_FUNCTIONS_H
#define HPCNN_FUNCTIONS_H

#include "simd.h"

#define LOG2_E 1.4426950408889634
#define LN2_HIGH 6.93147180369123816490e-01 /* ends in zeros: its product with a small integer is exact */
#define LN2_LOW 1.90821492927058770002e-10
#define ROUNDING 6755399441055744.0 /* 3 x 2^51: added and subtracted, it leaves a whole number */
#define TOP_BIT INT64_MIN

INLINE divec dwhole(int64_t n) { return n - (divec){0}; }
INLINE dvec dabs(dvec x) { return (dvec)((divec)x & dwhole(INT64_MAX)); }
INLINE dvec with_sign_of(dvec x, dvec sign) { return (dvec)(((divec)x & dwhole(INT64_MAX)) | ((divec)sign & dwhole(TOP_BIT))); }
/* 2^n, for n from -1022 to 1023. */
INLINE dvec power_of_two(divec n) { return (dvec)((n + dwhole(1023)) << 52); }
/* Limits that a NaN passes. */
#if ISA_NUMBER == ISA_avx512
INLINE dvec at_most(dvec x, double limit) { return (dvec)_mm512_min_pd((__m512d)dall(limit), (__m512d)x); }
INLINE dvec at_least(dvec x, double limit) { return (dvec)_mm512_max_pd((__m512d)dall(limit), (__m512d)x); }
#elif ISA_NUMBER == ISA_avx2
INLINE dvec at_most(dvec x, double limit) { return (dvec)_mm256_min_pd((__m256d)dall(limit), (__m256d)x); }
INLINE dvec at_least(dvec x, double limit) { return (dvec)_mm256_max_pd((__m256d)dall(limit), (__m256d)x); }
#else
INLINE dvec at_most(dvec x, double limit) { return dpick((divec)(x > dall(limit)), dall(limit), x); }
INLINE dvec at_least(dvec x, double limit) { return dpick((divec)(x < dall(limit)), dall(limit), x); }
#endif

/* x 2^n, rounded once, for n from -2044 to 2046; 2^n may be out of range while the result is not. */
#if ISA_NUMBER == ISA_avx512
INLINE dvec scaled(dvec x, divec n) { return (dvec)_mm512_scalef_pd((__m512d)x, _mm512_cvtepi64_pd((__m512i)n)); }
#else
INLINE dvec scaled(dvec x, divec n) {
    divec half = n >> 1;
    return x * power_of_two(half) * power_of_two(n - half);
}
#endif

/* x = n log(2) + r + rest, with |r| <= log(2) / 2; the rest is what r was rounded by. */
INLINE dvec reduce(dvec x, divec *n, dvec *rest) {
    dvec shifted = dfma(x, dall(LOG2_E), dall(ROUNDING));
    dvec whole = shifted - dall(ROUNDING);
    *n = (divec)shifted - (divec)dall(ROUNDING);
    dvec high = dfma(whole, dall(-LN2_HIGH), x), low = whole * dall(LN2_LOW), r = high - low;
    *rest = (high - r) - low;
    return r;
}

/* (exp(r) - 1 - r) / r^2 for |r| <= log(2) / 2: the series, to 4e-18; for floats to 2e-10. */
INLINE dvec exp_tail(dvec r) {
#if BITS == 64
    dvec p = dall(1 / 87178291200.0);
    p = dfma(p, r, dall(1 / 6227020800.0));
    p = dfma(p, r, dall(1 / 479001600.0));
    p = dfma(p, r, dall(1 / 39916800.0));
    p = dfma(p, r, dall(1 / 3628800.0));
    p = dfma(p, r, dall(1 / 362880.0));
#else
    dvec p = dall(1 / 362880.0);
#endif
    p = dfma(p, r, dall(1 / 40320.0));
    p = dfma(p, r, dall(1 / 5040.0));
    p = dfma(p, r, dall(1 / 720.0));
    p = dfma(p, r, dall(1 / 120.0));
    p = dfma(p, r, dall(1 / 24.0));
    p = dfma(p, r, dall(1 / 6.0));
    return dfma(p, r, dall(1 / 2.0));
}

/* The sum of a and b, where a is 0 or not the smaller, and what it was rounded by (Dekker, 1971). For floats that is
 * not needed: 0. */
INLINE dvec sum_of(dvec a, dvec b, dvec *low) {
    dvec sum = a + b;
    *low = BITS == 64 ? (a - sum) + b : dall(0);
    return sum;
}
/* The same with one more small term in the exact sum. */
INLINE dvec sum_of_three(dvec a, dvec b, dvec small, dvec *low) {
    if (BITS == 32) return sum_of(a, b, low);
    dvec rest, sum = sum_of(a, b, &rest);
    return sum_of(sum, rest + small, low);
}

/* exp(x) = (1 + high + low) 2^n; high is returned. */
INLINE dvec exp_parts(dvec x, divec *n, dvec *low) {
    dvec rest, r = reduce(x, n, &rest);
    if (BITS == 32) return *low = dall(0), dfma(exp_tail(r), r * r, r);
    return sum_of(r, dfma(exp_tail(r), r * r, rest), low);
}

INLINE dvec exp_pair(dvec x, dvec *low) {
    divec n;
    dvec small, p = exp_parts(x, &n, &small);
    dvec high = sum_of_three(dall(1), p, small, low);
    *low = BITS == 64 ? scaled(*low, n) : dall(0);
    return scaled(high, n);
}

INLINE dvec dexp(dvec x) {
    dvec low;
    return exp_pair(at_least(at_most(x, 710), -746), &low);
}

INLINE dvec expm1_pair(dvec x, dvec *low) {
    divec n;
    dvec small, p = exp_parts(x, &n, &small);
    divec half = n >> 1;
    dvec scale = power_of_two(half), rest = power_of_two(n - half);
    /* (p + 1) 2^n - 1 */
    dvec high = sum_of_three(scale - power_of_two(half - n), p * scale, small * scale, low);
    *low = *low * rest;
    return high * rest;
}

INLINE dvec dexpm1(dvec x) {
    dvec low, y = expm1_pair(at_least(at_most(x, 710), -50), &low);
    return dpick((divec)(x == dall(0)), x, y);
}

INLINE dvec dlog(dvec x) {
    divec tiny = (divec)(x < dall(2.2250738585072014e-308));
    dvec scaled = dpick(tiny, x * dall(18014398509481984.0), x); /* 2^54 */
    divec bits = (divec)scaled;
    /* The exponent of the number as if it were between sqrt(1/2) and sqrt(2). */
    divec e = ((bits - dwhole(0x3fe6a09e667f3bcd)) >> 52);
    dvec m = (dvec)(bits - (e << 52));
    e = e - (tiny & dwhole(54));
    dvec exponent = (dvec)((e + dwhole(0x4338000000000000))) - dall(ROUNDING);
    dvec f = m - dall(1), s = f / (f + dall(2)), z = s * s;
#if BITS == 64
    dvec p = dall(2 / 21.0);
    p = dfma(p, z, dall(2 / 19.0));
    p = dfma(p, z, dall(2 / 17.0));
    p = dfma(p, z, dall(2 / 15.0));
    p = dfma(p, z, dall(2 / 13.0));
    p = dfma(p, z, dall(2 / 11.0));
#else
    dvec p = dall(2 / 11.0);
#endif
    p = dfma(p, z, dall(2 / 9.0));
    p = dfma(p, z, dall(2 / 7.0));
    p = dfma(p, z, dall(2 / 5.0));
    p = dfma(p, z, dall(2 / 3.0));
    dvec half_square = f * f * dall(0.5);
    dvec low = dfma(s, dfma(p, z, half_square), exponent * dall(LN2_LOW));
    dvec y = dfma(exponent, dall(LN2_HIGH), f - (half_square - low));
    y = dpick((divec)(x == dall(INFINITY)), x, y);
    y = dpick((divec)(x == dall(0)), dall(-INFINITY), y);
    return dpick((divec)(x >= dall(0)), y, dall(NAN));
}

INLINE dvec dlog1p(dvec x) {
    dvec u = x + dall(1);
    dvec y = dlog(u) + (x - (u - dall(1))) / u; /* and what was lost when 1 was added */
    y = dpick((divec)(u == dall(INFINITY)), u, y);
    y = dpick((divec)(u == dall(0)), dall(-INFINITY), y);
    return dpick((divec)(x == dall(0)), x, y);
}

/* (high + low) / (d + d_low) from what its quotient in doubles leaves; `inverse` is 1 / d, roughly. */
#define CORRECTED(y, high, low, d, d_low, inverse) dfma(dfma(-(y), d, high) + dfma(-(y), d_low, low), inverse, y)

INLINE dvec dtanh(dvec x) {
    dvec low, d_low, m = expm1_pair(at_most(dabs(x), 22) * dall(-2), &low); /* tanh |x| = -m / (2 + m) */
    dvec d = sum_of(dall(2), m, &d_low), y = -m / d;
    if (BITS == 64) y = CORRECTED(y, -m, -low, d, d_low + low, dfma(y, dall(0.5), dall(0.5)));
    return with_sign_of(y, x);
}

/* sigmoid(x) from exp(-|x|), as e / (1 + e) or 1 / (1 + e). */
INLINE dvec sigmoid_of(dvec x, dvec e, dvec low) {
    divec negative = (divec)(x < dall(0));
    dvec d_low, d = sum_of(dall(1), e, &d_low), high = dpick(negative, e, dall(1)), y = high / d;
    if (BITS == 32) return y;
    return CORRECTED(y, high, dpick(negative, low, dall(0)), d, d_low + low, dpick(negative, dall(1) - y, y));
}
INLINE dvec dsigmoid(dvec x) {
    dvec low, e = exp_pair(-at_most(dabs(x), 746), &low);
    return sigmoid_of(x, e, low);
}

INLINE dvec polynomial(const double *coefficients, int degree, dvec x) {
    dvec y = dall(coefficients[degree]);
    for (int i = degree - 1; i >= 0; i--) y = dfma(y, x, dall(coefficients[i]));
    return y;
}

/* Minimax fits by Remez's exchange in 50 digits: for doubles erf(x) / x - 1 to |x| = 1, to 2e-19, and beyond it
 * log(erfc(1 + u)) to u = 4.95, weighted so that erf is exact to 7e-18; for floats the rational one of hpcnn/nn/erf.py,
 * which is exact enough near -1 for gelu, too. */
#if BITS == 64
INLINE dvec derf(dvec x) {
    static const double near[13] = {
        0.1283791670955126, -0.3761263890318375, 0.11283791670954857, -0.026866170645072896, 0.0052239776247808714,
        -0.000854832697874242, 0.00012055331036906218, -1.4925593507021922e-05, 1.6460972818781747e-06,
        -1.6350025238326967e-07, 1.4657879932816842e-08, -1.1365666271055627e-09, 5.945262225111614e-11};
    static const double far[18] = {
        -1.8496055099332482, -2.6389675142347775, -0.8431072563593303, -0.041561098026684666, 0.010033825195181359,
        -0.0019779013111060426, 0.00023731679949622316, 2.629537739823454e-05, -2.7197231068595512e-05,
        9.66907497838474e-06, -2.1297184328633265e-06, 2.03239686932183e-07, 5.8824531841397635e-08,
        -3.369395616368336e-08, 8.597606600872972e-09, -1.3327011586579832e-09, 1.207187174792528e-10,
        -4.929037639694629e-12};
    dvec a = at_most(dabs(x), 5.95); /* where erf rounds to 1 */
    dvec y = dfma(a, polynomial(near, 12, a * a), a), tail = dexp(polynomial(far, 17, a - dall(1)));
    return with_sign_of(dpick((divec)(a > dall(1)), dall(1) - tail, y), x);
}
#else
INLINE dvec derf(dvec x) {
    static const double numerator[13] = {
        1.1283791670955126, 0.22006855549379578, 0.0661034379154435, 0.006883949700155888, 0.0008551635721330873,
        5.688147235302469e-05, 3.897160637486431e-06, 1.6926997545179697e-07, 6.754243788666615e-09,
        1.718104608789979e-10, 3.3380744898529584e-12, 2.2318618092768735e-14, 1.5769016609517148e-17};
    static const double denominator[13] = {
        1.0, 0.5283640126574272, 0.13470398409816928, 0.021975192154073248, 0.0025630005351410987,
        0.00022590797381978313, 1.5483839183835524e-05, 8.34154108311699e-07, 3.5118406953277925e-08,
        1.1235427643799748e-09, 2.548220315619966e-11, 3.3238996028334845e-13, 8.877004874173226e-16};
    dvec y = at_least(at_most(x, 5.98), -5.98), square = y * y;
    return at_least(at_most(y * (polynomial(numerator, 12, square) / polynomial(denominator, 12, square)), 1), -1);
}
#endif

/* A function of each double of a vec. */
#define OF_DOUBLES(v, function) \
    ({ \
        dvec parts_[DPARTS]; \
        for (int part_ = 0; part_ < DPARTS; part_++) parts_[part_] = function(widen(v, part_)); \
        narrow(parts_); \
    })

/* LANES entries of a row as doubles; of a row's last block, `count` may be fewer. */
#define BLOCK (LANES / DWIDTH)
#define EACH_BLOCK(n) for (index_t i = 0, count = (n); i < (n); i += LANES, count -= LANES)
#define EACH_DVEC for (int k = 0; k < BLOCK; k++)

/* Entries that are not there are 0. */
INLINE void load_block(const real *from, index_t count, dvec *block) {
    for (int j = 0; j < LANES / WIDTH; j++) {
        const index_t left = count - j * WIDTH;
        vec v = left >= WIDTH ? load(from + j * WIDTH) : left > 0 ? load_part(from + j * WIDTH, left) : all(0);
        for (int part = 0; part < DPARTS; part++) block[j * DPARTS + part] = widen(v, part);
    }
}
INLINE void store_block(real *to, index_t count, const dvec *block) {
    for (int j = 0; j < LANES / WIDTH; j++) {
        const index_t left = count - j * WIDTH;
        vec v = flushed(narrow(block + j * DPARTS));
        if (left >= WIDTH) store(to + j * WIDTH, v);
        else if (left > 0) store_part(to + j * WIDTH, v, left);
    }
}
/* The numbers of the lanes of dvec k. */
INLINE divec lanes_of(int k) {
    divec lanes;
    for (int j = 0; j < DWIDTH; j++) lanes[j] = k * DWIDTH + j;
    return lanes;
}
/* 0 in the lanes from `count` on. */
INLINE void only_first(index_t count, dvec *block) {
    if (count < LANES) EACH_DVEC block[k] = dpick((divec)(lanes_of(k) < dwhole(count)), block[k], dall(0));
}

/* The sum of a block, as operations.h has it. */
INLINE double folded(const dvec *block) {
    dvec sums[BLOCK];
    memcpy(sums, block, sizeof sums);
    for (int half = BLOCK / 2; half; half /= 2)
        for (int k = 0; k < half; k++) sums[k] = sums[k] + sums[k + half];
    dvec v = sums[0];
#if DWIDTH == 8
    v = v + SHUFFLE(divec, v, v, 4, 5, 6, 7, 0, 1, 2, 3);
    v = v + SHUFFLE(divec, v, v, 2, 3, 0, 1, 6, 7, 4, 5);
    v = v + SHUFFLE(divec, v, v, 1, 0, 3, 2, 5, 4, 7, 6);
#elif DWIDTH == 4
    v = v + SHUFFLE(divec, v, v, 2, 3, 0, 1);
    v = v + SHUFFLE(divec, v, v, 1, 0, 3, 2);
#elif DWIDTH == 2
    v = v + SHUFFLE(divec, v, v, 1, 0);
#endif
    return v[0];
}

/* The largest of n > 0 numbers; one that is NaN may count or not. */
INLINE real largest_of(const real *z, index_t n) {
    real most[WIDTH] = {-(real)INFINITY};
    if (n < WIDTH) {
        for (index_t i = 0; i < n; i++) most[0] = z[i] > most[0] ? z[i] : most[0];
        return most[0];
    }
    vec all_most = all(-(real)INFINITY);
    for (index_t i = 0; i + WIDTH <= n; i += WIDTH) all_most = larger(load(z + i), all_most);
    store(most, larger(load(z + n - WIDTH), all_most)); /* the last ones, some of them again */
    for (int half = WIDTH / 2; half; half /= 2)
        for (int j = 0; j < half; j++) most[j] = most[j + half] > most[j] ? most[j + half] : most[j];
    return most[0];
}

/* z - largest of a block of a row, and exp of that, 0 where there is no entry. */
INLINE void softmax_block(const real *z, index_t count, double largest, dvec *shifted, dvec *power) {
    load_block(z, count, shifted);
    EACH_DVEC {
        shifted[k] -= dall(largest);
        power[k] = dexp(shifted[k]);
    }
    only_first(count, power);
}

#endif
