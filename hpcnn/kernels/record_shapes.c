/* The arguments of the operations of operations_shapes.h. */
#include "record.h"

#define LINE 64
#define PAGE 1024

static int refuse(const char *what) {
    PyErr_SetString(PyExc_ValueError, what);
    return 0;
}

/* ---------------------------------------------------------------------------------------------------------- Pooling */

static int take_three(PyObject *given, const char *name, index_t least, index_t *numbers) {
    if (!PyTuple_Check(given) || PyTuple_Size(given) != 3) {
        PyErr_Format(PyExc_ValueError, "%s must be a tuple of 3 numbers", name);
        return 0;
    }
    for (int axis = 0; axis < 3; axis++)
        if (!take_whole(PyTuple_GetItem(given, axis), name, least, INT32_MAX, &numbers[axis])) return 0;
    return 1;
}

/* The windows that make `out` of `in`, given as size, step and before. */
static int take_windows(PyObject *const *given, const struct array *in, const struct array *out, struct windows *w) {
    if (in->axes != 5 || out->axes != 5 || in->shape[0] != out->shape[0] || in->shape[4] != out->shape[4])
        return refuse("inputs and outputs must be (samples, a, b, c, channels)");
    if (!take_three(given[0], "size", 1, w->size) || !take_three(given[1], "step", 1, w->step)) return 0;
    if (!take_three(given[2], "before", 0, w->before)) return 0;
    w->samples = in->shape[0], w->channels = in->shape[4];
    index_t places = 1;
    for (int axis = 0; axis < 3; axis++) {
        const index_t entries = w->in[axis] = in->shape[axis + 1], windows = w->out[axis] = out->shape[axis + 1];
        if (entries < 1 || entries > INT32_MAX || windows < 1 || windows > INT32_MAX || w->before[axis] >= w->size[axis] ||
            (windows - 1) * w->step[axis] - w->before[axis] >= entries || places > INT32_MAX / entries)
            return refuse("each window must have an entry, and a sample fewer than 2^31 positions");
        places *= entries;
    }
    return 1;
}

static double work_of(const struct windows *w, const struct array *out) {
    return (double)out->size * (double)w->size[0] * (double)w->size[1] * (double)w->size[2];
}

/* max_pooling(x, y, place, size, step, before) */
int parse_max_pooling(PyObject *const *given, struct record *record) {
    struct array x, y, place;
    struct max_pooling *o = &record->of.max_pooling;
    if (!take_real(given[1], "y", WRITE, &y) || !take_plain(given[0], "x", READ, 'f', y.bits, &x)) return 0;
    if (!take_plain(given[2], "place", WRITE, 'i', 32, &place) || !check_size(&place, "place", y.size)) return 0;
    if (!take_windows(given + 3, &x, &y, &o->windows)) return 0;
    o->x = x.data, o->y = y.data, o->place = place.data;
    return finish_record(record, OP_MAX_POOLING, y.bits, y.size ? y.shape[0] : 0, 1, work_of(&o->windows, &y));
}

/* max_pooling_backward(place, dy, dx, size, step, before) */
int parse_max_pooling_backward(PyObject *const *given, struct record *record) {
    struct array place, dy, dx;
    struct max_pooling_backward *o = &record->of.max_pooling_backward;
    if (!take_real(given[2], "dx", WRITE, &dx) || !take_plain(given[1], "dy", READ, 'f', dx.bits, &dy)) return 0;
    if (!take_plain(given[0], "place", READ, 'i', 32, &place) || !check_size(&place, "place", dy.size)) return 0;
    if (!take_windows(given + 3, &dx, &dy, &o->windows)) return 0;
    o->dy = dy.data, o->dx = dx.data, o->place = place.data;
    return finish_record(record, OP_MAX_POOLING_BACKWARD, dx.bits, dx.size ? dx.shape[0] : 0, 1, work_of(&o->windows, &dy));
}

