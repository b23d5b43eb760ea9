#include "record.h"

static int refuse(const char *what) {
    PyErr_SetString(PyExc_ValueError, what);
    return 0;
}

static int take_weight(PyObject *given, const char *name, double *weight) {
    if (!take_number(given, name, weight)) return 0;
    return (*weight >= 0 && *weight <= 1) || refuse("weights must be from 0 to 1");
}

/* Scores (rows, columns), and the column of the first row. */
static int take_scores(PyObject *const *given, PyObject *first_given, PyObject *side_given, struct array *scores, index_t *first, index_t *side) {
    if (!take_real(given[0], "scores", READ, scores)) return 0;
    if (scores->axes != 2) return refuse("scores must be (rows, columns)");
    if (scores->shape[0] > scores->shape[1]) return refuse("scores must have a column for each row");
    return take_whole(first_given, "first", 0, scores->shape[1] - scores->shape[0], first) && take_whole(side_given, "side", 0, 1, side);
}

/* contrast(scores, first, side, weight, logs, terms) */
int parse_contrast(PyObject *const *given, struct record *record) {
    struct array scores, logs, terms;
    index_t first, side;
    double weight;
    if (!take_scores(given, given[1], given[2], &scores, &first, &side) || !take_weight(given[3], "weight", &weight)) return 0;
    const index_t rows = scores.shape[0];
    if (!take_plain(given[4], "logs", WRITE, 'f', 64, &logs) || !check_size(&logs, "logs", 2 * rows)) return 0;
    if (!take_plain(given[5], "terms", WRITE, 'f', 64, &terms) || !check_size(&terms, "terms", rows)) return 0;
    record->of.contrast = (struct contrast){
        .rows = rows, .columns = scores.shape[1], .first = first, .side = side, .weight = weight, .scores = scores.data,
        .logs = logs.data, .terms = terms.data};
    return finish_record(record, OP_CONTRAST, scores.bits, rows, 1, 20.0 * (double)scores.size);
}

/* contrast_gradient(scores, logs, first, side, own_weight, other_weight, gradient) */
int parse_contrast_gradient(PyObject *const *given, struct record *record) {
    struct array scores, logs, gradient;
    index_t first, side;
    double own, other;
    if (!take_scores(given, given[2], given[3], &scores, &first, &side)) return 0;
    if (!take_plain(given[1], "logs", READ, 'f', 64, &logs) || !check_size(&logs, "logs", 2 * scores.shape[1])) return 0;
    if (!take_weight(given[4], "own_weight", &own) || !take_weight(given[5], "other_weight", &other)) return 0;
    if (!take_plain(given[6], "gradient", WRITE, 'f', scores.bits, &gradient) || !check_size(&gradient, "gradient", scores.size)) return 0;
    record->of.contrast_gradient = (struct contrast_gradient){
        .rows = scores.shape[0], .columns = scores.shape[1], .first = first, .side = side, .own_weight = own, .other_weight = other,
        .scores = scores.data, .logs = logs.data, .gradient = gradient.data};
    return finish_record(record, OP_CONTRAST_GRADIENT, scores.bits, scores.shape[0], 1, 40.0 * (double)scores.size);
}
