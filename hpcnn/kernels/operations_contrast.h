/* Operations of contrastive losses. Included by operations.h. */
#ifndef HPCNN_OPERATIONS_CONTRAST_H
#define HPCNN_OPERATIONS_CONTRAST_H

/* Of each row of scores, whose own column is first + row:
 *   log = largest + log(sum of exp(score - largest)), the sum over LANES lanes
 *   term = weight (log - score of the own column), added to what side 0 has left if this is side 1
 * all in double. A task is one row. */
struct contrast {
    index_t rows, columns;
    index_t first;
    index_t side; /* 0 or 1: which of a row's logarithms this is */
    double weight;
    const void *scores; /* real (rows, columns) */
    double *logs;       /* (rows, 2) */
    double *terms;      /* (rows) */
};

/* own_weight exp(score - log of the row) + other_weight exp(score - log of the column, on the other side), less the sum of
 * the weights in the row's own column: in double, rounded once. What has the weight 0 is left out. A task is one row. */
struct contrast_gradient {
    index_t rows, columns;
    index_t first;
    index_t side;
    double own_weight, other_weight;
    const void *scores; /* real (rows, columns) */
    const double *logs; /* (columns, 2) */
    void *gradient;     /* may be the scores */
};

#endif
