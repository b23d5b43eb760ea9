/* From Python's arguments to operations of operations_normalization.h. */
#include "record.h"

#define ROWS 64 /* ranges of rows begin at multiples of it */

static int refuse(const char *what) {
    PyErr_SetString(PyExc_ValueError, what);
    return 0;
}

/* Shards, or the number of rows of each segment. */
static int take_segments(PyObject *given, index_t rows, struct segments *segments) {
    index_t each;
    if (!PyLong_Check(given)) {
        const struct shards *shards = shards_of(given);
        if (!shards) return 0;
        if (shards->rows != rows) return refuse("x must have the rows of the shards");
        *segments = (struct segments){shards->group_leaf[shards->groups], shards->leaf_row, 0};
        return 1;
    }
    if (!take_whole(given, "segments", 1, INT64_MAX, &each)) return 0;
    if (rows % each) return refuse("the rows of x must be a multiple of those of a segment");
    *segments = (struct segments){rows / each, NULL, each};
    return 1;
}

/* C-ordered doubles (rows, columns). */
static int take_doubles(PyObject *given, const char *name, enum access access, index_t columns, struct array *array) {
    if (!take_plain(given, name, access, 'f', 64, array)) return 0;
    if (array->axes == 2 && array->shape[1] == columns) return 1;
    PyErr_Format(PyExc_ValueError, "%s must be (rows, %lld)", name, (long long)columns);
    return 0;
}

/* Moments (or slopes) of all segments, or of one that all share; the stride between those of segments. */
static int take_moments(PyObject *given, const char *name, const struct segments *segments, index_t columns, struct array *array, index_t *row) {
    if (!take_doubles(given, name, READ, 2 * columns, array)) return 0;
    *row = array->shape[0] == 1 ? 0 : 2 * columns;
    if (array->shape[0] == 1 || array->shape[0] == segments->count) return 1;
    PyErr_Format(PyExc_ValueError, "%s must have one row, or one for each segment", name);
    return 0;
}

/* channel_sums(segments, x, shift, sums) */
int parse_channel_sums(PyObject *const *given, struct record *record) {
    struct array x, shift, sums;
    struct segments segments;
    if (!take_real(given[1], "x", READ, &x) || !take_segments(given[0], rows_of(&x), &segments)) return 0;
    index_t columns = columns_of(&x);
    if (!columns) return refuse("x must have columns");
    if (!take_plain(given[2], "shift", READ, 'f', x.bits, &shift) || !check_size(&shift, "shift", columns)) return 0;
    if (!take_doubles(given[3], "sums", WRITE, 1 + 2 * columns, &sums)) return 0;
    if (sums.shape[0] != segments.count) return refuse("sums must have one row for each segment");
    record->of.channel_sums = (struct channel_sums){
        .segments = segments, .columns = columns, .x = x.data, .shift = shift.data, .sums = sums.data};
    return finish_record(record, OP_CHANNEL_SUMS, x.bits, segments.count, 1, 4.0 * (double)x.size);
}

/* channel_moments(sums, shift, variance, moments, epsilon) */
int parse_channel_moments(PyObject *const *given, struct record *record) {
    struct array sums = {0}, shift, variance, moments;
    double epsilon;
    if (!take_real(given[1], "shift", READ, &shift)) return 0;
    index_t columns = shift.size;
    if (given[0] != Py_None && !take_doubles(given[0], "sums", READ, 1 + 2 * columns, &sums)) return 0;
    if (!take_optional_plain(given[2], "variance", READ, 'f', shift.bits, &variance) || !check_size(&variance, "variance", columns)) return 0;
    if (!sums.data == !variance.data) return refuse("give either sums or a variance");
    if (!take_doubles(given[3], "moments", WRITE, 2 * columns, &moments) || !take_number(given[4], "epsilon", &epsilon)) return 0;
    if (moments.shape[0] != (sums.data ? sums.shape[0] : 1)) return refuse("moments must have one row for each of sums, or one");
    record->of.channel_moments = (struct channel_moments){
        .rows = moments.shape[0], .columns = columns, .epsilon = epsilon, .sums = sums.data, .shift = shift.data,
        .variance = variance.data, .moments = moments.data};
    return finish_record(record, OP_CHANNEL_MOMENTS, shift.bits, moments.shape[0], 1, 10.0 * (double)moments.size);
}