/* average_pooling(x, y, size, step, before) */
int parse_average_pooling(PyObject *const *given, struct record *record) {
    struct array x, y;
    struct average_pooling *o = &record->of.average_pooling;
    if (!take_real(given[1], "y", WRITE, &y) || !take_plain(given[0], "x", READ, 'f', y.bits, &x)) return 0;
    if (!take_windows(given + 2, &x, &y, &o->windows)) return 0;
    o->x = x.data, o->y = y.data;
    return finish_record(record, OP_AVERAGE_POOLING, y.bits, y.size ? y.shape[0] : 0, 1, work_of(&o->windows, &y));
}

/* average_pooling_backward(dy, dx, size, step, before) */
int parse_average_pooling_backward(PyObject *const *given, struct record *record) {
    struct array dy, dx;
    struct average_pooling_backward *o = &record->of.average_pooling_backward;
    if (!take_real(given[1], "dx", WRITE, &dx) || !take_plain(given[0], "dy", READ, 'f', dx.bits, &dy)) return 0;
    if (!take_windows(given + 2, &dx, &dy, &o->windows)) return 0;
    o->dy = dy.data, o->dx = dx.data;
    return finish_record(record, OP_AVERAGE_POOLING_BACKWARD, dx.bits, dx.size ? dx.shape[0] : 0, 1, work_of(&o->windows, &dy));
}

/* ----------------------------------------------------------------------------------------------------------- Shapes */

/* Whether the samples of (outer, length, inner) are C-ordered, whatever lies between them. */
static int has_plain_samples(const struct array *a) {
    return (a->shape[2] < 2 || a->stride[2] == 1) && (a->shape[1] < 2 || a->stride[1] == a->shape[2]);
}

/* map_axis(x, y, start, index, weight) */
int parse_map_axis(PyObject *const *given, struct record *record) {
    struct array x, y, start, index, weight;
    if (!take(given[0], "x", READ, &x) || !take(given[1], "y", WRITE, &y) || !is_real(&y, "y")) return 0;
    if (x.kind != 'f' || x.bits != y.bits || x.axes != 3 || y.axes != 3 || x.shape[0] != y.shape[0] || x.shape[2] != y.shape[2])
        return refuse("x must be (outer, length, inner) and y (outer, rows, inner), of one type");
    const index_t rows = y.shape[1], inner = y.shape[2];
    if (!has_plain_samples(&x) || !has_plain_samples(&y) || (y.shape[0] > 1 && y.stride[0] < rows * inner))
        return refuse("x and y must be C-ordered but for their first axes");
    if (!take_plain(given[2], "start", READ, 'i', 64, &start) || !check_size(&start, "start", rows + 1)) return 0;
    if (!take_plain(given[3], "index", READ, 'i', 64, &index)) return 0;
    if (!take_plain(given[4], "weight", READ, 'f', y.bits, &weight) || !check_size(&weight, "weight", index.size)) return 0;
    const index_t *starts = copy_numbers(record, &start, &index);
    if (!starts) return 0;
    const index_t *indices = starts + start.size;
    if (starts[0] != 0 || starts[rows] != index.size) return refuse("start must begin at 0 and end at the number of terms");
    for (index_t row = 0; row < rows; row++)
        if (starts[row] > starts[row + 1]) return refuse("start must ascend");
    for (index_t term = 0; term < index.size; term++)
        if (indices[term] < 0 || indices[term] >= x.shape[1]) return refuse("index names a row that x does not have");
    record->of.map_axis = (struct map_axis){
        .outer = y.shape[0], .rows = rows, .inner = inner, .start = starts, .index = indices, .weight = weight.data,
        .x = x.data, .x_outer = x.stride[0], .y = y.data, .y_outer = y.stride[0]};
    const double work = (double)y.size + (double)y.shape[0] * (double)inner * (double)index.size;
    return finish_record(record, OP_MAP_AXIS, y.bits, y.size ? y.shape[0] * rows : 0, LINE, work);
}

