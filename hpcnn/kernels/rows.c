#include "rows.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define LINE 64 /* bytes that a processor fetches together */
#define AHEAD 512 /* bytes of a row that are fetched while as many of the one before are copied */
#define DOWN 512 /* rows of a column that are read one after the other */
#define LINES 8 /* cache lines that are written one after the other */

/* Copy `count` rows of `bytes` each that begin at `starts`. The next row is fetched meanwhile: no processor foresees it. */
static void gather(const char *source, const int64_t *starts, index_t count, index_t bytes, char *out) {
    for (index_t i = 0; i < count; i++, out += bytes) {
        const char *row = source + starts[i], *next = source + starts[i + 1 < count ? i + 1 : i];
        for (index_t at = 0; at < bytes; at += AHEAD) {
            index_t part = bytes - at < AHEAD ? bytes - at : AHEAD;
            for (index_t line = 0; line < part; line += LINE) __builtin_prefetch(next + at + line);
            memcpy(out + at, row + at, (size_t)part);
        }
    }
}

static int check_starts(const struct array *starts, index_t count, index_t last) {
    int right = starts->size == count;
    for (index_t i = 0; right && i < count; i++) right = ((const int64_t *)starts->data)[i] >= 0 && ((const int64_t *)starts->data)[i] <= last;
    if (!right) PyErr_SetString(PyExc_ValueError, "starts must be those of rows within source, one for each row of out");
    return right;
}

static int is_in_order(const struct array *array, const char *name) {
    if (array->axes && is_plain(array)) return 1;
    PyErr_Format(PyExc_ValueError, "%s must be C-ordered, with an axis", name);
    return 0;
}

static PyObject *take_rows(PyObject *self, PyObject *const *given, Py_ssize_t count) {
    struct array source, starts, out;
    struct view *views = NULL;
    (void)self;
    if (count != 3) return PyErr_Format(PyExc_TypeError, "take_rows takes source, starts and out");
    struct view **before = hold(&views);
    int done = take(given[0], "source", READ, &source) && is_in_order(&source, "source") && take_plain(given[1], "starts", READ, 'i', 64, &starts)
        && take(given[2], "out", WRITE, &out) && is_in_order(&out, "out");
    hold(before);
    if (done && out.size) {
        index_t bytes = out.size / out.shape[0] * (out.bits / 8);
        done = check_starts(&starts, out.shape[0], source.size * (source.bits / 8) - bytes);
        if (done) {
            Py_BEGIN_ALLOW_THREADS
            gather(source.data, starts.data, out.shape[0], bytes, out.data);
            Py_END_ALLOW_THREADS
        }
    }
    release(views);
    return done ? Py_NewRef(Py_None) : NULL;
}

/* Write bytes past the caches, which would fetch each line first: whole lines, where the processor has a way. */
static void stream(const char *from, index_t bytes, char *to) {
    index_t at = 0;
#ifdef __SSE2__
    at = bytes < 2 * LINE ? 0 : (index_t)(-(uintptr_t)to % LINE);
    memcpy(to, from, (size_t)at);
    for (; at + LINE <= bytes && bytes >= 2 * LINE; at += LINE)
        for (index_t part = at; part < at + LINE; part += 16)
            _mm_stream_si128((__m128i *)(to + part), _mm_loadu_si128((const __m128i *)(from + part)));
#endif
    memcpy(to + at, from + at, (size_t)(bytes - at));
}

/* A cache line of each of some columns at a time, some way down, so that its next lines are foreseen. */
#define TURNED(type) \
    static void turned_##type(const type *const *columns, index_t n, index_t m, index_t stride, type *out) { \
        enum { SIDE = LINE / sizeof(type), ACROSS = LINES * SIDE }; \
        type tile[SIDE * ACROSS]; \
        for (index_t top = 0; top < n; top += DOWN) \
            for (index_t left = 0; left < m; left += ACROSS) { \
                index_t width = m - left < ACROSS ? m - left : ACROSS, bytes = width * (index_t)sizeof(type); \
                for (index_t r = top; r < n && r < top + DOWN; r += SIDE) { \
                    index_t height = n - r < SIDE ? n - r : SIDE; \
                    for (index_t c = 0; c < width; c++) { \
                        const type *column = columns[left + c] + r; \
                        __builtin_prefetch(column + SIDE); \
                        if (height == SIDE) \
                            for (index_t i = 0; i < SIDE; i++) tile[i * width + c] = column[i]; \
                        else \
                            for (index_t i = 0; i < height; i++) tile[i * width + c] = column[i]; \
                    } \
                    if (width == stride) stream((const char *)tile, height * bytes, (char *)(out + r * stride)); \
                    else \
                        for (index_t i = 0; i < height; i++) stream((const char *)(tile + i * width), bytes, (char *)(out + (r + i) * stride + left)); \
                } \
            } \
    }

TURNED(uint8_t)
TURNED(uint16_t)
TURNED(uint32_t)
TURNED(uint64_t)

static void turn(const void *const *columns, const struct array *out) {
    index_t n = out->shape[0], m = out->shape[1], stride = out->stride[0];
    if (out->bits == 8) turned_uint8_t((const uint8_t *const *)columns, n, m, stride, out->data);
    else if (out->bits == 16) turned_uint16_t((const uint16_t *const *)columns, n, m, stride, out->data);
    else if (out->bits == 32) turned_uint32_t((const uint32_t *const *)columns, n, m, stride, out->data);
    else turned_uint64_t((const uint64_t *const *)columns, n, m, stride, out->data);
#ifdef __SSE2__
    _mm_sfence();
#endif
}

static int take_columns(PyObject *given, const struct array *out, const void **columns) {
    struct array column;
    for (index_t place = 0; place < out->shape[1]; place++) {
        if (!take_plain(PyTuple_GetItem(given, place), "columns", READ, out->kind, out->bits, &column)) return 0;
        if (!check_size(&column, "columns", out->shape[0])) return 0;
        columns[place] = column.data;
    }
    return 1;
}

static PyObject *columns_to_rows(PyObject *self, PyObject *const *given, Py_ssize_t count) {
    struct array out;
    struct view *views = NULL;
    const void **columns = NULL;
    (void)self;
    if (count != 2) return PyErr_Format(PyExc_TypeError, "columns_to_rows takes columns and out");
    struct view **before = hold(&views);
    int done = take(given[1], "out", WRITE, &out);
    if (done && (out.axes != 2 || (out.shape[1] > 1 && out.stride[1] != 1) || !PyTuple_Check(given[0]) || PyTuple_Size(given[0]) != out.shape[1])) {
        PyErr_SetString(PyExc_ValueError, "columns must be a tuple, and out of shape (n, columns), each row in one piece");
        done = 0;
    }
    if (done && out.size) {
        columns = PyMem_Malloc(sizeof *columns * (size_t)out.shape[1]);
        done = columns ? take_columns(given[0], &out, columns) : PyErr_NoMemory() != NULL;
        if (done) {
            Py_BEGIN_ALLOW_THREADS
            turn(columns, &out);
            Py_END_ALLOW_THREADS
        }
    }
    hold(before);
    PyMem_Free(columns);
    release(views);
    return done ? Py_NewRef(Py_None) : NULL;
}

#define FAST(function) (PyCFunction)(void (*)(void))function, METH_FASTCALL
const PyMethodDef row_functions[] = {
    {"take_rows", FAST(take_rows), "take_rows(source, starts, out): copy rows, each from a byte of source on."},
    {"columns_to_rows", FAST(columns_to_rows), "columns_to_rows(columns, out): a tuple of columns (n,) as the columns of out."},
    {NULL, NULL, 0, NULL},
};
