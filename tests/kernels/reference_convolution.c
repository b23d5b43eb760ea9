/* Convolutions again, for tests alone: products of the references with matrices of patches that are made. */
#include <stdlib.h>

#include "simd.h"

void NAME(product)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(weight_gradient)(const void *operation, index_t begin, index_t end, void *scratch);

static index_t positions(const index_t extent[3]) { return extent[0] * extent[1] * extent[2]; }

/* The three coordinates of a place, and the other way round; -1 outside. */
static void split(index_t place, const index_t extent[3], index_t at[3]) {
    for (int i = 2; i >= 0; i--) at[i] = place % extent[i], place /= extent[i];
}

static index_t joined(const index_t at[3], const index_t extent[3]) {
    index_t place = 0;
    for (int i = 0; i < 3; i++) {
        if (at[i] < 0 || at[i] >= extent[i]) return -1;
        place = place * extent[i] + at[i];
    }
    return place;
}

/* The patches of a group: (samples x outputs, taps x channels of a group). */
static real *patches_of(const struct geometry *g, const real *x, index_t group) {
    index_t outputs = positions(g->out), taps = positions(g->kernel), channels = g->channels / g->groups;
    real *all = calloc((size_t)(g->samples * outputs * taps * channels + 1), sizeof(real)), *to = all;
    for (index_t sample = 0; sample < g->samples; sample++)
        for (index_t output = 0; output < outputs; output++)
            for (index_t tap = 0; tap < taps; tap++, to += channels) {
                index_t p[3], t[3], at[3];
                split(output, g->out, p);
                split(tap, g->kernel, t);
                for (int i = 0; i < 3; i++) at[i] = p[i] * g->stride[i] + t[i] * g->dilation[i] - g->before[i];
                index_t place = joined(at, g->in);
                if (place < 0) continue;
                memcpy(to, x + (sample * positions(g->in) + place) * g->channels + group * channels, (size_t)channels * sizeof(real));
            }
    return all;
}

void NAME(convolution)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(convolution)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct convolution *o = operation;
    const struct geometry *g = &o->geometry;
    index_t filters = g->filters / g->groups, terms = positions(g->kernel) * (g->channels / g->groups);
    for (index_t group = 0; group < g->groups; group++) {
        real *patches = patches_of(g, o->x, group);
        index_t first = group * filters;
        struct product product = {
            .n = filters, .k = terms, .a = patches, .a_row = terms, .a_column = 1, .b = (const real *)o->kernel + first,
            .b_row = g->filters, .b_column = 1, .c = (real *)o->y + first, .c_row = g->filters,
            .bias = o->bias ? (const real *)o->bias + first : NULL, .activation = o->activation,
            .saved = o->saved ? (real *)o->saved + first : NULL};
        NAME(product)(&product, begin * g->out[2], end * g->out[2], scratch);
        free(patches);
    }
}

void NAME(convolution_input_gradient)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(convolution_input_gradient)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct convolution_input_gradient *o = operation;
    const struct geometry *g = &o->geometry;
    index_t channels = g->channels / g->groups, filters = g->filters / g->groups, taps = positions(g->kernel);
    real *a = malloc((size_t)(taps * filters + 1) * sizeof(real)), *b = malloc((size_t)(taps * filters * channels + 1) * sizeof(real));
    for (index_t row = begin * g->in[2]; row < end * g->in[2]; row++)
        for (index_t group = 0; group < g->groups; group++) {
            index_t sample = row / positions(g->in), terms = 0, first = row * g->channels + group * channels;
            for (index_t tap = taps - 1; tap >= 0; tap--) {
                index_t position[3], t[3], at[3];
                int reaches = 1;
                split(row % positions(g->in), g->in, position);
                split(tap, g->kernel, t);
                for (int i = 0; i < 3; i++) {
                    index_t from = position[i] + g->before[i] - t[i] * g->dilation[i];
                    reaches &= from % g->stride[i] == 0;
                    at[i] = from < 0 ? -1 : from / g->stride[i];
                }
                if (!reaches) continue;
                index_t output = joined(at, g->out);
                for (index_t f = 0; f < filters; f++, terms++) {
                    a[terms] = output < 0 ? 0 : ((const real *)o->dy)[(sample * positions(g->out) + output) * g->filters + group * filters + f];
                    for (index_t c = 0; c < channels; c++)
                        b[terms * channels + c] = ((const real *)o->kernel)[(tap * channels + c) * g->filters + group * filters + f];
                }
            }
            struct product product = {
                .n = channels, .k = terms, .a = a, .a_row = terms, .a_column = 1, .b = b, .b_row = channels, .b_column = 1,
                .c = (real *)o->dx + first, .c_row = channels, .bias = o->bias ? (const real *)o->bias + group * channels : NULL,
                .activation = o->activation, .saved = o->saved ? (real *)o->saved + first : NULL};
            NAME(product)(&product, 0, 1, scratch);
        }
    free(a);
    free(b);
}

/* All features, whichever are asked for. */
void NAME(convolution_weight_gradient)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(convolution_weight_gradient)(const void *operation, index_t begin, index_t end, void *scratch) {
    const struct convolution_weight_gradient *o = operation;
    const struct geometry *g = &o->geometry;
    index_t filters = g->filters / g->groups, features = positions(g->kernel) * (g->channels / g->groups);
    void *sums[64];
    (void)begin, (void)end;
    for (index_t i = 0; i < o->shards->groups; i++) sums[i] = malloc((size_t)(features * filters) * sizeof(real));
    for (index_t group = 0; group < g->groups; group++) {
        real *patches = patches_of(g, o->x, group);
        struct weight_gradient gradient = {o->shards, features, filters, patches, features, (const real *)o->dy + group * filters, g->filters, sums};
        NAME(weight_gradient)(&gradient, 0, filters, scratch);
        for (index_t i = 0; i < o->shards->groups; i++)
            for (index_t f = 0; f < features; f++)
                memcpy((real *)o->kernel[i] + f * g->filters + group * filters, (real *)sums[i] + f * filters, (size_t)filters * sizeof(real));
        free(patches);
    }
    for (index_t i = 0; i < o->shards->groups; i++) free(sums[i]);
}