/* permute(x, y) */
int parse_permute(PyObject *const *given, struct record *record) {
    struct array x, y;
    if (!take(given[0], "x", READ, &x) || !take_real(given[1], "y", WRITE, &y)) return 0;
    if (y.axes < 1) return refuse("y must have one axis at least");
    int same = x.kind == 'f' && x.bits == y.bits && x.axes == y.axes;
    for (int axis = 0; same && axis < y.axes; axis++) same = x.shape[axis] == y.shape[axis];
    if (!same) return refuse("x and y must be of one type and shape");
    struct permute *o = &record->of.permute; /* has room for MOST_AXES */
    int last = 0;
    o->shape[0] = x.shape[0], o->stride[0] = x.stride[0];
    for (int axis = 1; axis < x.axes; axis++) {
        if (x.shape[axis] == 1) continue;
        if (last && o->stride[last] == x.shape[axis] * x.stride[axis]) o->shape[last] *= x.shape[axis];
        else o->shape[++last] = x.shape[axis];
        o->stride[last] = x.stride[axis];
    }
    if (!last) o->shape[++last] = 1, o->stride[last] = 1;
    o->axes = last + 1;
    for (index_t axis = last, stride = 1; axis >= 0; stride *= o->shape[axis--]) o->y_stride[axis] = stride;
    o->x = x.data, o->y = y.data;
    return finish_record(record, OP_PERMUTE, y.bits, y.size ? y.shape[0] : 0, 1, 2.0 * (double)y.size);
}

/* ---------------------------------------------------------------------------------------------------- Entry by entry */

/* combine(kind, x1, x2, y) */
int parse_combine(PyObject *const *given, struct record *record) {
    struct array x1, x2, y;
    index_t kind;
    if (!take_whole(given[0], "kind", 0, MAXIMUM, &kind) || !take_real(given[3], "y", WRITE, &y)) return 0;
    if (!take_plain(given[1], "x1", READ, 'f', y.bits, &x1) || !take_plain(given[2], "x2", READ, 'f', y.bits, &x2)) return 0;
    if (!check_size(&x1, "x1", y.size) || !check_size(&x2, "x2", y.size)) return 0;
    record->of.combine = (struct combine){.size = y.size, .kind = (int)kind, .x1 = x1.data, .x2 = x2.data, .y = y.data};
    return finish_record(record, OP_COMBINE, y.bits, y.size, PAGE, (double)y.size);
}

/* add_relu(x1, x2, y) */
int parse_add_relu(PyObject *const *given, struct record *record) {
    struct array x1, x2, y;
    if (!take_real(given[2], "y", WRITE, &y)) return 0;
    if (!take_plain(given[0], "x1", READ, 'f', y.bits, &x1) || !take_plain(given[1], "x2", READ, 'f', y.bits, &x2)) return 0;
    if (!check_size(&x1, "x1", y.size) || !check_size(&x2, "x2", y.size)) return 0;
    record->of.add_relu = (struct add_relu){.size = y.size, .x1 = x1.data, .x2 = x2.data, .y = y.data};
    return finish_record(record, OP_ADD_RELU, y.bits, y.size, PAGE, (double)y.size);
}

/* add_relu_backward(y, dy, dx1, dx2) */
int parse_add_relu_backward(PyObject *const *given, struct record *record) {
    struct array y, dy, dx1, dx2;
    if (!take_real(given[0], "y", READ, &y) || !take_plain(given[1], "dy", READ, 'f', y.bits, &dy)) return 0;
    if (!take_plain(given[2], "dx1", WRITE, 'f', y.bits, &dx1) || !take_plain(given[3], "dx2", WRITE, 'f', y.bits, &dx2)) return 0;
    if (!check_size(&dy, "dy", y.size) || !check_size(&dx1, "dx1", y.size) || !check_size(&dx2, "dx2", y.size)) return 0;
    record->of.add_relu_backward = (struct add_relu_backward){.size = y.size, .y = y.data, .dy = dy.data, .dx1 = dx1.data, .dx2 = dx2.data};
    return finish_record(record, OP_ADD_RELU_BACKWARD, y.bits, y.size, PAGE, (double)y.size);
}

