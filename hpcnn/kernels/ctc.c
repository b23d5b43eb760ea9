/* Connectionist temporal classification, forward and backward in logarithms; see struct ctc. */
#include "losses.h"

void NAME(ctc)(const void *operation, index_t begin, index_t end, void *scratch);
size_t NAME(ctc_scratch)(const void *operation);

#define FRONT 2 /* entries of -inf before a row, and at least as many behind it: states that there are not */

/* Entries of a row of states: whole vectors, and what is around them. */
static index_t row_entries(index_t labels) { return FRONT + (2 * labels + 1 + FRONT + LANES) / LANES * LANES + LANES; }

/* Rows of doubles in the scratch of a task. */
struct rows {
    index_t entries;
    double *alphas;           /* (steps, entries): beginnings of alignments, with what the step emits */
    double *betas;            /* (entries): ends, without what the step emits */
    double *emitted;          /* (entries): log p of each state's class */
    double *skips;            /* (entries): 0 where a state can be reached past the blank before it, else -inf */
    double *occupied;         /* (entries): share of the alignments that are in a state */
    double *largest, *powers; /* (steps): of the logits, and the sum of exp(logits - largest) */
    double *taken;            /* (classes, in whole blocks): the sum of `occupied` over a class's states */
};

static index_t in_blocks(index_t n) { return (n + LANES - 1) / LANES * LANES; }

static struct rows rows_in(const struct ctc *op, double *memory) {
    const index_t entries = row_entries(op->length);
    struct rows r = {.entries = entries, .alphas = memory};
    r.betas = r.alphas + op->steps * entries;
    r.emitted = r.betas + entries;
    r.skips = r.emitted + entries;
    r.occupied = r.skips + entries;
    r.largest = r.occupied + entries;
    r.powers = r.largest + op->steps;
    r.taken = r.powers + op->steps;
    return r;
}

size_t NAME(ctc_scratch)(const void *operation) {
    const struct ctc *op = operation;
    return sizeof(double) * (size_t)((op->steps + 4) * row_entries(op->length) + 2 * op->steps + in_blocks(op->classes));
}

INLINE dvec load_doubles(const double *from) { dvec v; memcpy(&v, from, sizeof v); return v; }
INLINE void store_doubles(double *to, dvec v) { memcpy(to, &v, sizeof v); }

/* log(exp(a) + exp(b) + exp(c)) */
INLINE dvec log_sum(dvec a, dvec b, dvec c) {
    dvec most = dpick((divec)(b > a), b, a);
    most = dpick((divec)(c > most), c, most);
    most = dpick((divec)(most == dall(-INFINITY)), dall(0), most);
    return most + dlog(dexp(a - most) + dexp(b - most) + dexp(c - most));
}

static void fill(double *row, index_t n, double value) {
    for (index_t i = 0; i < n; i++) row[i] = value;
}

INLINE int64_t class_of(const int64_t *labels, index_t state) { return state % 2 ? labels[state / 2] : 0; }

/* Write log p of the class of each state at a step; -inf stays where there is no state. */
static void emit(const struct ctc *op, const struct rows *r, const real *logits, const int64_t *labels, index_t states, index_t step) {
    const real *z = logits + step * op->classes;
    const double norm = r->largest[step] + dlog(dall(r->powers[step]))[0];
    double *emitted = r->emitted + FRONT;
    for (index_t state = 0; state < states; state++) emitted[state] = (double)z[class_of(labels, state)] - norm;
}

static double forward(const struct ctc *op, const struct rows *r, const real *logits, const int64_t *labels, index_t states) {
    fill(r->alphas, op->steps * r->entries, -INFINITY);
    for (index_t step = 0; step < op->steps; step++) {
        double *alphas = r->alphas + step * r->entries + FRONT;
        const double *before = alphas - r->entries;
        emit(op, r, logits, labels, states, step);
        if (step == 0) {
            alphas[0] = r->emitted[FRONT];
            if (states > 1) alphas[1] = r->emitted[FRONT + 1];
            continue;
        }
        for (index_t i = 0; i < states; i += DWIDTH) {
            dvec skipped = load_doubles(before + i - 2) + load_doubles(r->skips + FRONT + i);
            dvec all = log_sum(load_doubles(before + i), load_doubles(before + i - 1), skipped);
            store_doubles(alphas + i, all + load_doubles(r->emitted + FRONT + i));
        }
    }
    const double *last = r->alphas + (op->steps - 1) * r->entries + FRONT + states - 1; /* or the label before it */
    return log_sum(dall(last[0]), dall(last[-1]), dall(-INFINITY))[0];
}

