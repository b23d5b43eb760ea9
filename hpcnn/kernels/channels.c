/* Sums over rows for each channel, and normalisation by them: batch and group normalisation, and their gradients.
 *
 * ROW_LANES rows that follow each other are taken as one wide row: then each lane of a channel is a column of its own,
 * and vectors are filled however few channels there are. */
#include "simd.h"

#define STRIP (ISA_NUMBER == ISA_avx2 ? 2 : 4) /* vectors of a wide row that are summed at once */
#define LINES 16                               /* wide rows that are in the cache at once */
#define PERIOD 128                             /* entries of coefficients, if channels are fewer */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

INLINE index_t least(index_t a, index_t b) { return a < b ? a : b; }
INLINE dvec dload(const double *from) { dvec v; memcpy(&v, from, sizeof v); return v; }
INLINE void dstore(double *to, dvec v) { memcpy(to, &v, sizeof v); }
INLINE vec load_count(const real *from, index_t count) { return count >= WIDTH ? load(from) : load_part(from, count); }

INLINE index_t start_of(const struct segments *segments, index_t s) {
    return segments->start ? segments->start[s] : s * segments->each;
}
INLINE index_t segment_of(const struct segments *segments, index_t row) {
    index_t s = 0;
    if (!segments->start) return row / segments->each;
    while (segments->start[s + 1] <= row) s++;
    return s;
}

/* -------------------------------------------------------------------------------------------------------------- Sums */

/* Buffers of a wide row in scratch. A vector that begins within one may end behind its last entry. */
struct lanes {
    double *shift, *first, *second;
};
INLINE index_t lanes_size(index_t columns) { return ROW_LANES * columns + WIDTH; }
INLINE size_t lanes_bytes(index_t columns) { return (size_t)lanes_size(columns) * 3 * sizeof(double); }
INLINE struct lanes lanes_in(void *scratch, index_t columns) {
    double *buffer = scratch;
    const index_t size = lanes_size(columns);
    memset(buffer, 0, lanes_bytes(columns));
    return (struct lanes){buffer, buffer + size, buffer + 2 * size};
}

/* Add `lines` wide rows, `step` entries apart: so many vectors of each, the last with `last` entries. */
INLINE void add_strip(int vectors, index_t last, const real *x, const real *dy, index_t step, index_t lines,
                      const double *shift, double *first, double *second) {
    dvec centre[STRIP * DPARTS], sum[STRIP * DPARTS], product[STRIP * DPARTS];
    UNROLL for (int k = 0; k < vectors * DPARTS; k++) {
        centre[k] = dload(shift + k * DWIDTH);
        sum[k] = dload(first + k * DWIDTH);
        product[k] = dload(second + k * DWIDTH);
    }
    for (index_t line = 0; line < lines; line++, x += step, dy = dy ? dy + step : NULL)
        UNROLL for (int v = 0; v < vectors; v++) {
            const index_t count = v < vectors - 1 ? WIDTH : last;
            const vec a = load_count(x + v * WIDTH, count), b = dy ? load_count(dy + v * WIDTH, count) : a;
            for (int part = 0; part < DPARTS; part++) {
                const int k = v * DPARTS + part;
                const dvec value = widen(a, part) - centre[k], term = dy ? widen(b, part) : value;
                sum[k] += term;
                product[k] = dfma(term, value, product[k]);
            }
        }
    UNROLL for (int k = 0; k < vectors * DPARTS; k++) {
        dstore(first + k * DWIDTH, sum[k]);
        dstore(second + k * DWIDTH, product[k]);
    }
}

/* Write to the first entries of `first` and `second` the sums over rows of t and of t (x - shift), with t = dy, or
 * x - shift without dy. `shift` holds one for each column; its copies are made here. */
