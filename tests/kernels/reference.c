/* The operations again, for tests alone: plain loops over single numbers, in the order that operations.h says. */
#include <stdlib.h>

#include "simd.h"

#ifndef TERMS /* a test changes it, and must notice */
#define TERMS BLOCK_TERMS
#endif

static real multiply_add(real a, real b, real c) { return BITS == 32 ? (real)fmaf((float)a, (float)b, (float)c) : (real)fma(a, b, c); }

static real flush(real x) { return x < (real)REAL_MIN && x > -(real)REAL_MIN ? (real)copysign(0, x) : x; }

/* ---------------------------------------------------------------------------------------------------------- Products */

static real sum_of_products(index_t terms, const real *a, index_t a_stride, const real *b, index_t b_stride) {
    real sum = 0;
    for (index_t first = 0; first < terms; first += TERMS) {
        real block = 0;
        for (index_t p = first; p < terms && p < first + TERMS; p++) block = multiply_add(a[p * a_stride], b[p * b_stride], block);
        sum = first ? sum + block : block;
    }
    return sum;
}

void NAME(product)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(product)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct product *o = operation;
    const real *a = o->a, *b = o->b, *bias = o->bias;
    (void)scratch;
    for (index_t i = begin; i < end; i++)
        for (index_t j = 0; j < o->n; j++) {
            real sum = sum_of_products(o->k, a + i * o->a_row, o->a_column, b + j * o->b_column, o->b_row);
            if (bias) sum = sum + bias[j];
            if (o->saved) ((real *)o->saved)[i * o->c_row + j] = flush(sum);
            if (o->activation == RELU) sum = sum <= 0 ? 0 : sum;
            if (o->activation == LEAKY_RELU) sum = sum <= 0 ? sum * (real)0.2 : sum;
            ((real *)o->c)[i * o->c_row + j] = flush(sum);
        }
}

/* The sum along the tree of what `leaf` makes of the rows of each leaf. */
typedef real (*leaf_sum)(const void *operation, index_t first, index_t rows, index_t place);

static void sum_leaves(const struct shards *shards, leaf_sum leaf, const void *operation, index_t place, void *const *out) {
    real *stack = malloc(((size_t)shards->depth + 1) * sizeof(real));
    index_t top = 0;
    for (index_t g = 0; g < shards->groups; g++) {
        for (index_t l = shards->group_leaf[g]; l < shards->group_leaf[g + 1]; l++) {
            index_t first = shards->leaf_row[l];
            real sum = leaf(operation, first, shards->leaf_row[l + 1] - first, place);
            for (index_t fold = 0; fold < shards->folds[l]; fold++) sum = stack[--top] + sum;
            stack[top++] = sum;
        }
        real sum = stack[--top];
        ((real *)out[g])[place] = sum;
    }
    free(stack);
}

static real gradient_of_leaf(const void *operation, index_t first, index_t rows, index_t place) {
    const struct weight_gradient *o = operation;
    const real *x = (const real *)o->x + first * o->x_row + place / o->units;
    const real *dy = (const real *)o->dy + first * o->dy_row + place % o->units;
    return sum_of_products(rows, x, o->x_row, dy, o->dy_row);
}

void NAME(weight_gradient)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(weight_gradient)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct weight_gradient *o = operation;
    (void)scratch;
    for (index_t f = 0; f < o->features; f++)
        for (index_t u = begin; u < end; u++) sum_leaves(o->shards, gradient_of_leaf, o, f * o->units + u, o->kernel);
}

static real column_of_leaf(const void *operation, index_t first, index_t rows, index_t column) {
    const struct column_sums *o = operation;
    const real *a = o->a, *b = o->b;
    real sum = 0;
    for (index_t r = first; r < first + rows; r++) {
        real term = a[r * o->a_row + column];
        sum = b ? multiply_add(term, b[r * o->b_row + column], sum) : sum + term;
    }
    return sum;
}

