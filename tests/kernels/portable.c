/* Do every operation on numbers of every kind, and print a hash of each result: the same text on every processor.
 *
 * Compiled for both types of one instruction set, beside the kernels; `main` is in the one for float. Fill, hash and
 * print are the only things here that a new operation needs. */
#include <stdio.h>
#include <stdlib.h>

#include "orthogonal.h"
#include "random.h"
#include "scalar.h"
#include "simd.h"

void portable_32(void);
void portable_64(void);
#define PORTABLE EXPAND2(portable_, BITS)

static uint32_t fills; /* arrays filled so far: each has a stream of its own */

/* n numbers between -2 and 2; some are 0, tiny, or below the smallest normal one. */
static real *filled(index_t n) {
    real *x = malloc((size_t)n * sizeof *x);
    double *u = malloc((size_t)n * sizeof *u);
    random_uniform(7, fills++, 0, u, n);
    for (index_t i = 0; i < n; i++) {
        const double value = 4 * u[i] - 2;
        x[i] = (real)value;
        if (i % 11 == 3) x[i] = 0;
        if (i % 11 == 5) x[i] = (real)(value * (BITS == 32 ? 0x1p-64 : 0x1p-512));
        if (i % 11 == 7) x[i] = (real)(value * REAL_MIN);
    }
    free(u);
    return x;
}

static real *magnitudes(index_t n) {
    real *x = filled(n);
    for (index_t i = 0; i < n; i++) x[i] = x[i] < 0 ? -x[i] : x[i];
    return x;
}

static uint64_t hash_of(const void *bytes, size_t size) { /* FNV-1a */
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < size; i++) hash = (hash ^ ((const unsigned char *)bytes)[i]) * 0x100000001b3u;
    return hash;
}

static void print(const char *name, const void *result, size_t size) {
    printf("%s_%d %016llx\n", name, BITS, (unsigned long long)hash_of(result, size));
}

static void print_reals(const char *name, const real *result, index_t n) { print(name, result, (size_t)n * sizeof *result); }

/* ----------------------------------------------------------------------------------------------------------- Vectors */

#define DECLARE(name) void NAME(name)(const void *operation, index_t begin, index_t end, void *scratch);
#define DECLARE_SCRATCH(name) size_t NAME(name##_scratch)(const void *operation);
DECLARE(update) DECLARE(cell_sums) DECLARE(find_not_finite) DECLARE(add) DECLARE(fold) DECLARE_SCRATCH(fold)
DECLARE(standardize) DECLARE(dropout) DECLARE(shard_totals) DECLARE_SCRATCH(shard_totals)
DECLARE(product) DECLARE_SCRATCH(product) DECLARE(weight_gradient) DECLARE_SCRATCH(weight_gradient)
DECLARE(column_sums) DECLARE_SCRATCH(column_sums) DECLARE(activate) DECLARE(activate_backward) DECLARE(loss)
DECLARE(convolution) DECLARE_SCRATCH(convolution) DECLARE(convolution_input_gradient) DECLARE_SCRATCH(convolution_input_gradient)
DECLARE(convolution_weight_gradient) DECLARE_SCRATCH(convolution_weight_gradient)
DECLARE(layer_norm) DECLARE(layer_norm_backward) DECLARE(count_right)
DECLARE(channel_sums) DECLARE_SCRATCH(channel_sums) DECLARE(channel_products) DECLARE_SCRATCH(channel_products)
DECLARE(channel_moments) DECLARE(group_moments) DECLARE_SCRATCH(group_moments) DECLARE(channel_slopes)
DECLARE(normalize) DECLARE_SCRATCH(normalize) DECLARE(normalize_backward) DECLARE_SCRATCH(normalize_backward)
DECLARE(leaf_sums) DECLARE_SCRATCH(leaf_sums) DECLARE(rms_norm) DECLARE(rms_norm_backward)
DECLARE(max_pooling) DECLARE(max_pooling_backward) DECLARE(average_pooling) DECLARE(average_pooling_backward)
DECLARE(map_axis) DECLARE(permute) DECLARE(combine) DECLARE(add_relu) DECLARE(add_relu_backward) DECLARE(maximum_backward) DECLARE(scaled) DECLARE(prelu)
DECLARE(prelu_backward) DECLARE(spatial_dropout) DECLARE(gaussian_noise)
DECLARE(ctc) DECLARE_SCRATCH(ctc)
DECLARE(attention) DECLARE_SCRATCH(attention) DECLARE(attention_backward) DECLARE_SCRATCH(attention_backward)
DECLARE(embedding) DECLARE(embedding_gradient) DECLARE_SCRATCH(embedding_gradient) DECLARE(add_table) DECLARE(not_zero)
DECLARE(recurrent) DECLARE_SCRATCH(recurrent) DECLARE(recurrent_backward) DECLARE_SCRATCH(recurrent_backward)
DECLARE(combine_rows)

