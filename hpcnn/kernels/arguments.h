/* From Python's arguments to what operations need. A function that returns 0 has set a Python exception. */
#ifndef HPCNN_ARGUMENTS_H
#define HPCNN_ARGUMENTS_H

#define PY_SSIZE_T_CLEAN
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#include <Python.h>
#include <string.h>

#include "operations.h"

#define MOST_AXES 8
#define MOST_GROUPS 64 /* subtrees that one rank contributes: 2 x 16 for the most shards there can be */

/* An array as its buffer describes it. */
struct array {
    void *data;
    int kind; /* 'f', 'i' or 'u' */
    int bits;
    int axes;
    index_t size;
    index_t shape[MOST_AXES];
    index_t stride[MOST_AXES]; /* in entries */
};

enum access { READ, WRITE };

/* A buffer in use: until it is released, what owns the memory can neither free it nor make it smaller. */
struct view {
    Py_buffer buffer;
    struct view *next;
};
/* From here on, `take` adds what it takes to the list `views`. Returns the list before, to be given back: calls nest. */
struct view **hold(struct view **views);
void release(struct view *views);

/* What an argument must be: checked by `take`, within `hold`. */
int take(PyObject *given, const char *name, enum access access, struct array *array);
/* The same, or an array with data NULL for None. */
int take_optional(PyObject *given, const char *name, enum access access, struct array *array);
/* A C-ordered array of a kind and number of bits. */
int take_plain(PyObject *given, const char *name, enum access access, int kind, int bits, struct array *array);
int take_optional_plain(PyObject *given, const char *name, enum access access, int kind, int bits, struct array *array);
/* An array of floats or doubles; C-ordered. */
int is_real(const struct array *array, const char *name);
int take_real(PyObject *given, const char *name, enum access access, struct array *array);
int check_size(const struct array *array, const char *name, index_t size);
/* Numbers are of Python's own types: no method of theirs may run while arrays are half checked. */
int take_whole(PyObject *given, const char *name, index_t least, index_t most, index_t *number);
int take_number(PyObject *given, const char *name, double *number);
/* The share of entries that dropout sets to 0. */
int take_rate(PyObject *given, double *rate);
int is_plain(const struct array *array);
/* The rows of a C-ordered array, which has one axis at least: all axes but the last. */
index_t rows_of(const struct array *array);
index_t columns_of(const struct array *array);
/* A tuple with a C-ordered real array of `size` entries for each of `groups`. */
int take_group_arrays(PyObject *given, const char *name, int kind, int bits, index_t groups, index_t size, void **pointers);

#endif
