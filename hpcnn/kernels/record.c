#include "record.h"

#include "dispatch.h"

#define WORTH_THREADS 2e5 /* floating-point operations: some microseconds */
#define LINE 64
#define PAGE 1024

int finish_record(struct record *record, int kind, int bits, index_t tasks, index_t unit, double work) {
    const struct kernels *kernels = kernels_for(bits);
    scratch_size_t scratch = kernels->scratch[kind];
    record->work = work;
    record->job.run = kernels->run[kind];
    record->job.operation = &record->of;
    record->job.tasks = tasks;
    record->job.unit = unit;
    record->job.scratch = scratch ? scratch(&record->of) : 0;
    return 1;
}

const index_t *copy_numbers(struct record *record, const struct array *first, const struct array *second) {
    const index_t count = first->size + (second ? second->size : 0);
    record->owned = PyMem_Malloc(sizeof(index_t) * (size_t)(count ? count : 1));
    if (!record->owned) return (const index_t *)PyErr_NoMemory();
    memcpy(record->owned, first->data, sizeof(index_t) * (size_t)first->size);
    if (second) memcpy(record->owned + first->size, second->data, sizeof(index_t) * (size_t)second->size);
    return record->owned;
}

int do_record(const struct record *record) {
    if (record->job.tasks <= 0) return 1;
    return record->work < WORTH_THREADS ? do_alone(&record->job) : do_together(&record->job);
}

static int refuse(const char *what) {
    PyErr_SetString(PyExc_ValueError, what);
    return 0;
}

static int same_bits(const struct array *array, const char *name, int bits) {
    if (array->data == NULL || (array->kind == 'f' && array->bits == bits)) return 1;
    PyErr_Format(PyExc_ValueError, "%s must be float%d, as the others are", name, bits);
    return 0;
}

/* product(a, b, c, bias, activation, saved) */
int parse_product(PyObject *const *given, struct record *record) {
    struct array a, b, c, bias, saved;
    index_t activation;
    if (!take(given[0], "a", READ, &a) || !take(given[1], "b", READ, &b) || !take(given[2], "c", WRITE, &c)) return 0;
    if (!is_real(&c, "c") || !same_bits(&a, "a", c.bits) || !same_bits(&b, "b", c.bits)) return 0;
    if (!take_optional_plain(given[3], "bias", READ, 'f', c.bits, &bias)) return 0;
    if (!take_whole(given[4], "activation", 0, SOFTMAX - 1, &activation)) return 0;
    if (!take_optional_plain(given[5], "saved", WRITE, 'f', c.bits, &saved)) return 0;
    if (a.axes != 2 || b.axes != 2 || c.axes != 2 || a.shape[1] != b.shape[0] || a.shape[0] != c.shape[0] || b.shape[1] != c.shape[1])
        return refuse("a must be (m, k), b (k, n) and c (m, n)");
    if (c.shape[1] > 1 && c.stride[1] != 1) return refuse("the rows of c must be contiguous");
    if (!check_size(&bias, "bias", c.shape[1]) || !check_size(&saved, "saved", c.size)) return 0;
    if (saved.data && !is_plain(&c)) return refuse("c must be C-ordered where `saved` is wanted");
    record->of.product = (struct product){
        .m = c.shape[0], .n = c.shape[1], .k = a.shape[1], .a = a.data, .a_row = a.stride[0], .a_column = a.stride[1],
        .b = b.data, .b_row = b.stride[0], .b_column = b.stride[1], .c = c.data, .c_row = c.stride[0],
        .bias = bias.data, .activation = (int)activation, .saved = saved.data};
    return finish_record(record, OP_PRODUCT, c.bits, c.shape[1] ? c.shape[0] : 0, LINE / 4, 2.0 * (double)c.size * (double)a.shape[1]);
}