/* The gradient of a step from its alphas and betas: p less what the alignments take. */
static void step_gradient(
    const struct ctc *op, const struct rows *r, const struct sample *s, index_t states, index_t step, double likelihood) {
    const double *alphas = r->alphas + step * r->entries + FRONT, *betas = r->betas + FRONT;
    const index_t place = step * op->classes;
    dvec shifted[BLOCK], p[BLOCK];
    fill(r->taken, in_blocks(op->classes), 0);
    if (likelihood > -INFINITY) { /* else no alignment fits into the steps */
        for (index_t i = 0; i < states; i += DWIDTH)
            store_doubles(r->occupied + i, dexp(load_doubles(alphas + i) + load_doubles(betas + i) - dall(likelihood)));
        for (index_t state = 0; state < states; state++) r->taken[class_of(s->labels, state)] += r->occupied[state];
    }
    EACH_BLOCK(op->classes) {
        softmax_block(s->inputs + place + i, count, r->largest[step], shifted, p);
        EACH_DVEC p[k] = p[k] / dall(r->powers[step]) - load_doubles(r->taken + i + k * DWIDTH);
        give(s, place + i, count, p);
    }
}

static void backward(const struct ctc *op, const struct rows *r, const struct sample *s, index_t states, double likelihood) {
    double *betas = r->betas + FRONT;
    const double *skips = r->skips + FRONT;
    fill(r->betas, r->entries, -INFINITY);
    betas[states - 1] = 0;
    if (states > 1) betas[states - 2] = 0;
    step_gradient(op, r, s, states, op->steps - 1, likelihood);
    for (index_t step = op->steps - 2; step >= 0; step--) {
        emit(op, r, s->inputs, s->labels, states, step + 1);
        for (index_t i = 0; i < states; i += DWIDTH)
            store_doubles(betas + i, load_doubles(betas + i) + load_doubles(r->emitted + FRONT + i));
        for (index_t i = 0; i < states; i += DWIDTH) { /* what is behind i is still that of the later step */
            dvec skipped = load_doubles(betas + i + 2) + load_doubles(skips + i + 2);
            store_doubles(betas + i, log_sum(load_doubles(betas + i), load_doubles(betas + i + 1), skipped));
        }
        step_gradient(op, r, s, states, step, likelihood);
    }
}

/* Take the softmax of each step, and write it where it is wanted. */
static void softmax(const struct ctc *op, const struct rows *r, const struct sample *s) {
    dvec sums[BLOCK], shifted[BLOCK], p[BLOCK];
    for (index_t step = 0; step < op->steps; step++) {
        const index_t place = step * op->classes;
        r->largest[step] = (double)largest_of(s->inputs + place, op->classes);
        EACH_DVEC sums[k] = dall(0);
        EACH_BLOCK(op->classes) {
            softmax_block(s->inputs + place + i, count, r->largest[step], shifted, p);
            EACH_DVEC sums[k] += p[k];
        }
        r->powers[step] = folded(sums);
        if (s->outputs) EACH_BLOCK(op->classes) {
            softmax_block(s->inputs + place + i, count, r->largest[step], shifted, p);
            EACH_DVEC p[k] /= dall(r->powers[step]);
            store_block(s->outputs + place + i, count, p);
        }
    }
}

static double of_sample(const struct ctc *op, const struct rows *r, const struct sample *s) {
    index_t labels = 0;
    while (labels < op->length && s->labels[labels] > 0) {
        if (s->labels[labels] >= op->classes) return NAN;
        labels++;
    }
    const index_t states = 2 * labels + 1;
    fill(r->emitted, r->entries, -INFINITY);
    fill(r->skips, r->entries, -INFINITY);
    for (index_t state = 3; state < states; state += 2)
        if (s->labels[state / 2] != s->labels[state / 2 - 1]) r->skips[FRONT + state] = 0;
    const double likelihood = forward(op, r, s->inputs, s->labels, states);
    if (s->gradient) backward(op, r, s, states, likelihood);
    return -likelihood;
}

void NAME(ctc)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct ctc *op = operation;
    const struct rows r = rows_in(op, scratch);
    const index_t entries = op->steps * op->classes;
    for (index_t i = begin; i < end; i++) {
        const double weight = op->weights ? (double)((const real *)op->weights)[i] : 1;
        const struct sample s = {
            .inputs = (const real *)op->inputs + i * entries,
            .labels = op->labels + i * op->length,
            .outputs = op->outputs ? (real *)op->outputs + i * entries : NULL,
            .gradient = op->gradient ? (real *)op->gradient + i * entries : NULL,
            .scale = weight,
        };
        softmax(op, &r, &s);
        op->terms[i] = of_sample(op, &r, &s) * weight;
    }
}