/* maximum_backward(x1, x2, dy, dx1, dx2) */
int parse_maximum_backward(PyObject *const *given, struct record *record) {
    struct array x1, x2, dy, dx1, dx2;
    if (!take_real(given[2], "dy", READ, &dy)) return 0;
    if (!take_plain(given[0], "x1", READ, 'f', dy.bits, &x1) || !take_plain(given[1], "x2", READ, 'f', dy.bits, &x2)) return 0;
    if (!take_optional_plain(given[3], "dx1", WRITE, 'f', dy.bits, &dx1)) return 0;
    if (!take_optional_plain(given[4], "dx2", WRITE, 'f', dy.bits, &dx2)) return 0;
    if (!check_size(&x1, "x1", dy.size) || !check_size(&x2, "x2", dy.size)) return 0;
    if (!check_size(&dx1, "dx1", dy.size) || !check_size(&dx2, "dx2", dy.size)) return 0;
    record->of.maximum_backward = (struct maximum_backward){
        .size = dy.size, .x1 = x1.data, .x2 = x2.data, .dy = dy.data, .dx1 = dx1.data, .dx2 = dx2.data};
    return finish_record(record, OP_MAXIMUM_BACKWARD, dy.bits, dy.size, PAGE, 2.0 * (double)dy.size);
}

/* scaled(x, factor, y) */
int parse_scaled(PyObject *const *given, struct record *record) {
    struct array x, y;
    double factor;
    if (!take_real(given[2], "y", WRITE, &y) || !take_plain(given[0], "x", READ, 'f', y.bits, &x)) return 0;
    if (!check_size(&x, "x", y.size) || !take_number(given[1], "factor", &factor)) return 0;
    record->of.scaled = (struct scaled){.size = y.size, .factor = factor, .x = x.data, .y = y.data};
    return finish_record(record, OP_SCALED, y.bits, y.size, PAGE, (double)y.size);
}

/* How many rows of alpha's size there are in an array of (samples, ...): of one alpha for all, the samples. */
static int take_alpha(PyObject *given, const struct array *of, struct array *alpha, index_t *rows) {
    if (of->axes < 1) return refuse("x must have one axis at least");
    if (!take_plain(given, "alpha", READ, 'f', of->bits, alpha)) return 0;
    if (alpha->size < 1 || of->size % alpha->size) return refuse("the size of x must be a multiple of that of alpha");
    *rows = alpha->size == 1 ? of->shape[0] : of->size / alpha->size;
    return 1;
}

/* prelu(x, alpha, y) */
int parse_prelu(PyObject *const *given, struct record *record) {
    struct array x, alpha, y;
    index_t rows;
    if (!take_real(given[2], "y", WRITE, &y) || !take_plain(given[0], "x", READ, 'f', y.bits, &x)) return 0;
    if (!check_size(&x, "x", y.size) || !take_alpha(given[1], &y, &alpha, &rows)) return 0;
    record->of.prelu = (struct prelu){
        .rows = rows, .columns = rows ? y.size / rows : 0, .x = x.data, .alpha = alpha.data, .alpha_is_one = alpha.size == 1, .y = y.data};
    return finish_record(record, OP_PRELU, y.bits, rows, 1, (double)y.size);
}

