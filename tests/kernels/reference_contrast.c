/* Contrastive losses again, for tests alone: plain loops over single numbers, in the order that operations_contrast.h
 * says. exp and log are those of functions.h, which have tests of their own. */
#include "functions.h"

#ifndef LANES_OF_SCORES /* a test changes it, and must notice */
#define LANES_OF_SCORES LANES
#endif

static double exp_of(double x) { return dexp((dvec){x})[0]; }
static real flush(real x) { return x < (real)REAL_MIN && x > -(real)REAL_MIN ? (real)copysign(0, x) : x; }

void NAME(contrast)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(contrast)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct contrast *o = operation;
    (void)scratch;
    for (index_t r = begin; r < end; r++) {
        const real *scores = (const real *)o->scores + r * o->columns;
        double largest = -INFINITY, lanes[LANES_OF_SCORES] = {0};
        for (index_t j = 0; j < o->columns; j++) largest = (double)scores[j] > largest ? (double)scores[j] : largest;
        for (index_t j = 0; j < o->columns; j++) lanes[j % LANES_OF_SCORES] += exp_of((double)scores[j] - largest);
        for (int half = LANES_OF_SCORES / 2; half; half /= 2)
            for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
        const double log = largest + dlog((dvec){lanes[0]})[0];
        const double term = o->weight * (log - (double)scores[o->first + r]);
        o->logs[2 * r + o->side] = log;
        o->terms[r] = o->side ? o->terms[r] + term : term;
    }
}

void NAME(contrast_gradient)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(contrast_gradient)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct contrast_gradient *o = operation;
    (void)scratch;
    for (index_t r = begin; r < end; r++)
        for (index_t j = 0; j < o->columns; j++) {
            const double score = (double)((const real *)o->scores)[r * o->columns + j];
            double g = 0;
            if (o->own_weight != 0) g += o->own_weight * exp_of(score - o->logs[2 * (o->first + r) + o->side]);
            if (o->other_weight != 0) g += o->other_weight * exp_of(score - o->logs[2 * j + 1 - o->side]);
            if (j == o->first + r) g -= o->own_weight + o->other_weight;
            ((real *)o->gradient)[r * o->columns + j] = flush((real)g);
        }
}
