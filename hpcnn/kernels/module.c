/* The binding: `hpcnn.kernels.core`, for CPython's stable interface. Arrays come by the buffer protocol.
 *
 * Each operation is a function of the module, which does it at once, and a method of `Program`, which keeps it: a
 * program is checked once, and then done any number of times with the same arrays.
 */
#include "record.h"

#include <stdatomic.h>

#include "dispatch.h"
#include "numbers.h"
#include "rows.h"

static PyObject *no_memory(void) { return PyErr_NoMemory(); }

static void no_scratch(const struct record *record) {
    PyErr_Format(PyExc_MemoryError,
        "an operation needs %zu MB of memory of its own on each thread: a convolution needs less with a smaller kernel_size, dilation_rate or padding",
        record->job.scratch >> 20);
}

/* Do records without the lock, where they take long enough for that to be worth it. */
static int do_records(struct record *const *records, Py_ssize_t count, double work) {
    int done = 1;
    Py_ssize_t i = 0;
    uint64_t before;
    PyThreadState *state = work > 1e4 ? PyEval_SaveThread() : NULL;
    before = enter_ieee();
    for (; i < count && done; i++) done = do_record(records[i]);
    leave_ieee(before);
    if (state) PyEval_RestoreThread(state);
    if (!done) no_scratch(records[i - 1]);
    return done;
}

static PyObject *do_now(const struct operation *operation, PyObject *const *arguments, Py_ssize_t count) {
    struct record record, *one = &record;
    if (!make_record(operation, arguments, count, &record)) return NULL;
    int done = do_records(&one, 1, record.work);
    free_record(&record);
    return done ? Py_NewRef(Py_None) : NULL;
}

/* ----------------------------------------------------------------------------------------------------------- Shards */

static PyTypeObject *shards_type;

struct shards_object {
    PyObject ob_base;
    struct shards shards;
    index_t *numbers;
};

static int read_numbers(PyObject *list, index_t *numbers, Py_ssize_t count) {
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PySequence_GetItem(list, i);
        if (!item) return 0;
        numbers[i] = PyLong_AsLongLong(item);
        Py_DecRef(item);
        if (numbers[i] == -1 && PyErr_Occurred()) return 0;
    }
    return 1;
}

/* Ascending numbers from 0; the sums on the stack never fewer than those that are to be added. */
static int check_shards(struct shards *s, index_t leaves) {
    index_t top = 0, group = 0;
    int right = s->group_leaf[0] == 0 && s->group_leaf[s->groups] == leaves && s->leaf_row[0] == 0;
    for (index_t g = 0; g < s->groups; g++) right &= s->group_leaf[g] < s->group_leaf[g + 1];
    for (index_t leaf = 0; right && leaf < leaves; leaf++) {
        right &= s->leaf_row[leaf] <= s->leaf_row[leaf + 1] && s->folds[leaf] >= 0 && s->folds[leaf] <= top;
        top += 1 - s->folds[leaf];
        if (top > s->depth) s->depth = top;
        if (leaf + 1 == s->group_leaf[group + 1]) {
            right &= top == 1;
            top = 0;
            group++;
        }
    }
    s->rows = s->leaf_row[leaves];
    return right;
}

