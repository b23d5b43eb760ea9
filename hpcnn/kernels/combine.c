/* Products and the larger of two arrays, multiples of one, and rectifiers with a slope that is learnt. */
#include "activations.h"

void NAME(combine)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(add_relu)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(add_relu_backward)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(maximum_backward)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(scaled)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(prelu)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(prelu_backward)(const void *operation, index_t begin, index_t end, void *scratch);

INLINE vec load_some(const real *from, index_t count) { return count >= WIDTH ? load(from) : load_part(from, count); }
INLINE void store_some(real *to, vec v, index_t count) {
    if (count >= WIDTH) store(to, v);
    else store_part(to, v, count);
}

/* Where x2 is larger, or the only NaN. */
INLINE ivec second(vec x1, vec x2) { return ~(ivec)(x2 <= x1) & (ivec)(x1 == x1); }

void NAME(combine)(const void *operation, index_t begin, index_t end, void *scratch) {
    (void)scratch;
    const struct combine *o = operation;
    const real *x1 = o->x1, *x2 = o->x2;
    real *y = o->y;
    for (index_t i = begin; i < end; i += WIDTH) {
        const vec a = load_some(x1 + i, end - i), b = load_some(x2 + i, end - i);
        store_some(y + i, o->kind == MULTIPLY ? flushed(a * b) : pick(second(a, b), b, a), end - i);
    }
}

void NAME(add_relu)(const void *operation, index_t begin, index_t end, void *scratch) {
    (void)scratch;
    const struct add_relu *o = operation;
    const real *x1 = o->x1, *x2 = o->x2;
    real *y = o->y;
    for (index_t i = begin; i < end; i += WIDTH)
        store_some(y + i, relu(flushed(load_some(x1 + i, end - i) + load_some(x2 + i, end - i))), end - i);
}

void NAME(add_relu_backward)(const void *operation, index_t begin, index_t end, void *scratch) {
    (void)scratch;
    const struct add_relu_backward *o = operation;
    const real *y = o->y, *dy = o->dy;
    real *dx1 = o->dx1, *dx2 = o->dx2;
    for (index_t i = begin; i < end; i += WIDTH) {
        const vec d = pick((ivec)(load_some(y + i, end - i) > all(0)), flushed(load_some(dy + i, end - i)), all(0));
        store_some(dx1 + i, d, end - i);
        store_some(dx2 + i, d, end - i);
    }
}

void NAME(maximum_backward)(const void *operation, index_t begin, index_t end, void *scratch) {
    (void)scratch;
    const struct maximum_backward *o = operation;
    const real *x1 = o->x1, *x2 = o->x2, *dy = o->dy;
    real *dx1 = o->dx1, *dx2 = o->dx2;
    for (index_t i = begin; i < end; i += WIDTH) {
        const ivec other = second(load_some(x1 + i, end - i), load_some(x2 + i, end - i));
        const vec d = load_some(dy + i, end - i);
        if (dx1) store_some(dx1 + i, (vec)(~other & (ivec)d), end - i);
        if (dx2) store_some(dx2 + i, (vec)(other & (ivec)d), end - i);
    }
}

void NAME(scaled)(const void *operation, index_t begin, index_t end, void *scratch) {
    (void)scratch;
    const struct scaled *o = operation;
    const real *x = o->x;
    real *y = o->y;
    for (index_t i = begin; i < end; i += WIDTH)
        store_some(y + i, flushed(load_some(x + i, end - i) * all((real)o->factor)), end - i);
}

void NAME(prelu)(const void *operation, index_t begin, index_t end, void *scratch) {
    (void)scratch;
    const struct prelu *o = operation;
    const real *alpha = o->alpha;
    for (index_t row = begin; row < end; row++) {
        const real *x = (const real *)o->x + row * o->columns;
        real *y = (real *)o->y + row * o->columns;
        for (index_t i = 0; i < o->columns; i += WIDTH) {
            const index_t left = o->columns - i;
            const vec in = load_some(x + i, left), slope = o->alpha_is_one ? all(alpha[0]) : load_some(alpha + i, left);
            store_some(y + i, flushed(pick((ivec)(in > all(0)), in, in * slope)), left);
        }
    }
}

void NAME(prelu_backward)(const void *operation, index_t begin, index_t end, void *scratch) {
    (void)scratch;
    const struct prelu_backward *o = operation;
    const real *alpha = o->alpha;
    for (index_t row = begin; row < end; row++) {
        const index_t first = row * o->columns;
        const real *x = (const real *)o->x + first, *dy = (const real *)o->dy + first;
        real *dx = o->dx ? (real *)o->dx + first : NULL, *share = o->share ? (real *)o->share + first : NULL;
        for (index_t i = 0; i < o->columns; i += WIDTH) {
            const index_t left = o->columns - i;
            const vec in = load_some(x + i, left), d = load_some(dy + i, left);
            const vec slope = o->alpha_is_one ? all(alpha[0]) : load_some(alpha + i, left);
            const ivec negative = (ivec)(in < all(0)), positive = (ivec)(in > all(0));
            if (share) store_some(share + i, flushed((vec)(negative & (ivec)(d * in))), left);
            if (!dx) continue;
            const ivec sloped = o->kinked ? ~positive : negative;
            store_some(dx + i, flushed((vec)((positive & (ivec)d) | (sloped & (ivec)(d * slope)))), left);
        }
    }
}
