"""A network for the digits, as a module of PyTorch: what `jobs/digits_torch.toml` trains."""

from torch import nn


class Digits(nn.Module):
    """Convolutions over images (n, 8, 8), then logits (n, 10)."""

    def __init__(self, filters: int, dropout: float):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, filters, 3, padding=1),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(filters, 2 * filters, 3, padding=1),
            nn.BatchNorm2d(2 * filters),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(8 * filters, 10))

    def forward(self, x):
        """Return the logits: the loss of the job is computed from them, and predictions are probabilities."""
        return self.classifier(self.features(x.unsqueeze(1)))


def network(input_shape, filters=32, dropout=0.5):
    """Return the module for samples of `input_shape`; the other arguments are the job's `model.options`."""
    assert input_shape == (8, 8)
    return Digits(filters, dropout)
