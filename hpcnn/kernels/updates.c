/* Chains of optimizers as one pass over memory; norms; what is not finite. */
#include "functions.h"

#define PIECE 1024 /* entries: u, p and two states of a piece are in the first-level cache */

void NAME(update)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(cell_sums)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(find_not_finite)(const void *operation, index_t begin, index_t end, void *scratch);

struct entries {
    vec u, p, s1, s2;
};

/* One link on a vector of entries. `kind` is a constant of the compiler. */
INLINE void do_link(int kind, struct entries *e, const vec c[5]) {
    vec u = e->u, p = e->p, s1 = e->s1, s2 = e->s2;
    switch (kind) {
    case SCALE: u = u * c[0]; break;
    case CLIP_VALUE: u = larger(-c[0], smaller(c[0], u * c[1])); break; /* NaN stays */
    case DECAY: u = fma_(p, c[0], u * c[1]); break;
    case PENALTY_L1: u = u + pick(p > 0, c[0], pick(p < 0, -c[0], all(-(real)0))); break;
    case MOMENTUM: u = s1 = flushed(fma_(s1, c[0], u * c[1])); break;
    case NESTEROV:
        u = u * c[1];
        s1 = flushed(fma_(s1, c[0], u));
        u = fma_(s1, c[0], u);
        break;
    case ADAM:
        s1 = flushed(fma_(s1, c[0], u * c[1]));
        s2 = flushed(fma_(u * c[3], u, s2 * c[2]));
        u = s1 / (root(s2) + c[4]);
        break;
    case RMS:
        u = u * c[3];
        s1 = flushed(fma_(u * c[1], u, s1 * c[0]));
        u = u / root(s1 + c[2]);
        break;
    case RMS_CENTERED:
        u = u * c[3];
        s1 = flushed(fma_(u * c[1], u, s1 * c[0]));
        s2 = flushed(fma_(s2, c[0], u * c[1]));
        u = u / root(larger(all(0), fma_(-s2, s2, s1)) + c[2]);
        break;
    case ADAGRAD:
        u = u * c[1];
        s1 = flushed(fma_(u, u, s1));
        u = u / root(s1 + c[0]);
        break;
    case APPLY: p = flushed(fma_(-c[0], u, p)); break;
    default: break;
    }
    *e = (struct entries){u, p, s1, s2};
}

/* One link on n entries. Only what it needs is read and written. */
INLINE void over(int kind, const struct link *link, real *u, real *p, real *s1, real *s2, index_t n) {
    const int states = kind == ADAM || kind == RMS_CENTERED ? 2 : kind >= MOMENTUM && kind <= ADAGRAD ? 1 : 0;
    const int reads_p = kind == DECAY || kind == PENALTY_L1 || kind == APPLY, writes_p = kind == APPLY;
    vec c[5];
    for (int i = 0; i < 5; i++) c[i] = all((real)link->c[i]);
    struct entries e = {0};
    index_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) {
        e.u = load(u + i);
        if (reads_p) e.p = load(p + i);
        if (states > 0) e.s1 = load(s1 + i);
        if (states > 1) e.s2 = load(s2 + i);
        do_link(kind, &e, c);
        if (!writes_p) store(u + i, e.u);
        if (writes_p) store(p + i, e.p);
        if (states > 0) store(s1 + i, e.s1);
        if (states > 1) store(s2 + i, e.s2);
    }
    if (i == n) return;
    const index_t rest = n - i;
    e.u = load_part(u + i, rest);
    if (reads_p) e.p = load_part(p + i, rest);
    if (states > 0) e.s1 = load_part(s1 + i, rest);
    if (states > 1) e.s2 = load_part(s2 + i, rest);
    do_link(kind, &e, c);
    if (!writes_p) store_part(u + i, e.u, rest);
    if (writes_p) store_part(p + i, e.p, rest);
    if (states > 0) store_part(s1 + i, e.s1, rest);
    if (states > 1) store_part(s2 + i, e.s2, rest);
}