void NAME(column_sums)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(column_sums)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct column_sums *o = operation;
    (void)scratch;
    for (index_t j = begin; j < end; j++) sum_leaves(o->shards, column_of_leaf, o, j, o->out);
}

/* ----------------------------------------------------------------------------------------------------------- Updates */

static real root_of(real x) { return BITS == 32 ? (real)sqrtf((float)x) : (real)sqrt((double)x); }

static void do_link(int kind, const double *constants, real *u, real *p, real *s1, real *s2) {
    real c[5], g, variance;
    for (int i = 0; i < 5; i++) c[i] = (real)constants[i];
    switch (kind) {
    case SCALE: *u *= c[0]; break;
    case CLIP_VALUE:
        *u *= c[1];
        if (*u > c[0]) *u = c[0];
        if (*u < -c[0]) *u = -c[0];
        break;
    case DECAY: *u = multiply_add(*p, c[0], *u * c[1]); break;
    case PENALTY_L1: *u = *p > 0 ? *u + c[0] : *p < 0 ? *u - c[0] : *u; break;
    case MOMENTUM: *u = *s1 = flush(multiply_add(*s1, c[0], *u * c[1])); break;
    case NESTEROV:
        g = *u * c[1];
        *s1 = flush(multiply_add(*s1, c[0], g));
        *u = multiply_add(*s1, c[0], g);
        break;
    case ADAM:
        *s1 = flush(multiply_add(*s1, c[0], *u * c[1]));
        *s2 = flush(multiply_add(*u * c[3], *u, *s2 * c[2]));
        *u = *s1 / (root_of(*s2) + c[4]);
        break;
    case RMS:
        *u *= c[3];
        *s1 = flush(multiply_add(*u * c[1], *u, *s1 * c[0]));
        *u /= root_of(*s1 + c[2]);
        break;
    case RMS_CENTERED:
        *u *= c[3];
        *s1 = flush(multiply_add(*u * c[1], *u, *s1 * c[0]));
        *s2 = flush(multiply_add(*s2, c[0], *u * c[1]));
        variance = multiply_add(-*s2, *s2, *s1);
        *u /= root_of((variance < 0 ? 0 : variance) + c[2]);
        break;
    case ADAGRAD:
        *u *= c[1];
        *s1 = flush(multiply_add(*u, *u, *s1));
        *u /= root_of(*s1 + c[0]);
        break;
    case APPLY: *p = flush(multiply_add(-c[0], *u, *p)); break;
    default: break;
    }
}

void NAME(update)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(update)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct update *o = operation;
    (void)scratch;
    for (index_t i = begin; i < end; i++) {
        const struct link *last = o->chain + o->links - 1;
        real kept = ((real *)o->u)[i];
        ((real *)o->u)[i] = flush(kept);
        for (const struct link *link = o->chain; link <= last; link++)
            if (link->start <= i && i < link->stop)
                do_link(link->kind, link->c, (real *)o->u + i, (real *)o->p + i, (real *)link->s1 + i, (real *)link->s2 + i);
        if (last->kind == APPLY && last->start == 0 && last->stop == o->size) ((real *)o->u)[i] = kept;
    }
}

void NAME(cell_sums)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(cell_sums)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct cell_sums *o = operation;
    (void)scratch;
    for (index_t cell = begin; cell < end; cell++) {
        double lanes[LANES] = {0};
        for (index_t i = o->start[cell]; i < o->start[cell + 1]; i++) {
            double term = (double)((const real *)o->x)[i], *lane = &lanes[(i - o->start[cell]) % LANES];
            *lane = o->square ? fma(term, term, *lane) : *lane + fabs(term);
        }
        for (int half = LANES / 2; half; half /= 2)
            for (int lane = 0; lane < half; lane++) lanes[lane] += lanes[lane + half];
        o->cells[cell] = lanes[0];
    }
}
