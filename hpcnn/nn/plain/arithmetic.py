"""All operations in NumPy that layers and losses call."""

from hpcnn.nn.plain.attention import PlainAttention
from hpcnn.nn.plain.batch_normalization import PlainBatchNormalization
from hpcnn.nn.plain.contrast import PlainContrast
from hpcnn.nn.plain.convolution import PlainConvolution
from hpcnn.nn.plain.dense import PlainDense
from hpcnn.nn.plain.embeddings import PlainEmbeddings
from hpcnn.nn.plain.group_normalization import PlainGroupNormalization
from hpcnn.nn.plain.loss import PlainLoss
from hpcnn.nn.plain.merging import PlainMerging
from hpcnn.nn.plain.noise import PlainNoise
from hpcnn.nn.plain.normalization import PlainNormalization
from hpcnn.nn.plain.pooling import PlainPooling
from hpcnn.nn.plain.rectifiers import PlainRectifiers
from hpcnn.nn.plain.recurrent import PlainRecurrent
from hpcnn.nn.plain.shapes import PlainShapes
from hpcnn.nn.plain.spectral import PlainSpectral


class NumpyArithmetic(
    PlainDense,
    PlainNoise,
    PlainNormalization,
    PlainBatchNormalization,
    PlainLoss,
    PlainConvolution,
    PlainGroupNormalization,
    PlainPooling,
    PlainRectifiers,
    PlainShapes,
    PlainMerging,
    PlainAttention,
    PlainEmbeddings,
    PlainSpectral,
    PlainRecurrent,
    PlainContrast,
):
    """See `Arithmetic`. A row of a product may depend on its neighbours: a pass is one gradient shard."""


NUMPY = NumpyArithmetic()