INLINE void sum_rows(const real *x, const real *dy, index_t rows, index_t columns, struct lanes lanes) {
    const index_t wide = ROW_LANES * columns, lines = rows / ROW_LANES, rest = rows % ROW_LANES * columns;
    double *shift = lanes.shift, *first = lanes.first, *second = lanes.second;
    for (index_t done = columns; done < wide; done *= 2)
        memcpy(shift + done, shift, (size_t)least(done, wide - done) * sizeof *shift);
    memset(first, 0, (size_t)lanes_size(columns) * sizeof *first);
    memset(second, 0, (size_t)lanes_size(columns) * sizeof *second);
    for (index_t line = 0; line < lines; line += LINES) {
        const index_t count = least(LINES, lines - line);
        index_t i = 0;
        for (; i + STRIP * WIDTH <= wide; i += STRIP * WIDTH) {
            const index_t at = line * wide + i;
            add_strip(STRIP, WIDTH, x + at, dy ? dy + at : NULL, wide, count, shift + i, first + i, second + i);
        }
        for (; i < wide; i += WIDTH) {
            const index_t at = line * wide + i;
            add_strip(1, least(WIDTH, wide - i), x + at, dy ? dy + at : NULL, wide, count, shift + i, first + i, second + i);
        }
    }
    for (index_t i = 0; i < rest; i++) {
        const double value = (double)x[lines * wide + i] - shift[i], term = dy ? (double)dy[lines * wide + i] : value;
        first[i] += term;
        second[i] = fma(term, value, second[i]);
    }
    for (index_t half = ROW_LANES / 2 * columns; half >= columns; half /= 2)
        for (index_t i = 0; i < half; i++) {
            first[i] += first[i + half];
            second[i] += second[i + half];
        }
}

size_t NAME(channel_sums_scratch)(const void *operation);
size_t NAME(channel_sums_scratch)(const void *operation) {
    return lanes_bytes(((const struct channel_sums *)operation)->columns);
}

void NAME(channel_sums)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(channel_sums)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct channel_sums *o = operation;
    const index_t columns = o->columns;
    const struct lanes lanes = lanes_in(scratch, columns);
    for (index_t j = 0; j < columns; j++) lanes.shift[j] = (double)((const real *)o->shift)[j];
    for (index_t s = begin; s < end; s++) {
        const index_t first = start_of(&o->segments, s), rows = start_of(&o->segments, s + 1) - first;
        double *sums = o->sums + s * (1 + 2 * columns);
        sum_rows((const real *)o->x + first * columns, NULL, rows, columns, lanes);
        sums[0] = (double)rows;
        memcpy(sums + 1, lanes.first, (size_t)columns * sizeof *sums);
        memcpy(sums + 1 + columns, lanes.second, (size_t)columns * sizeof *sums);
    }
}

size_t NAME(channel_products_scratch)(const void *operation);
size_t NAME(channel_products_scratch)(const void *operation) {
    return lanes_bytes(((const struct channel_products *)operation)->columns);
}

void NAME(channel_products)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(channel_products)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct channel_products *o = operation;
    const index_t columns = o->columns;
    const struct lanes lanes = lanes_in(scratch, columns);
    for (index_t s = begin; s < end; s++) {
        const index_t first = start_of(&o->segments, s), rows = start_of(&o->segments, s + 1) - first;
        const double *moments = o->moments + s * o->moments_row;
        double *sums = o->sums + s * 2 * columns;
        memcpy(lanes.shift, moments, (size_t)columns * sizeof *sums);
        sum_rows((const real *)o->x + first * columns, (const real *)o->dy + first * columns, rows, columns, lanes);
        memcpy(sums, lanes.first, (size_t)columns * sizeof *sums);
        for (index_t j = 0; j < columns; j++) sums[columns + j] = lanes.second[j] * moments[columns + j];
    }
}

/* ----------------------------------------------------------------------------------------------------------- Moments */