static PyObject *new_shards(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    PyObject *group_leaf, *leaf_row, *folds;
    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "OOO:Shards", &group_leaf, &leaf_row, &folds)) return NULL;
    Py_ssize_t groups = PySequence_Size(group_leaf) - 1, leaves = PySequence_Size(folds);
    if (PyErr_Occurred()) return NULL;
    if (groups < 1 || groups > MOST_GROUPS || leaves < 1 || PySequence_Size(leaf_row) != leaves + 1) {
        PyErr_SetString(PyExc_ValueError, "there must be 1 to 64 groups, and one row more than leaves");
        return NULL;
    }
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct shards_object *self = (struct shards_object *)allocate(type, 0);
    if (!self) return NULL;
    self->numbers = PyMem_Malloc(sizeof(index_t) * (size_t)(groups + 1 + leaves + 1 + leaves));
    if (!self->numbers) {
        Py_DecRef((PyObject *)self);
        return no_memory();
    }
    index_t *group = self->numbers, *row = group + groups + 1, *fold = row + leaves + 1;
    self->shards = (struct shards){.groups = groups, .group_leaf = group, .leaf_row = row, .folds = fold};
    int read = read_numbers(group_leaf, group, groups + 1) && read_numbers(leaf_row, row, leaves + 1) && read_numbers(folds, fold, leaves);
    if (!read || !check_shards(&self->shards, leaves)) {
        if (read) PyErr_SetString(PyExc_ValueError, "these are no shards: groups, rows and sums must follow each other");
        Py_DecRef((PyObject *)self);
        return NULL;
    }
    return (PyObject *)self;
}

static void free_object(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DecRef((PyObject *)type);
}

static void free_shards(PyObject *self) {
    PyMem_Free(((struct shards_object *)self)->numbers);
    free_object(self);
}

static PyObject *shards_rows(PyObject *self, void *closure) {
    (void)closure;
    return PyLong_FromLongLong(((struct shards_object *)self)->shards.rows);
}

static PyGetSetDef shards_attributes[] = {{"rows", shards_rows, NULL, "Number of rows.", NULL}, {NULL, NULL, NULL, NULL, NULL}};
static PyType_Slot shards_slots[] = {
    {Py_tp_doc, "Shards(group_leaf, leaf_row, folds): the rows of the gradient shards of one rank; see operations.h."},
    {Py_tp_new, new_shards}, {Py_tp_dealloc, free_shards}, {Py_tp_getset, shards_attributes}, {0, NULL}};
static PyType_Spec shards_spec = {"hpcnn.kernels.core.Shards", sizeof(struct shards_object), 0, Py_TPFLAGS_DEFAULT, shards_slots};

const struct shards *shards_of(PyObject *object) {
    if (Py_TYPE(object) == shards_type) return &((struct shards_object *)object)->shards;
    PyErr_SetString(PyExc_TypeError, "shards must be a Shards");
    return NULL;
}

/* ---------------------------------------------------------------------------------------------------------- Program */

struct program {
    PyObject ob_base;
    struct record **records;
    double *work; /* of all records before each */
    Py_ssize_t count, room;
    Py_ssize_t running; /* calls of `run` that are at work, without Python's lock */
    PyObject *kept; /* a list of the arguments: shards are among them */
};

static PyObject *new_program(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    (void)keywords;
    if (!PyArg_ParseTuple(arguments, ":Program")) return NULL;
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct program *self = (struct program *)allocate(type, 0);
    if (self && !(self->kept = PyList_New(0))) {
        Py_DecRef((PyObject *)self);
        return NULL;
    }
    return (PyObject *)self;
}

static void free_program(PyObject *object) {
    struct program *self = (struct program *)object;
    for (Py_ssize_t i = 0; i < self->count; i++) {
        free_record(self->records[i]);
        PyMem_Free(self->records[i]);
    }
    PyMem_Free(self->records);
    PyMem_Free(self->work);
    Py_DecRef(self->kept);
    free_object(object);
}

static int make_room(struct program *self) {
    if (self->count < self->room) return 1;
    Py_ssize_t room = self->room ? 2 * self->room : 16;
    struct record **records = PyMem_Realloc(self->records, sizeof *records * (size_t)room);
    if (records) self->records = records;
    double *work = PyMem_Realloc(self->work, sizeof *work * (size_t)(room + 1));
    if (work) self->work = work;
    if (!records || !work) return no_memory() != NULL;
    self->work[0] = self->count ? self->work[0] : 0.0;
    self->room = room;
    return 1;
}

