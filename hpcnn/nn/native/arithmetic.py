"""All operations of the compiled core that layers and losses call."""

from hpcnn.nn.native.batch_normalization import NativeBatchNormalization
from hpcnn.nn.native.convolution import NativeConvolution
from hpcnn.nn.native.dense import NativeDense
from hpcnn.nn.native.group_normalization import NativeGroupNormalization
from hpcnn.nn.native.loss import NativeLoss
from hpcnn.nn.native.noise import NativeNoise
from hpcnn.nn.native.normalization import NativeNormalization


class NativeArithmetic(
    NativeDense,
    NativeConvolution,
    NativeNoise,
    NativeNormalization,
    NativeLoss,
    NativeBatchNormalization,
    NativeGroupNormalization,
):
    """See `Arithmetic`. A row does not depend on its neighbours: a pass takes all shards of a rank at once."""


NATIVE = NativeArithmetic()