static void *scratch_of(size_t size) { return aligned_alloc(64, (size + 127) / 64 * 64); }

static void updates(void) {
    const index_t n = 3001;
    for (int kind = 0; kind <= APPLY; kind++) {
        real *u = filled(n), *p = filled(n), *s1 = magnitudes(n), *s2 = magnitudes(n);
        const struct link chain[] = {
            {kind, 3, n - 5, {0.3, 0.1, 0.95, 0.07, 1e-3}, s1, s2},
            {kind, 0, n, {0.3, 0.1, 0.95, 0.07, 1e-3}, s1, s2},
        };
        const struct update operation = {n, u, p, 2, chain};
        NAME(update)(&operation, 0, 1500, NULL);
        NAME(update)(&operation, 1500, n, NULL);
        print_reals("update", u, n), print_reals("update", p, n), print_reals("update", s1, n), print_reals("update", s2, n);
    }
}

static void sums(void) {
    const index_t n = 2003, start[] = {0, 0, 1, 700, 2003}, order[] = {1, 2, 0, 1};
    real *x1 = filled(n), *x2 = filled(n), *x3 = filled(n), *y = filled(n);
    double cells[4];
    for (int square = 0; square < 2; square++) {
        NAME(cell_sums)(&(struct cell_sums){4, start, square, x1, cells}, 0, 4, NULL);
        print("cell_sums", cells, sizeof cells);
    }
    index_t found = 0;
    NAME(find_not_finite)(&(struct find_not_finite){n, 1, x1, &found}, 0, 1, NULL);
    print("find_not_finite", &found, sizeof found);
    NAME(add)(&(struct add){n, x1, x2, y}, 0, n, NULL);
    print_reals("add", y, n);
    void *const slots[] = {x1, x2, x3};
    const struct fold fold = {n, 3, slots, 2, order, y};
    NAME(fold)(&fold, 0, n, scratch_of(NAME(fold_scratch)(&fold)));
    print_reals("fold", y, n);
    const struct dropout_place place = {5, 6};
    NAME(dropout)(&(struct dropout){1, n, 0.3, 123456789012345u, 3, &place, x1, y}, 0, 1, NULL);
    print_reals("dropout", y, n);
    double wide[200];
    random_normal(1, 2, 3, wide, 200);
    NAME(standardize)(&(struct standardize){10, 20, wide, wide + 7, wide + 9, 0, 1, y}, 0, 10, NULL);
    print_reals("standardize", y, 200);
}

/* ---------------------------------------------------------------------------------------------------------- Products */

