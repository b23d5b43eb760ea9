/* Which kernels run: those of the widest instruction set that this machine has, or that HPCNN_ISA asks for. */
#ifndef HPCNN_DISPATCH_H
#define HPCNN_DISPATCH_H

#include "operations.h"

/* Choose, once. Returns NULL, or what is wrong with HPCNN_ISA, in one sentence with what is allowed. */
const char *choose_isa(void);
const char *isa_name(void);
const struct kernels *kernels_for(int bits);

#endif
