/* Layer normalisation (Ba, Kiros and Hinton, 2016) and its gradient. Sums over a row are in doubles, over LANES lanes. */
#include "functions.h"

static real flushed_real(double x) {
    real y = (real)x;
    return (y < 0 ? -y : y) < REAL_MIN ? y * 0 : y;
}

void NAME(layer_norm)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct layer_norm *op = operation;
    const real *gamma = op->gamma, *beta = op->beta;
    const index_t n = op->columns;
    (void)scratch;
    for (index_t row = begin; row < end; row++) {
        const real *x = (const real *)op->x + row * n;
        real *normal = (real *)op->normal + row * n, *y = (real *)op->y + row * n;
        double sums[LANES] = {0}, squares[LANES] = {0};
        for (index_t i = 0; i < n; i++) sums[i % LANES] += (double)x[i];
        double mean = folded(sums) / (double)n;
        for (index_t i = 0; i < n; i++) {
            double deviation = (double)x[i] - mean;
            squares[i % LANES] += deviation * deviation;
        }
        double inverse = 1 / sqrt(folded(squares) / (double)n + op->epsilon);
        ((real *)op->inverse)[row] = (real)inverse;
        for (index_t i = 0; i < n; i++) {
            double value = ((double)x[i] - mean) * inverse;
            normal[i] = flushed_real(value);
            if (gamma) value *= (double)gamma[i];
            if (beta) value += (double)beta[i];
            y[i] = flushed_real(value);
        }
    }
}

/* dx = inverse (d - mean(d) - normal mean(d normal)), with d = gamma dy. */
void NAME(layer_norm_backward)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct layer_norm_backward *op = operation;
    const real *gamma = op->gamma;
    const index_t n = op->columns;
    (void)scratch;
    for (index_t row = begin; row < end; row++) {
        const real *normal = (const real *)op->normal + row * n, *dy = (const real *)op->dy + row * n;
        real *dx = (real *)op->dx + row * n;
        double sums[LANES] = {0}, products[LANES] = {0}, inverse = (double)((const real *)op->inverse)[row];
        for (index_t i = 0; i < n; i++) {
            double d = gamma ? (double)dy[i] * (double)gamma[i] : (double)dy[i];
            sums[i % LANES] += d;
            products[i % LANES] += d * (double)normal[i];
        }
        double mean = folded(sums) / (double)n, slope = folded(products) / (double)n;
        for (index_t i = 0; i < n; i++) {
            double d = gamma ? (double)dy[i] * (double)gamma[i] : (double)dy[i];
            dx[i] = flushed_real((d - mean - (double)normal[i] * slope) * inverse);
        }
    }
}
