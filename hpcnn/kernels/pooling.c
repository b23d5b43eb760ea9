/* Pooling over windows of one to three axes: vectors run over the channels. */
#include "simd.h"

void NAME(max_pooling)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(max_pooling_backward)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(average_pooling)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(average_pooling_backward)(const void *operation, index_t begin, index_t end, void *scratch);

typedef int32_t places_t __attribute__((vector_size(WIDTH * 4)));

INLINE ivec load_places(const int32_t *from, index_t count) {
    places_t places = {0};
    if (count >= WIDTH) memcpy(&places, from, sizeof places);
    else memcpy(&places, from, (size_t)count * sizeof *from);
    return CONVERT(ivec, places);
}
INLINE void store_places(int32_t *to, ivec v, index_t count) {
    const places_t places = CONVERT(places_t, v);
    if (count >= WIDTH) memcpy(to, &places, sizeof places);
    else memcpy(to, &places, (size_t)count * sizeof *to);
}
INLINE vec load_some(const real *from, index_t count) { return count >= WIDTH ? load(from) : load_part(from, count); }
INLINE void store_some(real *to, vec v, index_t count) {
    if (count >= WIDTH) store(to, v);
    else store_part(to, v, count);
}

/* The entries of a window: [low, high) of each axis. */
struct window {
    index_t low[3], high[3];
};

INLINE void bounds(const struct windows *w, int axis, index_t number, struct window *window) {
    const index_t first = number * w->step[axis] - w->before[axis], last = first + w->size[axis];
    window->low[axis] = first < 0 ? 0 : first;
    window->high[axis] = last > w->in[axis] ? w->in[axis] : last;
}
INLINE index_t entries(const struct window *v) {
    return (v->high[0] - v->low[0]) * (v->high[1] - v->low[1]) * (v->high[2] - v->low[2]);
}

/* `body` for each window of a sample, in order; `number` is its own. */
#define EACH_WINDOW(w, body) \
    do { \
        struct window window; \
        index_t number = 0; \
        for (index_t a_ = 0; a_ < (w)->out[0]; a_++) { \
            bounds(w, 0, a_, &window); \
            for (index_t b_ = 0; b_ < (w)->out[1]; b_++) { \
                bounds(w, 1, b_, &window); \
                for (index_t c_ = 0; c_ < (w)->out[2]; c_++, number++) { \
                    bounds(w, 2, c_, &window); \
                    body; \
                } \
            } \
        } \
    } while (0)

/* `body` for the position `at` of each entry of a window, in order. */
#define EACH_ENTRY(w, window, body) \
    for (index_t d_ = window.low[0]; d_ < window.high[0]; d_++) \
        for (index_t e_ = window.low[1]; e_ < window.high[1]; e_++) { \
            const index_t row_ = (d_ * (w)->in[1] + e_) * (w)->in[2]; \
            for (index_t at = row_ + window.low[2]; at < row_ + window.high[2]; at++) body; \
        }

static index_t positions(const index_t *shape) { return shape[0] * shape[1] * shape[2]; }

static void largest(const struct windows *w, struct window window, const real *x, real *y, int32_t *place) {
    const index_t first = (window.low[0] * w->in[1] + window.low[1]) * w->in[2] + window.low[2];
    for (index_t c = 0; c < w->channels; c += WIDTH) {
        const index_t left = w->channels - c;
        vec best = load_some(x + first * w->channels + c, left);
        ivec where = (whole)first - (ivec){0};
        EACH_ENTRY(w, window, {
            const vec next = load_some(x + at * w->channels + c, left);
            const ivec taken = ~(ivec)(next <= best) & (ivec)(best == best);
            best = pick(taken, next, best);
            where = (taken & ((whole)at - (ivec){0})) | (~taken & where);
        })
        store_some(y + c, best, left);
        store_places(place + c, where, left);
    }
}

void NAME(max_pooling)(const void *operation, index_t begin, index_t end, void *scratch) {
    (void)scratch;
    const struct max_pooling *o = operation;
    const struct windows *w = &o->windows;
    for (index_t sample = begin; sample < end; sample++) {
        const real *x = (const real *)o->x + sample * positions(w->in) * w->channels;
        const index_t first = sample * positions(w->out) * w->channels;
        real *y = (real *)o->y + first;
        int32_t *place = o->place + first;
        EACH_WINDOW(w, largest(w, window, x, y + number * w->channels, place + number * w->channels));
    }
}

