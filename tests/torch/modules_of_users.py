"""Functions as users write them for `model.entry` in PyTorch mode, right ones and wrong ones. Imports PyTorch."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import nn

from hpcnn.nn import Dense, Flatten, Network


def mlp(input_shape, width=32):
    size = int(np.prod(input_shape))
    return nn.Sequential(nn.Flatten(), nn.Linear(size, width), nn.ReLU(), nn.Linear(width, 10))


class Images(nn.Module):
    """Convolutions with batch normalisation and dropout, for samples (8, 8) without channels."""

    def __init__(self, filters=8):
        super().__init__()
        self.first = nn.Conv2d(1, filters, 3, padding=1)
        self.norm = nn.BatchNorm2d(filters)
        self.second = nn.Conv2d(filters, filters, 3, padding=1)
        self.norm_2 = nn.BatchNorm2d(filters)
        self.drop = nn.Dropout(0.25)
        self.out = nn.Linear(filters * 16, 10)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x.unsqueeze(1))))
        x = torch.relu(self.norm_2(self.second(x)))
        return self.out(self.drop(torch.max_pool2d(x, 2).flatten(1)))


def cnn(input_shape, filters=8):
    return Images(filters)


class Rows(nn.Module):
    """An LSTM over the rows of an image."""

    def __init__(self, width=16):
        super().__init__()
        self.lstm = nn.LSTM(8, width, num_layers=2, dropout=0.1, batch_first=True)
        self.out = nn.Linear(width, 10)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


def lstm(input_shape):
    return Rows()


class Encoder(nn.Module):
    """Torch's own transformer encoder over the rows of an image."""

    def __init__(self, width=16):
        super().__init__()
        self.lift = nn.Linear(8, width)
        self.place = nn.Parameter(0.02 * torch.randn(8, width))
        layer = nn.TransformerEncoderLayer(width, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.out = nn.Linear(width, 10)

    def forward(self, x):
        return self.out(self.encoder(self.lift(x) + self.place).mean(1))


def encoder(input_shape):
    return Encoder()


def normalized(input_shape):
    """Batch normalisation and dropout of a row, in any type."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(5, 9), nn.BatchNorm1d(9, momentum=0.2), nn.ReLU(), nn.Dropout(0.3), nn.Linear(9, 3)
    )


class Tied(nn.Module):
    """One weight under two names, one that does not learn, one that the outputs do not depend on, and a table."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 5)
        self.second = nn.Linear(5, 5)
        self.second.weight = self.first.weight
        self.out = nn.Linear(5, 3)
        self.out.weight.requires_grad_(False)
        self.idle = nn.Parameter(torch.ones(2))
        self.register_buffer("table", torch.linspace(0, 1, 5))

    def forward(self, x):
        return self.out(torch.tanh(self.second(torch.tanh(self.first(x + self.table)))))


def tied(input_shape):
    return Tied()


def lazy(input_shape):
    return nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyLinear(3))


def ending_in(input_shape, last):
    return nn.Sequential(nn.Linear(5, 3), getattr(nn, last)(**({"dim": -1} if "Softmax" in last else {})))


def of_hpcnn(input_shape):
    return Network([Flatten(name="flat"), Dense(3, name="out")], input_shape, "softmax")


def crossentropy(outputs, targets):
    return nn.functional.cross_entropy(outputs, targets, reduction="none")


def its_mean(outputs, targets):
    return crossentropy(outputs, targets).mean()


# ---------------------------------------------------------------------------------------------------------- wrong ones


class Ids(nn.Module):
    """Takes numbers as ids."""

    def forward(self, x):
        return x.long()


def clipped(input_shape):
    return nn.Sequential(Ids(), nn.Embedding(3, 9, max_norm=0.1), nn.Flatten(), nn.Linear(45, 3))


class Calling(nn.Module):
    """Calls a function of what a layer returns, and of the module itself."""

    def __init__(self, function):
        super().__init__()
        self.inner = nn.Linear(5, 3)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.function = function

    def forward(self, x):
        return self.function(self, self.inner(x))


def calling(function):
    return lambda input_shape: Calling(function)


def counted(module, y):
    module.count += 1
    return y


def decayed(module, y):
    module.inner.weight.data.mul_(0.9)
    return y


def replaced(module, y):
    module.inner.bias = nn.Parameter(module.inner.bias + 1)
    return y


def failed(module, y):
    raise RuntimeError("out of order")


no_module = lambda input_shape: 3  # noqa: E731
no_parameters = lambda input_shape: nn.ReLU()  # noqa: E731
all_frozen = lambda input_shape: nn.Linear(5, 3).requires_grad_(False)  # noqa: E731
other_dtype = lambda input_shape: nn.Linear(5, 3, dtype=torch.float64)  # noqa: E731
mixed = lambda input_shape: nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 3, dtype=torch.bfloat16))  # noqa: E731
no_momentum = lambda input_shape: nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3, momentum=None))  # noqa: E731
synchronized = lambda input_shape: nn.Sequential(nn.Linear(5, 3), nn.SyncBatchNorm(3))  # noqa: E731
two_outputs = calling(lambda module, y: (y, y))
integers = calling(lambda module, y: y.long())
one_row = calling(lambda module, y: y.mean(0))
detached = calling(lambda module, y: y.detach())
counts = calling(counted)
changes_weights = calling(decayed)
replaces_weights = calling(replaced)
broken = calling(failed)
of_python = calling(lambda module, y: y * random.random())
of_numpy = calling(lambda module, y: y * float(np.random.uniform()))  # noqa: NPY002
own_probabilities = calling(lambda module, y: y.exp() / y.exp().sum(-1, keepdim=True))