static PyObject *append(struct program *self, const struct operation *operation, PyObject *const *arguments, Py_ssize_t count) {
    struct record *record = PyMem_Malloc(sizeof *record);
    if (!record) return no_memory();
    if (!make_record(operation, arguments, count, record)) {
        PyMem_Free(record);
        return NULL;
    }
    int kept = 1;
    for (Py_ssize_t i = 0; kept && i < count; i++) kept = PyList_Append(self->kept, arguments[i]) == 0;
    if (kept && self->running) {
        PyErr_SetString(PyExc_RuntimeError, "a program that runs can't be added to");
        kept = 0;
    }
    if (!kept || !make_room(self)) {
        free_record(record);
        PyMem_Free(record);
        return NULL;
    }
    self->records[self->count] = record;
    self->work[self->count + 1] = self->work[self->count] + record->work;
    self->count++;
    Py_RETURN_NONE;
}

static PyObject *run_program(PyObject *object, PyObject *const *arguments, Py_ssize_t count) {
    struct program *self = (struct program *)object;
    index_t begin = 0, end = self->count;
    if (count > 2) return PyErr_Format(PyExc_TypeError, "run takes a begin and an end at most");
    if (count > 0 && !take_whole(arguments[0], "begin", 0, self->count, &begin)) return NULL;
    if (count > 1 && !take_whole(arguments[1], "end", begin, self->count, &end)) return NULL;
    if (begin >= end) Py_RETURN_NONE;
    self->running++;
    int done = do_records(self->records + begin, end - begin, self->work[end] - self->work[begin]);
    self->running--;
    return done ? Py_NewRef(Py_None) : NULL;
}

static Py_ssize_t program_length(PyObject *self) { return ((struct program *)self)->count; }

/* ----------------------------------------------------------------------------------------------------------- Update */

struct update_object {
    PyObject ob_base;
    struct record record;
    struct link *chain;
};

static int parse_link(PyObject *given, index_t size, int bits, struct link *link) {
    index_t kind;
    struct array s1, s2;
    if (!PyTuple_Check(given) || PyTuple_Size(given) != 5) {
        PyErr_SetString(PyExc_TypeError, "a link is a tuple (kind, start, stop, s1, s2)");
        return 0;
    }
    PyObject *const item[5] = {PyTuple_GetItem(given, 0), PyTuple_GetItem(given, 1), PyTuple_GetItem(given, 2), PyTuple_GetItem(given, 3), PyTuple_GetItem(given, 4)};
    if (!take_whole(item[0], "kind", 0, APPLY, &kind) || !take_whole(item[1], "start", 0, size, &link->start)) return 0;
    if (!take_whole(item[2], "stop", link->start, size, &link->stop)) return 0;
    if (!take_optional_plain(item[3], "s1", WRITE, 'f', bits, &s1) || !check_size(&s1, "s1", size)) return 0;
    if (!take_optional_plain(item[4], "s2", WRITE, 'f', bits, &s2) || !check_size(&s2, "s2", size)) return 0;
    int states = kind == ADAM || kind == RMS_CENTERED ? 2 : kind == MOMENTUM || kind == NESTEROV || kind == RMS || kind == ADAGRAD ? 1 : 0;
    if ((states > 0 && !s1.data && size) || (states > 1 && !s2.data && size)) {
        PyErr_SetString(PyExc_ValueError, "a link lacks its state");
        return 0;
    }
    link->kind = (int)kind;
    link->s1 = s1.data;
    link->s2 = s2.data;
    return 1;
}

static int parse_update(struct update_object *self, PyObject *given_u, PyObject *given_p, PyObject *links) {
    struct array u, p;
    if (!take_real(given_u, "u", WRITE, &u)) return 0;
    if (!take_plain(given_p, "p", WRITE, 'f', u.bits, &p) || !check_size(&p, "p", u.size)) return 0;
    Py_ssize_t count = PyTuple_Size(links);
    self->chain = PyMem_Calloc((size_t)(count ? count : 1), sizeof *self->chain);
    if (!self->chain) return no_memory() != NULL;
    for (Py_ssize_t i = 0; i < count; i++)
        if (!parse_link(PyTuple_GetItem(links, i), u.size, u.bits, &self->chain[i])) return 0;
    self->record.of.update = (struct update){.size = u.size, .u = u.data, .p = p.data, .links = count, .chain = self->chain};
    return finish_record(&self->record, OP_UPDATE, u.bits, u.size, 1024, 4.0 * (double)u.size * (double)count);
}

