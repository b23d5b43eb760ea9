/* Structures of losses that `struct loss` has no place for; included by operations.h. */
#ifndef HPCNN_OPERATIONS_LOSSES_H
#define HPCNN_OPERATIONS_LOSSES_H

/* -log of the probability of all alignments of a sample's labels with its steps, and its gradient by the logits, both
 * times the sample's weight. Class 0 is the blank; a sample's labels are those before the first that is 0 or below, and
 * its 2 labels + 1 states are they with blanks around each. p is the softmax of a step's logits: exp(z - largest) summed
 * over LANES lanes. All is in double, what is stored is rounded once:
 *   alpha[t][s] = log_sum(alpha[t-1][s], alpha[t-1][s-1], alpha[t-1][s-2] + skip[s]) + log p[t][class of s]
 *   beta[t][s] = log_sum(b[s], b[s+1], b[s+2] + skip[s+2]), where b[s] = beta[t+1][s] + log p[t+1][class of s]
 *   log_sum(a, b, c) = largest + log((exp(a - largest) + exp(b - largest)) + exp(c - largest))
 * with log p = z - (largest + log(sum)), skip = 0 for a label unlike the one before it and -inf elsewhere. The gradient
 * is p - sum over the states of a class, in order from +0, of exp(alpha + beta - log of the whole). A task is one sample. */
struct ctc {
    index_t samples, steps, classes;
    index_t length; /* labels that there is room for, for each sample */
    const void *inputs;
    const int64_t *labels; /* (samples, length) */
    const void *weights;   /* real (samples), or NULL */
    void *outputs;         /* the probabilities, or NULL: not wanted */
    void *gradient;        /* or NULL: not wanted */
    double *terms;         /* (samples); NaN if a label is no class, infinite if no alignment fits into the steps */
};

#endif
