#include "record.h"

#define MOST_LABELS (1 << 16)

static int refuse(const char *what) {
    PyErr_SetString(PyExc_ValueError, what);
    return 0;
}

static int take_outputs(PyObject *const *given, const struct array *inputs, index_t samples, struct array *weights, struct array *outputs,
                        struct array *gradient, struct array *terms) {
    const int bits = inputs->bits;
    return take_optional_plain(given[0], "weights", READ, 'f', bits, weights) && check_size(weights, "weights", samples) &&
           take_optional_plain(given[1], "outputs", WRITE, 'f', bits, outputs) && check_size(outputs, "outputs", inputs->size) &&
           take_optional_plain(given[2], "gradient", WRITE, 'f', bits, gradient) && check_size(gradient, "gradient", inputs->size) &&
           take_plain(given[3], "terms", WRITE, 'f', 64, terms) && check_size(terms, "terms", samples);
}

/* loss(kind, from_logits, inputs, targets, weights, outputs, gradient, terms, label_smoothing, delta, gamma, alpha, ignore) */
int parse_loss(PyObject *const *given, struct record *record) {
    struct array inputs, targets, weights, outputs, gradient, terms;
    index_t kind, from_logits, ignore = 0;
    double label_smoothing, delta, gamma, alpha;
    if (!take_whole(given[0], "kind", 0, IOU, &kind) || !take_whole(given[1], "from_logits", 0, 1, &from_logits)) return 0;
    if (!take_real(given[2], "inputs", READ, &inputs)) return 0;
    int bits = inputs.bits, labels = kind == SPARSE_CATEGORICAL_CROSSENTROPY, ignores = given[12] != Py_None;
    if (inputs.axes < 1) return refuse("inputs must have one axis at least");
    index_t samples = inputs.shape[0], row = samples ? inputs.size / samples : 1, classes = inputs.axes > 1 ? columns_of(&inputs) : 1;
    if (!take_plain(given[3], "targets", READ, labels ? 'i' : 'f', labels ? 64 : bits, &targets)) return 0;
    if (!check_size(&targets, "targets", labels ? samples * (row / (classes ? classes : 1)) : inputs.size)) return 0;
    if (!take_outputs(given + 4, &inputs, samples, &weights, &outputs, &gradient, &terms)) return 0;
    if (!take_number(given[8], "label_smoothing", &label_smoothing) || !take_number(given[9], "delta", &delta)) return 0;
    if (!take_number(given[10], "gamma", &gamma) || !take_number(given[11], "alpha", &alpha)) return 0;
    if (ignores && !take_whole(given[12], "ignore", INT64_MIN, INT64_MAX, &ignore)) return 0;
    if (from_logits && !outputs.data) return refuse("outputs are needed with from_logits");
    record->of.loss = (struct loss){
        .kind = (int)kind, .from_logits = (int)from_logits, .samples = samples, .positions = classes ? row / classes : 0, .classes = classes,
        .inputs = inputs.data, .targets = targets.data, .weights = weights.data, .outputs = outputs.data, .gradient = gradient.data,
        .terms = terms.data, .label_smoothing = label_smoothing, .delta = delta, .gamma = gamma, .alpha = alpha,
        .ignores = ignores, .ignore = ignore};
    return finish_record(record, OP_LOSS, bits, samples, 1, 40.0 * (double)inputs.size);
}

/* ctc(inputs, labels, weights, outputs, gradient, terms) */
int parse_ctc(PyObject *const *given, struct record *record) {
    struct array inputs, labels, weights, outputs, gradient, terms;
    if (!take_real(given[0], "inputs", READ, &inputs) || !take_plain(given[1], "labels", READ, 'i', 64, &labels)) return 0;
    if (inputs.axes != 3 || inputs.shape[1] < 1 || inputs.shape[2] < 1) return refuse("inputs must be (samples, steps, classes), one of each at least");
    if (labels.axes != 2 || labels.shape[0] != inputs.shape[0] || labels.shape[1] > MOST_LABELS)
        return refuse("labels must be (samples, length), with a length of 65536 at most");
    if (inputs.shape[1] > INT32_MAX) return refuse("inputs must have 2147483647 steps at most");
    index_t samples = inputs.shape[0], length = labels.shape[1];
    if (!take_outputs(given + 2, &inputs, samples, &weights, &outputs, &gradient, &terms)) return 0;
    record->of.ctc = (struct ctc){
        .samples = samples, .steps = inputs.shape[1], .classes = inputs.shape[2], .length = length, .inputs = inputs.data,
        .labels = labels.data, .weights = weights.data, .outputs = outputs.data, .gradient = gradient.data, .terms = terms.data};
    return finish_record(
        record, OP_CTC, inputs.bits, samples, 1, 60.0 * (double)inputs.size + 200.0 * (double)(samples * inputs.shape[1]) * (double)(2 * length + 1));
}
