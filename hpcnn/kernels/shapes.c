/* Maps along one axis, and axes that change places. */
#include "simd.h"

void NAME(map_axis)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(permute)(const void *operation, index_t begin, index_t end, void *scratch);

static void sum_terms(const struct map_axis *o, index_t row, const real *x, real *y) {
    const real *weight = o->weight;
    for (index_t c = 0; c < o->inner; c += WIDTH) {
        const index_t left = o->inner - c;
        vec sum = all(0);
        for (index_t t = o->start[row]; t < o->start[row + 1]; t++) {
            const real *from = x + o->index[t] * o->inner + c;
            sum = fma_(all(weight[t]), left >= WIDTH ? load(from) : load_part(from, left), sum);
        }
        if (left >= WIDTH) store(y + c, flushed(sum));
        else store_part(y + c, flushed(sum), left);
    }
}

/* How many rows from `row` on, before `end`, are copies of rows that follow each other; or are empty. */
static index_t copied(const struct map_axis *o, index_t row, index_t end) {
    const real *weight = o->weight;
    index_t rows = 0;
    while (row + rows < end) {
        const index_t at = o->start[row + rows];
        if (o->start[row + rows + 1] != at + 1 || weight[at] != 1 || o->index[at] != o->index[o->start[row]] + rows) break;
        rows++;
    }
    return rows;
}
static index_t empty(const struct map_axis *o, index_t row, index_t end) {
    index_t rows = 0;
    while (row + rows < end && o->start[row + rows] == o->start[row + rows + 1]) rows++;
    return rows;
}

/* Copies of one row each: of few entries, often. */
static void copy_rows(const struct map_axis *o, index_t begin, index_t end) {
    for (index_t outer = begin; outer < end; outer++) {
        const real *x = (const real *)o->x + outer * o->x_outer + o->index[0] * o->inner;
        real *y = (real *)o->y + outer * o->y_outer;
        index_t i = 0;
        for (; i + WIDTH <= o->inner; i += WIDTH) store(y + i, load(x + i));
        if (i < o->inner) store_part(y + i, load_part(x + i, o->inner - i), o->inner - i);
    }
}

void NAME(map_axis)(const void *operation, index_t begin, index_t end, void *scratch) {
    (void)scratch;
    const struct map_axis *o = operation;
    if (o->rows == 1 && copied(o, 0, 1)) {
        copy_rows(o, begin, end);
        return;
    }
    const size_t bytes = (size_t)o->inner * sizeof(real);
    for (index_t task = begin; task < end;) {
        const index_t outer = task / o->rows, last = (outer + 1) * o->rows < end ? o->rows : end - outer * o->rows;
        const real *x = (const real *)o->x + outer * o->x_outer;
        real *y = (real *)o->y + outer * o->y_outer;
        for (index_t row = task - outer * o->rows; row < last;) {
            const index_t copies = copied(o, row, last), zeros = copies ? 0 : empty(o, row, last);
            if (copies) memcpy(y + row * o->inner, x + o->index[o->start[row]] * o->inner, (size_t)copies * bytes);
            else if (zeros) memset(y + row * o->inner, 0, (size_t)zeros * bytes);
            else sum_terms(o, row, x, y + row * o->inner);
            row += copies ? copies : zeros ? zeros : 1;
        }
        task = outer * o->rows + last;
    }
}

/* y[j, i] = x[i, j]: entries i of x lie `stride` apart, those of j beside each other; of y the other way round. */
static void transpose_part(const real *x, index_t stride, real *y, index_t y_stride, index_t rows, index_t columns) {
    index_t i = 0;
    for (; i + WIDTH <= rows; i += WIDTH) {
        index_t j = 0;
        for (; j + WIDTH <= columns; j += WIDTH) {
            vec block[WIDTH];
            for (int k = 0; k < WIDTH; k++) block[k] = load(x + (i + k) * stride + j);
            transpose(block);
            for (int k = 0; k < WIDTH; k++) store(y + (j + k) * y_stride + i, block[k]);
        }
        for (; j < columns; j++)
            for (int k = 0; k < WIDTH; k++) y[j * y_stride + i + k] = x[(i + k) * stride + j];
    }
    for (; i < rows; i++)
        for (index_t j = 0; j < columns; j++) y[j * y_stride + i] = x[i * stride + j];
}

/* The axes after the first but `left`, from `axis` on; then the last, with axis `left` if that is one. */
static void copy_axes(const struct permute *o, int axis, int left, const real *x, real *y) {
    const int last = o->axes - 1;
    if (axis == left) axis++;
    if (axis < last) {
        for (index_t i = 0; i < o->shape[axis]; i++)
            copy_axes(o, axis + 1, left, x + i * o->stride[axis], y + i * o->y_stride[axis]);
        return;
    }
    if (left) transpose_part(x, o->stride[last], y, o->y_stride[left], o->shape[last], o->shape[left]);
    else if (o->stride[last] == 1) memcpy(y, x, (size_t)o->shape[last] * sizeof *y);
    else for (index_t i = 0; i < o->shape[last]; i++) y[i] = x[i * o->stride[last]];
}

void NAME(permute)(const void *operation, index_t begin, index_t end, void *scratch) {
    (void)scratch;
    const struct permute *o = operation;
    int left = 0; /* the axis along which x is contiguous, if that is not the last */
    if (o->stride[o->axes - 1] != 1)
        for (int axis = 1; axis < o->axes - 1; axis++)
            if (o->stride[axis] == 1) left = axis;
    for (index_t i = begin; i < end; i++)
        copy_axes(o, 1, left, (const real *)o->x + i * o->stride[0], (real *)o->y + i * o->y_stride[0]);
}
