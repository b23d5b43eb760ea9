"""All operations in NumPy that layers and losses call."""

from hpcnn.nn.plain.dense import PlainDense
from hpcnn.nn.plain.loss import PlainLoss
from hpcnn.nn.plain.noise import PlainNoise
from hpcnn.nn.plain.normalization import PlainNormalization
from hpcnn.nn.plain.recurrent import PlainRecurrent


class NumpyArithmetic(PlainDense, PlainNoise, PlainNormalization, PlainRecurrent, PlainLoss):
    """See `Arithmetic`. A row of a product may depend on its neighbours: a pass is one gradient shard."""


NUMPY = NumpyArithmetic()
