/* The arguments of recurrent layers. */
#include "record.h"

static int refuse(const char *what) {
    PyErr_SetString(PyExc_ValueError, what);
    return 0;
}

/* What the passes forward and back have in common. `other` is y or dy, behind `more`. */
static int parse_cell(PyObject *const *given, PyObject *const *arrays, enum access other_access, struct recurrent *o, int *bits) {
    struct array gates, kernel, before, more, other;
    index_t cell, activation, recurrent_activation, backwards;
    const enum access forward = other_access;
    if (!take_whole(given[0], "cell", 0, CELLS - 1, &cell) || !take_whole(given[1], "activation", 0, SOFTMAX - 1, &activation)) return 0;
    if (!take_whole(given[2], "recurrent_activation", 0, SOFTMAX - 1, &recurrent_activation)) return 0;
    if (!take_whole(given[3], "backwards", 0, 1, &backwards) || !take_real(given[4], "gates", WRITE, &gates)) return 0;
    *bits = gates.bits;
    if (!take_plain(given[5], "kernel", READ, 'f', *bits, &kernel) || !take_plain(arrays[0], "before", forward, 'f', *bits, &before)) return 0;
    if (!take_optional_plain(arrays[1], "more", cell == GRU_AFTER ? WRITE : forward, 'f', *bits, &more)) return 0;
    if (!take(arrays[2], other_access == WRITE ? "y" : "dy", other_access, &other)) return 0;
    if (other.kind != 'f' || other.bits != *bits) return refuse("y or dy must be of the type of the gates");
    const index_t count = cell == SIMPLE_RNN ? 1 : cell == LSTM ? 4 : 3;
    if (gates.axes != 3 || kernel.axes != 2 || kernel.shape[0] < 1 || kernel.shape[1] != count * kernel.shape[0])
        return refuse("gates must be (samples, steps, gates units) and kernel (units, gates units)");
    const index_t samples = gates.shape[0], steps = gates.shape[1], units = kernel.shape[0];
    if (steps < 1 || gates.shape[2] != count * units) return refuse("gates must have a step at least, and the columns of the kernel");
    if (!check_size(&before, "before", samples * steps * units)) return 0;
    if (cell != SIMPLE_RNN && !more.data && samples) return refuse("this cell needs `more`");
    if (cell != SIMPLE_RNN && !check_size(&more, "more", samples * steps * units * (cell == GRU_AFTER ? 3 : 1))) return 0;
    const int last = other.axes == 2;
    if (other.axes != 3 && !last) return refuse("y and dy must be (samples, steps, units) or (samples, units)");
    if (other.shape[0] != samples || other.shape[other.axes - 1] != units || (!last && other.shape[1] != steps))
        return refuse("y and dy must have the samples, steps and units of the gates");
    if (units > 1 && other.stride[other.axes - 1] != 1) return refuse("the rows of y and dy must be contiguous");
    *o = (struct recurrent){
        .cell = (int)cell, .activation = (int)activation, .recurrent_activation = (int)recurrent_activation, .backwards = (int)backwards,
        .last = last, .samples = samples, .steps = steps, .units = units, .gates = gates.data, .kernel = kernel.data,
        .before = before.data, .more = more.data, .y = other.data, .y_sample = other.stride[0], .y_step = last ? 0 : other.stride[1]};
    return 1;
}

static double work_of(const struct recurrent *o) {
    const double gates = o->cell == SIMPLE_RNN ? 1 : o->cell == LSTM ? 4 : 3;
    return (double)o->samples * (double)o->steps * (double)o->units * gates * (2.0 * (double)o->units + 30.0);
}

/* recurrent(cell, activation, recurrent_activation, backwards, gates, kernel, bias, before, more, y) */
int parse_recurrent(PyObject *const *given, struct record *record) {
    struct recurrent *o = &record->of.recurrent;
    struct array bias;
    int bits;
    if (!parse_cell(given, given + 7, WRITE, o, &bits)) return 0;
    if (!take_optional_plain(given[6], "bias", READ, 'f', bits, &bias)) return 0;
    if (bias.data && o->cell != GRU_AFTER) return refuse("only GRU_AFTER has a bias behind its recurrent kernel");
    if (!check_size(&bias, "bias", 3 * o->units)) return 0;
    o->bias = bias.data;
    return finish_record(record, OP_RECURRENT, bits, o->samples, 1, work_of(o));
}

/* recurrent_backward(cell, activation, recurrent_activation, backwards, gates, kernel, before, more, dy) */
int parse_recurrent_backward(PyObject *const *given, struct record *record) {
    struct recurrent o;
    int bits;
    if (!parse_cell(given, given + 6, READ, &o, &bits)) return 0;
    record->of.recurrent_backward = (struct recurrent_backward){
        .cell = o.cell, .activation = o.activation, .recurrent_activation = o.recurrent_activation, .backwards = o.backwards,
        .last = o.last, .samples = o.samples, .steps = o.steps, .units = o.units, .gates = o.gates, .kernel = o.kernel,
        .before = o.before, .more = o.more, .dy = o.y, .dy_sample = o.y_sample, .dy_step = o.y_step};
    return finish_record(record, OP_RECURRENT_BACKWARD, bits, o.samples, 1, work_of(&o));
}

static int take_rows(PyObject *given, const char *name, enum access access, const struct array *like, struct array *array) {
    if (!take(given, name, access, array) || !is_real(array, name)) return 0;
    if (array->axes != 2 || (array->shape[1] > 1 && array->stride[1] != 1)) return refuse("arrays must be (rows, columns), their rows contiguous");
    if (like && (array->bits != like->bits || array->shape[0] != like->shape[0] || array->shape[1] != like->shape[1]))
        return refuse("arrays must be of one type and shape");
    return 1;
}

/* combine_rows(combination, a, b, y) */
int parse_combine_rows(PyObject *const *given, struct record *record) {
    struct array a, b = {0}, y;
    index_t combination;
    if (!take_whole(given[0], "combination", 0, ROW_COMBINATIONS - 1, &combination)) return 0;
    if (!take_rows(given[3], "y", WRITE, NULL, &y) || !take_rows(given[1], "a", READ, &y, &a)) return 0;
    if ((given[2] != Py_None) != (combination >= ADD_ROWS)) return refuse("sums and products need b, the others must have none");
    if (given[2] != Py_None && !take_rows(given[2], "b", READ, &y, &b)) return 0;
    record->of.combine_rows = (struct combine_rows){
        .combination = (int)combination, .rows = y.shape[0], .columns = y.shape[1], .a = a.data, .a_row = a.stride[0],
        .b = b.data, .b_row = b.stride[0], .y = y.data, .y_row = y.stride[0]};
    return finish_record(record, OP_COMBINE_ROWS, y.bits, y.shape[1] ? y.shape[0] : 0, 1, (double)y.size);
}
