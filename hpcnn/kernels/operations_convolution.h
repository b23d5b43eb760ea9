/* Convolutions over one to three axes: channels last, (samples, d, h, w, channels); absent axes have length 1.
 *
 * The output at position p of an axis takes the inputs at p stride + tap dilation - before, for each tap of the kernel;
 * where that is outside the image the input is +0, and counts as a term like any other. The kernel is (taps d, h, w,
 * channels of a group, filters): filters [g filters / groups, ...) see the channels [g channels / groups, ...).
 * With as many groups as channels it is depthwise. */
struct geometry {
    index_t samples, channels, filters, groups;
    index_t in[3], out[3], kernel[3], stride[3], dilation[3], before[3];
};

/* y = activation(convolution of x + bias): `product` of the matrix of patches and the kernel. The terms of an output are
 * ordered by tap (d, h, w), then channel of the group; blocks of BLOCK_TERMS terms, bias and activation as in `product`.
 * A task is one line of y: all positions along w. */
struct convolution {
    struct geometry geometry;
    const void *x, *kernel;
    const void *bias; /* (filters), or NULL */
    int activation;
    void *y;
    void *saved; /* as in `product` */
};

/* dx = activation(transposed convolution of dy + bias). The terms of an input are ordered by tap, the last first, then
 * filter of the group; those are the taps for which (position + before - tap dilation) is a multiple of the stride, and
 * where the output lies outside the term is +0. Blocks, bias and activation as in `product`. A task is one line of dx. */
struct convolution_input_gradient {
    struct geometry geometry;
    const void *dy, *kernel;
    const void *bias; /* (channels), or NULL */
    int activation;
    void *dx;
    void *saved;
};

/* kernel[g]: `weight_gradient` of the matrix of patches and dy: sums over the rows (sample, output position) of each
 * leaf, in blocks of BLOCK_TERMS counted from its first, then along the tree. A task is one feature: a tap and channel
 * of a group, of all groups; or one filter of a depthwise convolution. (Deal them in multiples of 16.) */
struct convolution_weight_gradient {
    struct geometry geometry;
    const struct shards *shards;
    const void *x, *dy;
    void *const *kernel;
};