static void do_piece(const struct update *o, real *u, index_t begin, index_t end) {
    for (const struct link *link = o->chain; link < o->chain + o->links; link++) {
        const index_t lo = link->start > begin ? link->start : begin, hi = link->stop < end ? link->stop : end;
        if (lo >= hi) continue;
        real *p = (real *)o->p + lo, *s1 = link->s1 ? (real *)link->s1 + lo : NULL, *s2 = link->s2 ? (real *)link->s2 + lo : NULL;
        switch (link->kind) {
#define CASE(kind) case kind: over(kind, link, u + (lo - begin), p, s1, s2, hi - lo); break;
            CASE(SCALE) CASE(CLIP_VALUE) CASE(DECAY) CASE(PENALTY_L1) CASE(MOMENTUM) CASE(NESTEROV)
            CASE(ADAM) CASE(RMS) CASE(RMS_CENTERED) CASE(ADAGRAD) CASE(APPLY)
        default: break;
        }
    }
}

/* Gradient sums come as the tree makes them, not flushed; processors are slow to multiply tiny numbers. */
INLINE void flush_all(const real *from, real *to, index_t n) {
    index_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH) store(to + i, flushed(load(from + i)));
    if (i < n) store_part(to + i, flushed(load_part(from + i, n - i)), n - i);
}

void NAME(update)(const void *operation, index_t begin, index_t end, void *scratch) {
    (void)scratch;
    const struct update *o = operation;
    const struct link *last = o->chain + o->links - 1;
    const int applies = o->links && last->kind == APPLY && last->start == 0 && last->stop == o->size;
    real copy[PIECE]; /* u need not be written back to memory where nothing reads it */
    for (index_t at = begin; at < end; at += PIECE) {
        const index_t stop = at + PIECE < end ? at + PIECE : end;
        real *given = (real *)o->u + at, *u = applies ? copy : given;
        flush_all(given, u, stop - at);
        do_piece(o, u, at, stop);
    }
}

INLINE double cell_sum(const real *x, index_t n, int square) {
    dvec sums[BLOCK] = {0}, terms[BLOCK];
    EACH_BLOCK(n) {
        load_block(x + i, count, terms);
        EACH_DVEC sums[k] = square ? dfma(terms[k], terms[k], sums[k]) : sums[k] + dabs(terms[k]);
    }
    return folded(sums);
}

void NAME(cell_sums)(const void *operation, index_t begin, index_t end, void *scratch) {
    (void)scratch;
    const struct cell_sums *o = operation;
    for (index_t cell = begin; cell < end; cell++) {
        const real *x = (const real *)o->x + o->start[cell];
        const index_t n = o->start[cell + 1] - o->start[cell];
        o->cells[cell] = o->square ? cell_sum(x, n, 1) : cell_sum(x, n, 0);
    }
}

/* Squares overflow from here on: 2^64 and 2^512. */
#define SQUARE_LIMIT (BITS == 32 ? (real)0x1p64 : (real)0x1p512)

INLINE int within(real x, real limit) { return x < limit && x > -limit; } /* not so for NaN */

void NAME(find_not_finite)(const void *operation, index_t begin, index_t end, void *scratch) {
    (void)begin, (void)end, (void)scratch;
    const struct find_not_finite *o = operation;
    const real *x = o->x;
    const real limit = o->square ? SQUARE_LIMIT : (real)__builtin_inf();
    index_t i = 0;
    for (; i + PIECE <= o->size; i += PIECE) {
        ivec wrong[4] = {{0}};
        for (index_t j = i; j < i + PIECE; j += 4 * WIDTH)
            for (int v = 0; v < 4; v++) wrong[v] |= ~(ivec)(magnitude(load(x + j + v * WIDTH)) < all(limit));
        whole lanes[WIDTH], any = 0;
        wrong[0] |= wrong[1] | wrong[2] | wrong[3];
        memcpy(lanes, wrong, sizeof lanes);
        for (int lane = 0; lane < WIDTH; lane++) any |= lanes[lane];
        if (any) break;
    }
    while (i < o->size && within(x[i], limit)) i++;
    *o->found = i < o->size ? i : -1;
}
