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

/* Entry `column` of DWIDTH rows that lie one behind the other. */
INLINE dvec gathered(const double *rows, index_t columns, index_t column) {
    dvec v;
    for (int j = 0; j < DWIDTH; j++) v[j] = rows[j * columns + column];
    return v;
}
INLINE void scattered(double *rows, index_t columns, index_t column, dvec v) {
    for (int j = 0; j < DWIDTH; j++) rows[j * columns + column] = v[j];
}
/* `folded` of rows of LANES entries at most, each beginning at +0: of what is not there, nothing need be added. */
INLINE dvec folded_rows(dvec *entries, index_t columns) {
    for (index_t half = LANES / 2; half; half /= 2)
        for (index_t i = 0; i < half && i + half < columns; i++) entries[i] += entries[i + half];
    return entries[0];
}
INLINE void load_rows(const real *from, index_t n, double *rows) {
    dvec block[BLOCK];
    EACH_BLOCK(n) {
        load_block(from + i, count, block);
        memcpy(rows + i, block, sizeof block);
    }
}
INLINE void store_rows(real *to, index_t n, const double *rows) {
    dvec block[BLOCK];
    EACH_BLOCK(n) {
        memcpy(block, rows + i, sizeof block);
        store_block(to + i, count, block);
    }
}

/* The same for `group` positions, DWIDTH at most, of LANES classes at most: vectors run over positions. */
static void categorical_group(
    const struct sample *s, index_t position, index_t group, index_t classes, double smoothing, double *terms) {
    const index_t place = position * classes, n = group * classes;
    const dvec floor = dall(smoothing / (double)classes), share = dall(1 - smoothing);
    double rows[DWIDTH * LANES] = {0};
    dvec shifted[LANES], power[LANES], t[LANES], sums[LANES], products[LANES], totals[LANES];
    dvec largest = dall(-INFINITY);
    divec label = dwhole(0);
    if (s->labels) for (index_t j = 0; j < group; j++) label[j] = s->labels[position + j];
    else {
        load_rows(s->targets + place, n, rows);
        for (index_t c = 0; c < classes; c++) t[c] = gathered(rows, classes, c) * share + floor;
    }
    load_rows(s->inputs + place, n, rows);
    for (index_t c = 0; c < classes; c++) {
        shifted[c] = gathered(rows, classes, c);
        largest = dpick((divec)(shifted[c] > largest), shifted[c], largest);
        if (s->labels) t[c] = dpick((divec)(label == dwhole(c)), share + floor, floor);
    }
    for (index_t c = 0; c < classes; c++) {
        shifted[c] -= largest;
        power[c] = dexp(shifted[c]);
        products[c] = dall(0) + weighted(t[c], shifted[c]);
        totals[c] = dall(0) + t[c];
        sums[c] = dall(0) + power[c];
    }
    const dvec sum = folded_rows(sums, classes), total = folded_rows(totals, classes);
    const dvec loss = dlog(sum) * total - folded_rows(products, classes);
    for (index_t j = 0; j < group; j++) terms[j] = loss[j] + known(s, position + j, classes);
    for (index_t c = 0; c < classes; c++) {
        power[c] /= sum;
        scattered(rows, classes, c, power[c]);
    }
    store_rows(s->outputs + place, n, rows);
    if (!s->gradient) return;
    for (index_t c = 0; c < classes; c++)
        scattered(rows, classes, c, (power[c] * total - t[c]) * dall(s->scale));
    store_rows(s->gradient + place, n, rows);
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
