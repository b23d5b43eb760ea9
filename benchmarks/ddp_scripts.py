"""Throughput of PyTorch scripts: `hpcnn.torch.DistributedDataParallel` against PyTorch's own over gloo, in turn.

Both sides train the same modules by the same loop, with the fused Adam; PyTorch's has gradient_as_bucket_view and
static_graph.

    mpirun -n 2 python -m benchmarks.ddp_scripts
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.problem import BATCH, NETWORKS, make_data
from benchmarks.report import Report, make_parser
from benchmarks.torch_side import gloo_group, load_torch, module_steps, network, torch_ddp
from benchmarks.turns import Runner, rates, ratios, take_turns
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.protocol import Communicator

OURS, OVERLAP, DDP = "hpcnn.torch", "hpcnn.torch, buckets", "DDP"


def cnn() -> Any:
    """Return a small convolutional network for images of 28 x 28."""
    nn = load_torch().nn
    return nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def resnet18() -> Any:
    """Return a ResNet-18 for images of 32 x 32."""
    nn = load_torch().nn

    class Block(nn.Module):
        def __init__(self, before: int, after: int, stride: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
                nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after),
            )  # fmt: skip
            same = before == after and stride == 1
            self.skip = nn.Identity() if same else nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )  # fmt: skip

        def forward(self, x: Any) -> Any:
            return nn.functional.relu(self.body(x) + self.skip(x))

    blocks, before = [], 64
    for after, stride in [(64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)]:
        blocks.append(Block(before, after, stride))
        before = after
    stem = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


CASES: dict[str, tuple[Callable[[], Any], tuple[int, ...], int]] = {
    **{name: (partial(network, widths[:1], widths), (widths[0],), BATCH) for name, widths in NETWORKS.items()},
    "CNN on 28 x 28": (cnn, (1, 28, 28), BATCH),
    "ResNet-18 on 32 x 32": (resnet18, (3, 32, 32), 8),
}
"""What makes each module, the shape of a sample, and samples per step and rank."""


def measure(comm: Communicator, arguments: argparse.Namespace) -> int:
    import hpcnn.torch as hvd

    hvd.init()
    torch = load_torch()
    wraps: dict[str, Callable[[Any], Any]] = {
        OURS: hvd.DistributedDataParallel,
        DDP: torch_ddp(tuned=True),
        OVERLAP: partial(hvd.DistributedDataParallel, bucket_cap_mb=arguments.bucket),
    }
    with gloo_group(comm):
        report = Report(comm, {"PyTorch": "tuned", "MiB a bucket": arguments.bucket}, arguments.json)
        for name in arguments.cases or CASES:
            make, shape, batch = CASES[name]
            x, y = (torch.from_numpy(array) for array in make_data((int(torch.Size(shape).numel()), 10), 16 * BATCH))

            sides = {
                side: module_steps(
                    make(), x.reshape(-1, *shape), y, comm.rank, comm.size, wrap=wrap, tuned=True, batch=batch
                )
                for side, wrap in wraps.items()
            }
            runners = [Runner(side, steps) for side, steps in sides.items()]
            figures = take_turns(comm, runners, arguments.rounds, arguments.seconds)
            measured = rates(figures, dict.fromkeys(wraps, batch * comm.size))
            report.add(
                name,
                measured,
                "samples/s",
                {f"ratio {side} / DDP": ratios(measured[side], measured[DDP]) for side in (OURS, OVERLAP)},
            )
        report.write()
    return 0


def main() -> int:
    parser = make_parser("ddp_scripts", "Compares hpcnn.torch with PyTorch DDP over gloo.", ranks=2, rounds=15)
    parser.add_argument("--seconds", type=float, default=0.25, help="of each measurement; 0.25")
    parser.add_argument("--bucket", type=float, default=4.0, help="MiB of a bucket of the side with buckets; 4")
    parser.add_argument("--cases", nargs="*", choices=list(CASES), help="the networks; all if left out")
    arguments = parser.parse_args()
    return run_parallel(lambda comm: measure(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