static PyObject *new_update(PyTypeObject *type, PyObject *arguments, PyObject *keywords) {
    PyObject *u, *p, *list;
    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "OOO:Update", &u, &p, &list)) return NULL;
    if (!PyList_Check(list)) return PyErr_Format(PyExc_TypeError, "links must be a list");
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    struct update_object *self = (struct update_object *)allocate(type, 0);
    PyObject *links = self ? PyList_AsTuple(list) : NULL; /* the list may change meanwhile */
    int right = 0;
    if (links) {
        struct view **before = hold(&self->record.views);
        right = parse_update(self, u, p, links);
        hold(before);
    }
    Py_DecRef(links);
    if (right) return (PyObject *)self;
    Py_DecRef((PyObject *)self);
    return NULL;
}

static void free_update(PyObject *object) {
    struct update_object *self = (struct update_object *)object;
    PyMem_Free(self->chain);
    free_record(&self->record);
    free_object(object);
}

static PyObject *run_update(PyObject *object, PyObject *constants) {
    struct update_object *self = (struct update_object *)object;
    struct record *one = &self->record;
    struct array given;
    struct view *views = NULL, **before = hold(&views);
    const index_t links = self->record.of.update.links;
    int done = take_plain(constants, "constants", READ, 'f', 64, &given) && check_size(&given, "constants", 5 * links);
    hold(before);
    for (index_t i = 0; done && i < links; i++) memcpy(self->chain[i].c, (double *)given.data + 5 * i, sizeof self->chain[i].c);
    release(views);
    return done && do_records(&one, 1, self->record.work) ? Py_NewRef(Py_None) : NULL;
}

static PyMethodDef update_methods[] = {
    {"run", run_update, METH_O, "run(constants): do the chain with these constants, float64 (links, 5)."}, {NULL, NULL, 0, NULL}};
static PyType_Slot update_slots[] = {
    {Py_tp_doc, "Update(u, p, links): a chain of links on updates u and parameters p; see operations.h."},
    {Py_tp_new, new_update}, {Py_tp_dealloc, free_update}, {Py_tp_methods, update_methods}, {0, NULL}};
static PyType_Spec update_spec = {"hpcnn.kernels.core.Update", sizeof(struct update_object), 0, Py_TPFLAGS_DEFAULT, update_slots};

/* -------------------------------------------------------------------------------------------------------- functions */

/* One function and one method for each operation. */
#define OPERATION(name, kind, arguments, doc) \
    static PyObject *name##_at_once(PyObject *self, PyObject *const *a, Py_ssize_t n) { (void)self; return do_now(&operations[OP_##kind], a, n); } \
    static PyObject *append_##name(PyObject *self, PyObject *const *a, Py_ssize_t n) { return append((struct program *)self, &operations[OP_##kind], a, n); }
#define KERNEL(name, kind)
#include "operations.def"

static PyObject *find_not_finite(PyObject *self, PyObject *const *arguments, Py_ssize_t count) {
    struct array x;
    index_t square, found = -1;
    (void)self;
    if (count != 2) return PyErr_Format(PyExc_TypeError, "find_not_finite takes an array and whether to square");
    struct record record = {.views = NULL}, *one = &record;
    struct view **before = hold(&record.views);
    int done = take_real(arguments[0], "x", READ, &x) && take_whole(arguments[1], "square", 0, 1, &square);
    hold(before);
    if (done) {
        record.of.find_not_finite = (struct find_not_finite){.size = x.size, .square = (int)square, .x = x.data, .found = &found};
        finish_record(&record, OP_FIND_NOT_FINITE, x.bits, 1, 1, 0);
        done = do_records(&one, 1, (double)x.size);
    }
    free_record(&record);
    return done ? PyLong_FromLongLong(found) : NULL;
}

