/* The operations of the compiled core: what each takes, and the order of every sum in it.
 *
 * An operation is a plain structure. A kernel does a range of its tasks, so that tasks can be dealt to threads: no two
 * tasks write to the same place, and no bit depends on the range that a task is done in. All variants of a kernel
 * (instruction sets) give the same bits: sums run over a fixed order of terms, vectors run over different outputs, and
 * nothing but + - x / fma, sqrt, comparisons and integer operations is used, in IEEE 754 arithmetic, rounded to
 * nearest even, with gradual underflow.
 *
 * "real" is float or double: a kernel exists for both. Strides count elements. Arrays that several samples share are
 * C-ordered. Values that a kernel writes to be read by a product (outputs, gradients, states of optimizers) are
 * flushed: a 0 of the same sign stands for a number below the smallest normal one, since processors are slow with those.
 */
#ifndef HPCNN_OPERATIONS_H
#define HPCNN_OPERATIONS_H

#include <stddef.h>
#include <stdint.h>

typedef int64_t index_t;

/* Terms of a product that are added before they are added to the sum of those before: part of what defines the bits. */
#define BLOCK_TERMS 256
/* Partial sums of a row (softmax, layer norm, norms): term i goes to lane i % LANES, each lane adds in order, and the
 * lanes are folded in halves: lane i + lane i+8, then i + i+4, i + i+2, i + i+1. */
#define LANES 16

enum activation { LINEAR, RELU, LEAKY_RELU, ELU, SELU, GELU, SWISH, SOFTPLUS, SIGMOID, TANH, SOFTMAX, ACTIVATIONS };

/* The samples of one rank, as gradient shards: leaves of the summation tree, and the subtrees ("groups") that the rank
 * contributes. All are C arrays of the caller. Leaf l has the rows [leaf_row[l], leaf_row[l + 1]); group g has the
 * leaves [group_leaf[g], group_leaf[g + 1]). The sum of a leaf is computed into the running value; then `folds[l]`
 * earlier sums are added to it, the latest first: value = stack[--top] + value; then it is pushed. After the last leaf
 * of a group one sum is left: the group's. A leaf without rows has the sum +0. Nothing is flushed from the leaves to the
 * root, here or in `fold`: else the place where the tree is cut, between ranks, would decide bits. */
struct shards {
    index_t rows;
    index_t groups;
    const index_t *group_leaf; /* groups + 1 */
    const index_t *leaf_row;   /* leaves + 1, ascending */
    const index_t *folds;      /* leaves */
    index_t depth;             /* the most sums that are on the stack at once */
};

/* c[i, j] = activation(sum over p of a[i, p] b[p, j] + bias[j]).
 *
 * The sum: blocks of BLOCK_TERMS terms, each  acc = 0; for p: acc = fma(a[i, p], b[p, j], acc);  the sum of the first
 * block is the start, and the sums of the later ones are added to it in order. Then the bias is added, then the
 * activation applied. SOFTMAX is no fused activation. A task is one row of c. */
struct product {
    index_t m, n, k;
    const void *a;
    index_t a_row, a_column;
    const void *b;
    index_t b_row, b_column;
    void *c;
    index_t c_row; /* stride of a row; columns are next to each other */
    const void *bias; /* (n), or NULL */
    int activation;
    void *saved; /* (m, n) as c, or NULL: takes the derivative, rounded once, of GELU and SWISH; of others the value before */
};

/* kernel[g][f, u] = sum along the tree, over the leaves of group g, of (sum over the leaf's rows r of
 * x[r, f] dy[r, u]);  the inner sum as in `product` (blocks of BLOCK_TERMS rows counted from the leaf's first).
 * A task is one column u of all groups' kernels. (Deal them in multiples of 64.) */
struct weight_gradient {
    const struct shards *shards;
    index_t features, units;
    const void *x;
    index_t x_row;
    const void *dy;
    index_t dy_row;
    void *const *kernel; /* one (features, units) a group */
};

/* out[g][j] = sum along the tree over the leaves of group g of (sum over the leaf's rows r, in order, of a[r, j]), or
 * of fma(a[r, j], b[r, j], acc) if b is given; each leaf's sum starts at +0. A task is one column. */
struct column_sums {
    const struct shards *shards;
    index_t columns;
    const void *a;
    index_t a_row;
    const void *b; /* or NULL */
    index_t b_row;
    void *const *out; /* one (columns) a group */
};

/* y = activation(z), elementwise, or over each row for SOFTMAX: exp(z - largest) in double, summed over LANES lanes,
 * divided, rounded once. y may be z. A task is one row. */
struct activate {
    index_t rows, columns;
    int activation;
    const void *z;
    void *y;
    void *slopes; /* as y, for GELU and SWISH alone: takes the derivative, rounded once; or NULL */
};

/* dz = dy x derivative, from y (RELU, LEAKY_RELU, ELU, SELU, SOFTPLUS, SIGMOID, TANH, SOFTMAX); of GELU and SWISH it is
 * saved itself. dz may be dy. A task is one row. */
