/* What all losses share: a sample, and where its gradient goes. */
#ifndef HPCNN_LOSSES_H
#define HPCNN_LOSSES_H

#include "functions.h"

#define EPSILON 1e-7 /* probabilities are kept this far from 0 and 1 where their logarithm is taken */

/* What a sample has of each array. */
struct sample {
    const real *inputs, *targets;
    const int64_t *labels;
    real *outputs, *gradient;
    double scale; /* of the gradient: weight / (number of terms in the mean) */
};

INLINE void give(const struct sample *s, index_t i, index_t count, dvec *gradient) {
    if (!s->gradient) return;
    EACH_DVEC gradient[k] *= dall(s->scale);
    store_block(s->gradient + i, count, gradient);
}

INLINE double square_root(double x) { return droot(dall(x))[0]; }

#endif
