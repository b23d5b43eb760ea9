"""hpcnn: train neural networks data-parallel on MPI clusters, with the same bits on any number of ranks."""

__version__ = "0.1.0"
