#include "arguments.h"

static _Thread_local struct view **held;

struct view **hold(struct view **views) {
    struct view **before = held;
    held = views;
    return before;
}

void release(struct view *views) {
    while (views) {
        struct view *next = views->next;
        PyBuffer_Release(&views->buffer);
        PyMem_Free(views);
        views = next;
    }
}

static int wrong(const char *name, const char *what) {
    PyErr_Format(PyExc_ValueError, "%s must be %s", name, what);
    return 0;
}

static int wrong_type(const char *name, const char *what) {
    PyErr_Format(PyExc_TypeError, "%s must be %s", name, what);
    return 0;
}

static int read_format(const char *format, struct array *array) {
    if (format == NULL) return 0;
    if (*format == '@' || *format == '=' || *format == '<') format++;
    switch (*format) {
        case 'f': case 'd': array->kind = 'f'; break;
        case 'b': case 'h': case 'i': case 'l': case 'q': array->kind = 'i'; break;
        case 'B': case 'H': case 'I': case 'L': case 'Q': array->kind = 'u'; break;
        default: return 0;
    }
    return format[1] == '\0';
}

int take(PyObject *given, const char *name, enum access access, struct array *array) {
    struct view *taken = PyMem_Malloc(sizeof *taken);
    if (!taken) return PyErr_NoMemory() != NULL;
    Py_buffer *view = &taken->buffer;
    int flags = PyBUF_STRIDES | PyBUF_FORMAT | (access == WRITE ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(given, view, flags) < 0) {
        PyMem_Free(taken);
        PyErr_Clear();
        return wrong(name, access == WRITE ? "an array that can be written to" : "an array");
    }
    taken->next = *held;
    *held = taken;
    int known = view->ndim <= MOST_AXES && read_format(view->format, array);
    if (known) {
        array->data = view->buf;
        array->bits = 8 * (int)view->itemsize;
        array->axes = view->ndim;
        array->size = 1;
        for (int axis = 0; axis < view->ndim; axis++) {
            array->shape[axis] = view->shape[axis];
            array->stride[axis] = view->strides[axis] / view->itemsize;
            known &= view->strides[axis] % view->itemsize == 0;
            array->size *= view->shape[axis];
        }
    }
    return known ? 1 : wrong(name, "an array of numbers in native byte order");
}

int take_optional(PyObject *given, const char *name, enum access access, struct array *array) {
    if (given == Py_None) {
        memset(array, 0, sizeof *array);
        return 1;
    }
    return take(given, name, access, array);
}

int is_plain(const struct array *array) {
    index_t stride = 1;
    for (int axis = array->axes - 1; axis >= 0; axis--) {
        if (array->shape[axis] != 1 && array->stride[axis] != stride && array->size) return 0;
        stride *= array->shape[axis];
    }
    return 1;
}

int take_plain(PyObject *given, const char *name, enum access access, int kind, int bits, struct array *array) {
    if (!take(given, name, access, array)) return 0;
    if (array->kind != kind || array->bits != bits) {
        PyErr_Format(PyExc_ValueError, "%s must hold %s of %d bits", name, kind == 'f' ? "floats" : "integers", bits);
        return 0;
    }
    return is_plain(array) ? 1 : wrong(name, "C-ordered");
}

int take_optional_plain(PyObject *given, const char *name, enum access access, int kind, int bits, struct array *array) {
    if (given == Py_None) {
        memset(array, 0, sizeof *array);
        return 1;
    }
    return take_plain(given, name, access, kind, bits, array);
}

int is_real(const struct array *array, const char *name) {
    if (array->kind == 'f' && (array->bits == 32 || array->bits == 64)) return 1;
    return wrong(name, "float32 or float64");
}

int take_real(PyObject *given, const char *name, enum access access, struct array *array) {
    if (!take(given, name, access, array) || !is_real(array, name)) return 0;
    return is_plain(array) ? 1 : wrong(name, "C-ordered");
}

int check_size(const struct array *array, const char *name, index_t size) {
    if (array->data == NULL || array->size == size) return 1;
    PyErr_Format(PyExc_ValueError, "%s has %lld entries, but needs %lld", name, (long long)array->size, (long long)size);
    return 0;
}

int take_whole(PyObject *given, const char *name, index_t least, index_t most, index_t *number) {
    if (!PyLong_Check(given)) return wrong_type(name, "an int");
    long long value = PyLong_AsLongLong(given);
    if (value == -1 && PyErr_Occurred()) return 0;
    if (value < least || value > most) {
        PyErr_Format(PyExc_ValueError, "%s is %lld, but must be %lld to %lld", name, value, (long long)least, (long long)most);
        return 0;
    }
    *number = value;
    return 1;
}

int take_number(PyObject *given, const char *name, double *number) {
    if (PyFloat_Check(given)) *number = PyFloat_AsDouble(given);
    else if (PyLong_Check(given)) *number = PyLong_AsDouble(given);
    else return wrong_type(name, "a float or an int");
    return !(*number == -1.0 && PyErr_Occurred());
}

int take_rate(PyObject *given, double *rate) {
    if (!take_number(given, "rate", rate)) return 0;
    return (*rate >= 0 && *rate < 1) || wrong("rate", "0 at least, and below 1");
}

index_t columns_of(const struct array *array) { return array->axes ? array->shape[array->axes - 1] : 1; }

index_t rows_of(const struct array *array) {
    index_t rows = 1;
    for (int axis = 0; axis < array->axes - 1; axis++) rows *= array->shape[axis];
    return rows;
}

int take_group_arrays(PyObject *given, const char *name, int kind, int bits, index_t groups, index_t size, void **pointers) {
    if (!PyTuple_Check(given) || PyTuple_Size(given) != groups) {
        PyErr_Format(PyExc_ValueError, "%s must be a tuple of %lld arrays", name, (long long)groups);
        return 0;
    }
    for (index_t group = 0; group < groups; group++) {
        struct array array;
        if (!take_plain(PyTuple_GetItem(given, group), name, WRITE, kind, bits, &array)) return 0;
        if (!check_size(&array, name, size)) return 0;
        pointers[group] = array.data;
    }
    return 1;
}
