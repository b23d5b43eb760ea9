"""All operations of the compiled core that layers and losses call."""

from hpcnn.nn.native.attention import NativeAttention
from hpcnn.nn.native.batch_normalization import NativeBatchNormalization
from hpcnn.nn.native.contrast import NativeContrast
from hpcnn.nn.native.convolution import NativeConvolution
from hpcnn.nn.native.dense import NativeDense
from hpcnn.nn.native.embeddings import NativeEmbeddings
from hpcnn.nn.native.group_normalization import NativeGroupNormalization
from hpcnn.nn.native.loss import NativeLoss
from hpcnn.nn.native.merging import NativeMerging
from hpcnn.nn.native.noise import NativeNoise
from hpcnn.nn.native.normalization import NativeNormalization
from hpcnn.nn.native.pooling import NativePooling
from hpcnn.nn.native.rectifiers import NativeRectifiers
from hpcnn.nn.native.recurrent import NativeRecurrent
from hpcnn.nn.native.shapes import NativeShapes
from hpcnn.nn.native.spectral import NativeSpectral


class NativeArithmetic(
    NativeDense,
    NativeConvolution,
    NativeNoise,
    NativeNormalization,
    NativeLoss,
    NativeBatchNormalization,
    NativeGroupNormalization,
    NativePooling,
    NativeRectifiers,
    NativeShapes,
    NativeMerging,
    NativeAttention,
    NativeEmbeddings,
    NativeSpectral,
    NativeRecurrent,
    NativeContrast,
):
    """See `Arithmetic`. A row does not depend on its neighbours: a pass takes all shards of a rank at once."""


NATIVE = NativeArithmetic()
