"""How long a whole `hpcnn.fit` of small data takes, against scikit-learn's MLPClassifier, and what is not steps in it.

The same network (64-32), batch, epochs and standardized float32 data; both with Adam, and as a user calls them. hpcnn's
time includes its run folder with the last checkpoint. scikit-learn may end before the last epoch, when its loss hardly
falls any more. Both in turn, in one process, after one fit of each that does not count.

The last figures are of steps that do nothing: what a fit takes at least, and what comes between two epochs and between
two steps.

    python -m benchmarks.small_fits
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from unittest.mock import patch

import numpy as np

from benchmarks.report import Report, make_parser, positive
from benchmarks.turns import ratios
from hpcnn import fit
from hpcnn.cli.parallel import run_parallel
from hpcnn.comm.protocol import Array, Communicator
from hpcnn.errors import CommunicatorError
from hpcnn.training.replica import Replica
from hpcnn.training.step_stats import COUNT, LOSS, SAVE, STOP, Stats

DATA_SETS = ("wine", "breast_cancer", "digits")
HIDDEN, BATCH = (64, 32), 32
HPCNN, SKLEARN = "hpcnn.fit", "MLPClassifier"
EPOCHS, STEPS = 100, 10
"""Of the fit whose steps do nothing; each epoch has so many."""


class Fits:
    """Trains with hpcnn, each time into a new run folder."""

    def __init__(self, folder: Path) -> None:
        self._folders = (folder / f"run-{number}" for number in count())

    def seconds(self, x: Array, y: Array, epochs: int) -> float:
        """Return how long a fit takes."""
        hidden = [{"type": "dense", "units": units, "activation": "relu"} for units in HIDDEN]
        job = {
            "model": {"layers": [*hidden, {"type": "dense", "units": int(y.max()) + 1, "activation": "softmax"}]},
            "loss": {"name": "sparse_categorical_crossentropy"},
            "train": {"epochs": epochs, "batch_size": BATCH},
            "run": {"display": "none"},
        }
        begin = time.perf_counter()
        fit(job, (x, y), out=next(self._folders))
        return time.perf_counter() - begin


def load(name: str) -> tuple[Array, Array]:
    """Return inputs and labels of a data set of scikit-learn's, standardized."""
    from sklearn import datasets
    from sklearn.preprocessing import StandardScaler

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return StandardScaler().fit_transform(x).astype(np.float32), y


def sklearn_seconds(x: Array, y: Array, epochs: int) -> tuple[float, int]:
    """Return how long scikit-learn takes, and how many epochs it has done."""
    from sklearn.neural_network import MLPClassifier

    network = MLPClassifier(HIDDEN, batch_size=BATCH, max_iter=epochs, random_state=0)
    begin = time.perf_counter()
    with warnings.catch_warnings(action="ignore"):  # that it has not converged
        network.fit(x, y)
    return time.perf_counter() - begin, network.n_iter_


@contextmanager
def empty_steps() -> Iterator[list[float]]:
    """Let steps load nothing and compute nothing within the block; yield the times when they were called.

    The loss falls, as in training.
    """
    times: list[float] = []

    def train_step(
        replica: Replica, step: int, load: object, *, factor: float, stop: bool = False, save: bool = False
    ) -> Stats:
        times.append(time.perf_counter())
        stats = replica.model.layout.zeros()
        stats[COUNT], stats[LOSS], stats[STOP], stats[SAVE] = BATCH, BATCH / (1 + step), stop, save
        return stats

    with patch.object(Replica, "train_step", train_step):
        yield times


def parts(fits: Fits, rounds: int) -> dict[str, list[float]]:
    """Return the microseconds of a fit of one step, from one epoch to the next, and from one step to the next."""
    random = np.random.default_rng(0)
    x, y = random.random((BATCH * STEPS, 13), dtype=np.float32), random.integers(0, 3, BATCH * STEPS)
    figures: dict[str, list[float]] = {"a fit of one step": [], "between two epochs": [], "between two steps": []}
    with empty_steps() as times:
        fits.seconds(x, y, 1)
        for _ in range(rounds):
            fixed = fits.seconds(x[:BATCH], y[:BATCH], 1)
            times.clear()
            fits.seconds(x, y, EPOCHS)
            between = np.append(np.diff(times), np.nan).reshape(EPOCHS, STEPS)
            epochs, steps = np.nanmedian(between[:, -1]), np.median(between[:, :-1])
            for values, seconds in zip(figures.values(), (fixed, epochs, steps), strict=True):
                values.append(1e6 * float(seconds))
    return figures


def measure(comm: Communicator, arguments: argparse.Namespace) -> int:
    if comm.size > 1:
        raise CommunicatorError(f"{comm.size} ranks, but this measures one: leave mpirun out")
    report = Report(comm, {"batch": BATCH, "epochs": arguments.epochs}, arguments.json)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        fits = Fits(Path(folder))
        for name in DATA_SETS:
            x, y = load(name)
            figures: dict[str, list[float]] = {HPCNN: [], SKLEARN: []}
            for _ in range(1 + arguments.rounds):
                figures[HPCNN].append(1000 * fits.seconds(x, y, arguments.epochs))
                seconds, done = sklearn_seconds(x, y, arguments.epochs)
                figures[SKLEARN].append(1000 * seconds)
            figures = {side: values[1:] for side, values in figures.items()}
            title = f"{name}, {len(x)} samples of {x.shape[1]}; {done} epochs of {SKLEARN}"
            report.add(title, figures, "ms", {"time hpcnn / sklearn": ratios(figures[HPCNN], figures[SKLEARN])})
        report.add("with steps that do nothing", parts(fits, arguments.rounds), "us", {})
    report.write()
    return 0


def main() -> int:
    parser = make_parser("small_fits", "Compares whole fits of small data with scikit-learn's.", ranks=1, rounds=15)
    parser.add_argument("--epochs", type=positive, default=60, metavar="N", help="of each fit; 60")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where to write; the folder for temporary files")
    arguments = parser.parse_args()
    return run_parallel(lambda comm: measure(comm, arguments))


if __name__ == "__main__":
    sys.exit(main())
