"""The losses of the job file on PyTorch's tensors, as `hpcnn.nn.losses` has them."""

from hpcnn.backends.torch.losses.samples import LOSSES, sample_losses

__all__ = ["LOSSES", "sample_losses"]
