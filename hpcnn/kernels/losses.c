/* Losses with their gradients. Definitions are those of Keras 3; see hpcnn/nn/losses.py.
 *
 * Everything between what is read and what is written is in doubles, LANES entries at a time.
 */
#include "functions.h"

#define EPSILON 1e-7 /* probabilities are kept this far from 0 and 1 where their logarithm is taken */
/* The entries k of the block that begins at i, as far as there are any. */
#define EACH(n, i) for (int k = 0, count = (int)((n) - (i) < LANES ? (n) - (i) : LANES); k < count; k++)

static real flushed_real(double x) {
    real y = (real)x;
    return (y < 0 ? -y : y) < REAL_MIN ? y * 0 : y; /* y * 0: of the same sign */
}

/* What a sample has of each array. */
struct sample {
    const real *inputs, *targets;
    const int64_t *labels;
    real *outputs, *gradient;
    double scale; /* of the gradient: weight / (number of terms in the mean) */
};

static void give(const struct sample *s, index_t place, double gradient) {
    if (s->gradient) s->gradient[place] = flushed_real(gradient * s->scale);
}

/* ------------------------------------------------------------------------------------------------------ Regression */

static double mean_squared(const struct sample *s, index_t n, double *lanes) {
    for (index_t i = 0; i < n; i += LANES) EACH(n, i) {
        double error = (double)s->inputs[i + k] - (double)s->targets[i + k];
        lanes[k] += error * error;
        give(s, i + k, 2 * error);
    }
    return folded(lanes);
}

static double mean_absolute(const struct sample *s, index_t n, double *lanes) {
    for (index_t i = 0; i < n; i += LANES) EACH(n, i) {
        double error = (double)s->inputs[i + k] - (double)s->targets[i + k];
        lanes[k] += error < 0 ? -error : error;
        give(s, i + k, error > 0 ? 1 : error < 0 ? -1 : error); /* 0, or NaN */
    }
    return folded(lanes);
}

static double huber(const struct sample *s, index_t n, double delta, double *lanes) {
    for (index_t i = 0; i < n; i += LANES) EACH(n, i) {
        double error = (double)s->inputs[i + k] - (double)s->targets[i + k];
        double clipped = error > delta ? delta : error < -delta ? -delta : error;
        lanes[k] += clipped * (error - clipped * 0.5); /* both branches */
        give(s, i + k, clipped);
    }
    return folded(lanes);
}

/* --------------------------------------------------------------------------------------------- Binary cross-entropy */

static double binary_from_logits(const struct sample *s, index_t n, double smoothing, double *lanes) {
    double z[LANES], sign[LANES], tail[LANES];
    for (index_t i = 0; i < n; i += LANES) {
        for (int k = 0; k < LANES; k++) z[k] = k < n - i ? (double)s->inputs[i + k] : 0;
        for (int k = 0; k < LANES; k++) sign[k] = z[k] > 0 ? -z[k] : z[k];
        OF_LANES(dexp, sign, tail)
        OF_LANES(dlog1p, tail, tail)
        OF_LANES(dsigmoid, z, sign)
        EACH(n, i) {
            double t = (double)s->targets[i + k] * (1 - smoothing) + smoothing / 2;
            lanes[k] += (z[k] < 0 ? 0 : z[k]) - z[k] * t + tail[k];
            s->outputs[i + k] = flushed_real(sign[k]);
            give(s, i + k, sign[k] - t);
        }
    }
    return folded(lanes);
}

static double binary_from_outputs(const struct sample *s, index_t n, double smoothing, double *lanes) {
    double p[LANES], rest[LANES], log_p[LANES], log_rest[LANES];
    for (index_t i = 0; i < n; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            double given = k < n - i ? (double)s->inputs[i + k] : 0.5;
            p[k] = given < EPSILON ? EPSILON : given > 1 - EPSILON ? 1 - EPSILON : given;
            rest[k] = 1 - p[k];
        }
        OF_LANES(dlog, p, log_p)
        OF_LANES(dlog, rest, log_rest)
        EACH(n, i) {
            double t = (double)s->targets[i + k] * (1 - smoothing) + smoothing / 2;
            lanes[k] += (t - 1) * log_rest[k] - t * log_p[k];
            give(s, i + k, p[k] == (double)s->inputs[i + k] || p[k] != p[k] ? (p[k] - t) / (p[k] * rest[k]) : 0);
        }
    }
    return folded(lanes);
}

/* ---------------------------------------------------------------------------------------- Categorical cross-entropy */

/* The smoothed targets of the classes from i on, at a position. */
static void block_targets(const struct sample *s, index_t position, index_t i, double smoothing, index_t classes, double *t) {
    const double floor = smoothing / (double)classes;
    const int count = (int)(classes - i < LANES ? classes - i : LANES);
    if (s->labels) {
        index_t k = s->labels[position] - i;
        for (int j = 0; j < LANES; j++) t[j] = floor;
        if (k >= 0 && k < count) t[k] = (1 - smoothing) + floor;
    } else {
        const real *given = s->targets + position * classes + i;
        for (int j = 0; j < count; j++) t[j] = (double)given[j] * (1 - smoothing) + floor;
    }
}

/* A label that names no class makes the loss NaN. */
static double known(const struct sample *s, index_t position, index_t classes) {
    return s->labels && (s->labels[position] < 0 || s->labels[position] >= classes) ? NAN : 0;
}

