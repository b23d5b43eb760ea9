"""Training throughput on one rank and one BLAS thread: hpcnn against PyTorch, in turn, in one process.

Same network, batch, optimizer and data; both shuffle by index and gather each batch. PyTorch runs eagerly with its
default Adam, as its tutorials do; ``--fused`` gives it its fused Adam in place of that.

    pip install torch && python benchmarks/single_rank.py
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402 - after the number of threads is fixed

NETWORKS = {"784-32-10": [784, 32, 10], "784-512-512-10": [784, 512, 512, 10]}
BATCH = 128
SAMPLES = 8192


def make_data() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.random((SAMPLES, 784), dtype=np.float32), random.integers(0, 10, SAMPLES)


def hpcnn_steps(widths: list[int]) -> Iterator[float]:
    from hpcnn.comm.serial import SerialCommunicator
    from hpcnn.data.rows import ArrayRows
    from hpcnn.job import model as layers
    from hpcnn.job.optimizer import Adam
    from hpcnn.nn.build import build_loss, build_network
    from hpcnn.optim.build import build_optimizer
    from hpcnn.training.loader import ShardLoader
    from hpcnn.training.numpy_replica import NumpyReplica
    from hpcnn.training.sums import SumsLayout

    hidden = [layers.Dense(units=width, activation="relu") for width in widths[1:-1]]
    section = layers.Model(layers=[*hidden, layers.Dense(units=widths[-1], activation="softmax")])
    network = build_network(section, (widths[0],))
    loss = build_loss(layers.SparseCategoricalCrossentropy(), network)
    layout = SumsLayout([])
    exchange = SerialCommunicator().exchange(1, network.layout.trainable_size, np.float32, layout.size)
    replica = NumpyReplica(network, loss, layout, build_optimizer(Adam()), exchange, seed=0, dtype=np.float32)
    x, y = make_data()
    loader = ShardLoader(
        ArrayRows(x), ArrayRows(y), batch_size=BATCH, shards=1, seed=0, shuffle=True, input_shape=(784,),
        dtype=np.float32,
    )  # fmt: skip
    step = 0
    while True:
        loader.start_epoch(step)
        for batch in range(loader.steps_per_epoch):
            sums = replica.train_step(step, partial(loader.shard, batch), factor=1.0, stop=False)
            step += 1
            yield float(sums[1])


def torch_steps(widths: list[int], fused: bool) -> Iterator[float]:
    import torch

    torch.set_num_threads(1)
    parts: list[torch.nn.Module] = []
    for before, after in pairwise(widths):
        parts += [torch.nn.Linear(before, after), torch.nn.ReLU()]
    network = torch.nn.Sequential(*parts[:-1])
    optimizer = torch.optim.Adam(network.parameters(), **({"fused": True} if fused else {}))
    criterion = torch.nn.CrossEntropyLoss()
    x, y = (torch.from_numpy(array) for array in make_data())
    while True:
        order = torch.randperm(SAMPLES)
        for start in range(0, SAMPLES, BATCH):
            chosen = order[start : start + BATCH]
            optimizer.zero_grad()
            loss = criterion(network(x[chosen]), y[chosen])
            loss.backward()
            optimizer.step()
            yield loss.detach()


def samples_per_s(steps: Iterator[float], seconds: float) -> float:
    """Run for about so many seconds."""
    done, begin = 0, time.perf_counter()
    while (now := time.perf_counter()) - begin < seconds:
        next(steps)
        done += BATCH
    return done / (now - begin)


def compare(first: Iterator[float], second: Iterator[float], rounds: int, seconds: float) -> tuple[list[float], ...]:
    """Measure in turn A B A B ..., after a round that does not count."""
    measured = [(samples_per_s(first, seconds), samples_per_s(second, seconds)) for _ in range(rounds + 1)]
    ours, theirs = (list(column) for column in zip(*measured[1:], strict=True))
    return ours, theirs


def cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each measurement")
    parser.add_argument("--fused", action="store_true", help="give PyTorch its fused Adam")
    parser.add_argument("--json", type=Path, help="also write the raw figures there")
    arguments = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.stderr.write("this benchmark compares with PyTorch: pip install torch\n")
        return 2
    report: dict[str, object] = {"cpu": cpu_model(), "numpy": np.__version__, "torch": torch.__version__}
    report["adam of torch"] = "fused" if arguments.fused else "default"
    print(f"{report['cpu']}, numpy {np.__version__}, torch {torch.__version__}, batch {BATCH}, one thread, samples/s")
    for name, widths in NETWORKS.items():
        ours, theirs = compare(
            hpcnn_steps(widths), torch_steps(widths, arguments.fused), arguments.rounds, arguments.seconds
        )
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        print(
            f"{name:>16}  hpcnn {statistics.median(ours):9,.0f}  torch {statistics.median(theirs):9,.0f}  "
            f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        )
        report[name] = {"hpcnn": ours, "torch": theirs, "ratio": ratios}
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
