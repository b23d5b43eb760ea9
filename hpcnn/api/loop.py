"""`hpcnn.Trainer`: a network in a training loop of one's own, its gradients added exactly on any number of ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hpcnn.api.jobs import Section, names_of_network, trainer_job
from hpcnn.api.ranks import connect
from hpcnn.api.sharing import Shared, changes, collective, reads, reads_on_all_ranks
from hpcnn.comm.collectives import agree, variants_or_raise
from hpcnn.comm.exchange.plan import check_shards
from hpcnn.comm.protocol import Array
from hpcnn.data.checks import check_not_empty, check_samples
from hpcnn.data.columns import Columns
from hpcnn.data.content import Content, content_of
from hpcnn.data.digests import digests
from hpcnn.data.readers.memory import Arrays, array_inputs, array_source, check_unmasked
from hpcnn.data.reduction import SERIAL
from hpcnn.data.rows import Rows
from hpcnn.data.sample_weights import weights_of
from hpcnn.data.samples import Samples
from hpcnn.data.source import Source
from hpcnn.data.tables.encode import encoded, encoded_inputs
from hpcnn.errors import CheckpointError, DataError, DivergedError, JobError
from hpcnn.job.output_checks import check_class_metrics, check_ending
from hpcnn.job.schema import DEFAULT_ARITHMETIC, Job
from hpcnn.nn.loss import BoundLoss
from hpcnn.nn.network import Network
from hpcnn.nn.outputs import by_name
from hpcnn.optim.optimizer import Optimizer
from hpcnn.runs.build import build_replica, prepared
from hpcnn.runs.class_weights import class_weights
from hpcnn.runs.inference import named
from hpcnn.runs.spec import spec_of
from hpcnn.runs.state import Facts, facts_for, facts_of, job_of, lasting_facts
from hpcnn.storage.checkpoint import Checkpoint, PendingCheckpoint, load_checkpoint, new_file, save_checkpoint
from hpcnn.system.blas import one_thread
from hpcnn.system.output_files import output_path
from hpcnn.training.backend import ModelSpec, machines_of_ranks
from hpcnn.training.loader import Order, PieceLoader, ShardLoader
from hpcnn.training.loop import Progress, evaluate
from hpcnn.training.metrics import plain_values
from hpcnn.training.replica import NotFiniteError
from hpcnn.training.tuning import use_cores


class Trainer:
    """Trains a network batch by batch. Made and used on all ranks alike, with the same arguments.

    A batch is cut into `shards`, which the ranks share out; their gradients are added along one tree. So the weights
    are the same bits on any number of ranks, as long as every rank is given the same batches.

    Threads may share a trainer: while one takes a step, the others' predictions wait; a second step is refused.

    Args:
        network: the layers, as `hpcnn.nn.Network`.
        loss: as in ``[loss]`` of a job, but ``class_weights`` must be a list.
        optimizer: as in ``[optimizer]``, or an `hpcnn.optim.optimizer.Optimizer`.
        shards: pieces that a batch is cut into: the most ranks that can ever be used. ``"auto"``: 8.
        seed: decides the weights at the start, and dropout.
        metrics: computed beside the loss, as in ``train.metrics``.
        dtype: ``"float32"`` or ``"float64"``.
        arithmetic: what computes, ``"native"`` or ``"numpy"``, as ``train.arithmetic`` of a job.

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
        shards: int | str = "auto",
        seed: int = 0,
        metrics: Sequence[str] = (),
        dtype: str = "float32",
        arithmetic: str = DEFAULT_ARITHMETIC,
    ) -> None:
        self.comm, self.shared, self.network = connect(), Shared(), network
        self.steps = 0
        """Updates done so far."""
        self._content: Content | None = None
        """What is kept of the first table with named columns: others are put in their order."""
        self._loader: ShardLoader | None = None
        self._loaded: tuple[Any, ...] = ()
        """Shapes of a sample, and kind of targets, that the loader was made for."""
        settings = {"shards": shards, "seed": seed, "metrics": metrics, "dtype": dtype, "arithmetic": arithmetic}
        with collective(self.comm, "Trainer"):
            self._job, self._spec = agree(self.comm, lambda: self._prepare(loss, optimizer, settings))
            machines_of_ranks(self.comm, self._job, self._spec.backend)
            chosen = optimizer if isinstance(optimizer, Optimizer) else None
            weights = agree(self.comm, lambda: class_weights(self._job, self._spec, _not_balanced))
            self._replica = build_replica(self._job, self._spec, self.comm, weights, chosen)
            self._replica.synchronize()
            with one_thread():  # products on this rank's share of the cores, as in a run
                use_cores(self.comm, self._replica.model)

    def _prepare(
        self, loss: Section, optimizer: Section | Optimizer, settings: Mapping[str, Any]
    ) -> tuple[Job, ModelSpec]:
        job = trainer_job(self.network, loss, optimizer, settings)
        assert isinstance(job.train.shards, int)
        check_shards(job.train.shards, self.comm.size)
        spec = spec_of(job, self.network)
        if isinstance(spec.loss, BoundLoss):
            name = spec.loss.loss.name
            check_ending(name, self.network.ending)
            check_class_metrics(name, self.network.ending, job.train.metrics, one_hot=False)
        return job, spec

    @changes
    def step(
        self, x: Arrays, y: Arrays, *, lr_scale: float = 1.0, sample_weight: ArrayLike | None = None
    ) -> dict[str, Any]:
        """Do one update on a batch; return its loss and metrics as they were before the update. Collective.

        Args:
            x: inputs of shape ``(n, *features)``: the whole batch, on every rank. Tables with named columns, as
                DataFrames, are put in the order of the first one.
            y: their targets.
            lr_scale: multiplies the learning rate of this step.
            sample_weight: how much each sample counts in loss and metrics, shape ``(n,)``.

        Raises:
            JobError: the scale is none.
            DataError: they do not fit the network or each other.
            DivergedError: the loss or a gradient is no longer finite.
        """
        if not (isinstance(lr_scale, int | float | np.number) and 0 <= lr_scale < math.inf):
            raise JobError(
                f"lr_scale = {lr_scale!r}: expected a number >= 0 that is finite. It multiplies the learning rate."
            )
        samples, content = self._samples(x, y, "the batch", sample_weight)
        loader = self._shards_of(samples)
        with one_thread():
            try:
                sums = self._replica.train_step(self.steps, partial(loader.shards, 0), factor=lr_scale)
            except NotFiniteError as error:
                raise DivergedError(
                    f"step {self.steps + 1}: {error.what} is not finite. Try a lower learning rate."
                ) from None
        self.steps += 1
        self._content = content
        return plain_values(self._replica.model.layout.values(sums))

    @reads_on_all_ranks
    def evaluate(self, x: Arrays, y: Arrays, *, sample_weight: ArrayLike | None = None) -> dict[str, Any]:
        """Return loss and metrics of samples that every rank has; the ranks share out the work. Collective.

        `sample_weight`, shape (n,): how much each sample counts in them.
        """
        samples, _ = self._samples(x, y, "the samples", sample_weight)
        with one_thread():
            pieces = self._pieces(samples.x, samples.y, samples.weights)
            return plain_values(evaluate(self.comm, self._replica.model, pieces))

    @reads
    def predict(self, x: Arrays) -> Any:
        """Return the outputs for inputs of shape ``(n, *features)``. Each rank computes them all by itself.

        Of a network with named outputs: a dict of arrays.

        Raises:
            DataError: they have another shape than the network takes, or there are none.
        """
        rows = array_inputs(x, "x", self._columns, tuple(self.network.inputs))
        check_not_empty(rows, "x")
        rows = encoded_inputs(rows, None, "x", SERIAL)
        loader = self._pieces(rows, None)
        with one_thread():
            pieces = [self._replica.model.predict_piece(loader.inputs(i)).copy() for i in range(loader.pieces)]
        return by_name(self.network.outputs, np.concatenate(pieces))

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
        """Write all that it takes to go on: weights, optimizer state, steps. To be called on all ranks.

        The file is a checkpoint like those of runs: `hpcnn.load` and the commands take its model. If that has layers of
        your own, they have to be told a function that builds it: ``hpcnn.load(path, entry="package.module:function")``.

        Raises:
            CheckpointError: it can't be written.
        """
        progress = Progress(step=self.steps, step_in_epoch=self.steps)
        facts = facts_for(lasting_facts(self._job, self._spec, Path(), self._content), progress, callbacks={})
        draft = PendingCheckpoint(self._replica.state(), facts)

        def write() -> None:
            file = new_file(path)
            try:
                with output_path(file) as temporary:
                    save_checkpoint(temporary, draft)
            except OSError as error:
                raise CheckpointError(f"the state could not be saved: {error}. Choose another path.") from None

        agree(self.comm, lambda: write() if self.comm.rank == 0 else None)

    @changes
    def restore(self, path: str | PathLike[str]) -> None:
        """Go on from what `save` wrote, or from a run's checkpoint, on any number of ranks. To be called on all ranks.

        Raises:
            CheckpointError: there is no such file, it is damaged, or it is of another network, optimizer or arithmetic.
                Then all is as it was.
        """
        kept = agree(self.comm, lambda: load_checkpoint(Path(path)))
        facts = agree(self.comm, lambda: _facts_of(kept, Path(path), self._job.train.arithmetic))
        agree(self.comm, lambda: self._replica.load_state(kept.tensors))
        self.steps, self._content = facts.progress.step, facts.data

    def _samples(
        self, x: Arrays, y: Arrays, what: str, sample_weight: ArrayLike | None
    ) -> tuple[Samples, Content | None]:
        """Return samples as the loss wants them, and what to keep of the first table with named columns."""
        names = names_of_network(self.network)
        source = array_source((x, y), columns=self._columns, names=names, sample_weight=sample_weight)
        source = encoded(source, None, what, SERIAL)
        if not self.steps and self.comm.size > 1:
            agree(self.comm, lambda: self._check_alike(source))
        check_samples(source.x, source.y, what, (self._job.train.dtype,) * 2, SERIAL, source.feature_names)
        weights = weights_of(source, what, self._job.train.dtype, SERIAL)
        samples = Samples(source.x, source.y, weights=weights)
        samples = prepared(self._job, self._spec, samples, f"the targets of {what}", SERIAL)
        return samples, self._content or (content_of(source) if source.columns else None)

    @property
    def _columns(self) -> Columns | None:
        return self._content.columns if self._content else None

    def _shards_of(self, samples: Samples) -> ShardLoader:
        """Return what cuts a batch into shards: in the memory of the last one, if it had the same shapes."""
        x, y, loader = samples.x, samples.y, self._loader
        kind = x.shape[1:], y.shape[1:], y.dtype.kind, samples.weights is None
        if loader is None or kind != self._loaded:
            train = self._job.train
            assert isinstance(train.shards, int)
            loader = ShardLoader(
                x, y, batch_size=len(samples), shards=train.shards, order=Order(seed=0, shuffle=False),
                input_shape=self.network.input_shape, dtype=train.dtype, weights=samples.weights,
            )  # fmt: skip
            self._loader, self._loaded = loader, kind
        loader.take_batch(x, y, samples.weights)
        return loader

    def _pieces(self, x: Rows, y: Rows | None, weights: Rows | None = None) -> PieceLoader:
        train, shape = self._job.train, self.network.input_shape
        return PieceLoader(
            x, y, piece_size=train.eval_batch_size, input_shape=shape, dtype=train.dtype, weights=weights
        )

    def _check_alike(self, source: Source) -> None:
        """Check, before the first step, that all ranks are given the same batch."""
        _, *others = variants_or_raise(self.comm, digests([*source.arrays, *source.others])[-1])
        if others:
            raise DataError(
                f"rank {others[0].rank} gives another batch than rank 0. Give every rank the whole batch, in the same "
                "order: the trainer deals it out."
            )


def _not_balanced(classes: int) -> Array:
    raise JobError(
        'loss.class_weights = "balanced": a trainer is given batch after batch, and so can\'t count the samples '
        f"of each class. Give the weights of the {classes} classes as a list."
    )


def _facts_of(kept: Checkpoint, path: Path, arithmetic: str) -> Facts:
    with named(path):
        facts = facts_of(kept.facts)
        for part, key, what in (("scaling", "scale", "inputs"), ("target_scaling", "scale_targets", "targets")):
            if kept.part(part):
                raise CheckpointError(
                    f"its {what} were scaled by data.{key}, which a trainer does not do. Scale them yourself, and go "
                    f"on from a run without data.{key}."
                )
        before = job_of(facts.job).train.arithmetic
        if before != arithmetic:
            raise CheckpointError(
                f'it was trained with arithmetic="{before}", and this trainer has "{arithmetic}", which gives other '
                f'bits. Make the trainer with arithmetic="{before}".'
            )
        return facts