static void products(void) {
    const index_t m = 37, n = 53, k = 600;
    for (int transposed = 0; transposed < 4; transposed++) {
        real *a = filled(m * k), *b = filled(k * n), *bias = filled(n), *c = filled(m * n);
        const struct product operation = {
            m, n, k, a, transposed & 1 ? 1 : k, transposed & 1 ? m : 1, b, transposed & 2 ? 1 : n, transposed & 2 ? k : 1,
            c, n, bias, RELU, NULL};
        NAME(product)(&operation, 0, m, scratch_of(NAME(product_scratch)(&operation)));
        print_reals("product", c, m * n);
    }
    const index_t group_leaf[] = {0, 3, 4}, leaf_row[] = {0, 300, 300, 317, m + 320}, folds[] = {0, 0, 2, 0};
    const struct shards shards = {m + 320, 2, group_leaf, leaf_row, folds, 3};
    real *x = filled(shards.rows * 41), *dy = filled(shards.rows * n), *one = filled(41 * n), *other = filled(41 * n);
    void *const out[] = {one, other};
    const struct weight_gradient gradient = {&shards, 41, n, x, 41, dy, n, out};
    NAME(weight_gradient)(&gradient, 0, n, scratch_of(NAME(weight_gradient_scratch)(&gradient)));
    print_reals("weight_gradient", one, 41 * n), print_reals("weight_gradient", other, 41 * n);
    const struct column_sums columns = {&shards, n, dy, n, NULL, 0, out};
    NAME(column_sums)(&columns, 0, n, scratch_of(NAME(column_sums_scratch)(&columns)));
    print_reals("column_sums", one, n), print_reals("column_sums", other, n);
}

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

/* ------------------------------------------------------------------------------------------------- Rows and functions */

static void activations(void) {
    const index_t rows = 9, columns = 203, n = rows * columns;
    for (int activation = 0; activation < ACTIVATIONS; activation++) {
        real *z = filled(n), *y = filled(n), *dy = filled(n), *dz = filled(n);
        const int from_input = activation == GELU || activation == SWISH;
        for (index_t i = 0; i < n; i++)
            if (i % 5 == 0) z[i] *= i % 2 ? 8 : 300; /* far out, where a function no longer changes */
        NAME(activate)(&(struct activate){rows, columns, activation, z, y}, 0, rows, NULL);
        print_reals("activate", y, n);
        NAME(activate_backward)(&(struct activate_backward){rows, columns, activation, from_input ? z : y, dy, dz}, 0, rows, NULL);
        print_reals("activate_backward", dz, n);
    }
}

static void losses_of(index_t positions, index_t classes) {
    const index_t samples = 11, n = samples * positions * classes;
    int64_t labels[11 * 9];
    double terms[11];
    for (index_t i = 0; i < samples * positions; i++) labels[i] = i * 5 % classes;
    for (int kind = 0; kind <= IOU; kind++) {
        const int first = kind >= BINARY_CROSSENTROPY && kind <= SPARSE_CATEGORICAL_CROSSENTROPY; /* those that take logits */
        const int numbers = kind < BINARY_CROSSENTROPY || (kind >= MAPE && kind <= HINGE && kind != POISSON);
        for (int from_logits = 0; from_logits <= first; from_logits++) {
            real *inputs = numbers || from_logits ? filled(n) : magnitudes(n);
            real *targets = magnitudes(n), *weights = magnitudes(samples), *outputs = filled(n), *gradient = filled(n);
            for (index_t i = 0; i < n; i++) {
                targets[i] /= kind >= BINARY_CROSSENTROPY ? 2 : 1;
                inputs[i] *= numbers || from_logits ? 3 : (real)0.5;
            }
            const struct loss loss = {
                kind, from_logits, samples, positions, classes, inputs,
                kind == SPARSE_CATEGORICAL_CROSSENTROPY ? (const void *)labels : targets, weights, outputs, gradient, terms,
                kind == SPARSE_CATEGORICAL_CROSSENTROPY ? 0 : 0.1, 0.7, 1.5, 0.3, from_logits, 5};
            NAME(loss)(&loss, 0, samples, NULL);
            print("loss", terms, sizeof terms);
            print_reals("loss", gradient, n);
            if (from_logits) print_reals("loss", outputs, n);
        }
    }
}

static void alignments(void) {
    const index_t samples = 3, steps = 40, classes = 21, length = 12, n = samples * steps * classes;
    int64_t labels[3 * 12];
    double terms[3];
    for (index_t i = 0; i < samples * length; i++) labels[i] = i % length > 7 + i / length ? -1 : 1 + i * i % 3;
    real *inputs = filled(n), *weights = magnitudes(samples), *outputs = filled(n), *gradient = filled(n);
    const struct ctc ctc = {samples, steps, classes, length, inputs, labels, weights, outputs, gradient, terms};
    NAME(ctc)(&ctc, 0, samples, scratch_of(NAME(ctc_scratch)(&ctc)));
    print("ctc", terms, sizeof terms);
    print_reals("ctc", outputs, n), print_reals("ctc", gradient, n);
}