/* group_moments(x, groups, moments, epsilon) */
int parse_group_moments(PyObject *const *given, struct record *record) {
    struct array x, moments;
    index_t groups;
    double epsilon;
    if (!take_real(given[0], "x", READ, &x)) return 0;
    if (x.axes != 3 || !x.shape[1] || !x.shape[2]) return refuse("x must be (samples, positions, columns)");
    index_t columns = x.shape[2];
    if (!take_whole(given[1], "groups", 1, columns, &groups)) return 0;
    if (columns % groups) return refuse("columns must be a multiple of groups");
    if (!take_doubles(given[2], "moments", WRITE, 2 * columns, &moments) || !take_number(given[3], "epsilon", &epsilon)) return 0;
    if (moments.shape[0] != x.shape[0]) return refuse("moments must have one row for each sample");
    record->of.group_moments = (struct group_moments){
        .samples = x.shape[0], .positions = x.shape[1], .columns = columns, .groups = groups, .epsilon = epsilon, .x = x.data,
        .moments = moments.data};
    return finish_record(record, OP_GROUP_MOMENTS, x.bits, x.shape[0], 1, 8.0 * (double)x.size);
}

/* gamma, beta and relu. */
static int take_relu(PyObject *const *given, int bits, index_t columns, struct array *gamma, struct array *beta, index_t *relu) {
    if (!take_optional_plain(given[0], "gamma", READ, 'f', bits, gamma) || !check_size(gamma, "gamma", columns)) return 0;
    if (!take_optional_plain(given[1], "beta", READ, 'f', bits, beta) || !check_size(beta, "beta", columns)) return 0;
    return take_whole(given[2], "relu", 0, 1, relu);
}

/* normalize(segments, x, moments, gamma, beta, relu, y) */
int parse_normalize(PyObject *const *given, struct record *record) {
    struct array x, moments, gamma, beta, y;
    struct segments segments;
    index_t row, relu;
    if (!take_real(given[6], "y", WRITE, &y) || !take_segments(given[0], rows_of(&y), &segments)) return 0;
    index_t columns = columns_of(&y);
    if (!take_plain(given[1], "x", READ, 'f', y.bits, &x) || !check_size(&x, "x", y.size)) return 0;
    if (!take_moments(given[2], "moments", &segments, columns, &moments, &row)) return 0;
    if (!take_relu(given + 3, y.bits, columns, &gamma, &beta, &relu)) return 0;
    record->of.normalize = (struct normalize){
        .segments = segments, .rows = rows_of(&y), .columns = columns, .x = x.data, .moments = moments.data, .moments_row = row,
        .gamma = gamma.data, .beta = beta.data, .relu = (int)relu, .y = y.data};
    return finish_record(record, OP_NORMALIZE, y.bits, y.size ? rows_of(&y) : 0, ROWS, 3.0 * (double)y.size);
}

/* channel_products(segments, x, dy, moments, gamma, beta, relu, sums) */
int parse_channel_products(PyObject *const *given, struct record *record) {
    struct array x, dy, moments, gamma, beta, sums;
    struct segments segments;
    index_t row, relu;
    if (!take_real(given[1], "x", READ, &x) || !take_segments(given[0], rows_of(&x), &segments)) return 0;
    index_t columns = columns_of(&x);
    if (!columns) return refuse("x must have columns");
    if (!take_plain(given[2], "dy", READ, 'f', x.bits, &dy) || !check_size(&dy, "dy", x.size)) return 0;
    if (!take_moments(given[3], "moments", &segments, columns, &moments, &row)) return 0;
    if (!take_relu(given + 4, x.bits, columns, &gamma, &beta, &relu)) return 0;
    if (!take_doubles(given[7], "sums", WRITE, 2 * columns, &sums)) return 0;
    if (sums.shape[0] != segments.count) return refuse("sums must have one row for each segment");
    record->of.channel_products = (struct channel_products){
        .segments = segments, .columns = columns, .x = x.data, .dy = dy.data, .moments = moments.data, .moments_row = row,
        .gamma = gamma.data, .beta = beta.data, .relu = (int)relu, .sums = sums.data};
    return finish_record(record, OP_CHANNEL_PRODUCTS, x.bits, segments.count, 1, 4.0 * (double)x.size);
}

