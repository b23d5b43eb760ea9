#include "numbers.h"

const PyMethodDef number_functions[] = {{NULL, NULL, 0, NULL}};
