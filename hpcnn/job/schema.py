"""The job file, as types: every section, key, range and default. What is not here is no setting.

A job is TOML. `[run]` holds what changes only what is shown and kept; every other section defines the result.
Defaults and formulas follow Keras 3, so that a job means the same in either mode.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hpcnn.job.data import Data
from hpcnn.job.model import Loss, Model
from hpcnn.job.optimizer import Adam, Constant, Optimizer, Schedule
from hpcnn.job.section import NonNegative, NonNegativeInt, PositiveInt, Section

Metric = Literal[
    "accuracy", "binary_accuracy", "categorical_accuracy", "sparse_categorical_accuracy", "top_k_accuracy",
    "mae", "mse", "r2", "precision", "recall", "f1", "confusion_matrix",
]  # fmt: skip


class EarlyStopping(Section, frozen=True, kw_only=True):
    """Stop when a value has not improved for some epochs."""

    monitor: str = "val_loss"
    """The value watched: `loss`, `val_loss`, or a metric, as `val_accuracy`."""
    patience: PositiveInt = 10
    """Epochs without improvement before the stop."""
    min_delta: NonNegative = 0.0
    """Smallest change that counts."""
    restore_best: bool = True
    """End with the best epoch's weights."""


class ReduceOnPlateau(Section, frozen=True, kw_only=True):
    """Lower the learning rate when a value has not improved for some epochs."""

    monitor: str = "val_loss"
    """The value watched."""
    patience: PositiveInt = 5
    """Epochs without improvement before a drop."""
    factor: Annotated[float, Meta(gt=0, lt=1)] = 0.1
    """What a drop multiplies the rate by."""
    min_delta: NonNegative = 0.0001
    """Smallest change that counts."""
    min_learning_rate: NonNegative = 0.0
    """The rate never falls below this."""


class Train(Section, frozen=True, kw_only=True):
    """How to train."""

    epochs: PositiveInt = 10
    """Passes over the training data."""
    batch_size: PositiveInt | Literal["full"] = 32
    """Samples per step, over all ranks together; `full` is all of them."""
    shards: Annotated[int, Meta(ge=1, le=65536)] | Literal["auto"] = "auto"
    """Shards that a batch is cut into: the largest rank count of the job. `auto`: as many as its first ranks."""
    seed: NonNegativeInt = 0
    """Seed of every random draw."""
    shuffle: bool = True
    """A new order of the samples in each epoch."""
    dtype: Literal["float32", "float64"] = "float32"
    """Type of weights and arithmetic."""
    metrics: list[Metric] = []
    """Values computed beside the loss."""
    top_k: PositiveInt = 5
    """The k of `top_k_accuracy`."""
    eval_batch_size: PositiveInt = 256
    """Samples per piece in evaluation and prediction."""
    optimizer_sharding: bool | Literal["auto"] = "auto"
    """Each rank updates its share of the parameters only, and keeps the optimizer's state of that share: same result, \
less memory, less work. `auto`: where it is faster."""
    bucket_mb: NonNegative | Literal["auto"] = "auto"
    """MB of gradients that travel while the rest is still computed; 0 sends all at the end. Same result. `auto`: \
where it is faster."""
    compression: Literal["none", "bf16", "fp16"] = "none"
    """Gradients travel between hosts in two bytes per entry. What rounding loses is added to the next step's, but the \
result differs, on one rank too. `fp16` keeps 11 bits in place of 8, but sums beyond 65504 end the run."""
    compression_groups: Annotated[int, Meta(ge=1, le=65536)] | Literal["auto"] = "auto"
    """Sums of shards that are rounded on their way, a power of two; part of the result. Best is one per host. `auto`: \
as many as there are hosts at the start, or fewer."""
    early_stopping: EarlyStopping | None = None
    """Table of its own; left out, there is none."""
    reduce_on_plateau: ReduceOnPlateau | None = None
    """Table of its own; left out, there is none."""


SPEED_SETTINGS = ("optimizer_sharding", "bucket_mb")
"""Keys of `[train]` that do not change the result."""


