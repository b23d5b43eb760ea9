/* Operations of pooling, of shapes, of noise and of several inputs; part of operations.h, which includes it. */
#ifndef HPCNN_OPERATIONS_SHAPES_H
#define HPCNN_OPERATIONS_SHAPES_H

/* Windows over samples of shape (in[0], in[1], in[2], channels): window o of an axis begins at o step - before and is
 * `size` long; what lies outside the sample is no part of it. Each has one entry at least. Windows, and the entries of
 * one, are numbered in C order. */
struct windows {
    index_t samples, channels;
    index_t in[3], out[3], size[3], step[3], before[3];
};

/* y = the largest entry of each window, the first of equals; the first NaN is larger than all numbers. `place` takes
 * where in the sample it was: its number among the in[0] in[1] in[2] positions. A task is one sample. */
struct max_pooling {
    struct windows windows;
    const void *x;
    void *y;
    int32_t *place; /* as y */
};

/* dx = for each entry: acc = 0; for each window that it is in, in order: acc = flushed(acc + d), where d is the window's
 * dy if it was the largest there, +0 if not. A task is one sample. */
struct max_pooling_backward {
    struct windows windows;
    const int32_t *place;
    const void *dy;
    void *dx;
};

/* y = (sum of a window's entries, in order, in double from 0 on) (1 / their number), rounded once and flushed.
 * A task is one sample. */
struct average_pooling {
    struct windows windows;
    const void *x;
    void *y;
};

/* dx = for each entry: acc = 0; for each window that it is in, in order: acc = flushed(acc + dy c), where c is
 * 1 / (number of the window's entries), rounded to real. A task is one sample. */
struct average_pooling_backward {
    struct windows windows;
    const void *dy;
    void *dx;
};

/* A sparse linear map along one axis: y[o, i, :] = sum over t in [start[i], start[i + 1]) of weight[t] x[o, index[t], :],
 * acc = 0; for t: acc = fma(weight[t], x, acc), then flushed. A row of one term of weight 1 is a copy, to the bit.
 * x is (outer, length, inner) and y (outer, rows, inner); their first axes have strides. A task is one row of y. */
struct map_axis {
    index_t outer, rows, inner;
    const index_t *start; /* rows + 1 */
    const index_t *index; /* terms */
    const void *weight;   /* terms */
    const void *x;
    index_t x_outer;
    void *y;
    index_t y_outer;
};

/* y = x, where x has strides and y is C-ordered: axes of a sample are moved. A task is one entry of the first axis. */
struct permute {
    int axes; /* with the first, 2 at least, and 8 at most */
    index_t shape[8], stride[8], y_stride[8];
    const void *x;
    void *y;
};

enum combination { MULTIPLY, MAXIMUM };

/* y = x1 x2, flushed; or the larger, x1 of equals, where a NaN is larger than all numbers. y may be x1 or x2.
 * A task is one entry. (Deal them in multiples of 1024.) */
struct combine {
    index_t size;
    int kind;
    const void *x1, *x2;
    void *y;
};

/* y = relu of what `add` makes of x1 and x2; y may be x1 or x2. A task is one entry. (Deal them in multiples of 1024.) */
struct add_relu {
    index_t size;
    const void *x1, *x2;
    void *y;
};

/* dx1 = dx2 = dy where y > 0, and +0 elsewhere, flushed; either may be dy. Tasks as above. */
struct add_relu_backward {
    index_t size;
    const void *y, *dy;
    void *dx1, *dx2;
};

/* dx1 = dy where MAXIMUM takes x1, dx2 = dy where it takes x2, and +0 elsewhere. Either may be NULL, and either may be
 * dy. A task is one entry. (Deal them in multiples of 1024.) */
struct maximum_backward {
    index_t size;
    const void *x1, *x2, *dy;
    void *dx1, *dx2;
};

/* y = x factor, the factor rounded to real, flushed; y may be x. A task is one entry. (Deal them in multiples of 1024.) */
struct scaled {
    index_t size;
    double factor;
    const void *x;
    void *y;
};

/* y = x where x > 0, alpha[j] x elsewhere, flushed; for entry j of each row. A task is one row. */
struct prelu {
    index_t rows, columns;
    const void *x;
    const void *alpha; /* (columns), or one number if `alpha_is_one` */
    int alpha_is_one;
    void *y;
};

/* share = dy x where x < 0, +0 elsewhere: what alpha gets of each entry. dx = dy where x > 0; alpha[j] dy where x < 0,
 * or also where x is 0 or NaN if `kinked`; +0 elsewhere. Both flushed. Either may be NULL; dx may be dy.
 * A task is one row. */
struct prelu_backward {
    index_t rows, columns;
    const void *x;
    const void *alpha;
    int alpha_is_one, kinked;
    const void *dy;
    void *dx;
    void *share;
};

/* Dropout that keeps or drops all positions of a channel at once: entry (p, j) of a sample, channel j at position p, is
 * kept and scaled as entry j of a sample is by `dropout`. y may be x. A task is one sample. */
struct spatial_dropout {
    index_t samples, positions, channels;
    double rate;
    uint64_t seed;
    uint32_t stream;
    const struct dropout_place *place;
    const void *x;
    void *y;
};

/* y = x + deviation n, in double (a product, then a sum), rounded once and flushed. n is standard normal, by the
 * inverse distribution function as in random.h: that of entry j of sample i is made of the words 2 (j % 2) and
 * 2 (j % 2) + 1, low and high, of Philox4x32-10(counter = {j / 2, number of the sample in its batch, step, stream}, key
 * = {low, high word of seed}). y may be x. A task is one sample. */
struct gaussian_noise {
    index_t samples, columns;
    double deviation;
    uint64_t seed;
    uint32_t stream;
    const struct dropout_place *place;
    const void *x;
    void *y;
};

#endif
