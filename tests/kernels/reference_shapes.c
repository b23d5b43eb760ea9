/* The operations of operations_shapes.h that are sums or comparisons in an order, again: plain loops, for tests alone. */
#include "simd.h"

static real multiply_add(real a, real b, real c) { return BITS == 32 ? (real)fmaf((float)a, (float)b, (float)c) : (real)fma(a, b, c); }

static real flush(real x) { return x < (real)REAL_MIN && x > -(real)REAL_MIN ? (real)copysign(0, x) : x; }

static void split(const index_t *shape, index_t number, index_t *at) {
    at[2] = number % shape[2], at[1] = number / shape[2] % shape[1], at[0] = number / shape[2] / shape[1];
}
/* Whether position p of a sample is in window o. */
static int within(const struct windows *w, index_t o, index_t p) {
    index_t window[3], at[3];
    int is = 1;
    split(w->out, o, window);
    split(w->in, p, at);
    for (int axis = 0; axis < 3; axis++) {
        index_t first = window[axis] * w->step[axis] - w->before[axis];
        is &= at[axis] >= first && at[axis] < first + w->size[axis];
    }
    return is;
}
static index_t all_of(const index_t *shape) { return shape[0] * shape[1] * shape[2]; }
static index_t entries(const struct windows *w, index_t o) {
    index_t count = 0;
    for (index_t p = 0; p < all_of(w->in); p++) count += within(w, o, p);
    return count;
}

#define KERNEL_OF(name) \
    void NAME(name)(const void *operation, index_t begin, index_t end, void *scratch); \
    void NAME(name)(const void *operation, index_t begin, index_t end, void *scratch)
/* For each sample, number of `outer` places in it, and channel. */
#define EACH(w, outer) \
    for (index_t s = begin; s < end; s++) \
        for (index_t i = 0; i < (outer); i++) \
            for (index_t c = 0; c < (w)->channels; c++)
#define IN(w, s, p, c) (((s) * all_of((w)->in) + (p)) * (w)->channels + (c))
#define OUT(w, s, o, c) (((s) * all_of((w)->out) + (o)) * (w)->channels + (c))

KERNEL_OF(max_pooling) {
    const struct max_pooling *o = operation;
    const struct windows *w = &o->windows;
    (void)scratch;
    EACH(w, all_of(w->out)) {
        real best = 0;
        index_t place = -1;
        for (index_t p = 0; p < all_of(w->in); p++) {
            const real x = ((const real *)o->x)[IN(w, s, p, c)];
            if (within(w, i, p) && (place < 0 || x > best || (isnan(x) && !isnan(best)))) best = x, place = p;
        }
        ((real *)o->y)[OUT(w, s, i, c)] = best;
        o->place[OUT(w, s, i, c)] = (int32_t)place;
    }
}

KERNEL_OF(max_pooling_backward) {
    const struct max_pooling_backward *o = operation;
    const struct windows *w = &o->windows;
    (void)scratch;
    EACH(w, all_of(w->in)) {
        real sum = 0;
        for (index_t v = 0; v < all_of(w->out); v++)
            if (within(w, v, i)) sum = flush(sum + (o->place[OUT(w, s, v, c)] == i ? ((const real *)o->dy)[OUT(w, s, v, c)] : 0));
        ((real *)o->dx)[IN(w, s, i, c)] = sum;
    }
}

KERNEL_OF(average_pooling) {
    const struct average_pooling *o = operation;
    const struct windows *w = &o->windows;
    (void)scratch;
    EACH(w, all_of(w->out)) {
        double sum = 0;
        for (index_t p = 0; p < all_of(w->in); p++)
            if (within(w, i, p)) sum = sum + (double)((const real *)o->x)[IN(w, s, p, c)];
        ((real *)o->y)[OUT(w, s, i, c)] = flush((real)(sum * (1 / (double)entries(w, i))));
    }
}

KERNEL_OF(average_pooling_backward) {
    const struct average_pooling_backward *o = operation;
    const struct windows *w = &o->windows;
    (void)scratch;
    EACH(w, all_of(w->in)) {
        real sum = 0;
        for (index_t v = 0; v < all_of(w->out); v++) {
            const real share = (real)(1 / (double)entries(w, v)), term = ((const real *)o->dy)[OUT(w, s, v, c)] * share;
            if (within(w, v, i)) sum = flush(sum + term);
        }
        ((real *)o->dx)[IN(w, s, i, c)] = sum;
    }
}

KERNEL_OF(map_axis) {
    const struct map_axis *o = operation;
    const real *weight = o->weight;
    (void)scratch;
    for (index_t task = begin; task < end; task++)
        for (index_t c = 0; c < o->inner; c++) {
            const index_t outer = task / o->rows, row = task % o->rows, first = o->start[row], last = o->start[row + 1];
            const real *x = (const real *)o->x + outer * o->x_outer + c;
            real sum = 0;
            for (index_t t = first; t < last; t++) sum = multiply_add(weight[t], x[o->index[t] * o->inner], sum);
            sum = flush(sum);
            if (last == first + 1 && weight[first] == 1) sum = x[o->index[first] * o->inner];
            ((real *)o->y)[outer * o->y_outer + row * o->inner + c] = sum;
        }
}
