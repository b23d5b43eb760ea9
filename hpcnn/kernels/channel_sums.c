/* Sums over rows for each channel, and moments made of them: batch and group normalisation.
 *
 * ROW_LANES rows that follow each other are taken as one wide row: then each lane of a channel is a column of its own,
 * and vectors are filled however few channels there are. */
#include "channels.h"

#define STRIP (ISA_NUMBER == ISA_avx2 ? 2 : 4) /* vectors of a wide row that are summed at once */
#define LINES 16                               /* wide rows that are in the cache at once */
#define FEW 64                                 /* rows: below, lanes stay in the registers */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

/* -------------------------------------------------------------------------------------------------------------- Sums */

/* Buffers of a wide row in scratch. A vector that begins within one may end behind its last entry. */
struct lanes {
    double *shift, *first, *second, *factor, *add; /* the last two for relu alone */
};
INLINE index_t lanes_size(index_t columns) { return ROW_LANES * columns + WIDTH; }
INLINE size_t lanes_bytes(index_t columns) { return (size_t)lanes_size(columns) * 5 * sizeof(double); }
INLINE struct lanes lanes_in(void *scratch, index_t columns) {
    double *buffer = scratch;
    const index_t size = lanes_size(columns);
    memset(buffer, 0, lanes_bytes(columns));
    return (struct lanes){buffer, buffer + size, buffer + 2 * size, buffer + 3 * size, buffer + 4 * size};
}

/* The buffers from entry `i` on. */
INLINE struct lanes lanes_at(struct lanes lanes, index_t i) {
    return (struct lanes){lanes.shift + i, lanes.first + i, lanes.second + i, lanes.factor + i, lanes.add + i};
}

/* dy where relu lets it pass; `centred` is x without the mean. */
INLINE vec passing(const dvec *centred, const dvec *factor, const dvec *add, vec dy) {
    dvec value[DPARTS];
    for (int part = 0; part < DPARTS; part++) value[part] = dfma(centred[part], factor[part], add[part]);
    return where_positive(narrow(value), dy);
}

/* Add `lines` wide rows, `step` entries apart: so many vectors of each, the last with `last` entries. */
INLINE void add_strip(int relu, int vectors, index_t last, const real *x, const real *dy, index_t step, index_t lines, struct lanes lanes) {
    const double *shift = lanes.shift;
    double *first = lanes.first, *second = lanes.second;
    dvec centre[STRIP * DPARTS], sum[STRIP * DPARTS], product[STRIP * DPARTS], factor[STRIP * DPARTS], add[STRIP * DPARTS];
    UNROLL for (int k = 0; k < vectors * DPARTS; k++) {
        centre[k] = dload(shift + k * DWIDTH);
        sum[k] = dload(first + k * DWIDTH);
        product[k] = dload(second + k * DWIDTH);
        if (relu) factor[k] = dload(lanes.factor + k * DWIDTH), add[k] = dload(lanes.add + k * DWIDTH);
    }
    for (index_t line = 0; line < lines; line++, x += step, dy = dy ? dy + step : NULL)
        UNROLL for (int v = 0; v < vectors; v++) {
            const index_t count = v < vectors - 1 ? WIDTH : last;
            const vec a = load_count(x + v * WIDTH, count);
            vec b = dy ? load_count(dy + v * WIDTH, count) : a;
            dvec values[DPARTS];
            for (int part = 0; part < DPARTS; part++) values[part] = widen(a, part) - centre[v * DPARTS + part];
            if (relu) b = passing(values, factor + v * DPARTS, add + v * DPARTS, b);
            for (int part = 0; part < DPARTS; part++) {
                const int k = v * DPARTS + part;
                const dvec value = values[part], term = dy ? widen(b, part) : value;
                sum[k] += term;
                product[k] = dfma(term, value, product[k]);
            }
        }
    UNROLL for (int k = 0; k < vectors * DPARTS; k++) {
        dstore(first + k * DWIDTH, sum[k]);
        dstore(second + k * DWIDTH, product[k]);
    }
}

/* The same for one vector of columns of few rows, whose lanes are all in the registers. */
INLINE void sum_few(int relu, index_t count, const real *x, const real *dy, index_t rows, index_t columns, struct lanes lanes) {
    dvec centre[DPARTS], sum[ROW_LANES * DPARTS], product[ROW_LANES * DPARTS], factor[DPARTS], add[DPARTS];
    UNROLL for (int part = 0; part < DPARTS; part++) {
        centre[part] = dload(lanes.shift + part * DWIDTH);
        factor[part] = dload(lanes.factor + part * DWIDTH);
        add[part] = dload(lanes.add + part * DWIDTH);
    }
    for (int k = 0; k < ROW_LANES * DPARTS; k++) sum[k] = product[k] = dall(0);
    for (index_t row = 0; row < rows; row += ROW_LANES)
        UNROLL for (int lane = 0; lane < ROW_LANES; lane++) {
            if (lane >= rows - row) break;
            const index_t at = (row + lane) * columns;
            const vec a = load_count(x + at, count);
            vec b = dy ? load_count(dy + at, count) : a;
            dvec values[DPARTS];
            UNROLL for (int part = 0; part < DPARTS; part++) values[part] = widen(a, part) - centre[part];
            if (relu) b = passing(values, factor, add, b);
            UNROLL for (int part = 0; part < DPARTS; part++) {
                const int k = lane * DPARTS + part;
                const dvec value = values[part], term = dy ? widen(b, part) : value;
                sum[k] += term;
                product[k] = dfma(term, value, product[k]);
            }
        }
    UNROLL for (int half = ROW_LANES / 2; half; half /= 2) {
        if (half >= rows) continue; /* +0 in the upper half; no lane is -0 */
        for (int k = 0; k < half * DPARTS; k++) {
            sum[k] += sum[k + half * DPARTS];
            product[k] += product[k + half * DPARTS];
        }
    }
    UNROLL for (int part = 0; part < DPARTS; part++) {
        dstore(lanes.first + part * DWIDTH, sum[part]);
        dstore(lanes.second + part * DWIDTH, product[part]);
    }
}

