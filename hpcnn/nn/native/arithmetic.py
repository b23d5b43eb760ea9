"""All operations of the compiled core that layers and losses call."""

from hpcnn.nn.native.dense import NativeDense
from hpcnn.nn.native.loss import NativeLoss
from hpcnn.nn.native.noise import NativeNoise
from hpcnn.nn.native.normalization import NativeNormalization
from hpcnn.nn.native.recurrent import NativeRecurrent


class NativeArithmetic(NativeDense, NativeNoise, NativeNormalization, NativeRecurrent, NativeLoss):
    """See `Arithmetic`. A row does not depend on its neighbours: a pass takes all shards of a rank at once."""


NATIVE = NativeArithmetic()
