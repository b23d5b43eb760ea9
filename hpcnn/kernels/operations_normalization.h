/* Normalisations over channels (batch, group) and over rows without a mean. Included by operations.h.
 *
 * Arrays of channels are (rows, columns): a row is a position of a sample, a column is a channel. All is in double from
 * the entries on; what is stored as real is rounded once.
 */

/* Rows that are added before lanes are: row r of a segment, counted from its first, goes to lane r % ROW_LANES of its
 * column; each lane adds in order, from +0 on, and the lanes are folded in halves: lane i + lane i+4, i + i+2, i + i+1. */
#define ROW_LANES 8

/* Runs of rows, each with sums of its own: the leaves of shards, or samples. */
struct segments {
    index_t count;
    const index_t *start; /* (count + 1), ascending; or NULL: segment s has the rows [s each, (s + 1) each) */
    index_t each;
};

/* sums[s] = {number of rows, for each column sum of v, for each column sum of v v (acc = fma(v, v, acc))} over the rows
 * of segment s, with v = x - shift. A task is one segment. */
struct channel_sums {
    struct segments segments;
    index_t columns;
    const void *x;
    const void *shift; /* (columns) */
    double *sums;      /* (segments, 1 + 2 columns) */
};

/* moments[r] = {mean of each column, 1 / sqrt(variance + epsilon) of each}. From the sums of row r, with n = max(1, their
 * count): o = sum / n, mean = shift + o, variance = max(0, squares / n - o o); or, without sums, mean and variance as
 * given. A task is one row. */
struct channel_moments {
    index_t rows, columns;
    double epsilon;
    const double *sums;   /* (rows, 1 + 2 columns), or NULL */
    const void *shift;    /* (columns): that of the sums, or the mean */
    const void *variance; /* (columns) without sums */
    double *moments;      /* (rows, 2 columns) */
};

/* moments[s], as above, of each sample's groups of columns, which lie next to each other: first, mean = (sum over the
 * group's columns in order of (sum over the positions of x)) / n, then variance = the same of v v with v = x - mean; the
 * sums over positions as in channel_sums. A task is one sample. */
struct group_moments {
    index_t samples, positions, columns, groups;
    double epsilon;
    const void *x;
    double *moments; /* (samples, 2 columns): each group's are repeated for its columns */
};

/* y = fma(x - mean, gamma inverse, beta), flushed, with the moments of the row's segment; with `relu` that of it. A task
 * is one row. */
struct normalize {
    struct segments segments;
    index_t rows, columns;
    const void *x;
    const double *moments;
    index_t moments_row; /* 2 columns; 0: all segments share them */
    const void *gamma, *beta; /* or NULL */
    int relu;
    void *y; /* may be x */
};

/* sums[s] = {for each column sum of dy, for each column (sum of dy (x - mean)) inverse} over the rows of segment s; the
 * second is acc = fma(dy, x - mean, acc). With `relu`, +0 stands for dy where `normalize` gives nothing above 0. A task is
 * one segment. */
struct channel_products {
    struct segments segments;
    index_t columns;
    const void *x, *dy;
    const double *moments;
    index_t moments_row;
    const void *gamma, *beta; /* or NULL: those of `normalize`, for relu alone */
    int relu;
    double *sums; /* (segments, 2 columns) */
};

/* slopes[r] = {m1 inverse, (m2 inverse) inverse} of each column, where m1 and m2 are the sums over the column's group, in
 * order, of gamma x sums[r], divided by n = max(1, count). A task is one row. */
struct channel_slopes {
    index_t rows, columns;
    index_t group;        /* columns of a group */
    const double *counts; /* of row r: counts[r counts_row] */
    index_t counts_row;
    const double *sums; /* (rows, 2 columns): as channel_products has them */
    const double *moments;
    const void *gamma; /* or NULL */
    double *slopes;    /* (rows, 2 columns); may be sums */
};

/* dx = fma(mean - x, second slope, fma(dy, gamma inverse, -first slope)), flushed, or without slopes dy (gamma inverse).
 * With `relu`, which needs slopes, dy is as in channel_products. A task is one row. */
struct normalize_backward {
    struct segments segments;
    index_t rows, columns;
    const void *x, *dy;
    const double *moments;
    const double *slopes; /* or NULL */
    index_t moments_row;  /* of moments and slopes */
    const void *gamma;    /* or NULL */
    const void *beta;     /* or NULL: for relu alone */
    int relu;
    void *dx; /* may be dy */
};

/* out[g] = sum along the tree, over the leaves of group g, of (the sum over the leaf's rows of terms, in double and in
 * order from +0 on, rounded to real). A task is one column. */
struct leaf_sums {
    const struct shards *shards;
    index_t columns;
    const double *terms;
    index_t terms_row;
    void *const *out; /* one (columns) a group */
};

/* y = scale x / sqrt(mean of x x + epsilon) over each row; the sum (x x rounded, then added) over LANES lanes. A task is
 * one row. */
struct rms_norm {
    index_t rows, columns;
    double epsilon;
    const void *x;
    const void *scale; /* (columns) */
    void *normal;      /* (rows, columns): y without the scale */
    void *inverse;     /* (rows): 1 / root */
    void *y;
};

/* dx = inverse (d - normal mean(d normal)) with d = scale dy. */
struct rms_norm_backward {
    index_t rows, columns;
    const void *normal, *inverse, *scale;
    const void *dy;
    void *dx; /* may be dy */
};
