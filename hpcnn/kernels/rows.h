/* Copies of rows, for Python. */
#ifndef HPCNN_ROWS_H
#define HPCNN_ROWS_H

#include "arguments.h"

extern const PyMethodDef row_functions[]; /* ends with a name of NULL */

#endif
