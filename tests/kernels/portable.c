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
DECLARE(layer_norm) DECLARE(layer_norm_backward) DECLARE(count_right)
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

static void losses(void) {
    const index_t samples = 11, positions = 3, classes = 21, n = samples * positions * classes;
    int64_t labels[11 * 3];
    double terms[11];
    for (index_t i = 0; i < samples * positions; i++) labels[i] = i * 5 % classes;
    for (int kind = 0; kind <= SPARSE_CATEGORICAL_CROSSENTROPY; kind++) {
        for (int from_logits = 0; from_logits <= (kind >= BINARY_CROSSENTROPY); from_logits++) {
            real *inputs = kind >= BINARY_CROSSENTROPY && !from_logits ? magnitudes(n) : filled(n);
            real *targets = magnitudes(n), *weights = magnitudes(samples), *outputs = filled(n), *gradient = filled(n);
            for (index_t i = 0; i < n; i++) {
                targets[i] /= kind >= BINARY_CROSSENTROPY ? 2 : 1;
                inputs[i] *= kind >= BINARY_CROSSENTROPY && !from_logits ? (real)0.5 : 3;
            }
            const struct loss loss = {
                kind, from_logits, samples, positions, classes, inputs,
                kind == SPARSE_CATEGORICAL_CROSSENTROPY ? (const void *)labels : targets, weights, outputs, gradient, terms,
                kind == BINARY_CROSSENTROPY || kind == CATEGORICAL_CROSSENTROPY ? 0.1 : 0, 0.7};
            NAME(loss)(&loss, 0, samples, NULL);
            print("loss", terms, sizeof terms);
            print_reals("loss", gradient, n);
            if (from_logits) print_reals("loss", outputs, n);
        }
    }
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
    for (int combination = 0; combination < COMBINATIONS; combination++) {
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
    activations();
    losses();
    norms();
    totals();
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