struct activate_backward {
    index_t rows, columns;
    int activation;
    const void *saved; /* y or the derivative */
    const void *dy;
    void *dz;
};

enum loss_kind {
    MSE, MAE, HUBER, BINARY_CROSSENTROPY, CATEGORICAL_CROSSENTROPY, SPARSE_CATEGORICAL_CROSSENTROPY,
    MAPE, MSLE, LOG_COSH, POISSON, HINGE, BINARY_FOCAL_CROSSENTROPY, CATEGORICAL_FOCAL_CROSSENTROPY,
    KL_DIVERGENCE, COSINE_SIMILARITY, DICE, IOU,
    CTC /* an operation of its own */
};

/* The loss of each sample, and its gradient, in one pass. With `from_logits` (BINARY_CROSSENTROPY: a sigmoid's;
 * the categorical ones: a softmax's) `inputs` are logits, `outputs` takes the probabilities and `gradient` is that of
 * the logits. Without, `inputs` are outputs, and `gradient` is theirs. Gradients are multiplied by the sample's weight,
 * terms too. From the entries on all is in double, and what is stored is rounded once. Sums over a sample's entries (the
 * categorical losses, KL_DIVERGENCE and COSINE_SIMILARITY: over a position's) use LANES lanes; positions are added in
 * order. A task is one sample. */
struct loss {
    int kind;
    int from_logits;
    index_t samples;
    index_t positions; /* of a sample: all axes but the first and last */
    index_t classes;   /* entries of the last axis */
    const void *inputs;
    const void *targets;   /* real, as inputs; or int64 labels (samples, positions) */
    const void *weights;   /* real (samples), or NULL */
    void *outputs;         /* or NULL without from_logits */
    void *gradient;        /* or NULL: not wanted */
    double *terms;         /* (samples): weight x loss, computed in double from the entries on */
    double label_smoothing;
    double delta; /* HUBER */
    double gamma; /* the focal ones */
    double alpha; /* the focal ones; BINARY_FOCAL_CROSSENTROPY: below 0 for none */
    int ignores;  /* SPARSE_CATEGORICAL_CROSSENTROPY: positions with the label `ignore` do not count, see losses.c */
    int64_t ignore;
};

/* y = gamma (x - mean) / sqrt(variance + epsilon) + beta over each row. mean and variance (two passes) are sums over
 * LANES lanes. From x on all is in double; what is stored is rounded once. A task is one row. */
struct layer_norm {
    index_t rows, columns;
    double epsilon;
    const void *x;
    const void *gamma; /* or NULL */
    const void *beta;  /* or NULL */
    void *normal;      /* (rows, columns): (x - mean) / deviation */
    void *inverse;     /* (rows): 1 / deviation */
    void *y;           /* may be `normal` if there is neither gamma nor beta */
};

struct layer_norm_backward {
    index_t rows, columns;
    const void *normal, *inverse, *gamma; /* gamma or NULL */
    const void *dy;
    void *dx; /* may be dy */
};

/* y = x c where the entry is kept (c = 1 / (1 - rate), rounded to real), flushed, and +0 elsewhere; dx is made of dy by
 * the same operation. y may be x. Entry j of sample i is kept if uniform >= rate, where uniform = (u32 >> 8) 2^-24 is
 * made of word j % 4 of
 * Philox4x32-10(counter = {j / 4, number of the sample in its batch, step, stream}, key = {low, high word of seed}).
 * `place` points to what changes from step to step. A task is one sample. */
struct dropout_place {
    uint32_t first_sample; /* number in the batch of the first sample here */
    uint32_t step;
};
struct dropout {
    index_t samples, columns; /* all entries of a sample */
    double rate;
    uint64_t seed;
    uint32_t stream; /* a layer's own */
    const struct dropout_place *place;
    const void *x;
    void *y;
};

/* y = x1 + x2, flat, flushed; y may be x1 or x2. A task is one entry. (Deal them in multiples of 1024.) */
struct add {
    index_t size;
    const void *x1, *x2;
    void *y;
};

/* out[g] = sum along the tree, over the leaves of group g, of (sum over the leaf's rows in order of terms[r]); doubles.
 * One task. */
struct shard_totals {
    const struct shards *shards;
    const double *terms;
    double *const *out; /* one number a group */
};

/* Add to right[g] how many rows of group g are decided right: the largest of `columns` outputs (the first of equals)
 * is the label, where a NaN counts as larger than any number; for one column whether output > 0.5 equals target > 0.5.
 * Each position of a row counts. With `multilabel`, each output by itself is decided as one column is, and counts.
 * Targets: int64 labels (0 and 1 for one column), or real rows that are decided as outputs are. One task. */
struct count_right {
    const struct shards *shards;
    index_t positions, columns;
    int multilabel;
    int labels; /* whether targets are int64 labels */
    const void *outputs;
    const void *targets;
    double *const *right;
};

