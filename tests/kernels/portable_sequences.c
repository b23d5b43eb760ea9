/* The part of the portable program on sequences: attention, tables, recurrent cells, alignments. */
#include "portable.h"

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

void PART(portable_sequences_)(void) {
    alignments();
    attentions();
    tables();
    cells();
}