/* channel_slopes(counts, sums, moments, gamma, slopes, group) */
int parse_channel_slopes(PyObject *const *given, struct record *record) {
    struct array counts, sums, moments, gamma, slopes;
    index_t group;
    int bits = 64; /* without gamma no array is real */
    if (!take(given[0], "counts", READ, &counts) || !take_plain(given[4], "slopes", WRITE, 'f', 64, &slopes)) return 0;
    if (slopes.axes != 2 || slopes.shape[1] % 2) return refuse("slopes must be (rows, 2 columns)");
    index_t rows = slopes.shape[0], columns = slopes.shape[1] / 2;
    if (counts.kind != 'f' || counts.bits != 64 || counts.axes != 1 || (counts.size != 1 && counts.size != rows))
        return refuse("counts must be one number, or one for each row: float64");
    if (!take_doubles(given[1], "sums", READ, 2 * columns, &sums) || !check_size(&sums, "sums", slopes.size)) return 0;
    if (!take_doubles(given[2], "moments", READ, 2 * columns, &moments) || !check_size(&moments, "moments", slopes.size)) return 0;
    if (!take_optional(given[3], "gamma", READ, &gamma)) return 0;
    if (gamma.data) {
        if (!take_real(given[3], "gamma", READ, &gamma) || !check_size(&gamma, "gamma", columns)) return 0;
        bits = gamma.bits;
    }
    if (!take_whole(given[5], "group", 1, columns > 1 ? columns : 1, &group)) return 0;
    if (columns % group) return refuse("columns must be a multiple of those of a group");
    record->of.channel_slopes = (struct channel_slopes){
        .rows = rows, .columns = columns, .group = group, .counts = counts.data, .counts_row = counts.size == 1 ? 0 : counts.stride[0],
        .sums = sums.data, .moments = moments.data, .gamma = gamma.data, .slopes = slopes.data};
    return finish_record(record, OP_CHANNEL_SLOPES, bits, rows, 1, 6.0 * (double)slopes.size);
}

/* normalize_backward(segments, x, dy, moments, slopes, gamma, beta, relu, dx) */
int parse_normalize_backward(PyObject *const *given, struct record *record) {
    struct array x, dy, moments, slopes = {0}, gamma, beta, dx;
    struct segments segments;
    index_t row, same, relu;
    if (!take_real(given[8], "dx", WRITE, &dx) || !take_segments(given[0], rows_of(&dx), &segments)) return 0;
    index_t columns = columns_of(&dx);
    if (!take_plain(given[1], "x", READ, 'f', dx.bits, &x) || !check_size(&x, "x", dx.size)) return 0;
    if (!take_plain(given[2], "dy", READ, 'f', dx.bits, &dy) || !check_size(&dy, "dy", dx.size)) return 0;
    if (!take_moments(given[3], "moments", &segments, columns, &moments, &row)) return 0;
    if (given[4] != Py_None) {
        if (!take_moments(given[4], "slopes", &segments, columns, &slopes, &same)) return 0;
        if (slopes.shape[0] != moments.shape[0]) return refuse("slopes must have the rows of moments");
    }
    if (!take_relu(given + 5, dx.bits, columns, &gamma, &beta, &relu)) return 0;
    if (relu && !slopes.data) return refuse("relu needs slopes");
    record->of.normalize_backward = (struct normalize_backward){
        .segments = segments, .rows = rows_of(&dx), .columns = columns, .x = x.data, .dy = dy.data, .moments = moments.data,
        .slopes = slopes.data, .moments_row = row, .gamma = gamma.data, .beta = beta.data, .relu = (int)relu, .dx = dx.data};
    return finish_record(record, OP_NORMALIZE_BACKWARD, dx.bits, dx.size ? rows_of(&dx) : 0, ROWS, 5.0 * (double)dx.size);
}

