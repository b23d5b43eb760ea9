/* Dropout of whole channels, and noise that is added. */
#include "random.h"
#include "simd.h"

void NAME(spatial_dropout)(const void *operation, index_t begin, index_t end, void *scratch);
void NAME(gaussian_noise)(const void *operation, index_t begin, index_t end, void *scratch);

#define PIECE 256 /* channels, or numbers, that are drawn at once */

void NAME(spatial_dropout)(const void *operation, index_t begin, index_t end, void *scratch) {
    (void)scratch;
    const struct spatial_dropout *o = operation;
    const uint32_t key[2] = {(uint32_t)o->seed, (uint32_t)(o->seed >> 32)};
    const vec c = all((real)(1 / (1 - o->rate)));
    whole kept[PIECE + WIDTH];
    for (index_t sample = begin; sample < end; sample++) {
        const index_t first = sample * o->positions * o->channels;
        for (index_t at = 0; at < o->channels; at += PIECE) {
            const index_t n = at + PIECE < o->channels ? PIECE : o->channels - at;
            for (index_t j = 0; j < n; j += 4) {
                const uint32_t counter[4] = {(uint32_t)((at + j) / 4), o->place->first_sample + (uint32_t)sample, o->place->step, o->stream};
                uint32_t words[4];
                philox(counter, key, words);
                for (int word = 0; word < 4; word++) kept[j + word] = -(whole)((words[word] >> 8) * 0x1p-24 >= o->rate);
            }
            for (index_t position = 0; position < o->positions; position++) {
                const real *x = (const real *)o->x + first + position * o->channels + at;
                real *y = (real *)o->y + first + position * o->channels + at;
                for (index_t j = 0; j < n; j += WIDTH) {
                    ivec mask;
                    memcpy(&mask, kept + j, sizeof mask);
                    if (n - j >= WIDTH) store(y + j, (vec)(mask & (ivec)flushed(load(x + j) * c)));
                    else store_part(y + j, (vec)(mask & (ivec)flushed(load_part(x + j, n - j) * c)), n - j);
                }
            }
        }
    }
}

void NAME(gaussian_noise)(const void *operation, index_t begin, index_t end, void *scratch) {
    (void)scratch;
    const struct gaussian_noise *o = operation;
    double normal[PIECE];
    for (index_t sample = begin; sample < end; sample++) {
        const real *x = (const real *)o->x + sample * o->columns;
        real *y = (real *)o->y + sample * o->columns;
        for (index_t at = 0; at < o->columns; at += PIECE) {
            const index_t n = at + PIECE < o->columns ? PIECE : o->columns - at;
            random_normal_of(o->seed, o->stream, o->place->first_sample + (uint32_t)sample, o->place->step, (uint32_t)at, normal, n);
            for (index_t j = 0; j < n; j++) {
                const double noise = o->deviation * normal[j], sum = (double)x[at + j] + noise;
                const real rounded = (real)sum;
                y[at + j] = rounded < REAL_MIN && rounded > -REAL_MIN ? (real)__builtin_copysign(0.0, sum) : rounded;
            }
        }
    }
}
