/* Recurrent layers again, for tests alone: plain loops over samples, steps and units, in the order that
 * operations_recurrent.h says. Only single activations are those of the kernels. */
#include <stdlib.h>

#define ISA_reference 1 /* vectors of one number, as in the scalar kernels */
#pragma GCC diagnostic ignored "-Wunused-function"
#include "cells.h"

static void finish_tile(const struct job *job, index_t group, const struct tile *tile, real *sums) {
    (void)job, (void)group, (void)tile, (void)sums;
}

static real flush(double x) { return (real)x < (real)REAL_MIN && (real)x > -(real)REAL_MIN ? (real)copysign(0, x) : (real)x; }

static double slope(int activation, double saved) { return slope_of(activation, dall(saved))[0]; }
static double value(int activation, double saved) { return value_of(activation, dall(saved))[0]; }

/* y[k] of some gates at once; z[k] becomes what is kept of them. */
static void activate(int count, const int *activation, double *z, double *y) {
    struct quotient q[4];
    dvec out[4];
    for (int k = 0; k < count; k++) q[k] = quotient_of(activation[k], dall(z[k]));
    divide(count, q, out);
    for (int k = 0; k < count; k++) {
        y[k] = out[k][0];
        z[k] = saved_of(activation[k], dall(z[k]), out[k])[0];
    }
}

static real sum_of_products(index_t terms, const real *a, const real *b, index_t b_stride) {
    real sum = 0;
    for (index_t first = 0; first < terms; first += BLOCK_TERMS) {
        real block = 0;
        for (index_t p = first; p < terms && p < first + BLOCK_TERMS; p++) block = fma_((vec){a[p]}, (vec){b[p * b_stride]}, (vec){block})[0];
        sum = first ? sum + block : block;
    }
    return sum;
}

/* The numbers of a sample at a step. */
static real *at(const void *array, index_t sample, index_t steps, index_t step, index_t columns) {
    return (real *)array + (sample * steps + step) * columns;
}

void NAME(recurrent)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(recurrent)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct recurrent *o = operation;
    const index_t u = o->units, gates = gates_of(o->cell), T = o->steps;
    const int act = o->activation, rec = o->recurrent_activation, kinds[4] = {rec, rec, o->cell == LSTM ? act : rec, rec};
    const real *kernel = o->kernel, *bias = o->bias;
    real *next = malloc((size_t)u * sizeof(real)), *scaled = malloc((size_t)u * sizeof(real));
    (void)scratch;
    for (index_t n = begin; n < end; n++)
        for (index_t i = 0; i < T; i++) {
            const index_t t = o->backwards ? T - 1 - i : i, last = o->backwards ? t + 1 : t - 1;
            real *x = at(o->gates, n, T, t, gates * u), *h = at(o->before, n, T, t, u);
            for (index_t j = 0; j < u; j++) h[j] = i ? next[j] : 0;
            if (o->cell == GRU_BEFORE) {
                for (index_t j = 0; j < u; j++) {
                    double z[2], y[2];
                    for (index_t k = 0; k < 2; k++) z[k] = (double)x[k * u + j] + (double)sum_of_products(u, h, kernel + k * u + j, gates * u);
                    activate(2, kinds, z, y);
                    for (index_t k = 0; k < 2; k++) x[k * u + j] = flush(z[k]);
                    at(o->more, n, T, t, u)[j] = scaled[j] = flush(y[1] * (double)h[j]);
                }
            }
            for (index_t j = 0; j < u; j++) {
                double sums[4], z[4], y[4], out;
                for (index_t k = 0; k < gates; k++) {
                    sums[k] = (double)sum_of_products(u, o->cell == GRU_BEFORE ? scaled : h, kernel + k * u + j, gates * u);
                    z[k] = (double)x[k * u + j] + sums[k];
                }
                if (o->cell == SIMPLE_RNN) {
                    activate(1, &act, z, y);
                    out = y[0];
                } else if (o->cell == LSTM) {
                    double state, y_state;
                    activate(4, kinds, z, y);
                    y_state = state = fma(y[1], i ? (double)at(o->more, n, T, last, u)[j] : 0, y[0] * y[2]);
                    activate(1, &act, &y_state, &out);
                    out = y[3] * out;
                    at(o->more, n, T, t, u)[j] = flush(state);
                } else {
                    if (o->cell == GRU_AFTER) {
                        for (index_t k = 0; k < 3; k++) {
                            if (bias) sums[k] += (double)bias[k * u + j];
                            z[k] = (double)x[k * u + j] + sums[k];
                        }
                        activate(2, kinds, z, y);
                        z[2] = fma(y[1], sums[2], (double)x[2 * u + j]);
                        at(o->more, n, T, t, 3 * u)[2 * u + j] = flush(sums[2]);
                    } else {
                        y[0] = value(rec, z[0] = (double)x[j]);
                        z[1] = (double)x[u + j];
                    }
                    activate(1, &act, z + 2, y + 2);
                    out = fma(y[0], (double)h[j], (1 - y[0]) * y[2]);
                }
                for (index_t k = 0; k < gates; k++) x[k * u + j] = flush(z[k]);
                next[j] = flush(out);
            }
            if (!o->last || i == T - 1)
                for (index_t j = 0; j < u; j++) ((real *)o->y)[n * o->y_sample + (o->last ? 0 : t * o->y_step) + j] = next[j];
        }
    free(next), free(scaled);
}

