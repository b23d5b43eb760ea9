/* Attention and tables again, for tests alone: plain loops over single numbers, in the order that
 * operations_attention.h says. Its exp is that of functions.h, which has tests of its own. */
#include <stdlib.h>

#include "functions.h"

static real multiply_add(real a, real b, real c) { return BITS == 32 ? (real)fmaf((float)a, (float)b, (float)c) : (real)fma(a, b, c); }
static real flush(real x) { return x < (real)REAL_MIN && x > -(real)REAL_MIN ? (real)copysign(0, x) : x; }
static index_t smaller_of(index_t a, index_t b) { return a < b ? a : b; }

static real product_of(index_t terms, const real *a, index_t a_stride, const real *b, index_t b_stride) {
    real sum = 0;
    for (index_t first = 0; first < terms; first += BLOCK_TERMS) {
        real block = 0;
        for (index_t p = first; p < smaller_of(terms, first + BLOCK_TERMS); p++) block = multiply_add(a[p * a_stride], b[p * b_stride], block);
        sum = first ? sum + block : block;
    }
    return sum;
}

/* The fold of sums over lanes. */
static double fold_lanes(double *lanes) {
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) lanes[i] = lanes[i] + lanes[i + half];
    return lanes[0];
}

static double power(double x) {
    if (x < -700) return 0;
    return dexp((dvec){x})[0];
}

/* The keys that the block of query i sees, and those that it sees itself. */
static index_t block_sees(int causal, index_t i, index_t keys) { return causal ? smaller_of((i / QUERIES + 1) * QUERIES, keys) : keys; }
static index_t query_sees(int causal, index_t i, index_t keys) { return causal ? smaller_of(i + 1, keys) : keys; }

#define ROW(o, name, sample, row, head) \
    ((real *)(o)->name + (sample) * (o)->name##_stride[0] + (row) * (o)->name##_stride[1] + (head) * (o)->name##_stride[2])

/* Probabilities of one query; saved takes or gives the largest score and 1 / total. */
#define PROBABILITIES(o, sample, head, i, p, saved, again) \
    do { \
        index_t n_ = query_sees((o)->causal, i, (o)->keys), kv_ = (head) / ((o)->heads / (o)->kv_heads); \
        const real *mask_ = (o)->mask ? (const real *)(o)->mask + (sample) * (o)->keys : NULL; \
        int left_ = 0; \
        double lanes_[LANES] = {0}, largest_ = -INFINITY; \
        double *e_ = malloc(((size_t)n_ + 1) * sizeof *e_); \
        for (index_t j = 0; j < n_; j++) { \
            if (mask_ && mask_[j] == 0) continue; \
            left_ = 1; \
            p[j] = product_of((o)->dim, ROW(o, q, sample, i, head), 1, ROW(o, k, sample, j, kv_), 1); \
            largest_ = (double)p[j] > largest_ ? (double)p[j] : largest_; \
        } \
        for (index_t j = 0; j < n_; j++) { \
            e_[j] = mask_ && mask_[j] == 0 ? 0 : power(((double)p[j] - largest_) * (o)->scale); \
            lanes_[j % LANES] += e_[j]; \
        } \
        double inverse_ = left_ ? 1 / fold_lanes(lanes_) : 0; \
        if (!(again)) (saved)[0] = left_ ? largest_ : 0, (saved)[1] = inverse_; \
        for (index_t j = 0; j < (o)->keys; j++) p[j] = j < n_ ? flush((real)(e_[j] * inverse_)) : 0; \
        free(e_); \
    } while (0)

void NAME(attention)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(attention)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct attention *o = operation;
    real *p = malloc(((size_t)o->keys + 1) * sizeof *p);
    (void)scratch;
    for (index_t sample = begin / o->kv_heads; sample < end / o->kv_heads; sample++)
        for (index_t head = 0; head < o->heads; head++)
            for (index_t i = 0; i < o->queries; i++) {
                double *saved = o->saved + 2 * ((sample * o->heads + head) * o->queries + i);
                PROBABILITIES(o, sample, head, i, p, saved, 0);
                for (index_t d = 0; d < o->value_dim; d++) {
                    const real *v = ROW(o, v, sample, 0, head / (o->heads / o->kv_heads)) + d;
                    ROW(o, out, sample, i, head)[d] = flush(product_of(block_sees(o->causal, i, o->keys), p, 1, v, o->v_stride[1]));
                }
            }
    free(p);
}