static PyObject *use_threads(PyObject *self, PyObject *number) {
    index_t threads;
    int started;
    (void)self;
    if (!take_whole(number, "threads", 1, 1 << 20, &threads)) return NULL;
    Py_BEGIN_ALLOW_THREADS
    started = set_threads((int)threads);
    Py_END_ALLOW_THREADS
    (void)started; /* fewer work if no more could be started */
    return PyLong_FromLong(thread_count());
}

/* Between writing shared memory and the flag that says so, and between reading the flag and the memory. */
static PyObject *fence(PyObject *self, PyObject *none) {
    (void)self, (void)none;
    atomic_thread_fence(memory_order_seq_cst);
    Py_RETURN_NONE;
}

static PyObject *isa(PyObject *self, PyObject *none) {
    (void)self, (void)none;
    return PyUnicode_FromString(isa_name());
}

static PyMethodDef functions[OPERATIONS + 32] = {
    {"find_not_finite", (PyCFunction)(void (*)(void))find_not_finite, METH_FASTCALL,
     "find_not_finite(x, square): the first entry that is not finite (or whose square is not), or -1."},
    {"use_threads", use_threads, METH_O, "use_threads(number): work on that many threads; returns how many there are."},
    {"fence", fence, METH_NOARGS, "fence(): other processes see what was written before it, before what is written after it."},
    {"isa", isa, METH_NOARGS, "isa(): the name of the instruction set in use."},
};
static PyMethodDef program_methods[OPERATIONS + 2] = {
    {"run", (PyCFunction)(void (*)(void))run_program, METH_FASTCALL, "run(begin=0, end=len(program)): do the operations."}};
static PyType_Slot program_slots[] = {
    {Py_tp_doc, "Program(): operations with their arrays, checked once and done any number of times."},
    {Py_tp_new, new_program}, {Py_tp_dealloc, free_program}, {Py_tp_methods, program_methods}, {Py_sq_length, program_length}, {0, NULL}};
static PyType_Spec program_spec = {"hpcnn.kernels.core.Program", sizeof(struct program), 0, Py_TPFLAGS_DEFAULT, program_slots};

typedef PyObject *(*fast_call)(PyObject *self, PyObject *const *arguments, Py_ssize_t count);

static PyMethodDef method_of(int kind, fast_call call) {
    return (PyMethodDef){operations[kind].name, (PyCFunction)(void (*)(void))call, METH_FASTCALL, operations[kind].doc};
}

static void fill_methods(void) {
    PyMethodDef *function = functions, *method = program_methods;
    while (function->ml_name) function++;
    while (method->ml_name) method++;
#define OPERATION(name, kind, arguments, doc) *function++ = method_of(OP_##kind, name##_at_once), *method++ = method_of(OP_##kind, append_##name);
#define KERNEL(name, kind)
#include "operations.def"
    for (const PyMethodDef *number = number_functions; number->ml_name; number++) *function++ = *number;
    for (const PyMethodDef *row = row_functions; row->ml_name; row++) *function++ = *row;
}

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "core", "The compiled core of hpcnn.", -1, functions, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_core(void);
PyMODINIT_FUNC PyInit_core(void) {
    const char *problem = choose_isa();
    if (problem) {
        PyErr_SetString(PyExc_ImportError, problem);
        return NULL;
    }
    if (!functions[4].ml_name) fill_methods();
    PyObject *module = PyModule_Create(&definition);
    if (!module) return NULL;
    PyType_Spec *const specs[] = {&shards_spec, &program_spec, &update_spec};
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        PyObject *type = PyType_FromSpec(specs[i]);
        if (!type || PyModule_AddType(module, (PyTypeObject *)type) < 0) {
            Py_DecRef(module);
            return NULL;
        }
        if (specs[i] == &shards_spec) shards_type = (PyTypeObject *)type;
        else Py_DecRef(type);
    }
    return module;
}
