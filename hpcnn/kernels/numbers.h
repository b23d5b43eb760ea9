/* Random numbers, and functions of single numbers, for Python. */
#ifndef HPCNN_NUMBERS_H
#define HPCNN_NUMBERS_H

#include "arguments.h"

extern const PyMethodDef number_functions[]; /* ends with a name of NULL */

#endif
