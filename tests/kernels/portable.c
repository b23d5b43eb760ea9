/* Do every operation on numbers of every kind, and print a hash of each result: the same text on every processor.
 *
 * Compiled for both types of one instruction set, beside the kernels; `main` is in the one for float. */
#include "portable.h"

#include "orthogonal.h"
#include "scalar.h"

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

static void activations(void) {
    const index_t rows = 9, columns = 203, n = rows * columns;
    for (int activation = 0; activation < ACTIVATIONS; activation++) {
        real *z = filled(n), *y = filled(n), *dy = filled(n), *dz = filled(n);
        real *slopes = activation == GELU || activation == SWISH ? filled(n) : NULL;
        for (index_t i = 0; i < n; i++)
            if (i % 5 == 0) z[i] *= i % 2 ? 8 : 300; /* far out, where a function no longer changes */
        NAME(activate)(&(struct activate){rows, columns, activation, z, y, slopes}, 0, rows, NULL);
        print_reals("activate", y, n);
        NAME(activate_backward)(&(struct activate_backward){rows, columns, activation, slopes ? slopes : y, dy, dz}, 0, rows, NULL);
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

static void norms(void) {
    const index_t rows = 9, columns = 203, n = rows * columns;
    real *x = filled(n), *gamma = filled(columns), *beta = filled(columns), *normal = filled(n), *inverse = filled(rows);
    real *y = filled(n), *dy = filled(n), *dx = filled(n);
    NAME(layer_norm)(&(struct layer_norm){rows, columns, 1e-3, x, gamma, beta, normal, inverse, y}, 0, rows, NULL);
    print_reals("layer_norm", normal, n), print_reals("layer_norm", inverse, rows), print_reals("layer_norm", y, n);
    NAME(layer_norm_backward)(&(struct layer_norm_backward){rows, columns, normal, inverse, gamma, dy, dx}, 0, rows, NULL);
    print_reals("layer_norm_backward", dx, n);
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

static void contrasts(void) {
    enum { rows = 20, columns = 205 };
    double logs[2 * columns], terms[rows];
    for (int side = 0; side < 2; side++) {
        real *scores = filled(rows * columns);
        random_normal(1, 2, 3, logs, 2 * columns);
        const struct contrast_gradient gradient = {rows, columns, 9, side, 0.5, 0.5, scores, logs, scores};
        NAME(contrast)(&(struct contrast){rows, columns, 9, side, 0.5, scores, logs, terms}, 0, rows, NULL);
        print("contrast", logs, 2 * rows * sizeof *logs), print("contrast", terms, sizeof terms);
        NAME(contrast_gradient)(&gradient, 0, rows, NULL);
        print_reals("contrast_gradient", scores, rows * columns);
    }
}

void PART(portable_)(void) {
    updates();
    sums();
    products();
    activations();
    losses_of(3, 21);
    losses_of(9, 7);
    norms();
    root_mean_square();
    totals();
    contrasts();
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

void portable_64(void);
void portable_images_64(void);
void portable_sequences_64(void);

int main(void) {
    plain();
    portable_32(), portable_images_32(), portable_sequences_32();
    portable_64(), portable_images_64(), portable_sequences_64();
    return 0;
}
#endif
