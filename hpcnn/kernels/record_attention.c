#include "record.h"

#define PAGE 1024

static int refuse(const char *what) {
    PyErr_SetString(PyExc_ValueError, what);
    return 0;
}

/* An array (samples, rows, heads, dim) of floats of `bits`, 0 for any, whose last axis is contiguous. */
static int take_heads(PyObject *given, const char *name, enum access access, int bits, struct array *array) {
    if (!take(given, name, access, array) || !is_real(array, name)) return 0;
    if (bits && array->bits != bits) {
        PyErr_Format(PyExc_ValueError, "%s must be float%d, as the others are", name, bits);
        return 0;
    }
    if (array->axes == 4 && (array->shape[3] < 2 || array->stride[3] == 1)) return 1;
    PyErr_Format(PyExc_ValueError, "%s must be (samples, rows, heads, dim), the last axis contiguous", name);
    return 0;
}

static int same_shape(const struct array *array, const struct array *other, const char *name) {
    if (memcmp(array->shape, other->shape, 4 * sizeof *array->shape) == 0) return 1;
    PyErr_Format(PyExc_ValueError, "%s must have the shape of what it is the gradient of", name);
    return 0;
}

static void strides(const struct array *array, index_t *stride) { memcpy(stride, array->stride, 3 * sizeof *stride); }

/* What both passes take. */
struct taken {
    struct array q, k, v, mask, saved;
    index_t causal;
    double scale, work;
};

static int take_pass(PyObject *const *given, PyObject *saved, enum access access, PyObject *causal, PyObject *scale, struct taken *t) {
    if (!take_heads(given[0], "q", READ, 0, &t->q) || !take_heads(given[1], "k", READ, t->q.bits, &t->k)) return 0;
    if (!take_heads(given[2], "v", READ, t->q.bits, &t->v)) return 0;
    if (!take_optional_plain(given[3], "mask", READ, 'f', t->q.bits, &t->mask)) return 0;
    const index_t *q = t->q.shape, *k = t->k.shape, *v = t->v.shape;
    if (q[0] != k[0] || q[0] != v[0] || k[1] != v[1] || k[2] != v[2] || q[3] != k[3])
        return refuse("q must be (samples, queries, heads, dim), k (samples, keys, heads of k, dim) and v (samples, keys, heads of k, value dim)");
    if (k[2] < 1 || q[2] < 1 || q[2] % k[2]) return refuse("the heads of q must be a multiple of those of k");
    if (!check_size(&t->mask, "mask", k[0] * k[1])) return 0;
    if (!take_plain(saved, "saved", access, 'f', 64, &t->saved) || !check_size(&t->saved, "saved", q[0] * q[1] * q[2] * 2)) return 0;
    if (!take_whole(causal, "causal", 0, 1, &t->causal) || !take_number(scale, "scale", &t->scale)) return 0;
    if (!(t->scale > 0 && t->scale < 1e300)) return refuse("scale must be above 0, and finite");
    t->work = (double)q[0] * (double)q[2] * (double)q[1] * (double)k[1] * (double)(q[3] + v[3] + 20) * 2 / (t->causal ? 2 : 1);
    return 1;
}

/* The fields that both structures have. */
#define PASS(t) \
    .samples = t.q.shape[0], .heads = t.q.shape[2], .kv_heads = t.k.shape[2], .queries = t.q.shape[1], .keys = t.k.shape[1], \
    .dim = t.q.shape[3], .value_dim = t.v.shape[3], .causal = (int)t.causal, .scale = t.scale, .q = t.q.data, .k = t.k.data, \
    .v = t.v.data, .mask = t.mask.data, .saved = t.saved.data

/* attention(q, k, v, mask, out, saved, causal, scale) */
int parse_attention(PyObject *const *given, struct record *record) {
    struct taken t;
    struct array out;
    if (!take_pass(given, given[5], WRITE, given[6], given[7], &t) || !take_heads(given[4], "out", WRITE, t.q.bits, &out)) return 0;
    if (out.shape[0] != t.q.shape[0] || out.shape[1] != t.q.shape[1] || out.shape[2] != t.q.shape[2] || out.shape[3] != t.v.shape[3])
        return refuse("out must be (samples, queries, heads, value dim)");
    struct attention *o = &record->of.attention;
    *o = (struct attention){PASS(t), .out = out.data};
    strides(&t.q, o->q_stride), strides(&t.k, o->k_stride), strides(&t.v, o->v_stride), strides(&out, o->out_stride);
    return finish_record(record, OP_ATTENTION, t.q.bits, o->samples * o->kv_heads, 1, t.work);
}

