"""scikit-learn estimators, which `hpcnn.fit` trains: a `Classifier` and a `Regressor`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from hpcnn.api.fit import TrainingStoppedError, fit
from hpcnn.api.fitted import Fitted, entry_of, load
from hpcnn.api.jobs import AnyJob, Overrides, table_of
from hpcnn.api.ranks import connect
from hpcnn.comm.protocol import Array
from hpcnn.data.sampler import validation_split
from hpcnn.errors import CheckpointError, DataError, JobError, MissingExtraError
from hpcnn.job.schema import DEFAULT_ARITHMETIC
from hpcnn.system.atomic import unsynced
from hpcnn.system.output_files import output_path

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d, validate_data
except ImportError as error:
    if error.name is None or not error.name.startswith("sklearn"):
        raise
    raise MissingExtraError("scikit-learn>=1.6", "sklearn", "hpcnn.sklearn") from None

_ACTIVATIONS = {"identity": "linear", "logistic": "sigmoid"}
"""scikit-learn's names of activations that have another one here."""
_TYPES = [np.float64, np.float32]
"""Of X: others become the first."""
_WHOLE = ("model", "loss", "optimizer", "schedule")
"""Sections that a job gives as a whole: their keys depend on each other."""


class _Estimator(BaseEstimator):  # type: ignore[misc]
    """What both estimators share: parameters, the job made of them, and the trained model."""

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        learning_rate_init: float = 0.001,
        batch_size: int | str = "auto",
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        n_iter_no_change: int | None = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        verbose: bool = False,
        shards: int | str = "auto",
        arithmetic: str = DEFAULT_ARITHMETIC,
        job: AnyJob | None = None,
        overrides: Overrides = (),
    ) -> None:
        self.hidden_layer_sizes, self.activation, self.solver = hidden_layer_sizes, activation, solver
        self.learning_rate_init, self.batch_size, self.max_iter = learning_rate_init, batch_size, max_iter
        self.shuffle, self.random_state, self.tol = shuffle, random_state, tol
        self.n_iter_no_change, self.early_stopping = n_iter_no_change, early_stopping
        self.validation_fraction, self.verbose = validation_fraction, verbose
        self.shards, self.arithmetic = shards, arithmetic
        self.job, self.overrides = job, overrides

    # ---------------------------------------------------------------------------------------------------- training

    def _train(
        self,
        x: Array,
        y: Array,
        output: Mapping[str, Any],
        loss: str,
        metrics: Sequence[str],
        sample_weight: ArrayLike | None,
    ) -> Self:
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, x, dtype=x.dtype)
        table = self._job(x, output, loss, metrics)
        comm = connect()
        with tempfile.TemporaryDirectory(prefix="hpcnn-") as own, unsynced():
            folder = Path(comm.broadcast(own))  # rank 0 alone writes
            try:
                fitted = fit(table, (x, y), sample_weight=weights, out=folder / "run", overrides=self.overrides)
            except TrainingStoppedError:
                # No Exception: a search over parameters would count it as one more failure, and go on.
                raise KeyboardInterrupt("the training was stopped, and is not kept: hpcnn.fit keeps it") from None
            self._file: bytes = comm.broadcast(fitted.trained.path.read_bytes() if comm.rank == 0 else b"")
        self._opened = fitted
        self.history_ = fitted.history
        self.loss_curve_ = [line["loss"] for line in fitted.history]
        self.loss_ = self.loss_curve_[-1]
        self.n_iter_ = len(self.history_)
        return self

    def _job(self, x: Array, output: Mapping[str, Any], loss: str, metrics: Sequence[str]) -> dict[str, Any]:
        """Return the job that the parameters say, with the sections of `job` over it."""
        sizes = self.hidden_layer_sizes
        hidden = [sizes] if isinstance(sizes, int | np.integer) else list(sizes)
        sections: Mapping[str, Any] = {} if self.job is None else table_of(self.job)[0]
        data = {"validation_fraction": self.validation_fraction} if self.early_stopping else {}
        split = data | dict(sections.get("data") or {})
        activation = _ACTIVATIONS.get(self.activation, self.activation)
        made: dict[str, Any] = {
            "name": type(self).__name__.lower(),
            "data": data,
            "model": {
                "layers": [
                    *({"type": "dense", "units": units, "activation": activation} for units in hidden),
                    {"type": "dense", **output},
                ]
            },
            "loss": {"name": loss},
            "optimizer": {"name": self.solver, "learning_rate": self.learning_rate_init},
            "train": {
                "epochs": self.max_iter,
                "batch_size": self._batch(len(x), split.get("validation_fraction", 0)),
                "shuffle": self.shuffle,
                "seed": self._seed(),
                "dtype": x.dtype.name,
                "shards": self.shards,
                "arithmetic": self.arithmetic,
                "metrics": metrics,
            },
            "run": {"display": "auto" if self.verbose else "none"},
        }
        if self.early_stopping or self.n_iter_no_change is not None:
            made["train"]["early_stopping"] = {
                "monitor": "val_loss" if self.early_stopping else "loss",
                "min_delta": self.tol,
                "patience": 10 if self.n_iter_no_change is None else self.n_iter_no_change,
                "restore_best": self.early_stopping,
            }
        for key, given in sections.items():
            merges = key not in _WHOLE and isinstance(given, Mapping) and isinstance(made.get(key), dict)
            made[key] = {**made[key], **given} if merges else given
        return made

    def _batch(self, n: int, fraction: object) -> int | str:
        """Return the batch size, which scikit-learn lets exceed the number of samples."""
        samples = len(validation_split(n, fraction, seed=0)[0]) if isinstance(fraction, int | float) else n
        size = 200 if self.batch_size == "auto" else self.batch_size
        return "full" if not isinstance(size, str) and size >= samples else size

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        drawn = int(check_random_state(self.random_state).randint(2**31))
        return int(connect().broadcast(drawn))

    # --------------------------------------------------------------------------------------------- the trained model

    @property
    def fitted_(self) -> Fitted:
        """The trained model, as `hpcnn.load` gives it."""
        check_is_fitted(self, "history_")
        if "_opened" not in self.__dict__:
            with tempfile.TemporaryDirectory(prefix="hpcnn-") as folder:
                path = Path(folder) / "model.safetensors"
                path.write_bytes(self._file)
                self._opened = load(path, entry=entry_of(path))
        return self._opened

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a file that `hpcnn.load` and the commands read. On rank 0; the others need not call.

        Raises:
            CheckpointError: it can't be written.
        """
        check_is_fitted(self, "history_")
        if connect().rank:
            return
        try:
            with output_path(Path(path)) as temporary:
                temporary.write_bytes(self._file)
        except OSError as error:
            raise CheckpointError(f"the model can't be saved to {str(path)!r}: {error}. Choose another path.") from None

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = {**super().__getstate__()}
        state.pop("_opened", None)  # follows from the file
        return state

    def _outputs(self, x: ArrayLike) -> Array:
        check_is_fitted(self, "history_")
        outputs: Array = self.fitted_.predict(validate_data(self, x, reset=False, dtype=_TYPES))
        return outputs


class Classifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """A network that classifies, trained by `hpcnn.fit`: the bits of a job, under ``mpirun`` on all ranks together.

    Labels may be of any type. Parameters have the names of scikit-learn's ``MLPClassifier`` where they mean the same.
    The network is trained in the type of X: float32 or float64.

    Args:
        hidden_layer_sizes: width of each hidden layer.
        activation: of the hidden layers; any name of a job file, or ``identity`` or ``logistic``.
        solver: name of the optimizer, as in a job file: ``adam``, ``sgd``, ...
        learning_rate_init: the optimizer's learning rate.
        batch_size: samples per update, over all ranks; ``"auto"`` is 200, or all if there are fewer.
        max_iter: most epochs.
        shuffle: whether each epoch has an order of its own.
        random_state: decides the weights at the start, the order and what is held out.
        tol: smallest change of the watched loss that counts as an improvement.
        n_iter_no_change: epochs without improvement before the training ends; None: it never does.
        early_stopping: watch the loss of samples held out, and end with the best epoch's weights; otherwise the loss of
            the training is watched, and the last weights stay.
        validation_fraction: share of the samples held out for `early_stopping`.
        verbose: whether to show the training as the command does.
        shards: pieces that each batch is cut into, as ``train.shards`` of a job: the most ranks that can be used.
        arithmetic: what computes, ``"native"`` or ``"numpy"``, as ``train.arithmetic`` of a job.
        job: sections of a job, or the path of a job file, for all else that a job can say. ``model``, ``loss``,
            ``optimizer`` and ``schedule`` replace what the parameters say; keys of other sections win over it.
        overrides: single settings that win over all, as ``{"train.metrics": ["accuracy", "f1"]}``.

    Attributes:
        classes_: the labels, sorted.
        n_features_in_: columns of X.
        n_iter_, history_, loss_curve_, loss_: epochs done, what each came to as in ``metrics.jsonl``, and its loss.
        fitted_: the trained `hpcnn.Fitted`.

    ``job={"loss": {..., "class_weights": "balanced"}}`` weighs classes. There is no ``partial_fit``: `hpcnn.Trainer`
    takes single steps.

    >>> import numpy as np
    >>> x = np.array([[0.0], [0.2], [0.8], [1.0]])
    >>> classifier = Classifier(8, learning_rate_init=0.1, max_iter=50, random_state=0)
    >>> classifier = classifier.fit(x, ["low", "low", "up", "up"])
    >>> classifier.predict([[0.1], [0.9]])
    array(['low', 'up'], dtype='<U3')
    >>> classifier.predict_proba([[0.1], [0.9]]).shape
    (2, 2)
    """

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:  # noqa: N803
        """Train from the start on X, shape (n, features), and labels y, shape (n,). Collective under ``mpirun``.

        `sample_weight`, shape (n,), says how much each sample counts in the loss and the metrics.

        Raises:
            ValueError: they do not fit each other, or a parameter is wrong.
            KeyboardInterrupt: the training was stopped, by Ctrl-C or a limit of time.
        """
        x, given = validate_data(self, X, y, dtype=_TYPES, multi_output=True)
        check_classification_targets(given)
        self.classes_, labels = np.unique(column_or_1d(given, warn=True), return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError(f"y holds one class alone, {str(self.classes_[0])!r}. Give samples of two classes or more.")
        output = {"units": len(self.classes_), "activation": "softmax"}
        return self._train(x, labels, output, "sparse_categorical_crossentropy", ["accuracy"], sample_weight)

    def predict_proba(self, X: ArrayLike) -> Array:  # noqa: N803
        """Return the probability of each class, shape (n, classes), in the order of ``classes_``."""
        outputs = self._outputs(X)
        if outputs.shape[1:] == (1,):  # a sigmoid of the user's own job
            outputs = np.concatenate([1 - outputs, outputs], axis=1)
        if outputs.shape[1:] != (len(self.classes_),):
            raise JobError(
                f"the job's model ends in outputs of shape {outputs.shape[1:]}, but there are {len(self.classes_)} "
                f"classes. Let it end in as many."
            )
        return outputs

    def predict(self, X: ArrayLike) -> Array:  # noqa: N803
        """Return the most probable label of each sample, shape (n,)."""
        probabilities = self.predict_proba(X)
        predicted: Array = self.classes_[probabilities.argmax(axis=1)]
        return predicted


class Regressor(RegressorMixin, _Estimator):  # type: ignore[misc]
    """A network that predicts numbers, one or several per sample: as `Classifier`, with the squared error as its loss.

    >>> import numpy as np
    >>> x = np.arange(8.0)[:, None] / 8
    >>> regressor = Regressor((), learning_rate_init=0.1, max_iter=150, n_iter_no_change=None, random_state=0)
    >>> regressor.fit(x, 2 * x[:, 0] + 1).predict([[0.5]]).round(1)
    array([2.])
    """

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:  # noqa: N803
        """Train from the start on X, shape (n, features), and y, shape (n,) or (n, targets); see `Classifier.fit`."""
        x, given = validate_data(self, X, y, dtype=_TYPES, multi_output=True, y_numeric=True)
        targets: Array = column_or_1d(given, warn=True) if given.shape[1:] == (1,) else given
        self._single = targets.ndim == 1
        output = {"units": 1 if self._single else targets.shape[1]}
        return self._train(x, targets, output, "mse", [], sample_weight)

    def predict(self, X: ArrayLike) -> Array:  # noqa: N803
        """Return the predictions, of the shape of y: (n,) or (n, targets)."""
        outputs = self._outputs(X)
        return outputs[:, 0] if self._single else outputs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