void NAME(recurrent_backward)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(recurrent_backward)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct recurrent_backward *o = operation;
    const index_t u = o->units, gates = gates_of(o->cell), T = o->steps, through = o->cell == GRU_BEFORE ? 2 : gates;
    const int act = o->activation, rec = o->recurrent_activation;
    const real *kernel = o->kernel;
    real *sums = malloc((size_t)u * sizeof(real)), *carried = malloc((size_t)u * sizeof(real)), *d = malloc((size_t)(gates * u) * sizeof(real));
    (void)scratch;
    for (index_t n = begin; n < end; n++)
        for (index_t i = T - 1; i >= 0; i--) {
            const index_t t = o->backwards ? T - 1 - i : i, last = o->backwards ? t + 1 : t - 1;
            real *x = at(o->gates, n, T, t, gates * u);
            const real *h = at(o->before, n, T, t, u);
            for (index_t j = 0; j < u; j++) {
                const double dy = !o->last || i == T - 1 ? (double)((const real *)o->dy)[n * o->dy_sample + (o->last ? 0 : t * o->dy_step) + j] : 0;
                const double from_next = i < T - 1 ? (double)sum_of_products(through * u, d, kernel + j * gates * u, 1) : 0, passed = i < T - 1 ? (double)carried[j] : 0;
                sums[j] = 0;
                if (o->cell == SIMPLE_RNN) {
                    x[j] = flush((dy + from_next) * slope(act, (double)x[j]));
                } else if (o->cell == LSTM) {
                    const double dh = dy + from_next, state = (double)at(o->more, n, T, t, u)[j], c_before = i ? (double)at(o->more, n, T, last, u)[j] : 0;
                    double s[4], y[4], kept = state, y_state;
                    for (index_t k = 0; k < 4; k++) y[k] = value(k == 2 ? act : rec, s[k] = (double)x[k * u + j]);
                    activate(1, &act, &kept, &y_state);
                    const double dc = fma(dh * y[3], slope(act, kept), passed);
                    x[j] = flush(dc * y[2] * slope(rec, s[0]));
                    x[u + j] = flush(dc * c_before * slope(rec, s[1]));
                    x[2 * u + j] = flush(dc * y[0] * slope(act, s[2]));
                    x[3 * u + j] = flush(dh * y_state * slope(rec, s[3]));
                    carried[j] = flush(dc * y[1]);
                } else {
                    const double dh = dy + (passed + from_next), z = (double)x[j], r = (double)x[u + j], g = (double)x[2 * u + j];
                    const double dg = dh * (1 - value(rec, z)) * slope(act, g);
                    x[j] = flush(dh * ((double)h[j] - value(act, g)) * slope(rec, z));
                    x[2 * u + j] = flush(dg);
                    sums[j] = flush(dh * value(rec, z)); /* what is carried, once all units have read the latter */
                    if (o->cell == GRU_AFTER) {
                        real *inner = at(o->more, n, T, t, 3 * u);
                        x[u + j] = flush(dg * (double)inner[2 * u + j] * slope(rec, r));
                        inner[j] = x[j], inner[u + j] = x[u + j], inner[2 * u + j] = flush(dg * value(rec, r));
                    }
                }
            }
            if (o->cell == GRU_AFTER || o->cell == GRU_BEFORE) memcpy(carried, sums, (size_t)u * sizeof(real));
            if (o->cell == GRU_BEFORE)
                for (index_t j = 0; j < u; j++) {
                    const double scaled = (double)sum_of_products(u, x + 2 * u, kernel + j * gates * u + 2 * u, 1), r = (double)x[u + j];
                    carried[j] = flush(fma(scaled, value(rec, r), (double)carried[j]));
                    x[u + j] = flush(scaled * (double)h[j] * slope(rec, r));
                }
            memcpy(d, o->cell == GRU_AFTER ? at(o->more, n, T, t, 3 * u) : x, (size_t)(gates * u) * sizeof(real));
        }
    free(sums), free(carried), free(d);
}