void NAME(channel_moments)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(channel_moments)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct channel_moments *o = operation;
    const index_t columns = o->columns;
    const real *shift = o->shift, *given = o->variance;
    (void)scratch;
    for (index_t row = begin; row < end; row++) {
        const double *sums = o->sums ? o->sums + row * (1 + 2 * columns) : NULL;
        const double n = sums && sums[0] > 1 ? sums[0] : 1;
        double *moments = o->moments + row * 2 * columns;
        for (index_t j = 0; j < columns; j++) {
            const double offset = sums ? sums[1 + j] / n : 0;
            double variance = sums ? sums[1 + columns + j] / n - offset * offset : (double)given[j];
            if (sums && variance < 0) variance = 0; /* NaN stays */
            moments[j] = (double)shift[j] + offset;
            moments[columns + j] = 1 / sqrt(variance + o->epsilon);
        }
    }
}

size_t NAME(group_moments_scratch)(const void *operation);
size_t NAME(group_moments_scratch)(const void *operation) {
    return lanes_bytes(((const struct group_moments *)operation)->columns);
}

/* The mean of a group whose sums for each column are given. */
INLINE double group_mean(const double *sums, index_t width, double n) {
    double total = 0;
    for (index_t j = 0; j < width; j++) total += sums[j];
    return total / n;
}

void NAME(group_moments)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(group_moments)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct group_moments *o = operation;
    const index_t columns = o->columns, width = columns / o->groups;
    const double n = (double)(width * o->positions);
    const struct lanes lanes = lanes_in(scratch, columns);
    for (index_t sample = begin; sample < end; sample++) {
        const real *x = (const real *)o->x + sample * o->positions * columns;
        double *mean = o->moments + sample * 2 * columns, *inverse = mean + columns;
        memset(lanes.shift, 0, (size_t)columns * sizeof *mean);
        sum_rows(x, NULL, o->positions, columns, lanes);
        for (index_t j = 0; j < columns; j += width) {
            const double value = group_mean(lanes.first + j, width, n);
            for (index_t k = j; k < j + width; k++) mean[k] = value;
        }
        memcpy(lanes.shift, mean, (size_t)columns * sizeof *mean);
        sum_rows(x, NULL, o->positions, columns, lanes);
        for (index_t j = 0; j < columns; j += width) {
            const double value = 1 / sqrt(group_mean(lanes.second + j, width, n) + o->epsilon);
            for (index_t k = j; k < j + width; k++) inverse[k] = value;
        }
    }
}

/* ------------------------------------------------------------------------------------------------- Scaling and gradient */

/* Coefficients of a channel, in scratch as arrays of doubles: those of some rows, so that they fill vectors. */
enum coefficient { MEAN, FACTOR, ADD, SECOND, COEFFICIENTS };
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
INLINE void scale_vector(int whole, index_t count, const real *x, const real *dy, real *out, index_t step, index_t lines,
                         const struct coefficients *all, index_t at) {
    dvec mean[DPARTS], scale[DPARTS], add[DPARTS], second[DPARTS];
    for (int part = 0; part < DPARTS; part++) {
        mean[part] = dload(all->of[MEAN] + at + part * DWIDTH);
        scale[part] = dload(all->of[FACTOR] + at + part * DWIDTH);
        add[part] = dload(all->of[ADD] + at + part * DWIDTH);
        second[part] = dload(all->of[SECOND] + at + part * DWIDTH);
    }
    for (index_t line = 0; line < lines; line++) {
        const index_t place = line * step + at;
        const vec v = !x ? (vec){0} : whole ? load(x + place) : load_part(x + place, count);
        const vec d = !dy ? (vec){0} : whole ? load(dy + place) : load_part(dy + place, count);
        dvec value[DPARTS];
        for (int part = 0; part < DPARTS; part++) {
            if (!dy) value[part] = dfma(widen(v, part) - mean[part], scale[part], add[part]);
            else if (!x) value[part] = widen(d, part) * scale[part];
            else value[part] = dfma(mean[part] - widen(v, part), second[part], dfma(widen(d, part), scale[part], add[part]));
        }
        if (whole) store(out + place, flushed(narrow(value)));
        else store_part(out + place, flushed(narrow(value)), count);
    }
}

