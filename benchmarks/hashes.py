"""Training the digits on 1 to 8 ranks: the SHA-256 of the weights, of hpcnn and of PyTorch DDP over gloo.

    python -m benchmarks.hashes

Starts the ranks itself, by the mpirun of the environment. Both sides train the same network on the same global batches.
Where the ranks' parts of a batch are of unlike size, DDP's losses are weighted so that each sample counts once, on any
number of ranks: what differs is rounding alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.report import facts, positive
from benchmarks.torch_side import gloo_group, load_torch
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.protocol import Communicator
from hpcnn.comm.serial import SerialCommunicator

ROOT = Path(__file__).parents[1]
NAMES = {"hpcnn": "hpcnn", "ddp": "PyTorch DDP"}
SIDES = list(NAMES)
WIDTHS, BATCH, EPOCHS = (64, 128, 128, 10), 64, 5
JOB = """
[data]
source = "digits"

[model]
layers = [
    { type = "flatten" },
    { type = "dense", units = 128, activation = "relu" },
    { type = "dense", units = 128, activation = "relu" },
    { type = "dense", units = 10, activation = "softmax" },
]

[loss]
name = "sparse_categorical_crossentropy"

[train]
epochs = 5
batch_size = 64
shards = 8
"""


def train_ddp(comm: Communicator) -> int:
    """Train as a user of DDP would, and print the hash of the weights."""
    torch = load_torch()
    with gloo_group(comm):
        torch.manual_seed(0)
        layers = [each for ends in pairwise(WIDTHS) for each in (torch.nn.Linear(*ends), torch.nn.ReLU())]
        network = torch.nn.parallel.DistributedDataParallel(torch.nn.Sequential(*layers[:-1]))
        optimizer = torch.optim.Adam(network.parameters())
        criterion = torch.nn.CrossEntropyLoss(reduction="sum")
        with np.load(ROOT / "hpcnn" / "data" / "digits.npz") as digits:
            x = torch.from_numpy(digits["x"].reshape(-1, WIDTHS[0]).astype(np.float32))
            y = torch.from_numpy(digits["y"].astype(np.int64))
        generator = torch.Generator().manual_seed(0)
        for _ in range(EPOCHS):
            for batch in torch.randperm(len(x), generator=generator).split(BATCH):
                own = batch[comm.rank :: comm.size]
                optimizer.zero_grad()
                (criterion(network(x[own]), y[own]) * (comm.size / len(batch))).backward()  # DDP divides by the ranks
                optimizer.step()
        weights = b"".join(each.detach().numpy().tobytes() for each in network.parameters())
    if comm.rank == 0:
        print("weights sha256", hashlib.sha256(weights).hexdigest())
    return 0


def hash_of(ranks: int, *command: str) -> str:
    """Return the hash that a training on `ranks` ranks prints last."""
    words = ["mpirun", "-n", str(ranks), sys.executable, "-m", *command]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout.split()[-1]


def main() -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.hashes", description="Compares hashes over numbers of ranks.")
    parser.add_argument("--ranks", type=positive, nargs="+", default=list(range(1, 9)), metavar="N", help="1 to 8")
    parser.add_argument("--sides", nargs="+", default=SIDES, choices=SIDES, help="hpcnn, ddp; both if left out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the hashes there")
    parser.add_argument("--train-ddp", action="store_true", help=argparse.SUPPRESS)  # one training, under mpirun
    arguments = parser.parse_args()
    if arguments.train_ddp:
        return run_parallel(train_ddp)
    with TemporaryDirectory() as folder:
        job = Path(folder, "digits.toml")
        job.write_text(JOB, encoding="utf-8")
        hashes: dict[str, list[str]] = {}
        for side in arguments.sides:
            for ranks in arguments.ranks:
                ours = ("hpcnn.train", str(job), "--quiet", "--out", f"{folder}/{ranks}")
                found = hash_of(ranks, *(ours if side == "hpcnn" else ("benchmarks.hashes", "--train-ddp")))
                hashes.setdefault(NAMES[side], []).append(found)
                print(f"{NAMES[side]:<14}{ranks} ranks  {found}", flush=True)
    if arguments.json is not None:
        content = facts(SerialCommunicator()) | {"ranks": arguments.ranks, "hashes": hashes}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
