/* Losses that are the mean over a sample's entries of a function of output and target. */
#ifndef HPCNN_REGRESSIONS_H
#define HPCNN_REGRESSIONS_H

#include "losses.h"

/* A function `of` of the errors makes terms and gradients; both are 0 for no error, so for entries that are not there. */
#define REGRESSION(of) \
    dvec sums[BLOCK] = {0}, error[BLOCK], target[BLOCK]; \
    EACH_BLOCK(n) { \
        load_block(s->inputs + i, count, error); \
        load_block(s->targets + i, count, target); \
        EACH_DVEC { \
            dvec e = error[k] - target[k]; \
            of; \
        } \
        give(s, i, count, error); \
    } \
    return folded(sums)

static double mean_squared(const struct sample *s, index_t n) {
    REGRESSION({
        sums[k] += e * e;
        error[k] = dall(2) * e;
    });
}

static double mean_absolute(const struct sample *s, index_t n) {
    REGRESSION({
        sums[k] += dabs(e);
        error[k] = dpick((divec)(e > dall(0)), dall(1), dpick((divec)(e < dall(0)), dall(-1), e)); /* 0, or NaN */
    });
}

static double huber(const struct sample *s, index_t n, double delta) {
    REGRESSION({
        error[k] = at_least(at_most(e, delta), -delta);
        sums[k] += error[k] * (e - error[k] * dall(0.5)); /* both branches */
    });
}

/* A block that makes, of an output y and a target t, `term` and `slope`: the function and its derivative by y. */
#define ENTRIES(...) \
    dvec sums[BLOCK] = {0}, output[BLOCK], target[BLOCK], terms[BLOCK], slopes[BLOCK]; \
    EACH_BLOCK(n) { \
        load_block(s->inputs + i, count, output); \
        load_block(s->targets + i, count, target); \
        EACH_DVEC { \
            const dvec y = output[k], t = target[k]; \
            dvec term, slope; \
            __VA_ARGS__; \
            terms[k] = term; \
            slopes[k] = slope; \
        } \
        only_first(count, terms); \
        EACH_DVEC sums[k] += terms[k]; \
        give(s, i, count, slopes); \
    } \
    return folded(sums)

static double mean_absolute_percentage(const struct sample *s, index_t n) {
    ENTRIES({
        const dvec e = y - t, share = dall(100) / at_least(dabs(t), EPSILON);
        term = dabs(e) * share;
        slope = dpick((divec)(e > dall(0)), share, dpick((divec)(e < dall(0)), -share, e));
    });
}

static double mean_squared_logarithmic(const struct sample *s, index_t n) {
    ENTRIES({
        const dvec kept = at_least(y, EPSILON), e = dlog1p(kept) - dlog1p(at_least(t, EPSILON));
        term = e * e;
        slope = dpick((divec)(y < dall(EPSILON)), dall(0), dall(2) * e / (kept + dall(1)));
    });
}

/* log(cosh(e)) = |e| + log(1 + exp(-2 |e|)) - log(2) = -log(1 - tanh(e)^2) / 2, each where it loses no digits. */
static double log_cosh(const struct sample *s, index_t n) {
    ENTRIES({
        const dvec e = y - t, size = dabs(e);
        slope = dtanh(e);
        term = dpick((divec)(size < dall(0.5)), dall(-0.5) * dlog1p(-slope * slope),
                     size + dlog1p(dexp(dall(-2) * size)) - dall(0.69314718055994531));
    });
}

static double poisson(const struct sample *s, index_t n) {
    ENTRIES({
        const dvec kept = y + dall(EPSILON);
        term = y - t * dlog(kept);
        slope = dall(1) - t / kept;
    });
}

static double hinge(const struct sample *s, index_t n) {
    ENTRIES({
        const dvec side = dpick((divec)(t > dall(0)), dall(-1), dall(1)), margin = dall(1) + side * y;
        term = at_least(margin, 0);
        slope = dpick((divec)(margin <= dall(0)), dall(0), side);
    });
}

#endif
