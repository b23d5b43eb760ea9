/* One operation with its arrays checked, ready to be done any number of times. */
#ifndef HPCNN_RECORD_H
#define HPCNN_RECORD_H

#include "arguments.h"
#include "threads.h"

struct record {
    struct job job;
    double work; /* floating-point operations, roughly */
    union {
        struct product product;
        struct weight_gradient weight_gradient;
        struct column_sums column_sums;
        struct activate activate;
        struct activate_backward activate_backward;
        struct loss loss;
        struct layer_norm layer_norm;
        struct layer_norm_backward layer_norm_backward;
        struct dropout dropout;
        struct add add;
        struct shard_totals shard_totals;
        struct count_right count_right;
        struct update update;
        struct cell_sums cell_sums;
        struct find_not_finite find_not_finite;
        struct fold fold;
        struct standardize standardize;
    } of;
    void *pointers[MOST_GROUPS];
};

typedef int (*parse_t)(PyObject *const *arguments, struct record *record);

struct operation {
    const char *name;
    int kind;
    Py_ssize_t arguments;
    parse_t parse;
    const char *doc;
};
/* All that a program can hold; ends with a name of NULL. */
extern const struct operation operations[];

/* Parse arguments; 0 with an exception set if they are wrong. Records point into the arrays: keep those alive. */
int make_record(const struct operation *operation, PyObject *const *arguments, Py_ssize_t count, struct record *record);
/* Fill in the job, once the operation is parsed; `bits` are those of the reals. */
int finish_record(struct record *record, int kind, int bits, index_t tasks, index_t unit, double work);
/* Do it, on all threads if it is worth that. 0: no memory. */
int do_record(const struct record *record);

PyObject *make_shards_type(PyObject *module);
/* The shards that an object of that type holds, or NULL with an exception set. */
const struct shards *shards_of(PyObject *object);

#endif
