/* The part of the portable program on images: convolutions, channels, pooling, shapes. */
#include "portable.h"

static void convolve(struct geometry g) {
    index_t inputs = g.samples * g.in[0] * g.in[1] * g.in[2] * g.channels, outputs = g.samples * g.out[0] * g.out[1] * g.out[2] * g.filters;
    index_t weights = g.kernel[0] * g.kernel[1] * g.kernel[2] * (g.channels / g.groups) * g.filters;
    real *x = filled(inputs), *kernel = filled(weights), *bias = filled(g.filters), *y = filled(outputs), *other = filled(weights);
    const struct convolution forward = {g, x, kernel, bias, RELU, y, NULL};
    NAME(convolution)(&forward, 0, g.samples * g.out[0] * g.out[1], scratch_of(NAME(convolution_scratch)(&forward)));
    print_reals("convolution", y, outputs);
    const index_t rows = outputs / g.filters, group_leaf[] = {0, 2, 3}, leaf_row[] = {0, rows / 3, rows / 2, rows}, folds[] = {0, 1, 0};
    const struct shards shards = {rows, 2, group_leaf, leaf_row, folds, 2};
    void *const out[] = {kernel, other};
    const struct convolution_input_gradient back = {g, y, kernel, NULL, LINEAR, x, NULL};
    NAME(convolution_input_gradient)(&back, 0, g.samples * g.in[0] * g.in[1], scratch_of(NAME(convolution_input_gradient_scratch)(&back)));
    print_reals("convolution_input_gradient", x, inputs);
    const struct convolution_weight_gradient gradient = {g, &shards, x, y, out};
    index_t tasks = g.groups > 1 && g.groups == g.channels ? g.filters : weights / g.filters;
    NAME(convolution_weight_gradient)(&gradient, 0, tasks, scratch_of(NAME(convolution_weight_gradient_scratch)(&gradient)));
    print_reals("convolution_weight_gradient", kernel, weights), print_reals("convolution_weight_gradient", other, weights);
}

static void convolutions(void) {
    convolve((struct geometry){2, 40, 36, 1, {1, 9, 11}, {1, 9, 11}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 1, 1}});
    convolve((struct geometry){2, 6, 10, 2, {4, 9, 11}, {2, 5, 6}, {2, 3, 3}, {2, 2, 2}, {1, 1, 1}, {0, 1, 1}});
    convolve((struct geometry){2, 20, 40, 20, {1, 9, 11}, {1, 5, 6}, {1, 3, 3}, {1, 2, 2}, {1, 1, 1}, {0, 1, 1}});
    convolve((struct geometry){5, 70, 33, 1, {1, 2, 2}, {1, 2, 2}, {1, 2, 2}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}});
}

