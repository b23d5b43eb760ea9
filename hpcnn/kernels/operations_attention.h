/* Operations of attention, and of tables of embeddings. Included by operations.h. */
#ifndef HPCNN_OPERATIONS_ATTENTION_H
#define HPCNN_OPERATIONS_ATTENTION_H

/* Queries that are computed at once: part of what defines the bits. */
#define QUERIES 64

/* out[query i] = sum over the keys j of p[i, j] v[j], for each sample and head; heads / kv_heads heads next to each other
 * share a head of k and v. Arrays are (samples, queries or keys, heads, dim or value_dim): strides of the first three
 * axes, entries of the last lie next to each other.
 *
 * The queries come in blocks of QUERIES. If `causal`, query i sees the keys j <= i, and its block B the keys below
 * (B + 1) QUERIES; else both see all. Of those that it sees, a key of a sample is left out where `mask` is 0.
 * s[i, j] = sum over d of q[i, d] k[j, d] as in `product`, not flushed. From there on in double:
 * e[i, j] = exp((s[i, j] - largest s[i, .]) scale), +0 below exp(-700) and for keys that are left out; their sum over the
 * keys that i sees, over LANES lanes by j, is total[i], and p[i, j] = e[i, j] (1 / total[i]), rounded once and flushed; +0 where
 * only the block sees the key, and where all keys are left out. out[i] is summed as in `product` over the keys that the
 * block sees. `saved` takes the largest score and 1 / total (0 where all keys are left out).
 * A task is one sample and head of k. */
struct attention {
    index_t samples, heads, kv_heads, queries, keys, dim, value_dim;
    int causal;
    double scale;
    const void *q, *k, *v;
    index_t q_stride[3], k_stride[3], v_stride[3];
    const void *mask; /* (samples, keys), or NULL */
    void *out;
    index_t out_stride[3];
    double *saved; /* (samples, heads, queries, 2) */
};

/* The gradients of q, k and v, from that of the output. p again, then for each query i
 * dp[i, j] = sum over d of dout[i, d] v[j, d] as in `product`, not flushed; in double: total[i] = sum over the keys that i
 * sees of dp[i, j] p[i, j], over LANES lanes by j; ds[i, j] = (dp[i, j] - total[i]) p[i, j] scale, rounded once and
 * flushed; +0 where only the block sees the key.
 * dq[i] = sum over the keys that the block sees of ds[i, j] k[j], as in `product`.
 * dk[j] = sum over heads in order, blocks of queries in order and their queries in order of ds[i, j] q[i], and dv[j] of
 * p[i, j] dout[i]: each block is a sum of its own, acc = 0; acc = fma(p, dout, acc), and blocks that see the key are
 * added in order. A task is one sample and head of k. */
struct attention_backward {
    index_t samples, heads, kv_heads, queries, keys, dim, value_dim;
    int causal;
    double scale;
    const void *q, *k, *v;
    index_t q_stride[3], k_stride[3], v_stride[3];
    const void *mask;
    const double *saved;
    const void *dout;
    index_t dout_stride[3];
    void *dq, *dk, *dv;
    index_t dq_stride[3], dk_stride[3], dv_stride[3];
};

/* y[r] = table[ids[r]]; a row of NaN where that is no whole number in [0, entries). A task is one row. */
struct embedding {
    index_t rows, entries, columns;
    const void *ids; /* real (rows) */
    const void *table;
    void *y;
};

/* out[g][e] = sum along the tree over the leaves of group g of (sum over the leaf's rows r with ids[r] = e, in order, of
 * dy[r]); each leaf's sum starts at +0. A task is one entry of the table. */
struct embedding_gradient {
    const struct shards *shards;
    index_t entries, columns;
    const void *ids;
    const void *dy;
    void *const *out; /* one (entries, columns) a group */
};

/* y[i] = x[i] + table[i], for each sample, flushed; y may be x. A task is one sample. */
struct add_table {
    index_t samples, size;
    const void *x, *table;
    void *y;
};

/* y = 1 where x is not 0, else 0; a NaN gives 1. A task is one entry. (Deal them in multiples of 1024.) */
struct not_zero {
    index_t size;
    const void *x;
    void *y;
};

#endif
