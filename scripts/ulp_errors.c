/* The largest errors of the core's elementary functions, in units in the last place; see ulp_errors.py. */
#include <stdio.h>
#include <stdlib.h>

#include "functions.h"

#if BITS == 32
/* Each float, or one of `stride`; the C library's function of a double is exact enough to compare with. */
#define REPORT(name, ours, theirs) report(name, ours, theirs, stride)

static void report(const char *name, dvec (*ours)(dvec), double (*theirs)(double), uint64_t stride) {
    double worst = 0;
    float at = 0;
    for (uint64_t bits = 0; bits <= UINT32_MAX; bits += stride) {
        uint32_t word = (uint32_t)bits;
        float x;
        memcpy(&x, &word, sizeof x);
        if (x != x) continue;
        double exact = theirs((double)x);
        float y = (float)ours(dall((double)x))[0];
        if (exact != exact || isinf((float)exact)) {
            if ((exact != exact) != (y != y) || (exact == exact && y != (float)exact)) printf("%s(%a) is %a\n", name, (double)x, (double)y);
            continue;
        }
        int exponent;
        frexp(exact, &exponent);
        double unit = ldexp(1, (exponent < -125 ? -125 : exponent) - 24), error = fabs((double)y - exact) / unit;
        if (error > worst) worst = error, at = x;
    }
    printf("%-8s float32 %.3f ulp, at %a\n", name, worst, (double)at);
    fflush(stdout);
}

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }
#else
#define REPORT(name, ours, theirs) report(name, ours, theirs##l, stride)

/* Numbers of all magnitudes, and as many from each range in which a function does something else. */
static double draw(uint64_t i) {
    double x = drand48();
    switch (i % 4) {
        case 0: return (i % 8 ? 1 : -1) * ldexp(1 + x, (int)(drand48() * 2046) - 1022);
        case 1: return 2.4 * x - 1.2;
        case 2: return 16 * x - 8;
        default: return 1456 * x - 746;
    }
}

static void report(const char *name, dvec (*ours)(dvec), long double (*theirs)(long double), uint64_t stride) {
    double worst = 0, at = 0;
    for (uint64_t i = 0; i < 200000000; i += stride) {
        double x = draw(i / stride);
        long double exact = theirs((long double)x);
        double y = ours(dall(x))[0];
        if (exact != exact || isinf((double)exact)) {
            if ((exact != exact) != (y != y) || (exact == exact && y != (double)exact)) printf("%s(%a) is %a\n", name, x, y);
            continue;
        }
        int exponent;
        frexpl(exact, &exponent);
        double unit = ldexp(1, (exponent < -1021 ? -1021 : exponent) - 53);
        double error = (double)(fabsl((long double)y - exact) / (long double)unit);
        if (error > worst) worst = error, at = x;
    }
    printf("%-8s float64 %.3f ulp, at %a\n", name, worst, at);
    fflush(stdout);
}

static long double sigmoidl(long double x) { return 1 / (1 + expl(-x)); }
#endif

int main(int count, char **arguments) {
    uint64_t stride = count > 1 ? strtoull(arguments[1], NULL, 10) : 1;
    REPORT("exp", dexp, exp);
    REPORT("expm1", dexpm1, expm1);
    REPORT("log", dlog, log);
    REPORT("log1p", dlog1p, log1p);
    REPORT("tanh", dtanh, tanh);
    REPORT("erf", derf, erf);
    REPORT("sigmoid", dsigmoid, sigmoid);
    return 0;
}
