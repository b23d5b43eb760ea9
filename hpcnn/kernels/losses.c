/* Losses with their gradients. Definitions are those of Keras 3; see hpcnn/nn/losses/.
 *
 * Everything between what is read and what is written is in doubles, LANES entries at a time.
 */
#include "crossentropies.h"
#include "focal.h"
#include "overlaps.h"
#include "regressions.h"

void NAME(loss)(const void *operation, index_t begin, index_t end, void *scratch);

static double of_position(const struct loss *op, const struct sample *s, index_t position) {
    const double smoothing = op->label_smoothing;
    switch (op->kind) {
        case CATEGORICAL_FOCAL_CROSSENTROPY:
            return categorical_focal(s, position, op->classes, smoothing, op->gamma, op->alpha);
        case KL_DIVERGENCE: return kl_divergence(s, position, op->classes);
        case COSINE_SIMILARITY: return cosine_similarity(s, position, op->classes);
        default:
            return op->from_logits ? categorical_from_logits(s, position, op->classes, smoothing)
                                   : categorical_from_outputs(s, position, op->classes, smoothing);
    }
}

/* Do the next positions: one, or several of few classes at once. Returns how many. */
static index_t of_positions(const struct loss *op, const struct sample *s, index_t position, double *terms) {
    const int softmax = op->kind == CATEGORICAL_CROSSENTROPY || op->kind == SPARSE_CATEGORICAL_CROSSENTROPY;
    if (DWIDTH == 1 || !softmax || !op->from_logits || op->classes > LANES || op->positions == 1) {
        terms[0] = of_position(op, s, position);
        return 1;
    }
    const index_t left = op->positions - position, group = left < DWIDTH ? left : DWIDTH;
    categorical_group(s, position, group, op->classes, op->label_smoothing, terms);
    return group;
}

static double of_sample(const struct loss *op, const struct sample *s, index_t entries) {
    const double smoothing = op->label_smoothing;
    double total = 0, terms[DWIDTH];
    switch (op->kind) {
        case MSE: return mean_squared(s, entries);
        case MAE: return mean_absolute(s, entries);
        case HUBER: return huber(s, entries, op->delta);
        case MAPE: return mean_absolute_percentage(s, entries);
        case MSLE: return mean_squared_logarithmic(s, entries);
        case LOG_COSH: return log_cosh(s, entries);
        case POISSON: return poisson(s, entries);
        case HINGE: return hinge(s, entries);
        case BINARY_CROSSENTROPY:
            return op->from_logits ? binary_from_logits(s, entries, smoothing) : binary_from_outputs(s, entries, smoothing);
        case BINARY_FOCAL_CROSSENTROPY: return binary_focal(s, entries, smoothing, op->gamma, op->alpha);
        case DICE: return dice(s, entries);
        case IOU: return iou(s, entries);
        default:
            for (index_t position = 0, done; position < op->positions; position += done) {
                done = of_positions(op, s, position, terms);
                for (index_t j = 0; j < done; j++) total += terms[j];
            }
            return total;
    }
}

/* How many terms the mean of a sample is over. */
static double terms_of(const struct loss *op) {
    switch (op->kind) {
        case CATEGORICAL_CROSSENTROPY: case SPARSE_CATEGORICAL_CROSSENTROPY: case CATEGORICAL_FOCAL_CROSSENTROPY:
        case KL_DIVERGENCE: case COSINE_SIMILARITY: return (double)op->positions;
        case DICE: case IOU: return 1;
        default: return (double)(op->positions * op->classes);
    }
}

/* The same where positions with the label `ignore` do not count: for those that do. */
static double of_counted(const struct loss *op, struct sample *s, double weight) {
    index_t counted = 0;
    for (index_t position = 0; position < op->positions; position++) counted += s->labels[position] != op->ignore;
    s->scale = weight / (double)(counted ? counted : 1);
    double total = 0, terms[DWIDTH];
    for (index_t position = 0, done; position < op->positions; position += done) {
        done = of_positions(op, s, position, terms);
        for (index_t j = 0; j < done; j++) {
            if (s->labels[position + j] != op->ignore) total += terms[j];
            else if (s->gradient) memset(s->gradient + (position + j) * op->classes, 0, (size_t)op->classes * sizeof(real));
        }
    }
    return total / (double)(counted ? counted : 1) * weight;
}

void NAME(loss)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct loss *op = operation;
    const index_t entries = op->positions * op->classes;
    const int sparse = op->kind == SPARSE_CATEGORICAL_CROSSENTROPY;
    const double mean = terms_of(op);
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
        op->terms[i] = sparse && op->ignores ? of_counted(op, &s, weight) : of_sample(op, &s, entries) / mean * weight;
    }
}