/* Copy one for each column to all lanes. */
INLINE void spread(double *buffer, index_t columns) {
    const index_t wide = ROW_LANES * columns;
    for (index_t done = columns; done < wide; done *= 2) memcpy(buffer + done, buffer, (size_t)least(done, wide - done) * sizeof *buffer);
}

/* Write to the first entries of `first` and `second` the sums over rows of t and of t (x - shift), with t = dy, or
 * x - shift without dy. `shift` holds one for each column, as `factor` and `add` do; copies are made here. */
INLINE void sum_rows(int relu, const real *x, const real *dy, index_t rows, index_t columns, struct lanes lanes) {
    const index_t wide = ROW_LANES * columns, lines = rows / ROW_LANES, rest = rows % ROW_LANES * columns;
    const int vectors = relu ? (STRIP + 1) / 2 : STRIP;
    double *shift = lanes.shift, *first = lanes.first, *second = lanes.second;
    if (columns >= WIDTH && rows < FEW) {
        for (index_t j = 0; j < columns; j += WIDTH)
            sum_few(relu, columns - j, x + j, dy ? dy + j : NULL, rows, columns, lanes_at(lanes, j));
        return;
    }
    spread(shift, columns);
    if (relu) spread(lanes.factor, columns), spread(lanes.add, columns);
    memset(first, 0, (size_t)lanes_size(columns) * sizeof *first);
    memset(second, 0, (size_t)lanes_size(columns) * sizeof *second);
    for (index_t line = 0; line < lines; line += LINES) {
        const index_t count = least(LINES, lines - line);
        index_t i = 0;
        for (; i + vectors * WIDTH <= wide; i += vectors * WIDTH) {
            const index_t at = line * wide + i;
            add_strip(relu, vectors, WIDTH, x + at, dy ? dy + at : NULL, wide, count, lanes_at(lanes, i));
        }
        for (; i < wide; i += WIDTH) {
            const index_t at = line * wide + i;
            add_strip(relu, 1, least(WIDTH, wide - i), x + at, dy ? dy + at : NULL, wide, count, lanes_at(lanes, i));
        }
    }
    for (index_t i = 0; i < rest; i++) {
        const double value = (double)x[lines * wide + i] - shift[i];
        double term = dy ? (double)dy[lines * wide + i] : value;
        if (relu) {
            const int tiny = term < (double)REAL_MIN && term > -(double)REAL_MIN;
            if (!((real)fma(value, lanes.factor[i], lanes.add[i]) >= REAL_MIN)) term = 0;
            else if (tiny) term = __builtin_copysign(0.0, term);
        }
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
        sum_rows(0, (const real *)o->x + first * columns, NULL, rows, columns, lanes);
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
        const real *x = (const real *)o->x + first * columns, *dy = (const real *)o->dy + first * columns;
        if (o->relu) {
            const real *gamma = o->gamma, *beta = o->beta;
            for (index_t j = 0; j < columns; j++) {
                lanes.factor[j] = gamma ? (double)gamma[j] * moments[columns + j] : moments[columns + j];
                lanes.add[j] = beta ? (double)beta[j] : 0;
            }
            sum_rows(1, x, dy, rows, columns, lanes);
        } else {
            sum_rows(0, x, dy, rows, columns, lanes);
        }
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
        double *inverse = moments + columns;
        if (!sums) {
            for (index_t j = 0; j < columns; j++) moments[j] = (double)shift[j];
            for (index_t j = 0; j < columns; j++) inverse[j] = 1 / sqrt((double)given[j] + o->epsilon);
            continue;
        }
        for (index_t j = 0; j < columns; j++) {
            const double offset = sums[1 + j] / n, variance = sums[1 + columns + j] / n - offset * offset;
            moments[j] = (double)shift[j] + offset;
            inverse[j] = 1 / sqrt((variance < 0 ? 0 : variance) + o->epsilon); /* NaN stays */
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
        sum_rows(0, x, NULL, o->positions, columns, lanes);
        for (index_t j = 0; j < columns; j += width) {
            const double value = group_mean(lanes.first + j, width, n);
            for (index_t k = j; k < j + width; k++) mean[k] = value;
        }
        memcpy(lanes.shift, mean, (size_t)columns * sizeof *mean);
        sum_rows(0, x, NULL, o->positions, columns, lanes);
        for (index_t j = 0; j < columns; j += width) {
            const double value = 1 / sqrt(group_mean(lanes.second + j, width, n) + o->epsilon);
            for (index_t k = j; k < j + width; k++) inverse[k] = value;
        }
    }
}
