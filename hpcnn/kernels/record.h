/* One operation with its arrays checked, ready to be done any number of times. */
#ifndef HPCNN_RECORD_H
#define HPCNN_RECORD_H

#include "arguments.h"
#include "threads.h"

struct record {
    struct job job;
    double work; /* floating-point operations, roughly */
    union {
#define OPERATION(name, kind, arguments, doc) struct name name;
#include "operations.def"
    } of;
    void *pointers[MOST_GROUPS];
    struct view *views; /* of all its arrays */
    index_t *owned;     /* numbers that must stay as they were checked */
};

typedef int (*parse_t)(PyObject *const *arguments, struct record *record);

struct operation {
    const char *name;
    Py_ssize_t arguments;
    parse_t parse;
    const char *doc;
};
/* All that a program can hold, by number; in between, those that none can, with a name of NULL. */
extern const struct operation operations[OPERATIONS];

/* Each operation's own arguments. */
#define OPERATION(name, kind, arguments, doc) int parse_##name(PyObject *const *given, struct record *record);
#define KERNEL(name, kind)
#include "operations.def"

/* Parse arguments; 0 with an exception set if they are wrong. It holds the arrays until it is freed; keep shards alive. */
int make_record(const struct operation *operation, PyObject *const *arguments, Py_ssize_t count, struct record *record);
void free_record(struct record *record);
/* Copy an array of 64-bit integers, and one more or NULL behind it, into memory of the record's own. NULL: no memory. */
const index_t *copy_numbers(struct record *record, const struct array *first, const struct array *second);
/* Fill in the job, once the operation is parsed; `bits` are those of the reals. */
int finish_record(struct record *record, int kind, int bits, index_t tasks, index_t unit, double work);
/* Do it, on all threads if it is worth that. 0: no memory. */
int do_record(const struct record *record);

PyObject *make_shards_type(PyObject *module);
/* The shards that an object of that type holds, or NULL with an exception set. */
const struct shards *shards_of(PyObject *object);

#endif