/* attention_backward(q, k, v, mask, saved, dout, dq, dk, dv, causal, scale) */
int parse_attention_backward(PyObject *const *given, struct record *record) {
    struct taken t;
    struct array dout, dq, dk, dv;
    if (!take_pass(given, given[4], READ, given[9], given[10], &t) || !take_heads(given[5], "dout", READ, t.q.bits, &dout)) return 0;
    if (!take_heads(given[6], "dq", WRITE, t.q.bits, &dq) || !take_heads(given[7], "dk", WRITE, t.q.bits, &dk)) return 0;
    if (!take_heads(given[8], "dv", WRITE, t.q.bits, &dv)) return 0;
    if (!same_shape(&dq, &t.q, "dq") || !same_shape(&dk, &t.k, "dk") || !same_shape(&dv, &t.v, "dv")) return 0;
    if (dout.shape[0] != t.q.shape[0] || dout.shape[1] != t.q.shape[1] || dout.shape[2] != t.q.shape[2] || dout.shape[3] != t.v.shape[3])
        return refuse("dout must be (samples, queries, heads, value dim)");
    struct attention_backward *o = &record->of.attention_backward;
    *o = (struct attention_backward){PASS(t), .dout = dout.data, .dq = dq.data, .dk = dk.data, .dv = dv.data};
    strides(&t.q, o->q_stride), strides(&t.k, o->k_stride), strides(&t.v, o->v_stride), strides(&dout, o->dout_stride);
    strides(&dq, o->dq_stride), strides(&dk, o->dk_stride), strides(&dv, o->dv_stride);
    return finish_record(record, OP_ATTENTION_BACKWARD, t.q.bits, o->samples * o->kv_heads, 1, 2.5 * t.work);
}

/* embedding(ids, table, y) */
int parse_embedding(PyObject *const *given, struct record *record) {
    struct array ids, table, y;
    if (!take_real(given[2], "y", WRITE, &y)) return 0;
    if (!take_plain(given[0], "ids", READ, 'f', y.bits, &ids) || !take_plain(given[1], "table", READ, 'f', y.bits, &table)) return 0;
    if (table.axes != 2) return refuse("the table must be (entries, columns)");
    if (!check_size(&y, "y", ids.size * table.shape[1])) return 0;
    record->of.embedding = (struct embedding){
        .rows = ids.size, .entries = table.shape[0], .columns = table.shape[1], .ids = ids.data, .table = table.data, .y = y.data};
    return finish_record(record, OP_EMBEDDING, y.bits, ids.size, 1, (double)y.size);
}

/* embedding_gradient(shards, ids, dy, outs) */
int parse_embedding_gradient(PyObject *const *given, struct record *record) {
    const struct shards *shards = shards_of(given[0]);
    struct array ids, dy, out;
    if (!shards || !take_real(given[1], "ids", READ, &ids) || !check_size(&ids, "ids", shards->rows)) return 0;
    if (!take_plain(given[2], "dy", READ, 'f', ids.bits, &dy)) return 0;
    if (!PyTuple_Check(given[3]) || PyTuple_Size(given[3]) < 1) return refuse("outs must be a tuple of arrays");
    if (!take_real(PyTuple_GetItem(given[3], 0), "outs", WRITE, &out)) return 0;
    if (out.axes != 2 || out.shape[0] >= INT32_MAX - 2 || shards->rows >= INT32_MAX) return refuse("outs must be (entries, columns), below 2^31 entries and rows");
    if (!check_size(&dy, "dy", shards->rows * out.shape[1])) return 0;
    if (!take_group_arrays(given[3], "outs", 'f', ids.bits, shards->groups, out.size, record->pointers)) return 0;
    record->of.embedding_gradient = (struct embedding_gradient){
        .shards = shards, .entries = out.shape[0], .columns = out.shape[1], .ids = ids.data, .dy = dy.data, .out = record->pointers};
    double work = (double)dy.size + (double)out.size * (double)shards->groups;
    return finish_record(record, OP_EMBEDDING_GRADIENT, ids.bits, out.shape[1] ? out.shape[0] : 0, 1, work);
}

/* add_table(x, table, y) */
int parse_add_table(PyObject *const *given, struct record *record) {
    struct array x, table, y;
    if (!take_real(given[2], "y", WRITE, &y)) return 0;
    if (!take_plain(given[0], "x", READ, 'f', y.bits, &x) || !check_size(&x, "x", y.size)) return 0;
    if (!take_plain(given[1], "table", READ, 'f', y.bits, &table)) return 0;
    if (y.axes < 1) return refuse("y must have one axis at least");
    index_t samples = y.shape[0];
    if (samples && !check_size(&table, "table", y.size / samples)) return 0;
    record->of.add_table = (struct add_table){.samples = samples, .size = table.size, .x = x.data, .table = table.data, .y = y.data};
    return finish_record(record, OP_ADD_TABLE, y.bits, samples, 1, (double)y.size);
}

/* not_zero(x, y) */
int parse_not_zero(PyObject *const *given, struct record *record) {
    struct array x, y;
    if (!take_real(given[1], "y", WRITE, &y) || !take_plain(given[0], "x", READ, 'f', y.bits, &x) || !check_size(&x, "x", y.size)) return 0;
    record->of.not_zero = (struct not_zero){.size = y.size, .x = x.data, .y = y.data};
    return finish_record(record, OP_NOT_ZERO, y.bits, y.size, PAGE, (double)y.size);
}
