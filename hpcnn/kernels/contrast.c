/* Contrastive losses of scores between all samples of a batch; see operations_contrast.h. */
#include "functions.h"

void NAME(contrast)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(contrast_gradient)(const void *operation, index_t begin, index_t end, void *scratch);

void NAME(contrast)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct contrast *o = operation;
    (void)scratch;
    for (index_t r = begin; r < end; r++) {
        const real *scores = (const real *)o->scores + r * o->columns;
        const double largest = (double)largest_of(scores, o->columns);
        dvec sums[BLOCK] = {0}, shifted[BLOCK], power[BLOCK];
        EACH_BLOCK(o->columns) {
            softmax_block(scores + i, count, largest, shifted, power);
            EACH_DVEC sums[k] += power[k];
        }
        const double log = largest + dlog(dall(folded(sums)))[0];
        const double term = o->weight * (log - (double)scores[o->first + r]);
        o->logs[2 * r + o->side] = log;
        o->terms[r] = o->side ? o->terms[r] + term : term;
    }
}

/* Every second number, from `from` on. */
INLINE dvec every_second(const double *from, index_t count) {
    dvec v = {0};
    for (int j = 0; j < DWIDTH; j++)
        if (j < count) v[j] = from[2 * j];
    return v;
}

void NAME(contrast_gradient)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct contrast_gradient *o = operation;
    (void)scratch;
    for (index_t r = begin; r < end; r++) {
        const real *scores = (const real *)o->scores + r * o->columns;
        real *gradient = (real *)o->gradient + r * o->columns;
        const index_t own = o->first + r;
        const double log = o->logs[2 * own + o->side];
        const double *others = o->logs + 1 - o->side;
        dvec s[BLOCK], g[BLOCK];
        EACH_BLOCK(o->columns) {
            load_block(scores + i, count, s);
            EACH_DVEC g[k] = dall(0);
            if (o->own_weight != 0) EACH_DVEC g[k] += dall(o->own_weight) * dexp(s[k] - dall(log));
            if (o->other_weight != 0)
                EACH_DVEC g[k] += dall(o->other_weight) * dexp(s[k] - every_second(others + 2 * (i + k * DWIDTH), count - k * DWIDTH));
            if (i <= own && own < i + LANES)
                EACH_DVEC g[k] -= dpick((divec)(lanes_of(k) == dwhole(own - i)), dall(o->own_weight + o->other_weight), dall(0));
            store_block(gradient + i, count, g);
        }
    }
}
