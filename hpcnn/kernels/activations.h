/* Activations that the end of a product applies. */
#ifndef HPCNN_ACTIVATIONS_H
#define HPCNN_ACTIVATIONS_H

#include "simd.h"

#define LEAKY_RELU_SLOPE 0.2

/* NaN stays NaN. */
INLINE vec relu(vec z) { return pick((ivec)(z <= all(0)), all(0), z); }
INLINE vec leaky_relu(vec z) { return pick((ivec)(z <= all(0)), z * all((real)LEAKY_RELU_SLOPE), z); }

/* y = activation(z) for n numbers of a row, flushed; y may be z. Derivatives of GELU and SWISH go to `slopes`, or NULL. */
void NAME(activate_row)(int activation, const real *z, real *y, real *slopes, index_t n);

/* The activations whose gradient is made of the derivative, as it is known once their output is. */
INLINE int saves_slope(int activation) { return activation == GELU || activation == SWISH; }

/* Apply an activation to a vector of sums, and write `count` of them, and what is saved of them, unless that is NULL. */
INLINE void write_activated(int activation, vec z, index_t count, real *out, real *saved, int keeps) {
    if (saved && !saves_slope(activation)) {
        if (count >= WIDTH) store(saved, flushed(z));
        else store_part(saved, flushed(z), count);
    }
    if (activation == RELU) z = relu(z);
    if (activation == LEAKY_RELU) z = leaky_relu(z);
    if (activation > LEAKY_RELU) {
        real numbers[WIDTH];
        store(numbers, z);
        NAME(activate_row)(activation, numbers, numbers, saves_slope(activation) ? saved : NULL, count < WIDTH ? count : WIDTH);
        z = load(numbers);
    }
    if (!keeps) z = flushed(z);
    if (count >= WIDTH) store(out, z);
    else store_part(out, z, count);
}

#endif
