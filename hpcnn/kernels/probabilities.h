/* Rows of scores become probabilities, and the gradients of both; see operations_attention.h. */
#ifndef HPCNN_PROBABILITIES_H
#define HPCNN_PROBABILITIES_H

#include "functions.h"

/* exp(x) for x <= 0; +0 below -700. */
INLINE dvec power_of(dvec x) {
    divec n;
    dvec low, small, p = exp_parts(at_least(x, -700), &n, &small);
    dvec y = sum_of_three(dall(1), p, small, &low) * power_of_two(n);
    return dpick((divec)(x < dall(-700)), dall(0), y);
}

/* The powers of a block of scores. */
INLINE void powers_of(const real *s, index_t count, double largest, double scale, dvec *e) {
    load_block(s, count, e);
    EACH_DVEC e[k] = power_of((e[k] - dall(largest)) * dall(scale));
    only_first(count, e);
}

/* -inf where the mask is 0; whether anything is left. */
static int leave_out(real *s, const real *mask, index_t n) {
    int left_over = 0;
    for (index_t j = 0; j < n; j++) {
        left_over |= mask[j] != 0;
        if (mask[j] == 0) s[j] = -(real)INFINITY;
    }
    return left_over;
}

static void fill(real *s, index_t from, index_t to) {
    for (index_t j = from; j < to; j++) s[j] = 0;
}

/* Scores of n keys become probabilities; what the pass back needs to compute them again is saved. */
static void probabilities(real *s, index_t n, double scale, double *power, double *saved) {
    dvec sums[BLOCK] = {0}, e[BLOCK];
    const double largest = (double)largest_of(s, n);
    EACH_BLOCK(n) {
        powers_of(s + i, count, largest, scale, e);
        EACH_DVEC sums[k] += e[k];
        memcpy(power + i, e, sizeof e);
    }
    const double inverse = 1 / folded(sums);
    EACH_BLOCK(n) {
        memcpy(e, power + i, sizeof e);
        EACH_DVEC e[k] *= dall(inverse);
        store_block(s + i, count, e);
    }
    saved[0] = largest;
    saved[1] = inverse;
}

static void probabilities_again(real *s, index_t n, double scale, const double *saved) {
    dvec e[BLOCK];
    const double largest = saved[0], inverse = saved[1];
    EACH_BLOCK(n) {
        powers_of(s + i, count, largest, scale, e);
        EACH_DVEC e[k] *= dall(inverse);
        store_block(s + i, count, e);
    }
}

/* dp becomes ds. */
static void gradient_of_scores(const real *p, real *dp, index_t n, double scale) {
    dvec sums[BLOCK] = {0}, share[BLOCK], d[BLOCK];
    EACH_BLOCK(n) {
        load_block(p + i, count, share);
        load_block(dp + i, count, d);
        EACH_DVEC sums[k] += d[k] * share[k];
    }
    const double total = folded(sums);
    EACH_BLOCK(n) {
        load_block(p + i, count, share);
        load_block(dp + i, count, d);
        EACH_DVEC d[k] = (d[k] - dall(total)) * share[k] * dall(scale);
        store_block(dp + i, count, d);
    }
}

#endif
