"""A trained model in the hands of a program: how it came about, what it predicts, where it is kept."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from hpcnn.api.ranks import connect
from hpcnn.backends.choice import choose_backend
from hpcnn.comm.collectives import TreeReduction, agree
from hpcnn.comm.protocol import Array, Communicator
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.data.other_files import ready_inputs, ready_samples
from hpcnn.data.readers.memory import Arrays, array_inputs, array_source
from hpcnn.data.time_windows import windows_of_inputs, windows_of_samples
from hpcnn.errors import EXIT_DONE, CheckpointError, DataError
from hpcnn.nn.outputs import by_name
from hpcnn.runs.answers import answers_of
from hpcnn.runs.build import piece_loader, prepared
from hpcnn.runs.inference import TrainedModel, checkpoint_path, open_trained, predict
from hpcnn.runs.run_folder import RunFolder
from hpcnn.runs.session import Outcome
from hpcnn.runs.state import facts_of
from hpcnn.storage.checkpoint import new_file, read_facts
from hpcnn.system.blas import one_thread
from hpcnn.system.output_files import output_path
from hpcnn.training.loader import PieceLoader
from hpcnn.training.loop import evaluate
from hpcnn.training.metrics import plain_values
from hpcnn.training.tuning import use_cores


@dataclass(frozen=True)
class Fitted:
    """A trained model.

    Each rank has it whole and computes by itself, so that any rank may use it alone. The bits are those of the
    commands, on any number of ranks.
    """

    folder: Path
    """The run folder; that of the file, for a model that was loaded from a file alone."""
    history: list[dict[str, Any]] = field(repr=False)
    """What each epoch came to, as in ``metrics.jsonl``; matrices are lists."""
    values: dict[str, Any]
    """Loss and metrics of the last epoch."""
    weights_sha256: str
    complete: bool
    """Whether the training was done; False if it was stopped on the way."""
    trained: TrainedModel = field(repr=False)

    def predict(self, x: Arrays) -> Any:
        """Return the outputs for inputs of shape ``(n, *features)``, as they were before any scaling.

        Several inputs may be a dict of arrays by name. Of a network with named outputs: a dict of arrays.

        A table with named columns, as a DataFrame, is matched by name, if the model was trained on such a one, and
        its words become numbers as those of the training data did.

        Raises:
            DataError: they have another shape or other columns than the model takes, or are not finite.
        """
        trained, alone = self.trained, SerialCommunicator()
        dtype = trained.job.train.dtype
        with one_thread():
            inputs = ready_inputs(
                array_inputs(x, "x", trained.columns, trained.names.inputs),
                "x",
                dtype=dtype,
                scaling=trained.scaling,
                recipe=trained.recipe,
                reduction=TreeReduction(alone),
            )
            size, shape = trained.job.train.eval_batch_size, trained.spec.network.input_shape
            if (window := trained.job.data.window) is not None:
                inputs = windows_of_inputs(inputs, None, window, "x", math.prod(shape))
            loader = PieceLoader(inputs, None, piece_size=size, input_shape=shape, dtype=dtype)
            rows = np.concatenate([block for block in predict(trained, alone, loader) if block is not None])
            return by_name(trained.spec.network.outputs, rows)

    def predict_labels(self, x: Arrays) -> Any:
        """Return the most probable class of each sample, shape (n,): its word, if targets were words, else its number.

        Of a network with named outputs: a dict of arrays by their names.

        Raises:
            DataError: as for `predict`, or the model does not predict classes, one for a sample.
        """
        answers, outputs = answers_of(self.trained), self.predict(x)
        numbers = [name for name, answer in answers.items() if not answer.classes]
        if numbers:
            raise DataError("the model predicts numbers, or any number of labels, not one class a sample: use predict.")
        if "" in answers:
            return answers[""].labels(outputs)
        return {name: answer.labels(outputs[name]) for name, answer in answers.items()}

    def evaluate(self, x: Arrays, y: Arrays, *, sample_weight: ArrayLike | None = None) -> dict[str, Any]:
        """Return loss and metrics for inputs and targets, as the job's own data have them; matrices as lists.

        `sample_weight`, shape (n,): how much each sample counts in them.

        Raises:
            DataError: they do not fit the model or each other.
        """
        trained, alone = self.trained, SerialCommunicator()
        reduction = TreeReduction(alone)
        with one_thread():
            samples = ready_samples(
                array_source((x, y), columns=trained.columns, names=trained.names, sample_weight=sample_weight),
                "the arrays",
                dtype=trained.job.train.dtype,
                scaling=trained.scaling,
                recipe=trained.recipe,
                target_scaling=trained.target_scaling,
                reduction=reduction,
            )
            if (window := trained.job.data.window) is not None:
                features = math.prod(trained.spec.network.input_shape)
                samples = windows_of_samples(samples, None, window, "the arrays", features)
            samples = prepared(trained.job, trained.spec, samples, "the targets", reduction)
            return plain_values(evaluate(alone, trained.model, piece_loader(trained.job, trained.spec, samples)))

    def weights(self) -> dict[str, Array]:
        """Return a copy of each parameter by name."""
        return self.trained.model.weights()

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a file that `hpcnn.load` and the commands read. Rank 0 does, the others need not call.

        Raises:
            CheckpointError: it can't be written, or the run's folder does not hold it: it was stopped before it saved
                anything, or went on since.
        """
        if connect().rank:
            return
        file = new_file(path)
        try:
            with output_path(file) as temporary:
                shutil.copyfile(self.trained.path, temporary)
                if read_facts(temporary)["weights_sha256"] != self.weights_sha256:
                    raise CheckpointError(
                        f"{str(self.trained.path)!r} holds other weights than this model: the run went on since, or "
                        "its state could not be saved. Save a model before its run is resumed."
                    )
        except OSError as error:
            raise CheckpointError(f"the model can't be saved to {str(path)!r}: {error}. Choose another path.") from None