/* One link of an optimizer's chain on a block of updates u with its parameters p and states s1, s2. The constants are
 * those of the step, rounded from double to real once; f is a factor that u is still to be multiplied by when the link
 * begins. Every link is elementwise. u is flushed before the first link, states and parameters when they are written. */
enum link_kind {
    SCALE,       /* u = u c0                                                              c0 = f */
    CLIP_VALUE,  /* u = max(-c0, min(c0, u c1))                                           c0 = limit, c1 = f */
    DECAY,       /* u = fma(p, c0, u c1)       c0 = rate, c1 = f; of an L2 penalty: c0 = 2 l2 count, c1 = 1 */
    PENALTY_L1,  /* u = u + c0 where p > 0, u - c0 where p < 0, u elsewhere               c0 = l1 count */
    MOMENTUM,    /* s1 = fma(s1, c0, u c1); u = s1                                        c0 = momentum, c1 = f */
    NESTEROV,    /* g = u c1; s1 = fma(s1, c0, g); u = fma(s1, c0, g)                     c0 = momentum, c1 = f */
    ADAM,        /* s1 = fma(s1, c0, u c1); s2 = fma(u c3, u, s2 c2); u = s1 / (sqrt(s2) + c4)
                    c0 = beta_1, c1 = (1 - beta_1) f, c2 = beta_2, c3 = (1 - beta_2) f^2, c4 = epsilon */
    RMS,         /* u = u c3; s1 = fma(u c1, u, s1 c0); u = u / sqrt(s1 + c2)
                    c0 = rho, c1 = 1 - rho, c2 = epsilon, c3 = f */
    RMS_CENTERED,/* u and s1 as RMS; s2 = fma(s2, c0, u c1); u = u / sqrt(max(0, fma(-s2, s2, s1)) + c2) */
    ADAGRAD,     /* u = u c1; s1 = fma(u, u, s1); u = u / sqrt(s1 + c0)                   c0 = epsilon, c1 = f */
    APPLY,       /* p = fma(-c0, u, p)                                                    c0 = f */
};
struct link {
    int kind;
    index_t start, stop; /* entries of the block that it concerns */
    double c[5];
    void *s1, *s2; /* as long as the block */
};
/* Do a chain of links on a block, piece by piece, so that a piece stays in the first-level cache. u takes what comes
 * out of the chain, or stays as it was if the last link is an APPLY to the whole block.
 * A task is one entry. (Deal them in multiples of 1024.) */
struct update {
    index_t size;
    void *u;
    void *p;
    index_t links;
    const struct link *chain;
};

/* cells[i] = sum over the entries [start[i], start[i + 1]) of x[j]^2 (square: acc = fma(x[j], x[j], acc)) or |x[j]|, in
 * double, over LANES lanes counted from the cell's first entry. A task is one cell. */
struct cell_sums {
    index_t count;
    const index_t *start; /* count + 1 */
    int square;
    const void *x;
    double *cells;
};

/* The first entry that is not finite (or whose square overflows, if `square`), -1 if there is none. One task. */
struct find_not_finite {
    index_t size;
    int square;
    const void *x;
    index_t *found;
};

/* out = slots added along `order` (pairs i, j: slot i += slot j), the last addition into out; slots are only read.
 * Without additions out is a copy of slot 0. out may be a slot. A task is one entry. (Deal them in multiples of 1024.) */
struct fold {
    index_t size;
    index_t slots;
    void *const *slot;
    index_t additions;
    const index_t *order; /* additions x 2 */
    void *out;
};

/* y = (x - shift) scale in double, rounded to real and flushed. shift and scale: (columns), or one number. A task is
 * one row. */
struct standardize {
    index_t rows, columns;
    const double *x;
    const double *shift, *scale;
    int shift_is_one, scale_is_one;
    void *y;
};

#include "operations_convolution.h"
#include "operations_normalization.h"
#include "operations_shapes.h"
#include "operations_losses.h"
#include "operations_attention.h"
#include "operations_recurrent.h"
#include "operations_contrast.h"

enum operation_kind {
#define OPERATION(name, kind, arguments, doc) OP_##kind,
#include "operations.def"
    OPERATIONS
};

/* Do the tasks [begin, end). `scratch` is the thread's own, of `scratch_size` bytes at least, 64-byte aligned. */
typedef void (*kernel_t)(const void *operation, index_t begin, index_t end, void *scratch);
typedef size_t (*scratch_size_t)(const void *operation);

struct kernels {
    kernel_t run[OPERATIONS];
    scratch_size_t scratch[OPERATIONS]; /* NULL: none needed */
};

/* One table for each instruction set and type; those that are not built are absent (see dispatch.c). */
#define DECLARE_KERNELS(isa) extern const struct kernels kernels_##isa##_32, kernels_##isa##_64;
DECLARE_KERNELS(scalar)
DECLARE_KERNELS(avx2)
DECLARE_KERNELS(avx512)
DECLARE_KERNELS(neon)

/* What is not vectorised, the same code everywhere. Philox4x32-10: Salmon, Moraes, Dror and Shaw, SC 2011. */
void philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

#endif