/* Rows of one segment. */
INLINE void scale_rows(const real *x, const real *dy, real *out, index_t rows, index_t columns, const struct coefficients *all) {
    const index_t step = all->rows * columns, most = step < 512 ? 2048 / step : 4;
    for (index_t row = 0, lines; row < rows; row += lines * all->rows) {
        const index_t left = rows - row, entry = row * columns;
        lines = left >= all->rows ? least(left / all->rows, most) : 1;
        const index_t n = left >= all->rows ? step : left * columns;
        index_t i = 0;
        for (; i + WIDTH <= n; i += WIDTH)
            scale_vector(1, WIDTH, x ? x + entry : NULL, dy ? dy + entry : NULL, out + entry, step, lines, all, i);
        if (i < n) scale_vector(0, n - i, x ? x + entry : NULL, dy ? dy + entry : NULL, out + entry, step, lines, all, i);
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
    for (index_t row = begin, stop; row < end; row = stop) {
        const index_t s = segment_of(&o->segments, row);
        stop = least(end, start_of(&o->segments, s + 1));
        const double *moments = o->moments + s * o->moments_row;
        for (index_t j = 0; j < columns; j++) {
            all.of[MEAN][j] = moments[j];
            all.of[FACTOR][j] = gamma ? (double)gamma[j] * moments[columns + j] : moments[columns + j];
            all.of[ADD][j] = beta ? (double)beta[j] : 0;
        }
        repeat(&all, columns, stop - row);
        scale_rows((const real *)o->x + row * columns, NULL, (real *)o->y + row * columns, stop - row, columns, &all);
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
            for (index_t k = j; k < j + o->group; k++) {
                slopes[k] = first / n * inverse[k];
                slopes[columns + k] = second / n * inverse[k] * inverse[k];
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
    const real *gamma = o->gamma;
    struct coefficients all = coefficients_in(scratch, columns);
    for (index_t row = begin, stop; row < end; row = stop) {
        const index_t s = segment_of(&o->segments, row);
        stop = least(end, start_of(&o->segments, s + 1));
        const double *moments = o->moments + s * o->moments_row, *slopes = o->slopes ? o->slopes + s * o->moments_row : NULL;
        for (index_t j = 0; j < columns; j++) {
            all.of[MEAN][j] = moments[j];
            all.of[FACTOR][j] = gamma ? (double)gamma[j] * moments[columns + j] : moments[columns + j];
            all.of[ADD][j] = slopes ? -slopes[j] : 0;
            all.of[SECOND][j] = slopes ? slopes[columns + j] : 0;
        }
        repeat(&all, columns, stop - row);
        const real *x = (const real *)o->x + row * columns, *dy = (const real *)o->dy + row * columns;
        real *dx = (real *)o->dx + row * columns;
        if (slopes) scale_rows(x, dy, dx, stop - row, columns, &all);
        else scale_rows(NULL, dy, dx, stop - row, columns, &all);
    }
}

/* ------------------------------------------------------------------------------------------------------- Along the tree */

size_t NAME(leaf_sums_scratch)(const void *operation);
size_t NAME(leaf_sums_scratch)(const void *operation) {
    return (size_t)(((const struct leaf_sums *)operation)->shards->depth + 1) * sizeof(real);
}

void NAME(leaf_sums)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(leaf_sums)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct leaf_sums *o = operation;
    const struct shards *shards = o->shards;
    real *stack = scratch;
    for (index_t j = begin; j < end; j++)
        for (index_t group = 0; group < shards->groups; group++) {
            index_t top = 0;
            for (index_t leaf = shards->group_leaf[group]; leaf < shards->group_leaf[group + 1]; leaf++) {
                double total = 0;
                for (index_t row = shards->leaf_row[leaf]; row < shards->leaf_row[leaf + 1]; row++)
                    total += o->terms[row * o->terms_row + j];
                real value = (real)total;
                for (index_t fold = 0; fold < shards->folds[leaf]; fold++) value = stack[--top] + value;
                stack[top++] = value;
            }
            ((real *)o->out[group])[j] = top ? stack[0] : 0;
        }
}