/* weight_gradient(shards, x, dy, kernels) */
int parse_weight_gradient(PyObject *const *given, struct record *record) {
    const struct shards *shards = shards_of(given[0]);
    struct array x, dy;
    if (!shards || !take(given[1], "x", READ, &x) || !take(given[2], "dy", READ, &dy) || !is_real(&x, "x")) return 0;
    if (!same_bits(&dy, "dy", x.bits)) return 0;
    if (x.axes != 2 || dy.axes != 2 || x.shape[0] != shards->rows || dy.shape[0] != shards->rows)
        return refuse("x must be (rows, features) and dy (rows, units), with the rows of the shards");
    if ((x.shape[1] > 1 && x.stride[1] != 1) || (dy.shape[1] > 1 && dy.stride[1] != 1)) return refuse("rows must be contiguous");
    if (!take_group_arrays(given[3], "kernels", 'f', x.bits, shards->groups, x.shape[1] * dy.shape[1], record->pointers)) return 0;
    record->of.weight_gradient = (struct weight_gradient){
        .shards = shards, .features = x.shape[1], .units = dy.shape[1], .x = x.data, .x_row = x.stride[0],
        .dy = dy.data, .dy_row = dy.stride[0], .kernel = record->pointers};
    double work = 2.0 * (double)x.size * (double)dy.shape[1];
    return finish_record(record, OP_WEIGHT_GRADIENT, x.bits, x.shape[1] ? dy.shape[1] : 0, LINE, work);
}

/* column_sums(shards, a, b, outs) */
int parse_column_sums(PyObject *const *given, struct record *record) {
    const struct shards *shards = shards_of(given[0]);
    struct array a, b;
    if (!shards || !take(given[1], "a", READ, &a) || !is_real(&a, "a") || !take_optional(given[2], "b", READ, &b)) return 0;
    if (!same_bits(&b, "b", a.bits)) return 0;
    if (a.axes != 2 || a.shape[0] != shards->rows || (a.shape[1] > 1 && a.stride[1] != 1)) return refuse("a must be (rows, columns), its rows contiguous");
    if (b.data && (b.axes != 2 || b.shape[0] != a.shape[0] || b.shape[1] != a.shape[1] || (b.shape[1] > 1 && b.stride[1] != 1)))
        return refuse("b must be of the shape of a, its rows contiguous");
    if (!take_group_arrays(given[3], "outs", 'f', a.bits, shards->groups, a.shape[1], record->pointers)) return 0;
    record->of.column_sums = (struct column_sums){
        .shards = shards, .columns = a.shape[1], .a = a.data, .a_row = a.stride[0],
        .b = b.data, .b_row = b.data ? b.stride[0] : 0, .out = record->pointers};
    return finish_record(record, OP_COLUMN_SUMS, a.bits, a.shape[1], LINE, (double)a.size);
}

/* activate(activation, z, y, slopes) */
int parse_activate(PyObject *const *given, struct record *record) {
    struct array z, y, slopes;
    index_t activation;
    if (!take_whole(given[0], "activation", 0, ACTIVATIONS - 1, &activation)) return 0;
    if (!take_real(given[2], "y", WRITE, &y)) return 0;
    if (!take_plain(given[1], "z", READ, 'f', y.bits, &z) || !check_size(&z, "z", y.size)) return 0;
    if (!take_optional_plain(given[3], "slopes", WRITE, 'f', y.bits, &slopes) || !check_size(&slopes, "slopes", y.size)) return 0;
    if (slopes.data && activation != GELU && activation != SWISH) return refuse("slopes are those of gelu and swish");
    record->of.activate = (struct activate){
        .rows = rows_of(&y), .columns = columns_of(&y), .activation = (int)activation, .z = z.data, .y = y.data, .slopes = slopes.data};
    return finish_record(record, OP_ACTIVATE, y.bits, rows_of(&y), 1, 20.0 * (double)y.size);
}

