/* Convolutions of each channel by itself: vectors run over channels. */
#ifndef HPCNN_DEPTHWISE_H
#define HPCNN_DEPTHWISE_H

#include "views.h"

static inline int is_depthwise(const struct geometry *g) { return g->groups > 1 && g->groups == g->channels; }

struct depthwise {
    int back; /* whether to the inputs */
    const real *kernel, *bias;
    int activation;
    real *y, *saved;
};

size_t NAME(depthwise_bytes)(const struct view *v, const struct geometry *g, int back);
/* Do lines [begin, end) of all samples' rows. */
void NAME(depthwise)(const struct view *v, const struct geometry *g, const struct depthwise *o, index_t begin, index_t end, void *scratch);

size_t NAME(depthwise_gradient_bytes)(const struct convolution_weight_gradient *o);
/* Do the filters [begin, end). */
void NAME(depthwise_gradient)(const struct convolution_weight_gradient *o, index_t begin, index_t end, void *scratch);

#endif
