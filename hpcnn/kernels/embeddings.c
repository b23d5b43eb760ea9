/* Rows of a table by number, their gradient along the summation tree, a table added to each sample, and masks. */
#include "simd.h"

/* The number that an id stands for, -1 if it is none of the table's. */
static index_t number_of(real id, index_t entries) {
    if (!(id >= 0 && id < (real)entries)) return -1;
    index_t number = (index_t)id;
    return (real)number == id && number < entries ? number : -1;
}

void NAME(embedding)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(embedding)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct embedding *o = operation;
    (void)scratch;
    for (index_t r = begin; r < end; r++) {
        index_t number = number_of(((const real *)o->ids)[r], o->entries);
        real *y = (real *)o->y + r * o->columns;
        if (number >= 0)
            memcpy(y, (const real *)o->table + number * o->columns, (size_t)o->columns * sizeof(real));
        else
            for (index_t j = 0; j < o->columns; j++) y[j] = (real)NAN;
    }
}

/* ---------------------------------------------------------------------------------------------------------- Gradient */

struct sorted {
    int32_t *start; /* of the rows of each entry in `row`; one more for the end */
    int32_t *row;   /* ascending for each entry */
    real *sums;     /* a stack of sums, each of `columns` numbers */
    unsigned char *there; /* which of them are not +0 */
};

static size_t lay_out(const struct embedding_gradient *o, char *memory, struct sorted *sorted) {
    size_t at[4], sizes[4] = {
        (size_t)(o->entries + 2) * sizeof(int32_t), (size_t)o->shards->rows * sizeof(int32_t),
        (size_t)((o->shards->depth + 1) * o->columns) * sizeof(real), (size_t)o->shards->depth + 1};
    size_t end = 0;
    for (int i = 0; i < 4; i++) {
        at[i] = end;
        end += (sizes[i] + 63) & ~(size_t)63;
    }
    if (memory)
        *sorted = (struct sorted){(int32_t *)(memory + at[0]), (int32_t *)(memory + at[1]), (real *)(memory + at[2]), (unsigned char *)(memory + at[3])};
    return end;
}

size_t NAME(embedding_gradient_scratch)(const void *operation);
size_t NAME(embedding_gradient_scratch)(const void *operation) { return lay_out(operation, NULL, NULL); }

/* Sort the rows by the entries [begin, end): counted, then put in place. */
static void sort_rows(const struct embedding_gradient *o, index_t begin, index_t end, struct sorted *sorted) {
    const real *ids = o->ids;
    int32_t *next = sorted->start + 1; /* moves from the start of an entry to its end */
    memset(sorted->start, 0, (size_t)(end - begin + 2) * sizeof(int32_t));
    for (index_t r = 0; r < o->shards->rows; r++) {
        index_t entry = number_of(ids[r], o->entries);
        if (entry >= begin && entry < end) sorted->start[entry - begin + 2]++;
    }
    for (index_t e = 2; e <= end - begin + 1; e++) sorted->start[e] += sorted->start[e - 1];
    for (index_t r = 0; r < o->shards->rows; r++) {
        index_t entry = number_of(ids[r], o->entries);
        if (entry >= begin && entry < end) sorted->row[next[entry - begin]++] = (int32_t)r;
    }
}

/* sum = +0 + dy[row] + ..., for `count` rows. */
static void sum_rows(const struct embedding_gradient *o, const int32_t *row, index_t count, real *sum) {
    const real *dy = o->dy;
    index_t j = 0;
    for (; j + WIDTH <= o->columns; j += WIDTH) {
        vec acc = all(0);
        for (index_t i = 0; i < count; i++) acc = acc + load(dy + row[i] * o->columns + j);
        store(sum + j, acc);
    }
    for (; j < o->columns; j++) {
        real acc = 0;
        for (index_t i = 0; i < count; i++) acc = acc + dy[row[i] * o->columns + j];
        sum[j] = acc;
    }
}

/* Sum the rows of one entry along the tree of one group. Sums that are +0, as none of their leaves has the entry, change
 * nothing where they are added: a sum that starts at +0 is never -0. */
static void sum_group(const struct embedding_gradient *o, index_t group, const int32_t *row, index_t count, struct sorted *sorted, real *out) {
    const struct shards *shards = o->shards;
    index_t top = 0, columns = o->columns, used = 0;
    for (index_t l = shards->group_leaf[group]; l < shards->group_leaf[group + 1]; l++) {
        index_t first = used;
        while (used < count && row[used] < shards->leaf_row[l + 1]) used++;
        real *sum = sorted->sums + top * columns;
        int there = used > first;
        if (there) sum_rows(o, row + first, used - first, sum);
        for (index_t fold = 0; fold < shards->folds[l]; fold++) {
            real *earlier = sorted->sums + --top * columns;
            if (there && sorted->there[top])
                for (index_t j = 0; j < columns; j++) earlier[j] = earlier[j] + sum[j];
            else if (there)
                memcpy(earlier, sum, (size_t)columns * sizeof(real));
            there |= sorted->there[top];
            sum = earlier;
        }
        sorted->there[top++] = (unsigned char)there;
    }
    memcpy(out, sorted->sums, (size_t)columns * sizeof(real));
}

void NAME(embedding_gradient)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(embedding_gradient)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct embedding_gradient *o = operation;
    const struct shards *shards = o->shards;
    struct sorted sorted = {NULL, NULL, NULL, NULL};
    lay_out(o, scratch, &sorted);
    sort_rows(o, begin, end, &sorted);
    for (index_t g = 0; g < shards->groups; g++) {
        index_t group_end = shards->leaf_row[shards->group_leaf[g + 1]], group_begin = shards->leaf_row[shards->group_leaf[g]];
        for (index_t e = begin; e < end; e++) {
            const int32_t *row = sorted.row + sorted.start[e - begin], *last = sorted.row + sorted.start[e - begin + 1];
            while (row < last && *row < group_begin) row++;
            index_t count = 0;
            while (row + count < last && row[count] < group_end) count++;
            real *out = (real *)o->out[g] + e * o->columns;
            if (count == 0)
                memset(out, 0, (size_t)o->columns * sizeof(real));
            else if (count == 1)
                sum_rows(o, row, 1, out);
            else
                sum_group(o, g, row, count, &sorted, out);
        }
    }
}

/* ------------------------------------------------------------------------------------------------------------- Others */

void NAME(add_table)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(add_table)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct add_table *o = operation;
    const real *table = o->table;
    (void)scratch;
    for (index_t sample = begin; sample < end; sample++) {
        const real *x = (const real *)o->x + sample * o->size;
        real *y = (real *)o->y + sample * o->size;
        for (index_t i = 0; i < o->size; i += WIDTH) {
            const index_t left = o->size - i;
            if (left >= WIDTH) store(y + i, flushed(load(x + i) + load(table + i)));
            else store_part(y + i, flushed(load_part(x + i, left) + load_part(table + i, left)), left);
        }
    }
}

void NAME(not_zero)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(not_zero)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct not_zero *o = operation;
    (void)scratch;
    for (index_t i = begin; i < end; i++) ((real *)o->y)[i] = ((const real *)o->x)[i] == 0 ? 0 : 1;
}
