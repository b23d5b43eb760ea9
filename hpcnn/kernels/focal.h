/* Cross-entropies with a factor (1 - p)^gamma, of outputs alone. */
#ifndef HPCNN_FOCAL_H
#define HPCNN_FOCAL_H

#include "crossentropies.h"

/* x^power for x > 0. */
INLINE dvec to_the(dvec x, double power) { return dexp(dall(power) * dlog(x)); }

/* (1 - q)^gamma x the cross-entropy, with q = t p + (1 - t)(1 - p); with alpha >= 0 times alpha t + (1 - alpha)(1 - t). */
static double binary_focal(const struct sample *s, index_t n, double smoothing, double gamma, double alpha) {
    dvec sums[BLOCK] = {0}, given[BLOCK], t[BLOCK], terms[BLOCK];
    EACH_BLOCK(n) {
        load_block(s->inputs + i, count, given);
        binary_targets(s, i, count, smoothing, t);
        EACH_DVEC {
            const dvec p = at_least(at_most(given[k], 1 - EPSILON), EPSILON), rest = dall(1) - p;
            const divec clipped = (divec)(p != given[k]) & (divec)(p == p);
            const dvec way = dall(1) - dall(2) * t[k], wrong = t[k] + p * way; /* 1 - q, and its derivative */
            const dvec loss = (t[k] - dall(1)) * dlog(rest) - t[k] * dlog(p);
            dvec factor = to_the(wrong, gamma);
            if (alpha >= 0) factor *= t[k] * dall(2 * alpha - 1) + dall(1 - alpha);
            terms[k] = factor * loss;
            t[k] = dpick(clipped, dall(0), factor * (dall(gamma) * way / wrong * loss + (p - t[k]) / (p * rest)));
        }
        only_first(count, terms);
        EACH_DVEC sums[k] += terms[k];
        give(s, i, count, t);
    }
    return folded(sums);
}

/* alpha x -sum of t (1 - p)^gamma log(p), where p is what is given over its sum, kept off 0 and 1. */
static double categorical_focal(
    const struct sample *s, index_t position, index_t classes, double smoothing, double gamma, double alpha) {
    const index_t place = position * classes;
    const real *inputs = s->inputs + place;
    dvec sums[BLOCK] = {0}, terms[BLOCK] = {0}, dots[BLOCK] = {0}, given[BLOCK], t[BLOCK], slope[BLOCK] = {0}, p, kept;
    EACH_BLOCK(classes) {
        load_block(inputs + i, count, given);
        EACH_DVEC sums[k] += given[k];
    }
    const double sum = folded(sums);
    double dot = 0;
    for (int pass = 0; pass < (s->gradient ? 2 : 1); pass++) {
        EACH_BLOCK(classes) {
            if (pass == 0 || classes > LANES) { /* else it is that of the first pass */
                load_block(inputs + i, count, given);
                block_targets(s, position, i, smoothing, classes, t);
                EACH_DVEC {
                    const divec same = probability(given[k], sum, &p, &kept);
                    const dvec rest = dall(1) - kept, log_p = dlog(kept), factor = dall(alpha) * t[k] * to_the(rest, gamma);
                    slope[k] = dpick(same, factor * (dall(gamma) * log_p / rest - dall(1) / kept), dall(0));
                    if (pass) continue;
                    terms[k] -= factor * log_p;
                    dots[k] += weighted(slope[k], p);
                }
            }
            if (pass == 0) continue;
            EACH_DVEC slope[k] = (slope[k] - dall(dot)) / dall(sum);
            give(s, place + i, count, slope);
        }
        dot = folded(dots);
    }
    return folded(terms);
}

#endif
