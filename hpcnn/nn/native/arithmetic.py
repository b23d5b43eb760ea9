"""All operations of the compiled core that layers and losses call."""

from hpcnn.nn.native.attention import NativeAttention
from hpcnn.nn.native.dense import NativeDense
from hpcnn.nn.native.embeddings import NativeEmbeddings
from hpcnn.nn.native.loss import NativeLoss
from hpcnn.nn.native.noise import NativeNoise
from hpcnn.nn.native.normalization import NativeNormalization


class NativeArithmetic(NativeDense, NativeNoise, NativeNormalization, NativeAttention, NativeEmbeddings, NativeLoss):
    """See `Arithmetic`. A row does not depend on its neighbours: a pass takes all shards of a rank at once."""


NATIVE = NativeArithmetic()