/* Whether no entry is in two windows; whether each is in one at least. */
static int apart(const struct windows *w) {
    int are = 1;
    for (int axis = 0; axis < 3; axis++) are &= w->size[axis] <= w->step[axis] || w->out[axis] == 1;
    return are;
}
static int covering(const struct windows *w) {
    int are = 1;
    for (int axis = 0; axis < 3; axis++)
        are &= (w->size[axis] >= w->step[axis] || w->out[axis] == 1) &&
               (w->out[axis] - 1) * w->step[axis] - w->before[axis] + w->size[axis] >= w->in[axis];
    return are;
}

/* dx of a window's entries: written if `alone`, else added to what is there. */
INLINE void add_to(real *dx, vec term, index_t left, int alone) {
    store_some(dx, flushed((alone ? all(0) : load_some(dx, left)) + term), left);
}

INLINE void spread_largest(const struct windows *w, struct window window, const int32_t *place, const real *dy, real *dx, int alone) {
    for (index_t c = 0; c < w->channels; c += WIDTH) {
        const index_t left = w->channels - c;
        const vec d = load_some(dy + c, left);
        const ivec where = load_places(place + c, left);
        EACH_ENTRY(w, window, {
            const vec term = (vec)((ivec)d & (ivec)(where == ((whole)at - (ivec){0})));
            add_to(dx + at * w->channels + c, term, left, alone);
        })
    }
}

void NAME(max_pooling_backward)(const void *operation, index_t begin, index_t end, void *scratch) {
    (void)scratch;
    const struct max_pooling_backward *o = operation;
    const struct windows *w = &o->windows;
    const int alone = apart(w), filled = alone && covering(w);
    const index_t size = positions(w->in) * w->channels;
    for (index_t sample = begin; sample < end; sample++) {
        const index_t first = sample * positions(w->out) * w->channels;
        const real *dy = (const real *)o->dy + first;
        const int32_t *place = o->place + first;
        real *dx = (real *)o->dx + sample * size;
        if (!filled) memset(dx, 0, (size_t)size * sizeof *dx);
        if (alone)
            EACH_WINDOW(w, spread_largest(w, window, place + number * w->channels, dy + number * w->channels, dx, 1));
        else
            EACH_WINDOW(w, spread_largest(w, window, place + number * w->channels, dy + number * w->channels, dx, 0));
    }
}

static void average(const struct windows *w, struct window window, const real *x, real *y) {
    const double share = 1 / (double)entries(&window);
    for (index_t c = 0; c < w->channels; c += WIDTH) {
        const index_t left = w->channels - c;
        dvec sums[DPARTS];
        for (int part = 0; part < DPARTS; part++) sums[part] = dall(0);
        EACH_ENTRY(w, window, {
            const vec next = load_some(x + at * w->channels + c, left);
            for (int part = 0; part < DPARTS; part++) sums[part] = sums[part] + widen(next, part);
        })
        for (int part = 0; part < DPARTS; part++) sums[part] = sums[part] * dall(share);
        store_some(y + c, flushed(narrow(sums)), left);
    }
}

void NAME(average_pooling)(const void *operation, index_t begin, index_t end, void *scratch) {
    (void)scratch;
    const struct average_pooling *o = operation;
    const struct windows *w = &o->windows;
    for (index_t sample = begin; sample < end; sample++) {
        const real *x = (const real *)o->x + sample * positions(w->in) * w->channels;
        real *y = (real *)o->y + sample * positions(w->out) * w->channels;
        EACH_WINDOW(w, average(w, window, x, y + number * w->channels));
    }
}

INLINE void spread_average(const struct windows *w, struct window window, const real *dy, real *dx, int alone) {
    const vec share = all((real)(1 / (double)entries(&window)));
    for (index_t c = 0; c < w->channels; c += WIDTH) {
        const index_t left = w->channels - c;
        const vec term = load_some(dy + c, left) * share;
        EACH_ENTRY(w, window, add_to(dx + at * w->channels + c, term, left, alone);)
    }
}

void NAME(average_pooling_backward)(const void *operation, index_t begin, index_t end, void *scratch) {
    (void)scratch;
    const struct average_pooling_backward *o = operation;
    const struct windows *w = &o->windows;
    const int alone = apart(w), filled = alone && covering(w);
    const index_t size = positions(w->in) * w->channels;
    for (index_t sample = begin; sample < end; sample++) {
        const real *dy = (const real *)o->dy + sample * positions(w->out) * w->channels;
        real *dx = (real *)o->dx + sample * size;
        if (!filled) memset(dx, 0, (size_t)size * sizeof *dx);
        if (alone)
            EACH_WINDOW(w, spread_average(w, window, dy + number * w->channels, dx, 1));
        else
            EACH_WINDOW(w, spread_average(w, window, dy + number * w->channels, dx, 0));
    }
}
