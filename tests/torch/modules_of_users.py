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