static void norms(void) {
    const index_t rows = 9, columns = 203, n = rows * columns;
    real *x = filled(n), *gamma = filled(columns), *beta = filled(columns), *normal = filled(n), *inverse = filled(rows);
    real *y = filled(n), *dy = filled(n), *dx = filled(n);
    NAME(layer_norm)(&(struct layer_norm){rows, columns, 1e-3, x, gamma, beta, normal, inverse, y}, 0, rows, NULL);
    print_reals("layer_norm", normal, n), print_reals("layer_norm", inverse, rows), print_reals("layer_norm", y, n);
    NAME(layer_norm_backward)(&(struct layer_norm_backward){rows, columns, normal, inverse, gamma, dy, dx}, 0, rows, NULL);
    print_reals("layer_norm_backward", dx, n);
}

/* Do `tasks` of an operation, with scratch where it needs some. */
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
    for (int relu = 0; relu < 2; relu++) {
        DO(normalize, rows, segments, rows, columns, x, moments, 42, gamma, beta, relu, y);
        print_reals("normalize", y, n);
    }
    for (int relu = 1; relu >= 0; relu--) {
        DO(channel_products, 4, segments, columns, x, dy, moments, 42, gamma, beta, relu, products);
        print("channel_products", products, sizeof products);
    }
    NAME(channel_slopes)(&(struct channel_slopes){4, columns, 7, sums, 43, products, moments, gamma, slopes}, 0, 4, NULL);
    print("channel_slopes", slopes, sizeof slopes);
    for (int relu = 0; relu < 2; relu++) {
        DO(normalize_backward, rows, segments, rows, columns, x, dy, moments, slopes, 42, gamma, beta, relu, dx);
        print_reals("normalize_backward", dx, n);
    }
    DO(group_moments, 4, 4, 15, columns, 3, 1e-3, x, moments);
    print("group_moments", moments, sizeof moments);
    DO(normalize, rows, samples, rows, columns, x, moments, 42, NULL, NULL, 0, y);
    print_reals("normalize", y, n);
    const index_t group_leaf[] = {0, 3, 4}, leaf_row[] = {0, 1, 1, 3, 4}, folds[] = {0, 0, 2, 0};
    const struct shards shards = {4, 2, group_leaf, leaf_row, folds, 3};
    void *const out[] = {x, y};
    DO(leaf_sums, columns, &shards, columns, products, 42, out);
    print_reals("leaf_sums", x, columns), print_reals("leaf_sums", y, columns);
}

static void root_mean_square(void) {
    const index_t rows = 9, columns = 203, n = rows * columns;
    real *x = filled(n), *scale = filled(columns), *normal = filled(n), *inverse = filled(rows), *y = filled(n), *dy = filled(n);
    NAME(rms_norm)(&(struct rms_norm){rows, columns, 1e-6, x, scale, normal, inverse, y}, 0, rows, NULL);
    print_reals("rms_norm", normal, n), print_reals("rms_norm", inverse, rows), print_reals("rms_norm", y, n);
    NAME(rms_norm_backward)(&(struct rms_norm_backward){rows, columns, normal, inverse, scale, dy, dy}, 0, rows, NULL);
    print_reals("rms_norm_backward", dy, n);
}

static void totals(void) {
    const index_t group_leaf[] = {0, 3, 4}, leaf_row[] = {0, 30, 30, 47, 60}, folds[] = {0, 0, 2, 0};
    const struct shards shards = {60, 2, group_leaf, leaf_row, folds, 3};
    double terms[60], total[2], right[2] = {1, 2};
    random_normal(1, 2, 3, terms, 60);
    double *const out[] = {total, total + 1}, *const rights[] = {right, right + 1};
    const struct shard_totals totals = {&shards, terms, out};
    NAME(shard_totals)(&totals, 0, 1, scratch_of(NAME(shard_totals_scratch)(&totals)));
    print("shard_totals", total, sizeof total);
    for (int multilabel = 0; multilabel < 2; multilabel++) {
        const struct count_right count = {&shards, 2, 5, multilabel, 0, filled(600), filled(600), rights};
        NAME(count_right)(&count, 0, 1, NULL);
        print("count_right", right, sizeof right);
    }
}