#define DO(name, tasks, ...) \
    do { \
        const struct name operation = {__VA_ARGS__}; \
        NAME(name)(&operation, 0, tasks, scratch_of(NAME(name##_scratch)(&operation))); \
    } while (0)

static void channels(void) {
    const index_t starts[] = {0, 30, 30, 47, 60}, rows = 60, columns = 21, n = rows * columns;
    const struct segments segments = {4, starts, 0}, samples = {4, NULL, 15};
    real *x = filled(n), *dy = filled(n), *shift = filled(columns), *gamma = filled(columns), *beta = filled(columns);
    real *variance = magnitudes(columns), *y = filled(n), *dx = filled(n);
    double sums[4 * 43], moments[4 * 42], products[4 * 42], slopes[4 * 42];
    DO(channel_sums, 4, segments, columns, x, shift, sums);
    print("channel_sums", sums, sizeof sums);
    NAME(channel_moments)(&(struct channel_moments){1, columns, 1e-3, NULL, shift, variance, moments}, 0, 1, NULL);
    print("channel_moments", moments, 42 * sizeof *moments);
    NAME(channel_moments)(&(struct channel_moments){4, columns, 1e-3, sums, shift, NULL, moments}, 0, 4, NULL);
    print("channel_moments", moments, sizeof moments);
    DO(normalize, rows, segments, rows, columns, x, moments, 42, gamma, beta, y);
    print_reals("normalize", y, n);
    DO(channel_products, 4, segments, columns, x, dy, moments, 42, products);
    print("channel_products", products, sizeof products);
    NAME(channel_slopes)(&(struct channel_slopes){4, columns, 7, sums, 43, products, moments, gamma, slopes}, 0, 4, NULL);
    print("channel_slopes", slopes, sizeof slopes);
    DO(normalize_backward, rows, segments, rows, columns, x, dy, moments, slopes, 42, gamma, dx);
    print_reals("normalize_backward", dx, n);
    DO(group_moments, 4, 4, 15, columns, 3, 1e-3, x, moments);
    print("group_moments", moments, sizeof moments);
    DO(normalize, rows, samples, rows, columns, x, moments, 42, NULL, NULL, y);
    print_reals("normalize", y, n);
    const index_t group_leaf[] = {0, 3, 4}, leaf_row[] = {0, 1, 1, 3, 4}, folds[] = {0, 0, 2, 0};
    const struct shards shards = {4, 2, group_leaf, leaf_row, folds, 3};
    void *const out[] = {x, y};
    DO(leaf_sums, columns, &shards, columns, products, 42, out);
    print_reals("leaf_sums", x, columns), print_reals("leaf_sums", y, columns);
}

static void pooling(void) {
    const index_t channels = 21, in = 2 * 3 * 8 * 8 * channels, out = 2 * 2 * 4 * 4 * channels;
    for (int overlapping = 0; overlapping < 2; overlapping++) {
        const index_t size = overlapping ? 3 : 2;
        const struct windows windows = {2, channels, {3, 8, 8}, {2, 4, 4}, {size, size, size}, {2, 2, 2}, {1, 0, 1}};
        real *x = filled(in), *y = filled(out), *dx = filled(in);
        int32_t *place = malloc((size_t)out * sizeof *place);
        NAME(max_pooling)(&(struct max_pooling){windows, x, y, place}, 0, 2, NULL);
        print_reals("max_pooling", y, out), print("max_pooling", place, (size_t)out * sizeof *place);
        NAME(max_pooling_backward)(&(struct max_pooling_backward){windows, place, y, dx}, 0, 2, NULL);
        print_reals("max_pooling_backward", dx, in);
        NAME(average_pooling)(&(struct average_pooling){windows, x, y}, 0, 2, NULL);
        print_reals("average_pooling", y, out);
        NAME(average_pooling_backward)(&(struct average_pooling_backward){windows, y, dx}, 0, 2, NULL);
        print_reals("average_pooling_backward", dx, in);
        free(place);
    }
}

static void shapes(void) {
    const index_t n = 6 * 4 * 35, start[] = {0, 1, 1, 3, 4, 5}, index[] = {2, 0, 3, 1, 2};
    real *x = filled(n), *weight = filled(5), *y = filled(6 * 5 * 35);
    weight[0] = weight[3] = weight[4] = 1;
    NAME(map_axis)(&(struct map_axis){6, 5, 35, start, index, weight, x, 4 * 35, y, 5 * 35}, 0, 30, NULL);
    print_reals("map_axis", y, 6 * 5 * 35);
    const struct permute moved = {3, {6, 35, 4}, {140, 1, 35}, {140, 4, 1}, x, y};
    NAME(permute)(&moved, 0, 6, NULL);
    print_reals("permute", y, n);
}

static void entry_by_entry(void) {
    const index_t rows = 12, columns = 70, n = rows * columns;
    real *x1 = filled(n), *x2 = filled(n), *dy = filled(n), *y = filled(n), *other = filled(n), *alpha = filled(columns);
    for (int kind = MULTIPLY; kind <= MAXIMUM; kind++) {
        NAME(combine)(&(struct combine){n, kind, x1, x2, y}, 0, n, NULL);
        print_reals("combine", y, n);
    }
    NAME(maximum_backward)(&(struct maximum_backward){n, x1, x2, dy, y, other}, 0, n, NULL);
    print_reals("maximum_backward", y, n), print_reals("maximum_backward", other, n);
    NAME(scaled)(&(struct scaled){n, 0.3, x1, y}, 0, n, NULL);
    print_reals("scaled", y, n);
    for (int kinked = 0; kinked < 2; kinked++) {
        NAME(prelu)(&(struct prelu){rows, columns, x1, alpha, kinked, y}, 0, rows, NULL);
        print_reals("prelu", y, n);
        NAME(prelu_backward)(&(struct prelu_backward){rows, columns, x1, alpha, kinked, kinked, dy, y, other}, 0, rows, NULL);
        print_reals("prelu_backward", y, n), print_reals("prelu_backward", other, n);
    }
    const struct dropout_place place = {5, 6};
    NAME(spatial_dropout)(&(struct spatial_dropout){3, 4, columns, 0.3, 123456789012345u, 3, &place, x1, y}, 0, 3, NULL);
    print_reals("spatial_dropout", y, n);
    NAME(gaussian_noise)(&(struct gaussian_noise){rows, columns, 0.3, 123456789012345u, 3, &place, x1, y}, 0, rows, NULL);
    print_reals("gaussian_noise", y, n);
}

void PART(portable_images_)(void) {
    convolutions();
    channels();
    pooling();
    shapes();
    entry_by_entry();
}
