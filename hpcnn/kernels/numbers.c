#include "numbers.h"

#include "orthogonal.h"
#include "random.h"
#include "scalar.h"
#include "threads.h"

typedef void (*fill_t)(uint64_t seed, uint32_t stream, uint64_t place, double *out, index_t n);

/* (seed, stream, place, out) */
static int take_key(PyObject *const *given, Py_ssize_t count, uint64_t *seed, index_t *stream, uint64_t *place) {
    if (count != 4) {
        PyErr_SetString(PyExc_TypeError, "expected a seed, a stream, a place and an array");
        return 0;
    }
    *seed = PyLong_AsUnsignedLongLongMask(given[0]);
    if (PyErr_Occurred() || !take_whole(given[1], "stream", 0, UINT32_MAX, stream)) return 0;
    *place = PyLong_AsUnsignedLongLongMask(given[2]);
    return !PyErr_Occurred();
}

/* An array of 64 bits to write to, C-ordered, which `views` holds. */
static int take_held(PyObject *given, const char *name, int kind, struct array *array, struct view **views) {
    struct view **before = hold(views);
    int taken = take_plain(given, name, WRITE, kind, 64, array);
    hold(before);
    return taken;
}

static PyObject *fill(PyObject *const *given, Py_ssize_t count, fill_t draw) {
    struct array out;
    uint64_t seed, place, before;
    index_t stream;
    struct view *views = NULL;
    int taken = take_key(given, count, &seed, &stream, &place) && take_held(given[3], "out", 'f', &out, &views);
    if (taken) {
        Py_BEGIN_ALLOW_THREADS
        before = enter_ieee();
        draw(seed, (uint32_t)stream, place, out.data, out.size);
        leave_ieee(before);
        Py_END_ALLOW_THREADS
    }
    release(views);
    return taken ? Py_NewRef(Py_None) : NULL;
}

static PyObject *uniform(PyObject *self, PyObject *const *given, Py_ssize_t count) {
    (void)self;
    return fill(given, count, random_uniform);
}

static PyObject *normal(PyObject *self, PyObject *const *given, Py_ssize_t count) {
    (void)self;
    return fill(given, count, random_normal);
}

static PyObject *truncated_normal(PyObject *self, PyObject *const *given, Py_ssize_t count) {
    (void)self;
    return fill(given, count, random_truncated_normal);
}

static PyObject *permutation(PyObject *self, PyObject *const *given, Py_ssize_t count) {
    struct array out;
    uint64_t seed, place;
    index_t stream;
    (void)self;
    struct view *views = NULL;
    int taken = take_key(given, count, &seed, &stream, &place) && take_held(given[3], "out", 'i', &out, &views);
    if (taken) {
        Py_BEGIN_ALLOW_THREADS
        random_permutation(seed, (uint32_t)stream, place, out.data, out.size);
        Py_END_ALLOW_THREADS
    }
    release(views);
    return taken ? Py_NewRef(Py_None) : NULL;
}

static PyObject *orthogonalize(PyObject *self, PyObject *given) {
    struct array a;
    struct view *views = NULL;
    int done = 0;
    uint64_t before;
    (void)self;
    if (!take_held(given, "a", 'f', &a, &views)) {
        release(views);
        return NULL;
    }
    if (a.axes != 2 || a.shape[0] < a.shape[1]) PyErr_SetString(PyExc_ValueError, "a must be (m, n), with m >= n");
    else {
        Py_BEGIN_ALLOW_THREADS
        before = enter_ieee();
        done = orthogonal(a.data, a.shape[0], a.shape[1]);
        leave_ieee(before);
        Py_END_ALLOW_THREADS
        if (!done) PyErr_NoMemory();
    }
    release(views);
    return done ? Py_NewRef(Py_None) : NULL;
}

static PyObject *of_one(PyObject *given, double (*function)(double)) {
    double x;
    if (!take_number(given, "x", &x)) return NULL;
    uint64_t before = enter_ieee();
    double y = function(x);
    leave_ieee(before);
    return PyFloat_FromDouble(y);
}

static PyObject *number_exp(PyObject *self, PyObject *x) { (void)self; return of_one(x, scalar_exp); }
static PyObject *number_log(PyObject *self, PyObject *x) { (void)self; return of_one(x, scalar_log); }
static PyObject *number_cospi(PyObject *self, PyObject *x) { (void)self; return of_one(x, scalar_cospi); }

static PyObject *number_pow(PyObject *self, PyObject *const *given, Py_ssize_t count) {
    double x, y;
    (void)self;
    if (count != 2) return PyErr_Format(PyExc_TypeError, "pow takes two numbers");
    if (!take_number(given[0], "x", &x) || !take_number(given[1], "y", &y)) return NULL;
    uint64_t before = enter_ieee();
    double power = scalar_power(x, y);
    leave_ieee(before);
    return PyFloat_FromDouble(power);
}

#define FAST(function) (PyCFunction)(void (*)(void))function, METH_FASTCALL
const PyMethodDef number_functions[] = {
    {"uniform", FAST(uniform), "uniform(seed, stream, place, out): numbers in [0, 1)."},
    {"normal", FAST(normal), "normal(seed, stream, place, out): standard normal numbers."},
    {"truncated_normal", FAST(truncated_normal), "truncated_normal(seed, stream, place, out): normal within [-2, 2]."},
    {"permutation", FAST(permutation), "permutation(seed, stream, place, out): 0 to n - 1 in random order."},
    {"orthogonal", orthogonalize, METH_O, "orthogonal(a): the columns of a (m, n) made orthonormal."},
    {"exp", number_exp, METH_O, "exp(x)."},
    {"log", number_log, METH_O, "log(x)."},
    {"cospi", number_cospi, METH_O, "cospi(x): cos(pi x)."},
    {"pow", FAST(number_pow), "pow(x, y)."},
    {NULL, NULL, 0, NULL},
};
