/* Pointers to the kernels of one instruction set and type, whose own names the objects of the core hide. */
#include "simd.h"

#define OPERATION(name, kind, arguments, doc) \
    void NAME(name)(const void *operation, index_t begin, index_t end, void *scratch); \
    extern const kernel_t NAME(at_##name); \
    const kernel_t NAME(at_##name) = NAME(name);
#define SCRATCH(name, kind) \
    size_t NAME(name##_scratch)(const void *operation); \
    extern const scratch_size_t NAME(at_##name##_scratch); \
    const scratch_size_t NAME(at_##name##_scratch) = NAME(name##_scratch);
#include "operations.def"