/* prelu_backward(x, alpha, dy, dx, share, kinked) */
int parse_prelu_backward(PyObject *const *given, struct record *record) {
    struct array x, alpha, dy, dx, share;
    index_t rows, kinked;
    if (!take_real(given[2], "dy", READ, &dy) || !take_plain(given[0], "x", READ, 'f', dy.bits, &x)) return 0;
    if (!check_size(&x, "x", dy.size) || !take_alpha(given[1], &dy, &alpha, &rows)) return 0;
    if (!take_optional_plain(given[3], "dx", WRITE, 'f', dy.bits, &dx) || !check_size(&dx, "dx", dy.size)) return 0;
    if (!take_optional_plain(given[4], "share", WRITE, 'f', dy.bits, &share) || !check_size(&share, "share", dy.size)) return 0;
    if (!take_whole(given[5], "kinked", 0, 1, &kinked)) return 0;
    record->of.prelu_backward = (struct prelu_backward){
        .rows = rows, .columns = rows ? dy.size / rows : 0, .x = x.data, .alpha = alpha.data, .alpha_is_one = alpha.size == 1,
        .kinked = (int)kinked, .dy = dy.data, .dx = dx.data, .share = share.data};
    return finish_record(record, OP_PRELU_BACKWARD, dy.bits, rows, 1, 2.0 * (double)dy.size);
}

/* ------------------------------------------------------------------------------------------------------------ Noise */

/* x, y, ..., seed, stream, place */
static int take_draws(PyObject *const *given, struct array *x, struct array *y, uint64_t *seed, index_t *stream, struct array *place) {
    if (!take_real(given[1], "y", WRITE, y) || !take_plain(given[0], "x", READ, 'f', y->bits, x)) return 0;
    if (!check_size(x, "x", y->size)) return 0;
    *seed = PyLong_AsUnsignedLongLong(given[3]);
    if (*seed == (uint64_t)-1 && PyErr_Occurred()) return 0;
    if (!take_whole(given[4], "stream", 0, UINT32_MAX, stream)) return 0;
    return take_plain(given[5], "place", READ, 'u', 32, place) && check_size(place, "place", 2);
}

/* spatial_dropout(x, y, rate, seed, stream, place) */
int parse_spatial_dropout(PyObject *const *given, struct record *record) {
    struct array x, y, place;
    double rate;
    uint64_t seed;
    index_t stream;
    if (!take_draws(given, &x, &y, &seed, &stream, &place) || !take_rate(given[2], &rate)) return 0;
    if (y.axes < 2) return refuse("y must have two axes at least");
    const index_t samples = y.shape[0], channels = columns_of(&y);
    record->of.spatial_dropout = (struct spatial_dropout){
        .samples = samples, .positions = y.size ? y.size / samples / channels : 0, .channels = channels, .rate = rate,
        .seed = seed, .stream = (uint32_t)stream, .place = place.data, .x = x.data, .y = y.data};
    return finish_record(record, OP_SPATIAL_DROPOUT, y.bits, y.size ? samples : 0, 1, (double)y.size);
}

/* gaussian_noise(x, y, deviation, seed, stream, place) */
int parse_gaussian_noise(PyObject *const *given, struct record *record) {
    struct array x, y, place;
    double deviation;
    uint64_t seed;
    index_t stream;
    if (!take_draws(given, &x, &y, &seed, &stream, &place) || !take_number(given[2], "deviation", &deviation)) return 0;
    if (!(deviation >= 0)) return refuse("deviation must be 0 or more");
    if (y.axes < 1) return refuse("y must have one axis at least");
    const index_t samples = y.shape[0], columns = samples ? y.size / samples : 0;
    if (columns > UINT32_MAX) return refuse("a sample must have fewer than 2^32 entries");
    record->of.gaussian_noise = (struct gaussian_noise){
        .samples = samples, .columns = columns, .deviation = deviation, .seed = seed, .stream = (uint32_t)stream,
        .place = place.data, .x = x.data, .y = y.data};
    return finish_record(record, OP_GAUSSIAN_NOISE, y.bits, samples, 1, 80.0 * (double)y.size);
}
