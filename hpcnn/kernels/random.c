#include "random.h"

#include <math.h>

#include "scalar.h"

static uint32_t low_word(uint64_t x) { return (uint32_t)x; }
static uint32_t high_word(uint64_t x) { return (uint32_t)(x >> 32); }

void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = high_word(p1) ^ c1 ^ k0;
        c2 = high_word(p0) ^ c3 ^ k1;
        c1 = low_word(p1);
        c3 = low_word(p0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

/* The 64-bit numbers of a counter: two at a time. */
struct draws {
    uint32_t key[2], counter[4], words[4];
};

static void refill(struct draws *draws) { philox(draws->counter, draws->key, draws->words); }
static uint64_t drawn(const struct draws *draws, int which) {
    return draws->words[2 * which] | (uint64_t)draws->words[2 * which + 1] << 32;
}

/* AS 241: the inverse of the normal distribution function at 1/2 + q; `tail` is 1/2 - |q|. */
static double inverse_normal(double q, double tail) {
    if (q <= 0.425 && q >= -0.425) {
        const double r = 0.180625 - q * q;
        return q * (((((((2.5090809287301226727e+3 * r + 3.3430575583588128105e+4) * r + 6.7265770927008700853e+4) * r
            + 4.5921953931549871457e+4) * r + 1.3731693765509461125e+4) * r + 1.9715909503065514427e+3) * r
            + 1.3314166789178437745e+2) * r + 3.3871328727963666080e+0)
            / (((((((5.2264952788528545610e+3 * r + 2.8729085735721942674e+4) * r + 3.9307895800092710610e+4) * r
            + 2.1213794301586595867e+4) * r + 5.3941960214247511077e+3) * r + 6.8718700749205790830e+2) * r
            + 4.2313330701600911252e+1) * r + 1.0);
    }
    double r = sqrt(-scalar_log(tail)), value;
    if (r <= 5) {
        r -= 1.6;
        value = (((((((7.74545014278341407640e-4 * r + 2.27238449892691845833e-2) * r + 2.41780725177450611770e-1) * r
            + 1.27045825245236838258e+0) * r + 3.64784832476320460504e+0) * r + 5.76949722146069140550e+0) * r
            + 4.63033784615654529590e+0) * r + 1.42343711074968357734e+0)
            / (((((((1.05075007164441684324e-9 * r + 5.47593808499534494600e-4) * r + 1.51986665636164571966e-2) * r
            + 1.48103976427480074590e-1) * r + 6.89767334985100004550e-1) * r + 1.67638483018380384940e+0) * r
            + 2.05319162663775882187e+0) * r + 1.0);
    } else {
        r -= 5;
        value = (((((((2.01033439929228813265e-7 * r + 2.71155556874348757815e-5) * r + 1.24266094738807843860e-3) * r
            + 2.65321895265761230930e-2) * r + 2.96560571828504891230e-1) * r + 1.78482653991729133580e+0) * r
            + 5.46378491116411436990e+0) * r + 6.65790464350110377720e+0)
            / (((((((2.04426310338993978564e-15 * r + 1.42151175831644588870e-7) * r + 1.84631831751005468180e-5) * r
            + 7.86869131145613259100e-4) * r + 1.48753612908506148525e-2) * r + 1.36929880922735805310e-1) * r
            + 5.99832206555887937690e-1) * r + 1.0);
    }
    return q < 0 ? -value : value;
}

static double uniform_from(uint64_t bits) { return (double)(bits >> 11) * 0x1p-53; }

/* The middle of one of 2^52 equal parts of [0, 1]: q is exact, and so is its distance to the nearer end. */
static double middle_from(uint64_t bits, double *tail) {
    const double u = ((double)(bits >> 12) + 0.5) * 0x1p-52;
    *tail = u < 0.5 ? u : 1 - u;
    return u - 0.5;
}

static double normal_from(uint64_t bits) {
    double tail;
    const double q = middle_from(bits, &tail);
    return inverse_normal(q, tail);
}

#define WITHIN_TWO 0.95449973610364158560 /* the share of a normal distribution that is within [-2, 2] */

static double truncated_normal_from(uint64_t bits) {
    double tail;
    const double q = middle_from(bits, &tail) * WITHIN_TWO, value = inverse_normal(q, 0.5 - (q < 0 ? -q : q));
    return value > 2 ? 2 : value < -2 ? -2 : value;
}

static void fill(uint64_t seed, uint32_t stream, uint64_t place, double *out, index_t n, double (*from)(uint64_t)) {
    struct draws draws = {.key = {low_word(seed), high_word(seed)}, .counter = {0, 0, 0, stream}};
    for (index_t i = 0; i < n; i++) {
        const uint64_t number = place + (uint64_t)i;
        if (i == 0 || number % 2 == 0) {
            draws.counter[0] = low_word(number / 2);
            draws.counter[1] = high_word(number / 2);
            refill(&draws);
        }
        out[i] = from(drawn(&draws, (int)(number % 2)));
    }
}

void random_uniform(uint64_t seed, uint32_t stream, uint64_t place, double *out, index_t n) {
    fill(seed, stream, place, out, n, uniform_from);
}

void random_normal(uint64_t seed, uint32_t stream, uint64_t place, double *out, index_t n) {
    fill(seed, stream, place, out, n, normal_from);
}

void random_normal_of(uint64_t seed, uint32_t stream, uint32_t sample, uint32_t step, uint32_t first, double *out, index_t n) {
    struct draws draws = {.key = {low_word(seed), high_word(seed)}, .counter = {first / 2, sample, step, stream}};
    for (index_t i = 0; i < n; i++) {
        if (i % 2 == 0) {
            refill(&draws);
            draws.counter[0]++;
        }
        out[i] = normal_from(drawn(&draws, (int)(i % 2)));
    }
}

void random_truncated_normal(uint64_t seed, uint32_t stream, uint64_t place, double *out, index_t n) {
    fill(seed, stream, place, out, n, truncated_normal_from);
}

/* A number below `bound`, each as likely: the high half of a product, where its low half leaves no bias. */
static uint64_t bounded(struct draws *draws, uint64_t *used, uint64_t bound) {
    for (;;) {
        if (*used % 2 == 0) {
            draws->counter[0] = low_word(*used / 2);
            refill(draws);
        }
        const unsigned __int128 product = (unsigned __int128)drawn(draws, (int)(*used % 2)) * bound;
        ++*used;
        const uint64_t low = (uint64_t)product;
        if (low >= bound || low >= -bound % bound) return (uint64_t)(product >> 64);
    }
}

void random_permutation(uint64_t seed, uint32_t stream, uint64_t place, int64_t *out, index_t n) {
    struct draws draws = {.key = {low_word(seed), high_word(seed)}, .counter = {0, low_word(place), high_word(place), stream}};
    uint64_t used = 0;
    for (index_t i = 0; i < n; i++) out[i] = i;
    for (index_t i = n - 1; i > 0; i--) {
        const index_t other = (index_t)bounded(&draws, &used, (uint64_t)i + 1);
        const int64_t kept = out[i];
        out[i] = out[other];
        out[other] = kept;
    }
}