/* exp(z - largest) of LANES classes from i on, 0 where there is none, and z - largest. */
static void block_exp(const real *z, index_t i, index_t classes, double largest, double *shifted, double *power) {
    const int count = (int)(classes - i < LANES ? classes - i : LANES);
    for (int k = 0; k < count; k++) shifted[k] = (double)z[i + k] - largest;
    for (int k = count; k < LANES; k++) shifted[k] = -INFINITY;
    OF_LANES(dexp, shifted, power)
}

/* log(sum of exp(z)) x (sum of t) - sum of t z, with z less its maximum. */
static double categorical_from_logits(const struct sample *s, index_t position, index_t classes, double smoothing) {
    const index_t place = position * classes;
    const real *z = s->inputs + place;
    double sums[LANES] = {0}, products[LANES] = {0}, totals[LANES] = {0}, shifted[LANES], power[LANES], t[LANES];
    real largest = z[0];
    for (index_t j = 1; j < classes; j++) largest = z[j] > largest ? z[j] : largest;
    for (index_t i = 0; i < classes; i += LANES) {
        block_exp(z, i, classes, (double)largest, shifted, power);
        block_targets(s, position, i, smoothing, classes, t);
        EACH(classes, i) {
            products[k] += t[k] * shifted[k];
            totals[k] += t[k];
        }
        for (int k = 0; k < LANES; k++) sums[k] += power[k];
    }
    const double sum = folded(sums), total = folded(totals), log_sum = dlog(dall(sum))[0];
    for (index_t i = 0; i < classes; i += LANES) {
        if (classes > LANES) { /* else they are those of above */
            block_exp(z, i, classes, (double)largest, shifted, power);
            block_targets(s, position, i, smoothing, classes, t);
        }
        EACH(classes, i) s->outputs[place + i + k] = flushed_real(power[k] / sum);
        if (s->gradient)
            EACH(classes, i) s->gradient[place + i + k] = flushed_real((power[k] / sum * total - t[k]) * s->scale);
    }
    return log_sum * total - folded(products) + known(s, position, classes);
}

/* -sum of t log(p), where p is what is given over its sum, kept off 0 and 1. */
static double categorical_from_outputs(const struct sample *s, index_t position, index_t classes, double smoothing) {
    const index_t place = position * classes;
    const real *given = s->inputs + place;
    double sums[LANES] = {0}, terms[LANES] = {0}, dots[LANES] = {0}, clipped[LANES], logs[LANES], t[LANES];
    for (index_t i = 0; i < classes; i += LANES) EACH(classes, i) sums[k] += (double)given[i + k];
    const double sum = folded(sums);
    for (index_t i = 0; i < classes; i += LANES) {
        for (int k = 0; k < LANES; k++) {
            double p = k < classes - i ? (double)given[i + k] / sum : 0.5;
            clipped[k] = p < EPSILON ? EPSILON : p > 1 - EPSILON ? 1 - EPSILON : p;
        }
        OF_LANES(dlog, clipped, logs)
        block_targets(s, position, i, smoothing, classes, t);
        EACH(classes, i) {
            double p = (double)given[i + k] / sum;
            terms[k] -= t[k] * logs[k];
            dots[k] -= p == clipped[k] || p != p ? t[k] : 0;
        }
    }
    const double dot = folded(dots);
    for (index_t i = 0; s->gradient && i < classes; i += LANES) {
        block_targets(s, position, i, smoothing, classes, t);
        EACH(classes, i) {
            double p = (double)given[i + k] / sum;
            int kept = (p >= EPSILON && p <= 1 - EPSILON) || p != p;
            give(s, place + i + k, ((kept ? -t[k] / p : 0) - dot) / sum);
        }
    }
    return folded(terms) + known(s, position, classes);
}

/* ---------------------------------------------------------------------------------------------------------- Kernel */

static double of_sample(const struct loss *op, const struct sample *s, index_t entries) {
    double lanes[LANES] = {0}, total = 0, smoothing = op->label_smoothing;
    switch (op->kind) {
        case MSE: return mean_squared(s, entries, lanes);
        case MAE: return mean_absolute(s, entries, lanes);
        case HUBER: return huber(s, entries, op->delta, lanes);
        case BINARY_CROSSENTROPY:
            return op->from_logits ? binary_from_logits(s, entries, smoothing, lanes) : binary_from_outputs(s, entries, smoothing, lanes);
        default:
            for (index_t position = 0; position < op->positions; position++)
                total += op->from_logits ? categorical_from_logits(s, position, op->classes, smoothing)
                                         : categorical_from_outputs(s, position, op->classes, smoothing);
            return total;
    }
}

void NAME(loss)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct loss *op = operation;
    const index_t entries = op->positions * op->classes;
    const int sparse = op->kind == SPARSE_CATEGORICAL_CROSSENTROPY;
    const double mean = (double)(op->kind >= CATEGORICAL_CROSSENTROPY ? op->positions : entries);
    (void)scratch;
    for (index_t i = begin; i < end; i++) {
        double weight = op->weights ? (double)((const real *)op->weights)[i] : 1;
        struct sample s = {
            .inputs = (const real *)op->inputs + i * entries,
            .targets = sparse ? NULL : (const real *)op->targets + i * entries,
            .labels = sparse ? (const int64_t *)op->targets + i * op->positions : NULL,
            .outputs = op->outputs ? (real *)op->outputs + i * entries : NULL,
            .gradient = op->gradient ? (real *)op->gradient + i * entries : NULL,
            .scale = weight / mean,
        };
        op->terms[i] = of_sample(op, &s, entries) / mean * weight;
    }
}
