/* Activations and their gradients. Definitions are those of Keras 3; see hpcnn/nn/activations.py. */
#include "activations.h"

#include "smooth.h"

/* A loop over n numbers, the last ones as a part of a vector; `body` makes `out` of `in` (and of `other`). */
#define EACH_VEC(n, from, to, body) \
    for (index_t i = 0; i < (n); i += WIDTH) { \
        index_t left = (n) - i; \
        vec in = left >= WIDTH ? load((from) + i) : load_part((from) + i, left), out; \
        body; \
        if (left >= WIDTH) store((to) + i, flushed(out)); \
        else store_part((to) + i, flushed(out), left); \
    }

static void softmax(const real *z, real *y, index_t n) {
    dvec sums[BLOCK] = {0}, shifted[BLOCK], power[BLOCK] = {0};
    const double largest = n ? (double)largest_of(z, n) : 0;
    EACH_BLOCK(n) {
        softmax_block(z + i, count, largest, shifted, power);
        EACH_DVEC sums[k] += power[k];
    }
    const double total = folded(sums);
    EACH_BLOCK(n) {
        if (n > LANES) softmax_block(z + i, count, largest, shifted, power); /* else they are those of above */
        EACH_DVEC power[k] /= dall(total);
        store_block(y + i, count, power);
    }
}

/* The same with derivatives, which are not flushed: they are only multiplied. */
#define EACH_WITH_SLOPE(function) \
    EACH_VEC(n, z, y, { \
        dvec parts_[DPARTS]; \
        dvec slopes_[DPARTS]; \
        for (int part_ = 0; part_ < DPARTS; part_++) parts_[part_] = function(widen(in, part_), &slopes_[part_]); \
        out = narrow(parts_); \
        if (left >= WIDTH) store(slopes + i, narrow(slopes_)); \
        else store_part(slopes + i, narrow(slopes_), left); \
    })

void NAME(activate_row)(int activation, const real *z, real *y, real *slopes, index_t n) {
    if (slopes && activation == GELU) {
        EACH_WITH_SLOPE(gelu_with_slope)
        return;
    }
    if (slopes && activation == SWISH) {
        EACH_WITH_SLOPE(swish_with_slope)
        return;
    }
    switch (activation) {
        case RELU: EACH_VEC(n, z, y, out = relu(in)) break;
        case LEAKY_RELU: EACH_VEC(n, z, y, out = leaky_relu(in)) break;
        case ELU: EACH_VEC(n, z, y, out = OF_DOUBLES(in, elu)) break;
        case SELU: EACH_VEC(n, z, y, out = OF_DOUBLES(in, selu)) break;
        case GELU: EACH_VEC(n, z, y, out = OF_DOUBLES(in, gelu)) break;
        case SWISH: EACH_VEC(n, z, y, out = OF_DOUBLES(in, swish)) break;
        case SOFTPLUS: EACH_VEC(n, z, y, out = OF_DOUBLES(in, softplus)) break;
        case SIGMOID: EACH_VEC(n, z, y, out = OF_DOUBLES(in, dsigmoid)) break;
        case TANH: EACH_VEC(n, z, y, out = OF_DOUBLES(in, dtanh)) break;
        case SOFTMAX: softmax(z, y, n); break;
        default: EACH_VEC(n, z, y, out = in)
    }
}

void NAME(activate)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct activate *op = operation;
    const real *z = (const real *)op->z + begin * op->columns;
    real *y = (real *)op->y + begin * op->columns, *slopes = op->slopes ? (real *)op->slopes + begin * op->columns : NULL;
    (void)scratch;
    if (op->activation != SOFTMAX) {
        NAME(activate_row)(op->activation, z, y, slopes, (end - begin) * op->columns);
        return;
    }
    for (index_t row = begin; row < end; row++, z += op->columns, y += op->columns) softmax(z, y, op->columns);
}

static void softmax_backward(const real *y, const real *dy, real *dz, index_t n) {
    dvec sums[BLOCK] = {0}, share[BLOCK], d[BLOCK];
    EACH_BLOCK(n) {
        load_block(y + i, count, share);
        load_block(dy + i, count, d);
        EACH_DVEC sums[k] += d[k] * share[k];
    }
    const double total = folded(sums);
    EACH_BLOCK(n) {
        load_block(y + i, count, share);
        load_block(dy + i, count, d);
        EACH_DVEC d[k] = (d[k] - dall(total)) * share[k];
        store_block(dz + i, count, d);
    }
}

/* dz = dy x slope, where `slope` is made of what is saved, `in`. */
#define EACH_SLOPE(slope) \
    EACH_VEC(n, saved, dz, { \
        vec other = left >= WIDTH ? load(dy + i) : load_part(dy + i, left); \
        out = slope; \
    })

static void slopes(int activation, const real *saved, const real *dy, real *dz, index_t n) {
    switch (activation) {
        case RELU: EACH_SLOPE(pick((ivec)(in > all(0)), other, all(0))) break;
        case LEAKY_RELU: EACH_SLOPE(pick((ivec)(in > all(0)), other, other * all((real)LEAKY_RELU_SLOPE))) break;
        case ELU: EACH_SLOPE(other * pick((ivec)(in > all(0)), all(1), in + all(1))) break;
        case SELU:
            EACH_SLOPE(other * pick((ivec)(in < all(0)), in + all((real)(SELU_SCALE * SELU_ALPHA)), all((real)SELU_SCALE)))
            break;
        case GELU:
        case SWISH: EACH_SLOPE(other * in) break;
        case SOFTPLUS: EACH_SLOPE(other * OF_DOUBLES(in, softplus_slope)) break;
        case SIGMOID: EACH_SLOPE(other * ((all(1) - in) * in)) break;
        case TANH: EACH_SLOPE(other * (all(1) - in * in)) break;
        default: EACH_SLOPE(((void)in, other))
    }
}

void NAME(activate_backward)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct activate_backward *op = operation;
    index_t first = begin * op->columns;
    const real *saved = (const real *)op->saved + first, *dy = (const real *)op->dy + first;
    real *dz = (real *)op->dz + first;
    (void)scratch;
    if (op->activation != SOFTMAX) {
        slopes(op->activation, saved, dy, dz, (end - begin) * op->columns);
        return;
    }
    for (index_t row = begin; row < end; row++, saved += op->columns, dy += op->columns, dz += op->columns)
        softmax_backward(saved, dy, dz, op->columns);
}
