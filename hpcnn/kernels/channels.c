/* Normalisation of channels by their moments, its gradient, and sums of leaves along the tree. */
#include "channels.h"
#include "activations.h"

#define PERIOD 128 /* entries of coefficients, if channels are fewer */

/* ----------------------------------------------------------------------------------------------- Scaling and gradient */

/* Coefficients of a channel, in scratch as arrays of doubles: those of some rows, so that they fill vectors. */
enum coefficient { MEAN, FACTOR, ADD, SECOND, SHIFT, COEFFICIENTS };
struct coefficients {
    double *of[COEFFICIENTS];
    index_t rows; /* that they are for: a line */
};
INLINE index_t coefficients_size(index_t columns) { return (columns < PERIOD ? PERIOD : columns) + WIDTH; }
INLINE size_t coefficients_bytes(index_t columns) { return (size_t)coefficients_size(columns) * COEFFICIENTS * sizeof(double); }
INLINE struct coefficients coefficients_in(void *scratch, index_t columns) {
    struct coefficients all;
    memset(scratch, 0, coefficients_bytes(columns));
    for (int k = 0; k < COEFFICIENTS; k++) all.of[k] = (double *)scratch + k * coefficients_size(columns);
    return all;
}
/* Copy those of one row for as many as there are, up to `rows`. */
INLINE void repeat(struct coefficients *all, index_t columns, index_t rows) {
    all->rows = least(columns < PERIOD ? PERIOD / columns : 1, rows);
    for (int which = 0; which < COEFFICIENTS; which++)
        for (index_t k = 1; k < all->rows; k++)
            memcpy(all->of[which] + k * columns, all->of[which], (size_t)columns * sizeof(double));
}

/* One vector of `lines` lines, `step` entries apart; without x: dy x scale. */
INLINE void scale_vector(int whole, int with_relu, index_t count, const real *x, const real *dy, real *out, index_t step, index_t lines,
                         const struct coefficients *all, index_t at) {
    dvec mean[DPARTS], scale[DPARTS], add[DPARTS], second[DPARTS], shift[DPARTS];
    for (int part = 0; part < DPARTS; part++) {
        mean[part] = dload(all->of[MEAN] + at + part * DWIDTH);
        scale[part] = dload(all->of[FACTOR] + at + part * DWIDTH);
        add[part] = dload(all->of[ADD] + at + part * DWIDTH);
        second[part] = dload(all->of[SECOND] + at + part * DWIDTH);
        shift[part] = dload(all->of[SHIFT] + at + part * DWIDTH);
    }
    for (index_t line = 0; line < lines; line++) {
        const index_t place = line * step + at;
        const vec v = !x ? (vec){0} : whole ? load(x + place) : load_part(x + place, count);
        vec d = !dy ? (vec){0} : whole ? load(dy + place) : load_part(dy + place, count);
        dvec value[DPARTS];
        if (dy && with_relu) {
            for (int part = 0; part < DPARTS; part++) value[part] = dfma(widen(v, part) - mean[part], scale[part], shift[part]);
            d = where_positive(narrow(value), d);
        }
        for (int part = 0; part < DPARTS; part++) {
            if (!dy) value[part] = dfma(widen(v, part) - mean[part], scale[part], add[part]);
            else if (!x) value[part] = widen(d, part) * scale[part];
            else value[part] = dfma(mean[part] - widen(v, part), second[part], dfma(widen(d, part), scale[part], add[part]));
        }
        vec y = flushed(narrow(value));
        if (!dy && with_relu) y = relu(y);
        if (whole) store(out + place, y);
        else store_part(out + place, y, count);
    }
}

/* Rows of one segment. */
INLINE void scale_rows(int with_relu, const real *x, const real *dy, real *out, index_t rows, index_t columns, const struct coefficients *all) {
    const index_t step = all->rows * columns, most = step < 512 ? 2048 / step : 4;
    for (index_t row = 0, lines; row < rows; row += lines * all->rows) {
        const index_t left = rows - row, entry = row * columns;
        lines = left >= all->rows ? least(left / all->rows, most) : 1;
        const index_t n = left >= all->rows ? step : left * columns;
        index_t i = 0;
        for (; i + WIDTH <= n; i += WIDTH)
            scale_vector(1, with_relu, WIDTH, x ? x + entry : NULL, dy ? dy + entry : NULL, out + entry, step, lines, all, i);
        if (i < n) scale_vector(0, with_relu, n - i, x ? x + entry : NULL, dy ? dy + entry : NULL, out + entry, step, lines, all, i);
    }
}

size_t NAME(normalize_scratch)(const void *operation);
size_t NAME(normalize_scratch)(const void *operation) {
    return coefficients_bytes(((const struct normalize *)operation)->columns);
}