/* ------------------------------------------------------------------------------------------------ Pooling and shapes */

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
    NAME(add_relu)(&(struct add_relu){n, x1, x2, y}, 0, n, NULL);
    print_reals("add_relu", y, n);
    NAME(add_relu_backward)(&(struct add_relu_backward){n, x1, dy, y, other}, 0, n, NULL);
    print_reals("add_relu_backward", y, n), print_reals("add_relu_backward", other, n);
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

/* --------------------------------------------------------------------------------------------------------- Attention */

static void attentions(void) {
    enum { samples = 2, heads = 4, kv_heads = 2, queries = 150, keys = 170, dim = 27, value_dim = 20 };
    const index_t all = samples * heads * queries, all_kv = samples * kv_heads * keys;
    for (int causal = 0; causal < 2; causal++) {
        real *q = filled(all * dim), *k = filled(all_kv * dim), *v = filled(all_kv * value_dim), *mask = filled(samples * keys);
        real *out = filled(all * value_dim), *dout = filled(all * value_dim);
        real *dq = filled(all * dim), *dk = filled(all_kv * dim), *dv = filled(all_kv * value_dim);
        double *saved = malloc((size_t)all * 2 * sizeof *saved);
        const struct attention forward = {
            samples, heads, kv_heads, queries, keys, dim, value_dim, causal, 0.7, q, k, v,
            {queries * heads * dim, heads * dim, dim}, {keys * kv_heads * dim, kv_heads * dim, dim},
            {keys * kv_heads * value_dim, kv_heads * value_dim, value_dim}, mask, out,
            {queries * heads * value_dim, heads * value_dim, value_dim}, saved};
        NAME(attention)(&forward, 0, samples * kv_heads, scratch_of(NAME(attention_scratch)(&forward)));
        print_reals("attention", out, all * value_dim), print("attention", saved, (size_t)all * 2 * sizeof *saved);
        const struct attention_backward back = {
            samples, heads, kv_heads, queries, keys, dim, value_dim, causal, 0.7, q, k, v,
            {queries * heads * dim, heads * dim, dim}, {keys * kv_heads * dim, kv_heads * dim, dim},
            {keys * kv_heads * value_dim, kv_heads * value_dim, value_dim}, mask, saved, dout,
            {queries * heads * value_dim, heads * value_dim, value_dim}, dq, dk, dv,
            {queries * heads * dim, heads * dim, dim}, {keys * kv_heads * dim, kv_heads * dim, dim},
            {keys * kv_heads * value_dim, kv_heads * value_dim, value_dim}};
        NAME(attention_backward)(&back, 0, samples * kv_heads, scratch_of(NAME(attention_backward_scratch)(&back)));
        print_reals("attention_backward", dq, all * dim), print_reals("attention_backward", dk, all_kv * dim);
        print_reals("attention_backward", dv, all_kv * value_dim);
    }
}