/* leaf_sums(shards, terms, outs) */
int parse_leaf_sums(PyObject *const *given, struct record *record) {
    const struct shards *shards = shards_of(given[0]);
    struct array terms, first;
    if (!shards || !take(given[1], "terms", READ, &terms)) return 0;
    if (terms.kind != 'f' || terms.bits != 64 || terms.axes != 2 || terms.shape[0] != shards->rows || (terms.shape[1] > 1 && terms.stride[1] != 1))
        return refuse("terms must be (rows, columns) of float64, with the rows of the shards, which are contiguous");
    if (!PyTuple_Check(given[2]) || PyTuple_Size(given[2]) < 1) return refuse("outs must be a tuple of arrays");
    if (!take_real(PyTuple_GetItem(given[2], 0), "outs", WRITE, &first)) return 0;
    if (!take_group_arrays(given[2], "outs", 'f', first.bits, shards->groups, terms.shape[1], record->pointers)) return 0;
    record->of.leaf_sums = (struct leaf_sums){
        .shards = shards, .columns = terms.shape[1], .terms = terms.data, .terms_row = terms.stride[0], .out = record->pointers};
    return finish_record(record, OP_LEAF_SUMS, first.bits, terms.shape[1], ROWS, (double)terms.size);
}

/* rms_norm(x, scale, normal, inverse, y, epsilon) */
int parse_rms_norm(PyObject *const *given, struct record *record) {
    struct array x, scale, normal, inverse, y;
    double epsilon;
    if (!take_real(given[4], "y", WRITE, &y) || !take_number(given[5], "epsilon", &epsilon)) return 0;
    index_t rows = rows_of(&y), columns = columns_of(&y);
    if (!take_plain(given[0], "x", READ, 'f', y.bits, &x) || !check_size(&x, "x", y.size)) return 0;
    if (!take_plain(given[1], "scale", READ, 'f', y.bits, &scale) || !check_size(&scale, "scale", columns)) return 0;
    if (!take_plain(given[2], "normal", WRITE, 'f', y.bits, &normal) || !check_size(&normal, "normal", y.size)) return 0;
    if (!take_plain(given[3], "inverse", WRITE, 'f', y.bits, &inverse) || !check_size(&inverse, "inverse", rows)) return 0;
    record->of.rms_norm = (struct rms_norm){
        .rows = rows, .columns = columns, .epsilon = epsilon, .x = x.data, .scale = scale.data, .normal = normal.data,
        .inverse = inverse.data, .y = y.data};
    return finish_record(record, OP_RMS_NORM, y.bits, rows, 1, 6.0 * (double)y.size);
}

/* rms_norm_backward(normal, inverse, scale, dy, dx) */
int parse_rms_norm_backward(PyObject *const *given, struct record *record) {
    struct array normal, inverse, scale, dy, dx;
    if (!take_real(given[4], "dx", WRITE, &dx)) return 0;
    index_t rows = rows_of(&dx), columns = columns_of(&dx);
    if (!take_plain(given[0], "normal", READ, 'f', dx.bits, &normal) || !check_size(&normal, "normal", dx.size)) return 0;
    if (!take_plain(given[1], "inverse", READ, 'f', dx.bits, &inverse) || !check_size(&inverse, "inverse", rows)) return 0;
    if (!take_plain(given[2], "scale", READ, 'f', dx.bits, &scale) || !check_size(&scale, "scale", columns)) return 0;
    if (!take_plain(given[3], "dy", READ, 'f', dx.bits, &dy) || !check_size(&dy, "dy", dx.size)) return 0;
    record->of.rms_norm_backward = (struct rms_norm_backward){
        .rows = rows, .columns = columns, .normal = normal.data, .inverse = inverse.data, .scale = scale.data, .dy = dy.data,
        .dx = dx.data};
    return finish_record(record, OP_RMS_NORM_BACKWARD, dx.bits, rows, 1, 8.0 * (double)dx.size);
}
