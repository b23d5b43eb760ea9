"""The networks of `benchmarks.deep_networks` for PyTorch, and its steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.deep_networks import (
    DEEP,
    DEPTH,
    FEATURES,
    HEADS,
    HIDDEN,
    LENGTH,
    RECURRENCES,
    RESNET_BLOCKS,
    RESNET_WIDTHS,
    STEPS,
    UNET_WIDTHS,
    UNITS,
    VOCABULARY,
    WIDTH,
)  # fmt: skip
from benchmarks.torch_side import load_torch


def deep_torch_steps(name: str, *, parallel: bool = False, channels_last: bool = True) -> Iterator[None]:
    """Train for ever, one step at a time, with the fused Adam.

    Args:
        name: of the network.
        parallel: with DistributedDataParallel, on all ranks of the process group, with its options for speed.
        channels_last: PyTorch's order of images in memory that is meant for processors; else channels come first.
    """
    torch = load_torch()
    what, of_images = DEEP[name], name in IMAGES
    network, criterion = NETWORKS[name](torch)
    order = torch.channels_last if of_images and channels_last else torch.contiguous_format
    network = network.to(memory_format=order)
    rank, size = 0, 1
    if parallel:
        rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        ddp = torch.nn.parallel.DistributedDataParallel
        network = ddp(network, gradient_as_bucket_view=True, static_graph=True)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    x, y = (torch.from_numpy(array) for array in what.data(STEPS * what.batch * size))
    x = x.permute(0, 3, 1, 2).contiguous(memory_format=order) if of_images else x
    x = x.long() if name == "transformer 4x256" else x
    y = y.permute(0, 3, 1, 2) if y.ndim == 4 else y
    generator = torch.Generator().manual_seed(0)
    while True:
        chosen_of_epoch = torch.randperm(len(x), generator=generator)[rank::size]
        for chosen in chosen_of_epoch.split(what.batch):
            optimizer.zero_grad()
            given = x[chosen].contiguous(memory_format=order) if of_images else x[chosen]
            criterion(network(given), y[chosen]).backward()
            optimizer.step()
            yield


def convolutional(torch: Any) -> Any:
    nn = torch.nn
    layers = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(9216, 128), nn.ReLU(), nn.Linear(128, 10)), nn.CrossEntropyLoss()


def resnet20(torch: Any) -> Any:
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self, before: int, filters: int) -> None:
            super().__init__()
            stride = 1 if before == filters else 2
            self.inner = nn.Sequential(
                nn.Conv2d(before, filters, 3, stride, 1, bias=False),
                nn.BatchNorm2d(filters),
                nn.ReLU(inplace=True),
                nn.Conv2d(filters, filters, 3, 1, 1, bias=False),
                nn.BatchNorm2d(filters),
            )
            project = [nn.Conv2d(before, filters, 1, stride, bias=False), nn.BatchNorm2d(filters)]
            self.shortcut = nn.Sequential(*project) if stride > 1 else nn.Identity()

        def forward(self, x: Any) -> Any:
            return torch.relu_(self.inner(x) + self.shortcut(x))

    width = RESNET_WIDTHS[0]
    parts = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    for filters in RESNET_WIDTHS:
        for _ in range(RESNET_BLOCKS):
            parts.append(Block(width, filters))
            width = filters
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)), nn.CrossEntropyLoss()


def unet(torch: Any) -> Any:
    nn = torch.nn

    def twice(before: int, filters: int) -> Any:
        first, second = nn.Conv2d(before, filters, 3, 1, 1), nn.Conv2d(filters, filters, 3, 1, 1)
        return nn.Sequential(first, nn.ReLU(inplace=True), second, nn.ReLU(inplace=True))

    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = UNET_WIDTHS
            self.down = nn.ModuleList(twice(*ends) for ends in zip((3, *widths), widths, strict=False))
            self.wider = nn.ModuleList(nn.ConvTranspose2d(2 * width, width, 2, 2) for width in widths[-2::-1])
            self.up = nn.ModuleList(twice(2 * width, width) for width in widths[-2::-1])
            self.pool, self.last = nn.MaxPool2d(2), nn.Conv2d(widths[0], 1, 1)

        def forward(self, x: Any) -> Any:
            kept = []
            for level in self.down[:-1]:
                kept.append(level(x))
                x = self.pool(kept[-1])
            x = self.down[-1](x)
            for wider, level in zip(self.wider, self.up, strict=True):
                x = level(torch.cat([kept.pop(), wider(x)], 1))
            return self.last(x)

    return UNet(), nn.BCEWithLogitsLoss()


def lstm(torch: Any) -> Any:
    nn = torch.nn

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.LSTM(FEATURES, UNITS, RECURRENCES, batch_first=True)
            self.last = nn.Linear(UNITS, 10)

        def forward(self, x: Any) -> Any:
            return self.last(self.inner(x)[0][:, -1])

    return Last(), nn.CrossEntropyLoss()


def transformer(torch: Any) -> Any:
    nn = torch.nn

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Any) -> Any:
            q, k, v = self.qkv(x).view(len(x), LENGTH, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
            y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.out(y.transpose(1, 2).reshape(len(x), LENGTH, WIDTH))

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            hidden = [nn.LayerNorm(WIDTH), nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH)]
            self.attention, self.hidden = nn.Sequential(nn.LayerNorm(WIDTH), Attention()), nn.Sequential(*hidden)

        def forward(self, x: Any) -> Any:
            x = x + self.attention(x)
            return x + self.hidden(x)

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.ids = nn.Embedding(VOCABULARY, WIDTH)
            self.places = nn.Parameter(torch.randn(LENGTH, WIDTH) * 0.02)
            blocks = [Block() for _ in range(DEPTH)]
            self.rest = nn.Sequential(*blocks, nn.LayerNorm(WIDTH), nn.Linear(WIDTH, VOCABULARY))

        def forward(self, ids: Any) -> Any:
            return self.rest(self.ids(ids) + self.places)

    loss = nn.CrossEntropyLoss()
    return Transformer(), lambda logits, ids: loss(logits.reshape(-1, VOCABULARY), ids.reshape(-1))


NETWORKS = dict(zip(DEEP, (convolutional, resnet20, unet, lstm, transformer), strict=True))
IMAGES = ("CNN 28x28", "ResNet-20 32x32", "U-Net 64x64")