static void tables(void) {
    enum { rows = 60, entries = 7, columns = 45 };
    const index_t group_leaf[] = {0, 3, 4}, leaf_row[] = {0, 30, 30, 47, rows}, folds[] = {0, 0, 2, 0};
    const struct shards shards = {rows, 2, group_leaf, leaf_row, folds, 3};
    real ids[rows], *table = filled(entries * columns), *y = filled(rows * columns), *dy = filled(rows * columns);
    for (index_t r = 0; r < rows; r++) ids[r] = (real)(r * r % entries);
    NAME(embedding)(&(struct embedding){rows, entries, columns, ids, table, y}, 0, rows, NULL);
    print_reals("embedding", y, rows * columns);
    real *one = filled(entries * columns), *other = filled(entries * columns);
    void *const out[] = {one, other};
    const struct embedding_gradient gradient = {&shards, entries, columns, ids, dy, out};
    NAME(embedding_gradient)(&gradient, 0, entries, scratch_of(NAME(embedding_gradient_scratch)(&gradient)));
    print_reals("embedding_gradient", one, entries * columns), print_reals("embedding_gradient", other, entries * columns);
    NAME(add_table)(&(struct add_table){rows, columns, dy, table, y}, 0, rows, NULL);
    print_reals("add_table", y, rows * columns);
    NAME(not_zero)(&(struct not_zero){rows * columns, dy, y}, 0, rows * columns, NULL);
    print_reals("not_zero", y, rows * columns);
}

/* Each cell with usual and with rare activations. */
static void cells(void) {
    const index_t n = 19, steps = 3, units = 37, all_ = n * steps * units;
    for (int cell = 0; cell < CELLS; cell++)
        for (int activation = LINEAR; activation <= TANH; activation++) {
            const int rec = activation == TANH ? SIGMOID : activation;
            const index_t gates = cell == SIMPLE_RNN ? 1 : cell == LSTM ? 4 : 3;
            real *x = filled(all_ * gates), *kernel = filled(units * gates * units), *bias = filled(3 * units), *y = filled(all_);
            real *before = filled(all_), *more = filled(3 * all_);
            for (index_t i = 0; i < units * gates * units; i++) kernel[i] *= (real)0.1;
            const struct recurrent forward = {
                cell, activation, rec, cell % 2, 0, n, steps, units, x, kernel, cell == GRU_AFTER ? bias : NULL, before, more,
                y, steps * units, units};
            NAME(recurrent)(&forward, 0, n, scratch_of(NAME(recurrent_scratch)(&forward)));
            print_reals("recurrent", y, all_), print_reals("recurrent", x, all_ * gates);
            const struct recurrent_backward back = {
                cell, activation, rec, cell % 2, 0, n, steps, units, x, kernel, before, more, y, steps * units, units};
            NAME(recurrent_backward)(&back, 0, n, scratch_of(NAME(recurrent_backward_scratch)(&back)));
            print_reals("recurrent_backward", x, all_ * gates);
        }
    for (int combination = 0; combination < ROW_COMBINATIONS; combination++) {
        real *a = filled(200), *b = filled(200), *y = filled(200);
        NAME(combine_rows)(&(struct combine_rows){combination, 10, 19, a, 20, b, 20, y, 20}, 0, 10, NULL);
        print_reals("combine_rows", y, 200);
    }
}

void PORTABLE(void) {
    cells();
    updates();
    sums();
    products();
    convolutions();
    activations();
    losses_of(3, 21);
    losses_of(9, 7);
    alignments();
    norms();
    channels();
    root_mean_square();
    totals();
    pooling();
    shapes();
    entry_by_entry();
    attentions();
    tables();
}

/* ----------------------------------------------------------------------------------------------- What is not vectors */

#if BITS == 32
static void plain(void) {
    enum { n = 5000 };
    static double x[n], y[n];
    static int64_t order[n];
    random_uniform(1, 2, 1u << 31, x, n);
    print("uniform", x, sizeof x);
    random_truncated_normal(1, 2, 3, y, n);
    print("truncated_normal", y, sizeof y);
    random_normal(1, 2, 3, y, n);
    print("normal", y, sizeof y);
    random_permutation(1, 2, 3, order, n);
    print("permutation", order, sizeof order);
    double results[4][n];
    for (int i = 0; i < n; i++) {
        results[0][i] = scalar_exp(200 * y[i]);
        results[1][i] = scalar_log(x[i]);
        results[2][i] = scalar_power(x[i], 20 * y[i]);
        results[3][i] = scalar_cospi(10 * y[i]);
    }
    print("scalar", results, sizeof results);
    orthogonal(y, 100, 50);
    print("orthogonal", y, sizeof y);
}

int main(void) {
    plain();
    portable_32();
    portable_64();
    return 0;
}
#endif