class Run(Section, frozen=True, kw_only=True):
    """What is shown and kept. Nothing here changes the result."""

    display: Literal["auto", "live", "plain", "quiet", "none"] = "auto"
    """`auto`: live in a terminal, plain lines elsewhere. `quiet`: only the last line. `none`: not even that."""
    log_every_s: NonNegative = 10.0
    """Seconds between two plain lines within an epoch."""
    loggers: list[Literal["csv", "mlflow", "tensorboard", "wandb"]] = []
    """What else receives the values of each epoch; `tensorboard`, `mlflow` and `wandb` are extras of the same name."""
    timeline: bool = False
    """Record what each rank does when, by phase and layer, in `timeline.json.gz` of the run folder: for Perfetto."""
    timeline_steps: PositiveInt = 200
    """Steps that are recorded, from the first on; of later ones only evaluations, saves and recoveries."""
    checkpoint_every_epochs: PositiveInt = 1
    """Epochs between two checkpoints; the end is always saved."""
    checkpoint_every_steps: NonNegativeInt = 0
    """Steps between two checkpoints, within an epoch too; 0 is never."""
    checkpoint_every_minutes: NonNegative = 10.0
    """Minutes after which there is a checkpoint, within an epoch too; 0 is never."""
    checkpoint_gap_s: NonNegative = 5.0
    """An epoch ends without a checkpoint if the last one is younger than this many seconds: short epochs would \
otherwise be spent on writing files."""
    keep_checkpoints: PositiveInt = 2
    """Newest checkpoints that are kept, beside the best."""
    monitor: str = ""
    """The value that decides which checkpoint is the best; empty: `val_loss`, or `loss` without validation."""
    stop_at_step: NonNegativeInt = 0
    """Save and stop, resumable, after this step of the whole training, counted from 1; 0 is never."""
    max_minutes: NonNegative = 0.0
    """Minutes after which the run saves and stops, resumable: its last checkpoint is done by then. 0 is never."""
    stall_warn_s: NonNegative = 60.0
    """Seconds after which a rank that makes no progress is named, with what it is doing; 0 is never."""
    stall_abort_s: NonNegative = 600.0
    """Seconds after which a job in which a rank makes no progress is ended; 0 is never."""
    on_rank_loss: Literal["end", "continue"] = "end"
    """When ranks die: end the job, or let the others take over their share and continue, with the same result. \
`continue` needs Open MPI 5, started with `mpirun --with-ft ulfm`."""
    min_ranks: PositiveInt = 1
    """With fewer ranks left, the run saves and stops, resumable."""

    @property
    def quiet(self) -> bool:
        """Whether nothing is shown of the training on its way."""
        return self.display in ("quiet", "none")


class Keras(Section, frozen=True, kw_only=True):
    """How the ranks of a job with `backend = "keras"` add their gradients."""

    comm: Literal["auto", "mpi", "horovod"] = "auto"
    """`mpi`: as in NumPy mode, the same bits on any number of ranks. `horovod`: by Horovod, the same up to rounding. \
`auto`: by MPI."""


class Job(Section, frozen=True, kw_only=True):
    """A whole job file."""

    name: str = ""
    """Name of the job, and of its run folders; the file's name if left out."""
    backend: Literal["numpy", "keras"] = "numpy"
    """What computes: layers written in NumPy, or Keras 3 on TensorFlow."""
    data: Data
    """Where the samples come from, and how they are prepared."""
    model: Model
    """The network: a list of layers, or a Python function that returns one."""
    loss: Loss
    """What is minimised: the mean over samples, plus the penalties of the layers."""
    optimizer: Optimizer = Adam()
    """How a gradient becomes an update."""
    schedule: Schedule = Constant()
    """How the learning rate changes with time."""
    train: Train = Train()
    """How to train."""
    keras: Keras = Keras()
    """How the ranks of a job with `backend = "keras"` add their gradients."""
    run: Run = Run()
    """What is shown and kept. Nothing here changes the result."""


def sums_by_horovod(job: Job) -> bool:
    """Return whether gradients are added by Horovod."""
    return job.backend == "keras" and job.keras.comm == "horovod"
