/* Sums of vectors, and of one number a row, along the summation tree; counts; scaling of data. */
#include "simd.h"

#define PIECE 256 /* entries of each slot that are in the first-level cache at once */

void NAME(add)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(fold)(const void *operation, index_t begin, index_t end, void *scratch);
size_t NAME(fold_scratch)(const void *operation);
void NAME(shard_totals)(const void *operation, index_t begin, index_t end, void *scratch);
size_t NAME(shard_totals_scratch)(const void *operation);
void NAME(count_right)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(standardize)(const void *operation, index_t begin, index_t end, void *scratch);

INLINE void sum(const real *x1, const real *x2, real *y, index_t n, int flush) {
    index_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        const vec total = load(x1 + i) + load(x2 + i);
        store(y + i, flush ? flushed(total) : total);
    }
    if (i < n) {
        const vec total = load_part(x1 + i, n - i) + load_part(x2 + i, n - i);
        store_part(y + i, flush ? flushed(total) : total, n - i);
    }
}

void NAME(add)(const void *operation, index_t begin, index_t end, void *scratch) {
    (void)scratch;
    const struct add *o = operation;
    sum((const real *)o->x1 + begin, (const real *)o->x2 + begin, (real *)o->y + begin, end - begin, 1);
}

/* A piece of sums for each slot, and where each slot's value of the piece is. */
size_t NAME(fold_scratch)(const void *operation) {
    const struct fold *o = operation;
    return (size_t)o->slots * (PIECE * sizeof(real) + sizeof(real *));
}

void NAME(fold)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct fold *o = operation;
    real *sums = scratch;
    const real **value = (const real **)(sums + o->slots * PIECE);
    for (index_t at = begin; at < end; at += PIECE) {
        const index_t n = at + PIECE < end ? PIECE : end - at;
        real *out = (real *)o->out + at;
        for (index_t slot = 0; slot < o->slots; slot++) value[slot] = (const real *)o->slot[slot] + at;
        for (index_t k = 0; k < o->additions; k++) {
            const index_t left = o->order[2 * k], right = o->order[2 * k + 1];
            real *into = k == o->additions - 1 ? out : sums + left * PIECE;
            sum(value[left], value[right], into, n, 0);
            value[left] = into;
        }
        if (!o->additions && out != value[0]) memcpy(out, value[0], (size_t)n * sizeof *out);
    }
}

size_t NAME(shard_totals_scratch)(const void *operation) {
    const struct shard_totals *o = operation;
    return (size_t)(o->shards->depth + 1) * sizeof(double);
}

void NAME(shard_totals)(const void *operation, index_t begin, index_t end, void *scratch) {
    (void)begin, (void)end;
    const struct shard_totals *o = operation;
    const struct shards *shards = o->shards;
    double *stack = scratch;
    for (index_t group = 0; group < shards->groups; group++) {
        index_t top = 0;
        for (index_t leaf = shards->group_leaf[group]; leaf < shards->group_leaf[group + 1]; leaf++) {
            double total = 0;
            for (index_t row = shards->leaf_row[leaf]; row < shards->leaf_row[leaf + 1]; row++) total += o->terms[row];
            for (index_t fold = 0; fold < shards->folds[leaf]; fold++) total = stack[--top] + total;
            stack[top++] = total;
        }
        o->out[group][0] = top ? stack[0] : 0;
    }
}

/* The place of the largest; the first NaN counts as that. */
INLINE index_t largest(const real *x, index_t n) {
    index_t best = 0;
    for (index_t i = 0; i < n; i++) {
        if (x[i] != x[i]) return i;
        if (x[i] > x[best]) best = i;
    }
    return best;
}

/* How many decisions of a position are right, of `columns` or one. */
INLINE index_t right_at(const struct count_right *o, index_t place) {
    const real *outputs = (const real *)o->outputs + place * o->columns;
    const real *targets = (const real *)o->targets + place * o->columns;
    const int64_t *label = (const int64_t *)o->targets + place;
    if (o->labels) return (o->columns == 1 ? outputs[0] > (real)0.5 : largest(outputs, o->columns)) == *label;
    if (o->columns > 1 && !o->multilabel) return largest(outputs, o->columns) == largest(targets, o->columns);
    index_t right = 0;
    for (index_t i = 0; i < o->columns; i++) right += (outputs[i] > (real)0.5) == (targets[i] > (real)0.5);
    return right;
}

void NAME(count_right)(const void *operation, index_t begin, index_t end, void *scratch) {
    (void)begin, (void)end, (void)scratch;
    const struct count_right *o = operation;
    const struct shards *shards = o->shards;
    for (index_t group = 0; group < shards->groups; group++) {
        const index_t first = shards->leaf_row[shards->group_leaf[group]], last = shards->leaf_row[shards->group_leaf[group + 1]];
        index_t right = 0;
        for (index_t place = first * o->positions; place < last * o->positions; place++) right += right_at(o, place);
        o->right[group][0] += (double)right;
    }
}

void NAME(standardize)(const void *operation, index_t begin, index_t end, void *scratch) {
    (void)scratch;
    const struct standardize *o = operation;
    const index_t columns = o->columns;
    for (index_t row = begin; row < end; row++) {
        const double *x = o->x + row * columns;
        real *y = (real *)o->y + row * columns;
        for (index_t i = 0; i < columns; i++) {
            const double value = (x[i] - o->shift[o->shift_is_one ? 0 : i]) * o->scale[o->scale_is_one ? 0 : i];
            const real rounded = (real)value;
            y[i] = rounded < REAL_MIN && rounded > -REAL_MIN ? (real)__builtin_copysign(0.0, value) : rounded;
        }
    }
}
