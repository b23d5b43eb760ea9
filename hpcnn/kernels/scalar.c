#include "scalar.h"

#include <stdint.h>
#include <string.h>

static uint64_t bits_of(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static double power_of_two(int64_t k) { /* for -1022 <= k <= 1023 */
    const uint64_t bits = (uint64_t)(k + 1023) << 52;
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static double infinity(void) { return __builtin_inf(); }
static double not_a_number(void) { return __builtin_nan(""); }
static double absolute(double x) { return __builtin_fabs(x); }
static int64_t nearest(double x) { return (int64_t)(x < 0 ? x - 0.5 : x + 0.5); }

/* x = 2^k m with sqrt(1/2) < m <= sqrt(2), for finite x > 0. */
static double split_exponent(double x, int64_t *k) {
    *k = 0;
    if (x < 0x1p-1022) x *= 0x1p54, *k = -54;
    *k += (int64_t)(bits_of(x) >> 52) - 1023;
    double m;
    const uint64_t bits = (bits_of(x) & 0xfffffffffffffu) | (uint64_t)1023 << 52;
    memcpy(&m, &bits, sizeof m);
    if (m > 0x1.6a09e667f3bcdp0) m *= 0.5, *k += 1;
    return m;
}

/* log(2) = LOG2_HIGH + LOG2_MIDDLE + LOG2_LOW; the product of the first and a whole number below 2^16 is exact. */
#define LOG2_HIGH 0x1.62e42fefap-1
#define LOG2_MIDDLE 0x1.cf79abc9e3b3ap-40
#define LOG2_LOW -0x1.ff0342542fc33p-94

/* log(m) of the above: with f = m - 1 and s = f / (2 + f) it is 2 atanh(s) = 2s + s R(s^2), and 2s = f - s f. */
static double log_of_part(double m, double add) {
    const double f = m - 1, s = f / (2 + f), z = s * s, half = 0.5 * f * f;
    double r = 2.0 / 23;
    for (int n = 21; n >= 3; n -= 2) r = r * z + 2.0 / n;
    return f - (half - (s * (half + r * z) + add));
}

double scalar_log(double x) {
    if (!(x > 0)) return x == 0 ? -infinity() : not_a_number();
    if (x == infinity()) return x;
    int64_t k;
    const double m = split_exponent(x, &k), high = (double)k * LOG2_HIGH;
    const double rest = log_of_part(m, (double)k * LOG2_MIDDLE);
    return high + rest;
}

/* ------------------------------------------- sums of two doubles (Dekker, 1971; Knuth, TAOCP 2, section 4.2.2) */

struct pair {
    double high, low; /* high is the sum, rounded */
};

static struct pair exact_sum(double a, double b) {
    const double sum = a + b, part = sum - a;
    return (struct pair){sum, (a - (sum - part)) + (b - part)};
}

static struct pair exact_product(double a, double b) { /* of magnitudes below 2^996 */
    const double a_split = 134217729.0 * a, b_split = 134217729.0 * b; /* 2^27 + 1 */
    const double a1 = a_split - (a_split - a), b1 = b_split - (b_split - b), a2 = a - a1, b2 = b - b1;
    const double product = a * b;
    return (struct pair){product, ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2};
}

static struct pair add(struct pair a, struct pair b) {
    const struct pair high = exact_sum(a.high, b.high), low = exact_sum(a.low, b.low);
    const struct pair sum = exact_sum(high.high, high.low + low.high);
    return exact_sum(sum.high, sum.low + low.low);
}

static struct pair multiply(struct pair a, struct pair b) {
    const struct pair product = exact_product(a.high, b.high);
    return exact_sum(product.high, product.low + (a.high * b.low + a.low * b.high));
}

static struct pair single(double x) { return (struct pair){x, 0}; }

/* a + b, where b is smaller by a factor of 2 at least. */
static struct pair add_smaller(struct pair a, struct pair b) {
    const double sum = a.high + b.high, low = b.high - (sum - a.high) + (a.low + b.low), high = sum + low;
    return (struct pair){high, low - (high - sum)};
}

/* 1 / n!, n = 1 ... 12. */
static const struct pair inverse_factorial[] = {
    {1, 0},
    {0x1p-1, 0},
    {0x1.5555555555555p-3, 0x1.5555555555555p-57},
    {0x1.5555555555555p-5, 0x1.5555555555555p-59},
    {0x1.1111111111111p-7, 0x1.1111111111111p-63},
    {0x1.6c16c16c16c17p-10, -0x1.f49f49f49f49fp-65},
    {0x1.a01a01a01a01ap-13, 0x1.a01a01a01a01ap-73},
    {0x1.a01a01a01a01ap-16, 0x1.a01a01a01a01ap-76},
    {0x1.71de3a556c734p-19, -0x1.c154f8ddc6c00p-73},
    {0x1.27e4fb7789f5cp-22, 0x1.cbbc05b4fa99ap-76},
    {0x1.ae64567f544e4p-26, -0x1.c062e06d1f209p-80},
    {0x1.1eed8eff8d898p-29, -0x1.2aec959e14c06p-83},
};

/* exp(r) - 1 for |r| < 0.36, by its series. From r^13 / 13! on, below 2^-52 r, single doubles do; the first term left
 * out, r^25 / 25!, is below 2^-110 r. */
static struct pair exp_less_one(struct pair r) {
    double rest = 1;
    for (int n = 24; n > 13; n--) rest = 1 + r.high / n * rest;
    struct pair sum = single(rest * 0x1.6124613a86d09p-33);
    for (int n = 11; n >= 0; n--) sum = add_smaller(inverse_factorial[n], multiply(sum, r));
    return multiply(sum, r);
}

static struct pair log2_times(double k) {
    return add(single(k * LOG2_HIGH), add(exact_product(k, LOG2_MIDDLE), single(k * LOG2_LOW)));
}

/* log(x) for finite x > 0: a rounded logarithm l, and what is missing, log(1 + d) with d = m exp(-l) - 1. */
static struct pair log_pair(double x) {
    int64_t k;
    const double m = split_exponent(x, &k), l = log_of_part(m, 0), f = m - 1;
    const struct pair d = add(single(f), multiply(single(m), exp_less_one(single(-l))));
    const struct pair of_m = add(single(l), add(d, single(-0.5 * d.high * d.high)));
    return k ? add(log2_times((double)k), of_m) : of_m;
}

static double exp_of_pair(struct pair x) {
    if (x.high > 710) return infinity();
    if (x.high < -746) return 0;
    const int64_t k = nearest(x.high / (LOG2_HIGH + LOG2_MIDDLE)), half = k / 2;
    const struct pair r = add(x, log2_times((double)-k));
    const struct pair y = add(single(1), exp_less_one(r));
    return y.high * power_of_two(half) * power_of_two(k - half);
}

double scalar_exp(double x) {
    if (x != x) return x;
    return exp_of_pair(single(x));
}

static int is_whole(double y) { return absolute(y) >= 0x1p53 || (double)(int64_t)y == y; }
static int is_odd(double y) { return absolute(y) < 0x1p53 && is_whole(y) && ((int64_t)y & 1); }

static double power_of_magnitude(double x, double y) { /* x > 0 or infinite, neither is NaN, y is not 0 */
    if (x == 0 || x == infinity()) return (x == 0) == (y > 0) ? 0 : infinity();
    if (absolute(y) >= 0x1p80) /* so that no product below overflows */
        return x == 1 ? 1 : (x > 1) == (y > 0) ? infinity() : 0;
    return exp_of_pair(multiply(log_pair(x), single(y)));
}

double scalar_power(double x, double y) {
    if (y == 0 || x == 1) return 1;
    if (x != x || y != y) return not_a_number();
    if (x == -1 && absolute(y) == infinity()) return 1;
    const int negative = (int)(bits_of(x) >> 63);
    if (negative && x != 0 && x != -infinity() && !is_whole(y)) return not_a_number();
    const double power = power_of_magnitude(absolute(x), y);
    return negative && is_odd(y) ? -power : power;
}

/* ----------------------------------------------------------------------------------------------------------- cosine */

#define PI_HIGH 0x1.921fb54442d18p1
#define PI_LOW 0x1.1a62633145c07p-53

/* cos(pi t) and sin(pi t) for 0 <= t <= 1/4, by the series in w = (pi t)^2. */
static double cos_part(double t) {
    const double w = t * t * (PI_HIGH * PI_HIGH);
    double sum = 1;
    for (int n = 18; n > 2; n -= 2) sum = 1 - w / ((n - 1) * n) * sum;
    return 1 - 0.5 * w * sum;
}

static double sin_part(double t) {
    const double w = t * t * (PI_HIGH * PI_HIGH);
    double sum = 1;
    for (int n = 19; n > 3; n -= 2) sum = 1 - w / ((n - 1) * n) * sum;
    return t * PI_HIGH + t * (PI_LOW - PI_HIGH * (w / 6) * sum);
}

double scalar_cospi(double x) {
    x = absolute(x);
    if (!(x < infinity())) return not_a_number();
    if (x >= 0x1p53) return 1; /* even */
    const double below = (double)(int64_t)x, rest = x - below, t = rest > 0.5 ? 1 - rest : rest;
    const double value = t <= 0.25 ? cos_part(t) : sin_part(0.5 - t);
    return ((int64_t)below & 1) != (rest > 0.5) ? -value : value;
}
