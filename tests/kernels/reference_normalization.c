/* Normalisations again, for tests alone: plain loops over single numbers, in the order that operations_normalization.h says. */
#include <stdlib.h>

#include "simd.h"

#ifndef LANES_OF_ROWS /* a test changes it, and must notice */
#define LANES_OF_ROWS ROW_LANES
#endif

static real flush(real x) { return x < (real)REAL_MIN && x > -(real)REAL_MIN ? (real)copysign(0, x) : x; }

static index_t begin_of(const struct segments *segments, index_t s) {
    return segments->start ? segments->start[s] : s * segments->each;
}

static index_t holder_of(const struct segments *segments, index_t row) {
    index_t s = 0;
    while (s + 1 < segments->count && begin_of(segments, s + 1) <= row) s++;
    return s;
}

/* Of one column: sums over rows of t and t (x - shift), with t = dy, or x - shift. */
static void column(const real *x, const real *dy, index_t rows, index_t step, double shift, double *first, double *second) {
    double sums[LANES_OF_ROWS] = {0}, products[LANES_OF_ROWS] = {0};
    for (index_t r = 0; r < rows; r++) {
        const double value = (double)x[r * step] - shift, term = dy ? (double)dy[r * step] : value;
        sums[r % LANES_OF_ROWS] += term;
        products[r % LANES_OF_ROWS] = fma(term, value, products[r % LANES_OF_ROWS]);
    }
    for (index_t half = LANES_OF_ROWS / 2; half; half /= 2)
        for (index_t i = 0; i < half; i++) sums[i] += sums[i + half], products[i] += products[i + half];
    *first = sums[0], *second = products[0];
}

void NAME(channel_sums)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(channel_sums)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct channel_sums *o = operation;
    const index_t n = o->columns;
    (void)scratch;
    for (index_t s = begin; s < end; s++) {
        const index_t first = begin_of(&o->segments, s), rows = begin_of(&o->segments, s + 1) - first;
        double *sums = o->sums + s * (1 + 2 * n);
        sums[0] = (double)rows;
        for (index_t j = 0; j < n; j++)
            column((const real *)o->x + first * n + j, NULL, rows, n, ((const real *)o->shift)[j], sums + 1 + j, sums + 1 + n + j);
    }
}

static real normalized(real x, const double *moments, const real *gamma, const real *beta, index_t n, index_t j) {
    const double scale = gamma ? (double)gamma[j] * moments[n + j] : moments[n + j];
    return flush((real)fma((double)x - moments[j], scale, beta ? (double)beta[j] : 0));
}

/* dy where relu lets it pass. */
static real passed(real x, real dy, const double *moments, const real *gamma, const real *beta, index_t n, index_t j) {
    return normalized(x, moments, gamma, beta, n, j) > 0 ? flush(dy) : 0;
}

void NAME(channel_products)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(channel_products)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct channel_products *o = operation;
    const index_t n = o->columns;
    (void)scratch;
    for (index_t s = begin; s < end; s++) {
        const index_t first = begin_of(&o->segments, s), rows = begin_of(&o->segments, s + 1) - first;
        const double *moments = o->moments + s * o->moments_row;
        double *sums = o->sums + s * 2 * n;
        real *kept = malloc((size_t)(rows * n + 1) * sizeof *kept);
        for (index_t i = 0; i < rows * n; i++) {
            const index_t at = first * n + i;
            const real dy = ((const real *)o->dy)[at];
            kept[i] = o->relu ? passed(((const real *)o->x)[at], dy, moments, o->gamma, o->beta, n, i % n) : dy;
        }
        for (index_t j = 0; j < n; j++) {
            column((const real *)o->x + first * n + j, kept + j, rows, n, moments[j], sums + j, sums + n + j);
            sums[n + j] *= moments[n + j];
        }
        free(kept);
    }
}

static double total_of(const real *x, index_t positions, index_t columns, index_t first, index_t width, double shift, int square) {
    double total = 0;
    for (index_t j = first; j < first + width; j++) {
        double sums[2];
        column(x + j, NULL, positions, columns, shift, sums, sums + 1);
        total += sums[square];
    }
    return total;
}

void NAME(group_moments)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(group_moments)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct group_moments *o = operation;
    const index_t n = o->columns, width = n / o->groups;
    const double count = (double)(width * o->positions);
    (void)scratch;
    for (index_t s = begin; s < end; s++)
        for (index_t j = 0; j < n; j++) {
            const real *x = (const real *)o->x + s * o->positions * n;
            const index_t first = j / width * width;
            const double mean = total_of(x, o->positions, n, first, width, 0, 0) / count;
            o->moments[s * 2 * n + j] = mean;
            o->moments[s * 2 * n + n + j] = 1 / sqrt(total_of(x, o->positions, n, first, width, mean, 1) / count + o->epsilon);
        }
}

void NAME(normalize)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(normalize)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct normalize *o = operation;
    const index_t n = o->columns;
    const real *gamma = o->gamma, *beta = o->beta;
    (void)scratch;
    for (index_t row = begin; row < end; row++)
        for (index_t j = 0; j < n; j++) {
            const double *moments = o->moments + holder_of(&o->segments, row) * o->moments_row;
            const real y = normalized(((const real *)o->x)[row * n + j], moments, gamma, beta, n, j);
            ((real *)o->y)[row * n + j] = o->relu && y <= 0 ? 0 : y;
        }
}

void NAME(normalize_backward)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(normalize_backward)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct normalize_backward *o = operation;
    const index_t n = o->columns;
    const real *gamma = o->gamma;
    (void)scratch;
    for (index_t row = begin; row < end; row++)
        for (index_t j = 0; j < n; j++) {
            const index_t at = holder_of(&o->segments, row) * o->moments_row;
            const double *moments = o->moments + at, scale = gamma ? (double)gamma[j] * moments[n + j] : moments[n + j];
            const real from = ((const real *)o->x)[row * n + j], to = ((const real *)o->dy)[row * n + j];
            const double x = (double)from, dy = (double)(o->relu ? passed(from, to, moments, gamma, o->beta, n, j) : to);
            double value = dy * scale;
            if (o->slopes) value = fma(moments[j] - x, o->slopes[at + n + j], fma(dy, scale, -o->slopes[at + j]));
            ((real *)o->dx)[row * n + j] = flush((real)value);
        }
}

void NAME(leaf_sums)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(leaf_sums)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct leaf_sums *o = operation;
    const struct shards *shards = o->shards;
    real *stack = malloc(((size_t)shards->depth + 1) * sizeof *stack);
    (void)scratch;
    for (index_t j = begin; j < end; j++)
        for (index_t g = 0, top = 0; g < shards->groups; g++) {
            for (index_t l = shards->group_leaf[g]; l < shards->group_leaf[g + 1]; l++) {
                double total = 0;
                for (index_t r = shards->leaf_row[l]; r < shards->leaf_row[l + 1]; r++) total += o->terms[r * o->terms_row + j];
                stack[top++] = (real)total;
                for (index_t fold = 0; fold < shards->folds[l]; fold++) {
                    top--;
                    stack[top - 1] = stack[top - 1] + stack[top];
                }
            }
            ((real *)o->out[g])[j] = stack[--top];
        }
    free(stack);
}