/* activate_backward(activation, saved, dy, dz) */
int parse_activate_backward(PyObject *const *given, struct record *record) {
    struct array saved, dy, dz;
    index_t activation;
    if (!take_whole(given[0], "activation", 0, ACTIVATIONS - 1, &activation)) return 0;
    if (!take_real(given[3], "dz", WRITE, &dz)) return 0;
    if (!take_plain(given[1], "saved", READ, 'f', dz.bits, &saved) || !take_plain(given[2], "dy", READ, 'f', dz.bits, &dy)) return 0;
    if (!check_size(&saved, "saved", dz.size) || !check_size(&dy, "dy", dz.size)) return 0;
    record->of.activate_backward = (struct activate_backward){
        .rows = rows_of(&dz), .columns = columns_of(&dz), .activation = (int)activation, .saved = saved.data, .dy = dy.data, .dz = dz.data};
    return finish_record(record, OP_ACTIVATE_BACKWARD, dz.bits, rows_of(&dz), 1, 5.0 * (double)dz.size);
}

/* layer_norm(x, gamma, beta, normal, inverse, y, epsilon) */
int parse_layer_norm(PyObject *const *given, struct record *record) {
    struct array x, gamma, beta, normal, inverse, y;
    double epsilon;
    if (!take_real(given[5], "y", WRITE, &y)) return 0;
    int bits = y.bits;
    if (!take_plain(given[0], "x", READ, 'f', bits, &x) || !take_optional_plain(given[1], "gamma", READ, 'f', bits, &gamma)) return 0;
    if (!take_optional_plain(given[2], "beta", READ, 'f', bits, &beta) || !take_plain(given[3], "normal", WRITE, 'f', bits, &normal)) return 0;
    if (!take_plain(given[4], "inverse", WRITE, 'f', bits, &inverse) || !take_number(given[6], "epsilon", &epsilon)) return 0;
    index_t rows = rows_of(&y), columns = columns_of(&y);
    if (!check_size(&x, "x", y.size) || !check_size(&normal, "normal", y.size) || !check_size(&inverse, "inverse", rows)) return 0;
    if (!check_size(&gamma, "gamma", columns) || !check_size(&beta, "beta", columns)) return 0;
    record->of.layer_norm = (struct layer_norm){
        .rows = rows, .columns = columns, .epsilon = epsilon, .x = x.data, .gamma = gamma.data, .beta = beta.data,
        .normal = normal.data, .inverse = inverse.data, .y = y.data};
    return finish_record(record, OP_LAYER_NORM, bits, rows, 1, 10.0 * (double)y.size);
}

/* layer_norm_backward(normal, inverse, gamma, dy, dx) */
int parse_layer_norm_backward(PyObject *const *given, struct record *record) {
    struct array normal, inverse, gamma, dy, dx;
    if (!take_real(given[4], "dx", WRITE, &dx)) return 0;
    int bits = dx.bits;
    if (!take_plain(given[0], "normal", READ, 'f', bits, &normal) || !take_plain(given[1], "inverse", READ, 'f', bits, &inverse)) return 0;
    if (!take_optional_plain(given[2], "gamma", READ, 'f', bits, &gamma) || !take_plain(given[3], "dy", READ, 'f', bits, &dy)) return 0;
    index_t rows = rows_of(&dx), columns = columns_of(&dx);
    if (!check_size(&normal, "normal", dx.size) || !check_size(&inverse, "inverse", rows) || !check_size(&dy, "dy", dx.size)) return 0;
    if (!check_size(&gamma, "gamma", columns)) return 0;
    record->of.layer_norm_backward = (struct layer_norm_backward){
        .rows = rows, .columns = columns, .normal = normal.data, .inverse = inverse.data, .gamma = gamma.data, .dy = dy.data, .dx = dx.data};
    return finish_record(record, OP_LAYER_NORM_BACKWARD, bits, rows, 1, 10.0 * (double)dx.size);
}

