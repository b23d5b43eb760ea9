/* Cross-entropies of labels that are true or not, and of classes of which one is true; see also focal.h. */
#ifndef HPCNN_CROSSENTROPIES_H
#define HPCNN_CROSSENTROPIES_H

#include "losses.h"

/* --------------------------------------------------------------------------------------------- Binary cross-entropy */

INLINE void binary_targets(const struct sample *s, index_t i, index_t count, double smoothing, dvec *t) {
    load_block(s->targets + i, count, t);
    EACH_DVEC t[k] = t[k] * dall(1 - smoothing) + dall(smoothing / 2);
}

static double binary_from_logits(const struct sample *s, index_t n, double smoothing) {
    dvec sums[BLOCK] = {0}, z[BLOCK], t[BLOCK], terms[BLOCK];
    EACH_BLOCK(n) {
        load_block(s->inputs + i, count, z);
        binary_targets(s, i, count, smoothing, t);
        EACH_DVEC {
            dvec low, e = exp_pair(-at_most(dabs(z[k]), 746), &low);
            terms[k] = at_least(z[k], 0) - z[k] * t[k] + dlog1p(e);
            z[k] = sigmoid_of(z[k], e, low);
            t[k] = z[k] - t[k];
        }
        only_first(count, terms);
        EACH_DVEC sums[k] += terms[k];
        store_block(s->outputs + i, count, z);
        give(s, i, count, t);
    }
    return folded(sums);
}

static double binary_from_outputs(const struct sample *s, index_t n, double smoothing) {
    dvec sums[BLOCK] = {0}, given[BLOCK], t[BLOCK], terms[BLOCK];
    EACH_BLOCK(n) {
        load_block(s->inputs + i, count, given);
        binary_targets(s, i, count, smoothing, t);
        EACH_DVEC {
            dvec p = at_least(at_most(given[k], 1 - EPSILON), EPSILON), rest = dall(1) - p;
            divec clipped = (divec)(p != given[k]) & (divec)(p == p);
            terms[k] = (t[k] - dall(1)) * dlog(rest) - t[k] * dlog(p);
            t[k] = dpick(clipped, dall(0), (p - t[k]) / (p * rest));
        }
        only_first(count, terms);
        EACH_DVEC sums[k] += terms[k];
        give(s, i, count, t);
    }
    return folded(sums);
}

/* ---------------------------------------------------------------------------------------- Categorical cross-entropy */

/* The smoothed targets of the classes from i on, at a position; 0 where there is no class. */
INLINE void block_targets(const struct sample *s, index_t position, index_t i, double smoothing, index_t classes, dvec *t) {
    const dvec floor = dall(smoothing / (double)classes), share = dall(1 - smoothing);
    if (s->labels) {
        const divec label = dwhole((int64_t)((uint64_t)s->labels[position] - (uint64_t)i));
        EACH_DVEC t[k] = dpick((divec)(lanes_of(k) == label), share + floor, floor);
    } else {
        load_block(s->targets + position * classes + i, classes - i, t);
        EACH_DVEC t[k] = t[k] * share + floor;
    }
    only_first(classes - i, t);
}

/* t x, and 0 for t = 0 even if x is infinite. */
INLINE dvec weighted(dvec t, dvec x) { return dpick((divec)(t == dall(0)), dall(0), t * x); }

/* A label that names no class makes the loss NaN. */
static double known(const struct sample *s, index_t position, index_t classes) {
    return s->labels && (s->labels[position] < 0 || s->labels[position] >= classes) ? NAN : 0;
}

/* log(sum of exp(z)) x (sum of t) - sum of t z, with z less its maximum. */
static double categorical_from_logits(const struct sample *s, index_t position, index_t classes, double smoothing) {
    const index_t place = position * classes;
    const real *z = s->inputs + place;
    const double largest = (double)largest_of(z, classes);
    dvec sums[BLOCK] = {0}, products[BLOCK] = {0}, totals[BLOCK] = {0}, shifted[BLOCK], power[BLOCK] = {0}, t[BLOCK] = {0};
    EACH_BLOCK(classes) {
        softmax_block(z + i, count, largest, shifted, power);
        block_targets(s, position, i, smoothing, classes, t);
        EACH_DVEC {
            products[k] += weighted(t[k], shifted[k]);
            totals[k] += t[k];
            sums[k] += power[k];
        }
    }
    const double sum = folded(sums), total = folded(totals), log_sum = dlog(dall(sum))[0];
    EACH_BLOCK(classes) {
        if (classes > LANES) { /* else they are those of above */
            softmax_block(z + i, count, largest, shifted, power);
            block_targets(s, position, i, smoothing, classes, t);
        }
        EACH_DVEC {
            power[k] /= dall(sum);
            t[k] = power[k] * dall(total) - t[k];
        }
        store_block(s->outputs + place + i, count, power);
        give(s, place + i, count, t);
    }
    return log_sum * total - folded(products) + known(s, position, classes);
}

/* p = given / sum, and p kept off 0 and 1. Returns where that changes nothing. */
INLINE divec probability(dvec given, double sum, dvec *p, dvec *kept) {
    *p = given / dall(sum);
    *kept = at_least(at_most(*p, 1 - EPSILON), EPSILON);
    return (divec)(*p == *kept) | (divec)(*p != *p);
}

/* -sum of t log(p), where p is what is given over its sum, kept off 0 and 1. */
static double categorical_from_outputs(const struct sample *s, index_t position, index_t classes, double smoothing) {
    const index_t place = position * classes;
    const real *inputs = s->inputs + place;
    dvec sums[BLOCK] = {0}, terms[BLOCK] = {0}, dots[BLOCK] = {0}, given[BLOCK], t[BLOCK], p, kept;
    EACH_BLOCK(classes) {
        load_block(inputs + i, count, given);
        EACH_DVEC sums[k] += given[k];
    }
    const double sum = folded(sums);
    EACH_BLOCK(classes) {
        load_block(inputs + i, count, given);
        block_targets(s, position, i, smoothing, classes, t);
        EACH_DVEC {
            divec same = probability(given[k], sum, &p, &kept);
            terms[k] -= t[k] * dlog(kept);
            dots[k] -= dpick(same, t[k], dall(0));
        }
    }
    const dvec dot = dall(folded(dots));
    if (s->gradient) EACH_BLOCK(classes) {
        load_block(inputs + i, count, given);
        block_targets(s, position, i, smoothing, classes, t);
        EACH_DVEC {
            divec same = probability(given[k], sum, &p, &kept);
            t[k] = (dpick(same, -t[k] / p, dall(0)) - dot) / dall(sum);
        }
        give(s, place + i, count, t);
    }
    return folded(terms) + known(s, position, classes);
}

#endif
