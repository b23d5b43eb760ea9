"""Trains modules of each kind on the digits in PyTorch mode, one after the other, since its import takes seconds.

    mpirun -n 2 python -m tests.torch.all_modules OUT [NAME ...] [SETTING=VALUE ...]

The folder OUT gets a run a module, and goes on with what is there. With torch.device=auto they compute on the CPU as on
a device with memory of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

from hpcnn.cli.parallel import run_parallel

USERS = "tests.torch.modules_of_users"
MODULES = ("mlp", "cnn", "lstm", "encoder")
LAYERS = "layers"
"""The digits' own job, whose layers are built as PyTorch's."""


def settings(name: str) -> list[str]:
    """Return what is changed in the job of the digits."""
    own = [] if name == LAYERS else ["model.layers=[]", f"model.entry={USERS}:{name}"]
    return ["backend=torch", "run.display=quiet", "train.shards=8", *own]


def main(out: Path, *more: str) -> int:
    names = [one for one in more if "=" not in one] or [*MODULES, LAYERS]
    changes = [one for one in more if "=" in one]

    def body(comm):
        from hpcnn.backends.torch.backend import TorchBackend
        from hpcnn.comm.collectives import agree
        from hpcnn.job.load import load_job
        from hpcnn.runs.session import train

        backend = TorchBackend.start()
        if "torch.device=auto" in changes:
            from tests.torch.pretended import Pretended

            backend = TorchBackend(backend.facts, Pretended())
        for name in names:
            loaded = agree(comm, lambda name=name: load_job(overrides=[*settings(name), *changes]))
            train(loaded, comm, out=out / name, resume="auto", backend=backend)
        return 0

    return run_parallel(body)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:]))