void NAME(normalize)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(normalize)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct normalize *o = operation;
    const index_t columns = o->columns;
    const real *gamma = o->gamma, *beta = o->beta;
    struct coefficients all = coefficients_in(scratch, columns);
    for (index_t row = begin, s = 0, stop; row < end; row = stop) {
        s = segment_from(&o->segments, s, row);
        stop = least(end, start_of(&o->segments, s + 1));
        const double *moments = o->moments + s * o->moments_row;
        for (index_t j = 0; j < columns; j++) {
            all.of[MEAN][j] = moments[j];
            all.of[FACTOR][j] = gamma ? (double)gamma[j] * moments[columns + j] : moments[columns + j];
            all.of[ADD][j] = beta ? (double)beta[j] : 0;
        }
        repeat(&all, columns, stop - row);
        const real *x = (const real *)o->x + row * columns;
        real *y = (real *)o->y + row * columns;
        if (o->relu) scale_rows(1, x, NULL, y, stop - row, columns, &all);
        else scale_rows(0, x, NULL, y, stop - row, columns, &all);
    }
}

void NAME(channel_slopes)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(channel_slopes)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct channel_slopes *o = operation;
    const index_t columns = o->columns;
    const real *gamma = o->gamma;
    (void)scratch;
    for (index_t row = begin; row < end; row++) {
        const double *sums = o->sums + row * 2 * columns, *inverse = o->moments + row * 2 * columns + columns;
        const double count = o->counts[row * o->counts_row], n = count > 1 ? count : 1;
        double *slopes = o->slopes + row * 2 * columns;
        for (index_t j = 0; j < columns; j += o->group) {
            double first = 0, second = 0;
            for (index_t k = j; k < j + o->group; k++) { /* all are read before any is written: slopes may be sums */
                first += gamma ? (double)gamma[k] * sums[k] : sums[k];
                second += gamma ? (double)gamma[k] * sums[columns + k] : sums[columns + k];
            }
            first /= n, second /= n;
            for (index_t k = j; k < j + o->group; k++) {
                slopes[k] = first * inverse[k];
                slopes[columns + k] = second * inverse[k] * inverse[k];
            }
        }
    }
}

size_t NAME(normalize_backward_scratch)(const void *operation);
size_t NAME(normalize_backward_scratch)(const void *operation) {
    return coefficients_bytes(((const struct normalize_backward *)operation)->columns);
}

void NAME(normalize_backward)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(normalize_backward)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct normalize_backward *o = operation;
    const index_t columns = o->columns;
    const real *gamma = o->gamma, *beta = o->beta;
    struct coefficients all = coefficients_in(scratch, columns);
    for (index_t row = begin, s = 0, stop; row < end; row = stop) {
        s = segment_from(&o->segments, s, row);
        stop = least(end, start_of(&o->segments, s + 1));
        const double *moments = o->moments + s * o->moments_row, *slopes = o->slopes ? o->slopes + s * o->moments_row : NULL;
        for (index_t j = 0; j < columns; j++) {
            all.of[MEAN][j] = moments[j];
            all.of[FACTOR][j] = gamma ? (double)gamma[j] * moments[columns + j] : moments[columns + j];
            all.of[ADD][j] = slopes ? -slopes[j] : 0;
            all.of[SECOND][j] = slopes ? slopes[columns + j] : 0;
            all.of[SHIFT][j] = beta ? (double)beta[j] : 0;
        }
        repeat(&all, columns, stop - row);
        const real *x = (const real *)o->x + row * columns, *dy = (const real *)o->dy + row * columns;
        real *dx = (real *)o->dx + row * columns;
        if (o->relu) scale_rows(1, x, dy, dx, stop - row, columns, &all);
        else if (slopes) scale_rows(0, x, dy, dx, stop - row, columns, &all);
        else scale_rows(0, NULL, dy, dx, stop - row, columns, &all);
    }
}

/* ------------------------------------------------------------------------------------------------------- Along the tree */

#define STRIP 16 /* columns that are summed at once, so that whole lines of memory are read */

size_t NAME(leaf_sums_scratch)(const void *operation);
size_t NAME(leaf_sums_scratch)(const void *operation) {
    return (size_t)(((const struct leaf_sums *)operation)->shards->depth + 1) * STRIP * sizeof(real);
}

/* Add `count` columns from `column` on. */
INLINE void sum_leaves(const struct leaf_sums *o, index_t column, index_t count, real *stack) {
    const struct shards *shards = o->shards;
    for (index_t group = 0; group < shards->groups; group++) {
        real *top = stack;
        for (index_t leaf = shards->group_leaf[group]; leaf < shards->group_leaf[group + 1]; leaf++, top += STRIP) {
            double totals[STRIP] = {0};
            for (index_t row = shards->leaf_row[leaf]; row < shards->leaf_row[leaf + 1]; row++)
                for (index_t j = 0; j < count; j++) totals[j] += o->terms[row * o->terms_row + column + j];
            real values[STRIP];
            for (index_t j = 0; j < count; j++) values[j] = (real)totals[j];
            for (index_t fold = 0; fold < shards->folds[leaf]; fold++) {
                top -= STRIP;
                for (index_t j = 0; j < count; j++) values[j] = top[j] + values[j];
            }
            memcpy(top, values, (size_t)count * sizeof *top);
        }
        memcpy((real *)o->out[group] + column, stack, (size_t)count * sizeof *stack);
    }
}

void NAME(leaf_sums)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(leaf_sums)(const void *operation, index_t begin, index_t end, void *scratch) {
    index_t j = begin;
    for (; j + STRIP <= end; j += STRIP) sum_leaves(operation, j, STRIP, scratch);
    if (j < end) sum_leaves(operation, j, end - j, scratch);
}
