/* The kernels of one instruction set and one type, by the number of their operation. */
#include "simd.h"

#define OPERATION(name, kind, arguments, doc) \
    __attribute__((visibility("hidden"))) void NAME(name)(const void *operation, index_t begin, index_t end, void *scratch);
#define SCRATCH(name, kind) __attribute__((visibility("hidden"))) size_t NAME(name##_scratch)(const void *operation);
#include "operations.def"

const struct kernels NAME(kernels) = {
    .run = {
#define OPERATION(name, kind, arguments, doc) [OP_##kind] = NAME(name),
#include "operations.def"
    },
    .scratch = {
#define SCRATCH(name, kind) [OP_##kind] = NAME(name##_scratch),
#include "operations.def"
    }};
