/* The arguments of convolutions. */
#include "record.h"

#define UNIT 16 /* features that are dealt together */
#define MOST_STEP ((index_t)1 << 20)
#define MOST_NUMBERS 1e15 /* of an image with all that is around it */

static int refuse(const char *what) {
    PyErr_SetString(PyExc_ValueError, what);
    return 0;
}

static int take_ints(PyObject *given, index_t from, index_t least, index_t *to) {
    for (int i = 0; i < 3; i++)
        if (!take_whole(PyTuple_GetItem(given, from + i), "an entry of geometry", least, MOST_STEP, to + i)) return 0;
    return 1;
}

/* (groups, 3 strides, 3 dilations, 3 paddings before), and the shapes of x, y and the kernel. */
static int take_geometry(PyObject *given, const struct array *x, const struct array *y, const index_t kernel[5], struct geometry *g) {
    if (!PyTuple_Check(given) || PyTuple_Size(given) != 10) return refuse("geometry must be a tuple of 10 numbers: groups, strides, dilations, paddings");
    if (!take_whole(PyTuple_GetItem(given, 0), "groups", 1, MOST_STEP, &g->groups)) return 0;
    if (!take_ints(given, 1, 1, g->stride) || !take_ints(given, 4, 1, g->dilation) || !take_ints(given, 7, 0, g->before)) return 0;
    if (x->axes != 5 || y->axes != 5) return refuse("images must be (samples, d, h, w, channels)");
    g->samples = x->shape[0], g->channels = x->shape[4], g->filters = y->shape[4];
    if (y->shape[0] != g->samples || kernel[4] != g->filters || kernel[3] * g->groups != g->channels || g->filters % g->groups || !g->filters || !g->channels)
        return refuse("the kernel must be (d, h, w, channels / groups, filters)");
    double numbers = (double)(g->channels > g->filters ? g->channels : g->filters);
    for (int i = 0; i < 3; i++) {
        g->in[i] = x->shape[i + 1], g->out[i] = y->shape[i + 1], g->kernel[i] = kernel[i];
        if (g->in[i] < 1 || g->out[i] < 1 || g->kernel[i] < 1) return refuse("each axis must have one entry at least");
        if ((g->out[i] - 1) * g->stride[i] >= g->in[i] + g->before[i]) return refuse("an output lies behind the image");
        numbers *= (double)g->in[i] + (double)g->before[i] + (double)g->kernel[i] * (double)g->dilation[i];
    }
    return numbers < MOST_NUMBERS ? 1 : refuse("the image is too large");
}

static int take_kernel(PyObject *given, int bits, struct array *kernel) {
    if (!take_plain(given, "kernel", READ, 'f', bits, kernel)) return 0;
    return kernel->axes == 5 ? 1 : refuse("the kernel must be (d, h, w, channels / groups, filters)");
}

static double work_of(const struct geometry *g) {
    double work = 2.0 * (double)g->samples * (double)g->filters * (double)(g->channels / g->groups);
    for (int i = 0; i < 3; i++) work *= (double)g->out[i] * (double)g->kernel[i];
    return work;
}

/* convolution(geometry, x, kernel, bias, activation, y, saved) */
int parse_convolution(PyObject *const *given, struct record *record) {
    struct array x, kernel, bias, y, saved;
    index_t activation;
    struct convolution *o = &record->of.convolution;
    if (!take_real(given[5], "y", WRITE, &y) || !take_plain(given[1], "x", READ, 'f', y.bits, &x) || !take_kernel(given[2], y.bits, &kernel)) return 0;
    if (!take_whole(given[4], "activation", 0, SOFTMAX - 1, &activation)) return 0;
    memset(o, 0, sizeof *o);
    if (!take_geometry(given[0], &x, &y, kernel.shape, &o->geometry)) return 0;
    if (!take_optional_plain(given[3], "bias", READ, 'f', y.bits, &bias) || !check_size(&bias, "bias", o->geometry.filters)) return 0;
    if (!take_optional_plain(given[6], "saved", WRITE, 'f', y.bits, &saved) || !check_size(&saved, "saved", y.size)) return 0;
    o->x = x.data, o->kernel = kernel.data, o->bias = bias.data, o->activation = (int)activation, o->y = y.data, o->saved = saved.data;
    const index_t *out = o->geometry.out;
    return finish_record(record, OP_CONVOLUTION, y.bits, o->geometry.samples * out[0] * out[1], 1, work_of(&o->geometry));
}

/* convolution_input_gradient(geometry, dy, kernel, bias, activation, dx, saved) */
int parse_convolution_input_gradient(PyObject *const *given, struct record *record) {
    struct array dy, kernel, bias, dx, saved;
    index_t activation;
    struct convolution_input_gradient *o = &record->of.convolution_input_gradient;
    if (!take_real(given[5], "dx", WRITE, &dx) || !take_plain(given[1], "dy", READ, 'f', dx.bits, &dy) || !take_kernel(given[2], dx.bits, &kernel)) return 0;
    if (!take_whole(given[4], "activation", 0, SOFTMAX - 1, &activation)) return 0;
    memset(o, 0, sizeof *o);
    if (!take_geometry(given[0], &dx, &dy, kernel.shape, &o->geometry)) return 0;
    if (!take_optional_plain(given[3], "bias", READ, 'f', dx.bits, &bias) || !check_size(&bias, "bias", o->geometry.channels)) return 0;
    if (!take_optional_plain(given[6], "saved", WRITE, 'f', dx.bits, &saved) || !check_size(&saved, "saved", dx.size)) return 0;
    o->dy = dy.data, o->kernel = kernel.data, o->bias = bias.data, o->activation = (int)activation, o->dx = dx.data, o->saved = saved.data;
    const index_t *in = o->geometry.in;
    return finish_record(record, OP_CONVOLUTION_INPUT_GRADIENT, dx.bits, o->geometry.samples * in[0] * in[1], 1, work_of(&o->geometry));
}

/* convolution_weight_gradient(geometry, shards, x, dy, kernels) */
int parse_convolution_weight_gradient(PyObject *const *given, struct record *record) {
    struct array x, dy, kernel;
    const struct shards *shards = shards_of(given[1]);
    struct convolution_weight_gradient *o = &record->of.convolution_weight_gradient;
    if (!shards || !take_real(given[2], "x", READ, &x) || !take_plain(given[3], "dy", READ, 'f', x.bits, &dy)) return 0;
    if (!PyTuple_Check(given[4]) || PyTuple_Size(given[4]) < 1) return refuse("kernels must be a tuple of arrays");
    if (!take_kernel(PyTuple_GetItem(given[4], 0), x.bits, &kernel)) return 0;
    memset(o, 0, sizeof *o);
    if (!take_geometry(given[0], &x, &dy, kernel.shape, &o->geometry)) return 0;
    const struct geometry *g = &o->geometry;
    if (g->samples * g->out[0] * g->out[1] * g->out[2] != shards->rows) return refuse("dy must have the rows of the shards: samples and positions");
    if (!take_group_arrays(given[4], "kernels", 'f', x.bits, shards->groups, kernel.size, record->pointers)) return 0;
    o->shards = shards, o->x = x.data, o->dy = dy.data, o->kernel = record->pointers;
    index_t features = kernel.size / g->filters, depthwise = g->groups > 1 && g->groups == g->channels;
    return finish_record(record, OP_CONVOLUTION_WEIGHT_GRADIENT, x.bits, depthwise ? g->filters : features, UNIT, work_of(g));
}