/* dropout(x, y, rate, seed, stream, place) */
int parse_dropout(PyObject *const *given, struct record *record) {
    struct array x, y, place;
    double rate;
    index_t stream;
    if (!take_real(given[1], "y", WRITE, &y)) return 0;
    if (!take_plain(given[0], "x", READ, 'f', y.bits, &x) || !check_size(&x, "x", y.size)) return 0;
    if (y.axes < 1) return refuse("y must have one axis at least");
    if (!take_rate(given[2], &rate) || !take_whole(given[4], "stream", 0, UINT32_MAX, &stream)) return 0;
    unsigned long long seed = PyLong_AsUnsignedLongLong(given[3]);
    if (seed == (unsigned long long)-1 && PyErr_Occurred()) return 0;
    if (!take_plain(given[5], "place", READ, 'u', 32, &place) || !check_size(&place, "place", 2)) return 0;
    index_t samples = y.shape[0];
    record->of.dropout = (struct dropout){
        .samples = samples, .columns = samples ? y.size / samples : 0, .rate = rate, .seed = seed, .stream = (uint32_t)stream,
        .place = place.data, .x = x.data, .y = y.data};
    return finish_record(record, OP_DROPOUT, y.bits, samples, 1, 30.0 * (double)y.size);
}

/* add(x1, x2, y) */
int parse_add(PyObject *const *given, struct record *record) {
    struct array x1, x2, y;
    if (!take_real(given[2], "y", WRITE, &y)) return 0;
    if (!take_plain(given[0], "x1", READ, 'f', y.bits, &x1) || !take_plain(given[1], "x2", READ, 'f', y.bits, &x2)) return 0;
    if (!check_size(&x1, "x1", y.size) || !check_size(&x2, "x2", y.size)) return 0;
    record->of.add = (struct add){.size = y.size, .x1 = x1.data, .x2 = x2.data, .y = y.data};
    return finish_record(record, OP_ADD, y.bits, y.size, PAGE, (double)y.size);
}

/* shard_totals(shards, terms, outs) */
int parse_shard_totals(PyObject *const *given, struct record *record) {
    const struct shards *shards = shards_of(given[0]);
    struct array terms;
    if (!shards || !take_plain(given[1], "terms", READ, 'f', 64, &terms) || !check_size(&terms, "terms", shards->rows)) return 0;
    if (!take_group_arrays(given[2], "outs", 'f', 64, shards->groups, 1, record->pointers)) return 0;
    record->of.shard_totals = (struct shard_totals){.shards = shards, .terms = terms.data, .out = (double *const *)record->pointers};
    return finish_record(record, OP_SHARD_TOTALS, 64, 1, 1, 0);
}

/* count_right(shards, outputs, targets, multilabel, outs) */
int parse_count_right(PyObject *const *given, struct record *record) {
    const struct shards *shards = shards_of(given[0]);
    struct array outputs, targets;
    index_t multilabel;
    if (!shards || !take_real(given[1], "outputs", READ, &outputs) || !take(given[2], "targets", READ, &targets)) return 0;
    if (!take_whole(given[3], "multilabel", 0, 1, &multilabel)) return 0;
    if (outputs.axes < 1 || outputs.shape[0] != shards->rows) return refuse("outputs must be (rows, ...), with the rows of the shards");
    int labels = targets.kind == 'i';
    index_t columns = outputs.axes > 1 ? columns_of(&outputs) : 1, places = columns ? outputs.size / columns : 0;
    if (!take_plain(given[2], "targets", READ, labels ? 'i' : 'f', labels ? 64 : outputs.bits, &targets)) return 0;
    if (!check_size(&targets, "targets", labels ? places : outputs.size)) return 0;
    if (!take_group_arrays(given[4], "outs", 'f', 64, shards->groups, 1, record->pointers)) return 0;
    record->of.count_right = (struct count_right){
        .shards = shards, .positions = shards->rows ? places / shards->rows : 0, .columns = columns, .multilabel = (int)multilabel,
        .labels = labels, .outputs = outputs.data, .targets = targets.data, .right = (double *const *)record->pointers};
    return finish_record(record, OP_COUNT_RIGHT, outputs.bits, 1, 1, 0);
}