def load(run: str | PathLike[str], checkpoint: str = "", *, entry: str = "") -> Fitted:
    """Return the model of a run folder or a checkpoint.

    Args:
        run: the folder, or the file.
        checkpoint: which of the folder's files, ``model``, ``best`` or ``last``; the first that there is, if empty.
        entry: the Python function that builds the model, where the job has one: run only if named here.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    path = checkpoint_path(Path(run), checkpoint)
    alone = SerialCommunicator()
    with one_thread():
        trained = open_trained(path, entry, backend_of=choose_backend(alone))
        use_cores(alone, trained.model)
    folder = RunFolder(Path(run) if Path(run).is_dir() else path.parent)
    return _of(trained, folder.path, folder.read_metrics() if path != Path(run) else [])


def fitted_of(comm: Communicator, outcome: Outcome, base: Path) -> Fitted:
    """Return what a training came to. Collective."""
    folder, training = outcome.folder, outcome.training
    if training is None:  # it was complete already
        return agree(comm, lambda: load(folder.path, "model", entry=entry_of(folder.model)))
    replica, spec = training.replica, training.spec
    model = spec.make_model(training.job.train.dtype)
    model.load_weights(replica.weights())
    use_cores(comm, model)
    complete = outcome.exit_code == EXIT_DONE
    path = folder.model if complete else folder.last
    splits, sha256 = training.splits, model.fingerprint()
    trained = TrainedModel(
        training.job,
        base,
        path,
        sha256,
        splits.scaling,
        spec,
        model,
        training.content,
        splits.recipe,
        splits.target_scaling,
    )
    history = comm.broadcast(agree(comm, lambda: folder.read_metrics() if comm.rank == 0 else None))
    values = plain_values(outcome.progress.values)
    return Fitted(folder.path, history, values, trained.weights_sha256, complete, trained)


def entry_of(path: Path) -> str:
    """Return the function that builds the model of a checkpoint, which must be one that is trusted already."""
    return str(facts_of(read_facts(path)).job["model"]["entry"])


def _of(trained: TrainedModel, folder: Path, history: list[dict[str, Any]]) -> Fitted:
    progress = facts_of(read_facts(trained.path)).progress
    complete = progress.epoch >= trained.job.train.epochs or bool(progress.finish)
    return Fitted(folder, history, dict(progress.values), trained.weights_sha256, complete, trained)
