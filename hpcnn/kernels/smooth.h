/* Activations and their derivatives in doubles. */
#ifndef HPCNN_SMOOTH_H
#define HPCNN_SMOOTH_H

#include "activations.h"
#include "functions.h"

#define SELU_ALPHA 1.6732632423543772848170429916717
#define SELU_SCALE 1.0507009873554804934193349852946
#define SQRT_HALF 0.70710678118654752440
#define NORMAL_DENSITY 0.39894228040143267794 /* 1 / sqrt(2 pi) */

INLINE dvec elu(dvec z) { return dpick((divec)(z > dall(0)), z, dexpm1(z)); }
INLINE dvec selu(dvec z) { return dpick((divec)(z > dall(0)), z, dexpm1(z) * dall(SELU_ALPHA)) * dall(SELU_SCALE); }
INLINE dvec phi(dvec z) { return (derf(z * dall(SQRT_HALF)) + dall(1)) * dall(0.5); }
INLINE dvec gelu(dvec z) { return z * phi(z); }
INLINE dvec gelu_with_slope(dvec z, dvec *slope) {
    const dvec share = phi(z);
    *slope = dfma(dexp(z * z * dall(-0.5)) * dall(NORMAL_DENSITY), z, share);
    return z * share;
}
INLINE dvec swish(dvec z) { return z * dsigmoid(z); }
INLINE dvec swish_with_slope(dvec z, dvec *slope) {
    const dvec gate = dsigmoid(z);
    *slope = dfma((dall(1) - gate) * z, gate, gate);
    return z * gate;
}
INLINE dvec softplus(dvec z) { return at_least(z, 0) + dlog1p(dexp(-dabs(z))); }

INLINE dvec softplus_slope(dvec y) { return -dexpm1(-y); }

/* The activations that are less usual in a cell: out of line, so that cells stay small. */
static void rare_activation(int activation, dvec *z) {
    switch (activation) {
        case RELU: *z = dpick((divec)(*z <= dall(0)), dall(0), *z); break;
        case LEAKY_RELU: *z = dpick((divec)(*z <= dall(0)), *z * dall(LEAKY_RELU_SLOPE), *z); break;
        case ELU: *z = elu(*z); break;
        case SELU: *z = selu(*z); break;
        case GELU: *z = gelu(*z); break;
        case SWISH: *z = swish(*z); break;
        case SOFTPLUS: *z = softplus(*z); break;
        default: break;
    }
}
static void rare_slope(int activation, dvec *saved) {
    const dvec zero = dall(0), one = dall(1), v = *saved;
    switch (activation) {
        case RELU: *saved = dpick((divec)(v > zero), one, zero); break;
        case LEAKY_RELU: *saved = dpick((divec)(v > zero), one, dall(LEAKY_RELU_SLOPE)); break;
        case ELU: *saved = dpick((divec)(v > zero), one, v + one); break;
        case SELU: *saved = dpick((divec)(v < zero), v + dall(SELU_SCALE * SELU_ALPHA), dall(SELU_SCALE)); break;
        case GELU: gelu_with_slope(v, saved); break;
        case SWISH: swish_with_slope(v, saved); break;
        case SOFTPLUS: *saved = softplus_slope(v); break;
        default: *saved = one;
    }
}

INLINE dvec activation_of(int activation, dvec z) {
    if (activation == TANH) return dtanh(z);
    if (activation == SIGMOID) return dsigmoid(z);
    rare_activation(activation, &z);
    return z;
}
/* What the derivative is computed from, z or y = activation(z), and the derivative. */
INLINE int from_input(int activation) { return saves_slope(activation); }
INLINE dvec saved_of(int activation, dvec z, dvec y) { return from_input(activation) ? z : y; }
INLINE dvec slope_of(int activation, dvec saved) {
    if (activation == TANH) return dfma(-saved, saved, dall(1));
    if (activation == SIGMOID) return (dall(1) - saved) * saved;
    rare_slope(activation, &saved);
    return saved;
}

#endif
