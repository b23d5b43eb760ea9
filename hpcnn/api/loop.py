"""`hpcnn.Trainer`: a network in a training loop of one's own, its gradients added exactly on any number of ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from hpcnn.api.jobs import plain
from hpcnn.api.ranks import connect
from hpcnn.api.sharing import Shared, changes, collective, reads, reads_on_all_ranks
from hpcnn.backends.numpy.model import NumpyModel
from hpcnn.comm.collectives import agree, gather_or_raise
from hpcnn.comm.exchange.plan import check_shards
from hpcnn.comm.protocol import Array
from hpcnn.data.checks import check_not_empty, check_samples
from hpcnn.data.columns import Columns
from hpcnn.data.content import digests
from hpcnn.data.readers.memory import array_inputs, array_source, check_unmasked
from hpcnn.data.reduction import SERIAL
from hpcnn.data.rows import Rows
from hpcnn.data.samples import Samples
from hpcnn.data.source import Source
from hpcnn.data.targets import prepare_samples
from hpcnn.errors import CheckpointError, DataError, DivergedError, JobError, ModelError
from hpcnn.job.model import Loss
from hpcnn.job.optimizer import Optimizer as OptimizerSection
from hpcnn.job.output_checks import check_class_metrics, check_ending
from hpcnn.job.schema import Train
from hpcnn.job.section import convert, type_info
from hpcnn.job.validate import check
from hpcnn.nn.build import build_loss
from hpcnn.nn.network import Network
from hpcnn.optim.build import build_optimizer
from hpcnn.optim.optimizer import Optimizer
from hpcnn.storage.checkpoint import Checkpoint, PendingCheckpoint, load_checkpoint, save_checkpoint
from hpcnn.system.blas import one_thread
from hpcnn.training.loader import PieceLoader, ShardLoader
from hpcnn.training.loop import evaluate
from hpcnn.training.metrics import build_metrics, is_multilabel, plain_values
from hpcnn.training.replica import NotFiniteError, Replica
from hpcnn.training.step_stats import SumsLayout
from hpcnn.training.tuning import use_cores
from hpcnn.training.updater import make_updater

Section = str | Mapping[str, Any]
"""A section of a job: a dict as ``{"name": "adam", "learning_rate": 0.01}``, or the name alone."""
_PIECE = 256
"""Samples that are evaluated at once: part of what defines the bits of the values."""


class Trainer:
    """Trains a network batch by batch. Made and used on all ranks alike, with the same arguments.

    A batch is cut into `shards`, which the ranks share out; their gradients are added along one tree. So the weights
    are the same bits on any number of ranks, as long as every rank is given the same batches.

    Threads may share a trainer: while one takes a step, the others' predictions wait; a second step is refused.

    Args:
        network: the layers, as `hpcnn.nn.Network`.
        loss: as in ``[loss]`` of a job.
        optimizer: as in ``[optimizer]``, or an `hpcnn.optim.optimizer.Optimizer`.
        shards: pieces that a batch is cut into: the most ranks that can ever be used.
        seed: decides the weights at the start, and dropout.
        metrics: computed beside the loss, as in ``train.metrics``.
        dtype: ``"float32"`` or ``"float64"``.

    Raises:
        HpcnnError: something does not fit; on all ranks alike.

    >>> from hpcnn.nn import Dense, Network
    >>> trainer = Trainer(Network([Dense(1)], (1,)), "mse", {"name": "sgd", "learning_rate": 0.1}, shards=2)
    >>> for _ in range(50):
    ...     values = trainer.step([[0.0], [1.0], [2.0]], [1.0, 3.0, 5.0])
    >>> trainer.predict([[10.0]]).round()
    array([[21.]], dtype=float32)
    """

    def __init__(
        self,
        network: Network,
        loss: Section,
        optimizer: Section | Optimizer = "adam",
        *,
        shards: int,
        seed: int = 0,
        metrics: Sequence[str] = (),
        dtype: str = "float32",
    ) -> None:
        self.comm, self.shared = connect(), Shared()
        self.network, self._shards, self._dtype = network, shards, dtype
        self.steps = 0
        """Updates done so far."""
        self._columns: Columns | None = None
        """Names in the first table that was trained on: others are put in their order."""
        settings = {"shards": shards, "seed": seed, "metrics": metrics, "dtype": dtype}
        with collective(self.comm, "Trainer"):
            agree(self.comm, lambda: _check_settings(network, settings))
            self._build(loss, optimizer, metrics, seed)

    def _build(self, loss: Section, optimizer: Section | Optimizer, metrics: Sequence[str], seed: int) -> None:
        network, shards, dtype = self.network, self._shards, self._dtype
        self._loss, chosen = agree(
            self.comm,
            lambda: (
                build_loss(_section(loss, Loss, "loss"), network.output_shape, network.head),
                _optimizer(optimizer),
            ),
        )
        agree(self.comm, lambda: check_shards(shards, self.comm.size))
        name, outputs = self._loss.loss.name, network.output_shape[-1]
        check_ending(name, network.ending)
        check_class_metrics(name, network.ending, metrics, one_hot=False)
        labels = self._loss.target_kind == "labels"
        multilabel = is_multilabel(loss=name, ending=network.ending, outputs=outputs, labels=labels, one_hot=False)
        layout = SumsLayout(build_metrics(metrics, outputs=outputs, labels=labels, multilabel=multilabel))
        updater = make_updater(
            self.comm, network.layout, chosen, shards=shards, dtype=dtype, stats_length=layout.size, sharded=False
        )
        model = NumpyModel(network, self._loss, layout, updater.store.array)
        self._replica = Replica(model, updater, seed=seed)
        self._replica.synchronize()
        with one_thread():  # products on this rank's share of the cores, as in a run
            use_cores(self.comm, self._replica.model)

    @changes
    def step(self, x: ArrayLike, y: ArrayLike, *, factor: float = 1.0) -> dict[str, Any]:
        """Do one update on a batch; return its loss and metrics as they were before the update. Collective.

        Args:
            x: inputs of shape ``(n, *features)``: the whole batch, on every rank. Tables with named columns, as
                DataFrames, are put in the order of the first one.
            y: their targets.
            factor: multiplies the learning rate.

        Raises:
            JobError: the factor is none.
            DataError: they do not fit the network or each other.
            DivergedError: the loss or a gradient is no longer finite.
        """
        if not (isinstance(factor, int | float | np.number) and 0 <= factor < math.inf):
            raise JobError(
                f"factor = {factor!r}: expected a number >= 0 that is finite. It multiplies the learning rate."
            )
        samples, columns = self._samples(x, y, "the batch")
        loader = ShardLoader(
            samples.x, samples.y, batch_size=len(samples), shards=self._shards, seed=0, shuffle=False,
            input_shape=self.network.input_shape, dtype=self._dtype,
        )  # fmt: skip
        loader.start_epoch(0)
        with one_thread():
            try:
                sums = self._replica.train_step(self.steps, lambda shard: loader.shard(0, shard), factor=factor)
            except NotFiniteError as error:
                raise DivergedError(
                    f"step {self.steps + 1}: {error.what} is not finite. Try a lower learning rate."
                ) from None
        self.steps += 1
        self._columns = self._columns or columns
        return plain_values(self._replica.model.layout.values(sums))

    @reads_on_all_ranks
    def evaluate(self, x: ArrayLike, y: ArrayLike) -> dict[str, Any]:
        """Return loss and metrics of samples that every rank has; the ranks share out the work. Collective."""
        samples, _ = self._samples(x, y, "the samples")
        with one_thread():
            return plain_values(evaluate(self.comm, self._replica.model, self._pieces(samples.x, samples.y)))

    @reads
    def predict(self, x: ArrayLike) -> Array:
        """Return the outputs for inputs of shape ``(n, *features)``. Each rank computes them all by itself.

        Raises:
            DataError: they have another shape than the network takes, or there are none.
        """
        rows = array_inputs(x, "x", self._columns)
        check_not_empty(rows, "x")
        loader = self._pieces(rows, None)
        with one_thread():
            pieces = [self._replica.model.predict_piece(loader.inputs(i)).copy() for i in range(loader.pieces)]
        return np.concatenate(pieces)

    @reads
    def weights(self) -> dict[str, Array]:
        """Return a copy of each parameter by name."""
        return self._replica.weights()

    @changes
    def load_weights(self, weights: Mapping[str, Array]) -> None:
        """Overwrite the parameters by arrays of the same names and shapes. Collective."""
        for name, array in weights.items():
            check_unmasked(array, f"the parameter {name}")
        self._replica.load_weights(weights)

    @property
    @reads
    def weights_sha256(self) -> str:
        """The SHA-256 of the weights."""
        return self._replica.model.fingerprint()

    @reads_on_all_ranks
    def save(self, path: str | PathLike[str]) -> None:
        """Write all that it takes to go on: weights, optimizer state, steps. To be called on all ranks."""

        def write() -> None:
            facts = {"steps": self.steps, "columns": msgspec.to_builtins(self._columns)}
            save_checkpoint(Path(path), PendingCheckpoint(self._replica.state(), facts))

        agree(self.comm, lambda: _as_checkpoint_error(write) if self.comm.rank == 0 else None)

    @changes
    def restore(self, path: str | PathLike[str]) -> None:
        """Go on from what `save` wrote, on any number of ranks. To be called on all ranks.

        Raises:
            CheckpointError: there is no such file, it is damaged, or it is of another network or optimizer. Then all
                is as it was.
        """
        kept = agree(self.comm, lambda: load_checkpoint(Path(path)))
        steps, columns = agree(self.comm, lambda: _facts_of(kept, path))
        agree(self.comm, lambda: self.network.layout.check_state_dict(kept.part("model")))
        agree(
            self.comm, lambda: self._replica.updater.load_optimizer_state(kept.part("optimizer"))
        )  # all of it, or nothing
        self._replica.load_weights(kept.part("model"))
        self.steps, self._columns = steps, columns

    def _samples(self, x: ArrayLike, y: ArrayLike, what: str) -> tuple[Samples, Columns | None]:
        source = array_source((x, y), columns=self._columns)
        if not self.steps and self.comm.size > 1:
            agree(self.comm, lambda: self._check_alike(source))
        check_samples(source.x, source.y, what, (self._dtype, self._dtype), SERIAL, source.feature_names)
        samples = prepare_samples(
            Samples(source.x, source.y),
            kind=self._loss.target_kind,
            one_hot=False,
            output_shape=self.network.output_shape,
            loss_name=self._loss.loss.name,
            what=f"the targets of {what}",
        )
        return samples, source.columns

    def _pieces(self, x: Rows, y: Rows | None) -> PieceLoader:
        return PieceLoader(x, y, piece_size=_PIECE, input_shape=self.network.input_shape, dtype=self._dtype)

    def _check_alike(self, source: Source) -> None:
        """Check, before the first step, that all ranks are given the same batch.

        Raises:
            DataError: they are not, as where each was given its own part of the samples.
        """
        batches = gather_or_raise(self.comm, digests(source.arrays)[-1])
        for rank, sha256 in enumerate(batches):
            if sha256 != batches[0]:
                raise DataError(
                    f"rank {rank} gives another batch than rank 0. Give every rank the whole batch, in the same "
                    "order: the trainer deals it out."
                )


def _check_settings(network: Network, settings: Mapping[str, Any]) -> None:
    """Check what a trainer was given as the same settings of a job are checked.

    Raises:
        HpcnnError: it is of another kind, or out of range.
    """
    if not isinstance(network, Network):
        raise ModelError(f"the network is {type(network).__name__}; expected an hpcnn.nn.Network")
    check(plain(settings), type_info(Train), ("train",))
    if settings["shards"] == "auto":
        raise JobError('train.shards = "auto": expected an integer. A trainer has no first start to go by.')


def _section(given: Section, union: Any, name: str) -> Any:
    """Return a section of a job from its dict, checked as in a job file."""
    table = {"name": given} if isinstance(given, str) else dict(given)
    check(table, type_info(union), (name,))
    return convert(table, union)


def _optimizer(given: Section | Optimizer) -> Optimizer:
    if isinstance(given, Optimizer):
        return given
    return build_optimizer(_section(given, OptimizerSection, "optimizer"))


def _facts_of(kept: Checkpoint, path: str | PathLike[str]) -> tuple[int, Columns | None]:
    steps, columns = kept.facts.get("steps"), kept.facts.get("columns")
    if type(steps) is int and steps >= 0:
        with suppress(msgspec.ValidationError):
            return steps, None if columns is None else convert(columns, Columns)
    raise CheckpointError(
        f"{str(path)!r} is none of a trainer: no number of steps is in it. Use one that Trainer.save wrote; "
        "hpcnn.load reads those of a run."
    )


def _as_checkpoint_error(write: Any) -> None:
    try:
        write()
    except OSError as error:
        raise CheckpointError(f"the state could not be saved: {error}. Choose another path.") from None
