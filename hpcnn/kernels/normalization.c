/* Layer normalisation (Ba, Kiros and Hinton, 2016) and its gradient. Sums over a row are in doubles, over LANES lanes. */
#include "functions.h"

void NAME(layer_norm)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct layer_norm *op = operation;
    const real *gamma = op->gamma, *beta = op->beta;
    const index_t n = op->columns;
    dvec value[BLOCK], other[BLOCK];
    (void)scratch;
    for (index_t row = begin; row < end; row++) {
        const real *x = (const real *)op->x + row * n;
        real *normal = (real *)op->normal + row * n, *y = (real *)op->y + row * n;
        dvec sums[BLOCK] = {0}, squares[BLOCK] = {0};
        EACH_BLOCK(n) {
            load_block(x + i, count, value);
            EACH_DVEC sums[k] += value[k];
        }
        const dvec mean = dall(folded(sums) / (double)n);
        EACH_BLOCK(n) {
            load_block(x + i, count, value);
            EACH_DVEC value[k] -= mean;
            only_first(count, value);
            EACH_DVEC squares[k] += value[k] * value[k];
        }
        const double inverse = 1 / droot(dall(folded(squares) / (double)n + op->epsilon))[0];
        ((real *)op->inverse)[row] = (real)inverse;
        EACH_BLOCK(n) {
            load_block(x + i, count, value);
            EACH_DVEC value[k] = (value[k] - mean) * dall(inverse);
            store_block(normal + i, count, value);
            if (gamma) {
                load_block(gamma + i, count, other);
                EACH_DVEC value[k] *= other[k];
            }
            if (beta) {
                load_block(beta + i, count, other);
                EACH_DVEC value[k] += other[k];
            }
            if (y != normal) store_block(y + i, count, value);
        }
    }
}

/* gamma dy of a block. */
INLINE void scaled_block(const real *dy, const real *gamma, index_t i, index_t count, dvec *d) {
    dvec scale[BLOCK];
    load_block(dy + i, count, d);
    if (!gamma) return;
    load_block(gamma + i, count, scale);
    EACH_DVEC d[k] *= scale[k];
}

/* dx = inverse (d - mean(d) - normal mean(d normal)), with d = gamma dy. */
void NAME(layer_norm_backward)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct layer_norm_backward *op = operation;
    const index_t n = op->columns;
    dvec d[BLOCK], normals[BLOCK];
    (void)scratch;
    for (index_t row = begin; row < end; row++) {
        const real *normal = (const real *)op->normal + row * n, *dy = (const real *)op->dy + row * n;
        real *dx = (real *)op->dx + row * n;
        dvec sums[BLOCK] = {0}, products[BLOCK] = {0}, inverse = dall((double)((const real *)op->inverse)[row]);
        EACH_BLOCK(n) {
            scaled_block(dy, op->gamma, i, count, d);
            load_block(normal + i, count, normals);
            EACH_DVEC {
                sums[k] += d[k];
                products[k] += d[k] * normals[k];
            }
        }
        const dvec mean = dall(folded(sums) / (double)n), slope = dall(folded(products) / (double)n);
        EACH_BLOCK(n) {
            scaled_block(dy, op->gamma, i, count, d);
            load_block(normal + i, count, normals);
            EACH_DVEC d[k] = (d[k] - mean - normals[k] * slope) * inverse;
            store_block(dx + i, count, d);
        }
    }
}

/* Normalisation by the root mean square (Zhang and Sennrich, 2019). */
void NAME(rms_norm)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct rms_norm *op = operation;
    const real *scale = op->scale;
    const index_t n = op->columns;
    dvec value[BLOCK], other[BLOCK];
    (void)scratch;
    for (index_t row = begin; row < end; row++) {
        const real *x = (const real *)op->x + row * n;
        real *normal = (real *)op->normal + row * n, *y = (real *)op->y + row * n;
        dvec squares[BLOCK] = {0};
        EACH_BLOCK(n) {
            load_block(x + i, count, value);
            EACH_DVEC squares[k] += value[k] * value[k];
        }
        const double inverse = 1 / droot(dall(folded(squares) / (double)n + op->epsilon))[0];
        ((real *)op->inverse)[row] = (real)inverse;
        EACH_BLOCK(n) {
            load_block(x + i, count, value);
            load_block(scale + i, count, other);
            EACH_DVEC value[k] *= dall(inverse);
            store_block(normal + i, count, value);
            EACH_DVEC value[k] *= other[k];
            store_block(y + i, count, value);
        }
    }
}

void NAME(rms_norm_backward)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct rms_norm_backward *op = operation;
    const index_t n = op->columns;
    dvec d[BLOCK], normals[BLOCK];
    (void)scratch;
    for (index_t row = begin; row < end; row++) {
        const real *normal = (const real *)op->normal + row * n, *dy = (const real *)op->dy + row * n;
        real *dx = (real *)op->dx + row * n;
        dvec products[BLOCK] = {0}, inverse = dall((double)((const real *)op->inverse)[row]);
        EACH_BLOCK(n) {
            scaled_block(dy, op->scale, i, count, d);
            load_block(normal + i, count, normals);
            EACH_DVEC products[k] += d[k] * normals[k];
        }
        const dvec slope = dall(folded(products) / (double)n);
        EACH_BLOCK(n) {
            scaled_block(dy, op->scale, i, count, d);
            load_block(normal + i, count, normals);
            EACH_DVEC d[k] = (d[k] - normals[k] * slope) * inverse;
            store_block(dx + i, count, d);
        }
    }
}