/* cell_sums(x, starts, out, square) */
int parse_cell_sums(PyObject *const *given, struct record *record) {
    struct array x, starts, out;
    index_t square;
    if (!take_real(given[0], "x", READ, &x)) return 0;
    if (!take_plain(given[1], "starts", READ, 'i', 64, &starts) || starts.size < 1) return PyErr_Occurred() ? 0 : refuse("starts has no entry");
    if (!take_plain(given[2], "out", WRITE, 'f', 64, &out) || !check_size(&out, "out", starts.size - 1)) return 0;
    if (!take_whole(given[3], "square", 0, 1, &square)) return 0;
    const index_t *start = copy_numbers(record, &starts, NULL);
    if (!start) return 0;
    for (index_t cell = 0; cell < starts.size; cell++)
        if (start[cell] < (cell ? start[cell - 1] : 0) || start[cell] > x.size) return refuse("starts must ascend, within x");
    record->of.cell_sums = (struct cell_sums){.count = out.size, .start = start, .square = (int)square, .x = x.data, .cells = out.data};
    return finish_record(record, OP_CELL_SUMS, x.bits, out.size, 1, 2.0 * (double)x.size);
}

/* fold(slots, order, out) */
int parse_fold(PyObject *const *given, struct record *record) {
    struct array order, out;
    if (!take_real(given[2], "out", WRITE, &out)) return 0;
    if (!PyTuple_Check(given[0]) || PyTuple_Size(given[0]) > MOST_GROUPS) return refuse("slots must be a tuple of arrays, 64 at most");
    index_t slots = PyTuple_Size(given[0]);
    if (!take_group_arrays(given[0], "slots", 'f', out.bits, slots, out.size, record->pointers)) return 0;
    if (!take_plain(given[1], "order", READ, 'i', 64, &order)) return 0;
    if (order.size % 2 || slots < 1) return refuse("order must hold pairs, and slots one array at least");
    const index_t *pair = copy_numbers(record, &order, NULL);
    if (!pair) return 0;
    for (index_t place = 0; place < order.size; place++)
        if (pair[place] < 0 || pair[place] >= slots) return refuse("order names a slot that is not there");
    record->of.fold = (struct fold){
        .size = out.size, .slots = slots, .slot = record->pointers, .additions = order.size / 2, .order = pair, .out = out.data};
    return finish_record(record, OP_FOLD, out.bits, out.size, PAGE, (double)out.size * (double)slots);
}

/* standardize(x, shift, scale, y) */
int parse_standardize(PyObject *const *given, struct record *record) {
    struct array x, shift, scale, y;
    if (!take_real(given[3], "y", WRITE, &y)) return 0;
    if (y.axes < 1) return refuse("y must have one axis at least");
    if (!take_plain(given[0], "x", READ, 'f', 64, &x) || !check_size(&x, "x", y.size)) return 0;
    if (!take_plain(given[1], "shift", READ, 'f', 64, &shift) || !take_plain(given[2], "scale", READ, 'f', 64, &scale)) return 0;
    index_t rows = y.shape[0], columns = rows ? y.size / rows : 0;
    if (shift.size != 1 && !check_size(&shift, "shift", columns)) return 0;
    if (scale.size != 1 && !check_size(&scale, "scale", columns)) return 0;
    record->of.standardize = (struct standardize){
        .rows = rows, .columns = columns, .x = x.data, .shift = shift.data, .scale = scale.data,
        .shift_is_one = shift.size == 1, .scale_is_one = scale.size == 1, .y = y.data};
    return finish_record(record, OP_STANDARDIZE, y.bits, rows, 1, 2.0 * (double)y.size);
}

const struct operation operations[OPERATIONS] = {
#define OPERATION(name, kind, arguments, doc) [OP_##kind] = {#name, arguments, parse_##name, doc},
#define KERNEL(name, kind)
#include "operations.def"
};

int make_record(const struct operation *operation, PyObject *const *arguments, Py_ssize_t count, struct record *record) {
    if (count != operation->arguments) {
        PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, but got %zd", operation->name, operation->arguments, count);
        return 0;
    }
    record->views = NULL;
    record->owned = NULL;
    struct view **before = hold(&record->views);
    int right = operation->parse(arguments, record);
    hold(before);
    if (!right) free_record(record);
    return right;
}

void free_record(struct record *record) {
    release(record->views);
    PyMem_Free(record->owned);
}