/* ds of one query. */
static void score_gradient(const struct attention_backward *o, index_t sample, index_t head, index_t i, const real *p, real *ds) {
    index_t n = query_sees(o->causal, i, o->keys), kv = head / (o->heads / o->kv_heads);
    double lanes[LANES] = {0};
    for (index_t j = 0; j < n; j++) {
        ds[j] = product_of(o->value_dim, ROW(o, dout, sample, i, head), 1, ROW(o, v, sample, j, kv), 1);
        lanes[j % LANES] += (double)ds[j] * (double)p[j];
    }
    double total = fold_lanes(lanes);
    for (index_t j = 0; j < o->keys; j++) ds[j] = j < n ? flush((real)(((double)ds[j] - total) * (double)p[j] * o->scale)) : 0;
}

/* The sum over all queries of all heads that share key j: a[i, j] b[i, d], by blocks that see the key. */
static real total_of(const struct attention_backward *o, const real *a, index_t kv, index_t j, const real *b, const index_t *stride, index_t sample, index_t d) {
    index_t shared = o->heads / o->kv_heads;
    real sum = 0;
    int begun = 0;
    for (index_t head = kv * shared; head < (kv + 1) * shared; head++)
        for (index_t first = 0; first < o->queries; first += QUERIES) {
            if (j >= block_sees(o->causal, first, o->keys)) continue;
            real block = 0;
            for (index_t i = first; i < smaller_of(first + QUERIES, o->queries); i++)
                block = multiply_add(a[(head * o->queries + i) * o->keys + j], b[sample * stride[0] + i * stride[1] + head * stride[2] + d], block);
            sum = begun ? sum + block : block;
            begun = 1;
        }
    return flush(sum);
}

void NAME(attention_backward)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(attention_backward)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct attention_backward *o = operation;
    size_t size = (size_t)(o->heads * o->queries * o->keys + 1) * sizeof(real);
    real *p = malloc(size), *ds = malloc(size);
    (void)scratch;
    for (index_t sample = begin / o->kv_heads; sample < end / o->kv_heads; sample++) {
        for (index_t head = 0; head < o->heads; head++)
            for (index_t i = 0; i < o->queries; i++) {
                real *row = p + (head * o->queries + i) * o->keys, *gradient = ds + (head * o->queries + i) * o->keys;
                double *unused = NULL;
                PROBABILITIES(o, sample, head, i, row, unused, 1);
                score_gradient(o, sample, head, i, row, gradient);
                for (index_t d = 0; d < o->dim; d++) {
                    const real *k = ROW(o, k, sample, 0, head / (o->heads / o->kv_heads)) + d;
                    ROW(o, dq, sample, i, head)[d] = flush(product_of(block_sees(o->causal, i, o->keys), gradient, 1, k, o->k_stride[1]));
                }
            }
        for (index_t kv = 0; kv < o->kv_heads; kv++)
            for (index_t j = 0; j < o->keys; j++) {
                for (index_t d = 0; d < o->dim; d++) ROW(o, dk, sample, j, kv)[d] = total_of(o, ds, kv, j, o->q, o->q_stride, sample, d);
                for (index_t d = 0; d < o->value_dim; d++) ROW(o, dv, sample, j, kv)[d] = total_of(o, p, kv, j, o->dout, o->dout_stride, sample, d);
            }
    }
    free(p), free(ds);
}

/* ------------------------------------------------------------------------------------------------------------ Tables */

/* The sum along the tree of each leaf's sum over its rows with id `entry`. */
void NAME(embedding_gradient)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(embedding_gradient)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct embedding_gradient *o = operation;
    const struct shards *shards = o->shards;
    const real *ids = o->ids, *dy = o->dy;
    real *stack = malloc(((size_t)shards->depth + 1) * sizeof(real));
    (void)scratch;
    for (index_t entry = begin; entry < end; entry++)
        for (index_t j = 0; j < o->columns; j++)
            for (index_t g = 0; g < shards->groups; g++) {
                index_t top = 0;
                for (index_t l = shards->group_leaf[g]; l < shards->group_leaf[g + 1]; l++) {
                    real sum = 0;
                    for (index_t r = shards->leaf_row[l]; r < shards->leaf_row[l + 1]; r++)
                        if (ids[r] == (real)entry) sum = sum + dy[r * o->columns + j];
                    for (index_t fold = 0; fold < shards->folds[l]; fold++) sum = stack[--top] + sum;
                    stack[top++] = sum;
                }
                ((real *)o->out[g])[entry * o->columns + j] = stack[0];
            }
    free(stack);
}
