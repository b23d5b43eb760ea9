"""The losses of the job file on TensorFlow's tensors, as `hpcnn.nn.losses` has them."""

from hpcnn.backends.keras.losses.heads import HEADS, ending_of, head_of
from hpcnn.backends.keras.losses.samples import LOSSES, sample_losses, sum_of

__all__ = ["HEADS", "LOSSES", "ending_of", "head_of", "sample_losses", "sum_of"]
