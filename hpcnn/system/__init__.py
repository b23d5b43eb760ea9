"""The process and its machine: cores, memory, BLAS, terminal, output, files that appear whole. Nothing of MPI."""
