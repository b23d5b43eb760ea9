/* Losses that compare whole rows: distances of distributions, angles, and overlaps of a sample's areas. */
#ifndef HPCNN_OVERLAPS_H
#define HPCNN_OVERLAPS_H

#include "losses.h"

/* Sum of t log(t / p) over a position's entries, both kept in [EPSILON, 1]. */
static double kl_divergence(const struct sample *s, index_t position, index_t classes) {
    const index_t place = position * classes;
    dvec sums[BLOCK] = {0}, given[BLOCK], t[BLOCK], terms[BLOCK];
    EACH_BLOCK(classes) {
        load_block(s->inputs + place + i, count, given);
        load_block(s->targets + place + i, count, t);
        EACH_DVEC {
            const dvec p = at_least(at_most(given[k], 1), EPSILON), kept = at_least(at_most(t[k], 1), EPSILON);
            terms[k] = kept * (dlog(kept) - dlog(p));
            given[k] = dpick((divec)(p != given[k]) & (divec)(p == p), dall(0), -kept / p);
        }
        only_first(count, terms);
        EACH_DVEC sums[k] += terms[k];
        give(s, place + i, count, given);
    }
    return folded(sums);
}

/* Minus the cosine between a position's outputs and targets, whose lengths are EPSILON at least. */
static double cosine_similarity(const struct sample *s, index_t position, index_t classes) {
    const index_t place = position * classes;
    const real *inputs = s->inputs + place, *targets = s->targets + place;
    dvec both[BLOCK] = {0}, ours[BLOCK] = {0}, theirs[BLOCK] = {0}, y[BLOCK], t[BLOCK];
    EACH_BLOCK(classes) {
        load_block(inputs + i, count, y);
        load_block(targets + i, count, t);
        EACH_DVEC {
            both[k] += y[k] * t[k];
            ours[k] += y[k] * y[k];
            theirs[k] += t[k] * t[k];
        }
    }
    const double length = square_root(folded(ours)), other = square_root(folded(theirs));
    const double kept = length < EPSILON ? EPSILON : length, wanted = other < EPSILON ? EPSILON : other;
    const double scale = 1 / (kept * wanted), cosine = folded(both) * scale;
    const double own = length < EPSILON ? 0 : cosine / (kept * kept);
    if (s->gradient) EACH_BLOCK(classes) {
        load_block(inputs + i, count, y);
        load_block(targets + i, count, t);
        EACH_DVEC t[k] = y[k] * dall(own) - t[k] * dall(scale);
        give(s, place + i, count, t);
    }
    return -cosine;
}

/* A sample's sums of t y and of t + y, each over LANES lanes. */
static double areas(const struct sample *s, index_t n, double *either) {
    dvec both[BLOCK] = {0}, ours[BLOCK] = {0}, theirs[BLOCK] = {0}, y[BLOCK], t[BLOCK];
    EACH_BLOCK(n) {
        load_block(s->inputs + i, count, y);
        load_block(s->targets + i, count, t);
        EACH_DVEC {
            both[k] += y[k] * t[k];
            ours[k] += y[k];
            theirs[k] += t[k];
        }
    }
    *either = folded(theirs) + folded(ours);
    return folded(both);
}

/* 1 - share, where share = a / b; the gradient is own - t x slope. */
static double overlap(const struct sample *s, index_t n, double share, double own, double slope) {
    dvec t[BLOCK];
    if (s->gradient) EACH_BLOCK(n) {
        load_block(s->targets + i, count, t);
        EACH_DVEC t[k] = dall(own) - t[k] * dall(slope);
        give(s, i, count, t);
    }
    return 1 - share;
}

/* share = 2 sum(t y) / (sum(t) + sum(y) + EPSILON) */
static double dice(const struct sample *s, index_t n) {
    double either, both = areas(s, n, &either);
    const double inverse = 1 / (either + EPSILON), share = 2 * both * inverse;
    return overlap(s, n, share, share * inverse, 2 * inverse);
}

/* share = sum(t y) / (sum(t) + sum(y) - sum(t y) + EPSILON) */
static double iou(const struct sample *s, index_t n) {
    double either, both = areas(s, n, &either);
    const double inverse = 1 / (either - both + EPSILON), share = both * inverse;
    return overlap(s, n, share, share * inverse, (1 + share) * inverse);
}

#endif
