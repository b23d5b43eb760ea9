/* Activations that the end of a product applies. */
#ifndef HPCNN_ACTIVATIONS_H
#define HPCNN_ACTIVATIONS_H

#include "simd.h"

#define LEAKY_RELU_SLOPE 0.2

/* NaN stays NaN. */
INLINE vec relu(vec z) { return pick((ivec)(z <= all(0)), all(0), z); }
INLINE vec leaky_relu(vec z) { return pick((ivec)(z <= all(0)), z * all((real)LEAKY_RELU_SLOPE), z); }

/* y = activation(z) for n numbers of a row, flushed; y may be z. */
void NAME(activate_row)(int activation, const real *z, real *y, index_t n);

#endif
