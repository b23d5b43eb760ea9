/* The kernels of one instruction set and one type, by the number of their operation. */
#include "simd.h"

#define EACH_KERNEL(DO) \
    DO(OP_PRODUCT, product) DO(OP_WEIGHT_GRADIENT, weight_gradient) DO(OP_COLUMN_SUMS, column_sums) \
    DO(OP_ACTIVATE, activate) DO(OP_ACTIVATE_BACKWARD, activate_backward) DO(OP_LOSS, loss) DO(OP_LAYER_NORM, layer_norm) \
    DO(OP_LAYER_NORM_BACKWARD, layer_norm_backward) DO(OP_DROPOUT, dropout) DO(OP_ADD, add) \
    DO(OP_SHARD_TOTALS, shard_totals) DO(OP_COUNT_RIGHT, count_right) DO(OP_UPDATE, update) DO(OP_CELL_SUMS, cell_sums) \
    DO(OP_FIND_NOT_FINITE, find_not_finite) DO(OP_FOLD, fold) DO(OP_STANDARDIZE, standardize)
#define EACH_SCRATCH(DO) \
    DO(OP_PRODUCT, product_scratch) DO(OP_WEIGHT_GRADIENT, weight_gradient_scratch) DO(OP_COLUMN_SUMS, column_sums_scratch) \
    DO(OP_SHARD_TOTALS, shard_totals_scratch) DO(OP_FOLD, fold_scratch)

#define DECLARE_KERNEL(kind, name) __attribute__((visibility("hidden"))) void NAME(name)(const void *operation, index_t begin, index_t end, void *scratch);
#define DECLARE_SCRATCH(kind, name) __attribute__((visibility("hidden"))) size_t NAME(name)(const void *operation);
EACH_KERNEL(DECLARE_KERNEL)
EACH_SCRATCH(DECLARE_SCRATCH)

#define ENTRY(kind, name) [kind] = NAME(name),
const struct kernels NAME(kernels) = {.run = {EACH_KERNEL(ENTRY)}, .scratch = {EACH_SCRATCH(ENTRY)}};
