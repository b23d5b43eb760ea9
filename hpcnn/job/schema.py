"""The schema of the job file: every section, key, range and default.

A job is TOML. `[run]` only affects what is shown and stored; all other sections define the result.
Defaults and formulas follow Keras 3, so that a job means the same with each backend.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hpcnn.job.data import Data
from hpcnn.job.model import Loss, Metric, Model
from hpcnn.job.optimizer import Adam, Constant, Optimizer, Schedule
from hpcnn.job.section import NonNegative, NonNegativeInt, PositiveInt, Section

MOST_SHARDS = 65536

Arithmetic = Literal["native", "numpy"]
DEFAULT_ARITHMETIC: Arithmetic = "native"
"""What computes a job that does not say."""


class EarlyStopping(Section, frozen=True, kw_only=True):
    """Stop when a value has not improved for some epochs."""

    monitor: str = "val_loss"
    """The value to monitor: `loss`, `val_loss`, or a metric such as `val_accuracy`."""
    patience: PositiveInt = 10
    """Epochs without improvement before the stop."""
    min_delta: NonNegative = 0.0
    """Smallest change that counts as an improvement."""
    restore_best: bool = True
    """Restore the weights of the best epoch at the end."""


class ReduceOnPlateau(Section, frozen=True, kw_only=True):
    """Lower the learning rate when a value has not improved for some epochs."""

    monitor: str = "val_loss"
    """The value to monitor."""
    patience: PositiveInt = 5
    """Epochs without improvement before the rate is lowered."""
    factor: Annotated[float, Meta(gt=0, lt=1)] = 0.1
    """Factor by which the rate is multiplied."""
    min_delta: NonNegative = 0.0001
    """Smallest change that counts as an improvement."""
    min_learning_rate: NonNegative = 0.0
    """Lower bound of the rate."""


class Train(Section, frozen=True, kw_only=True):
    """Training."""

    epochs: PositiveInt = 10
    """Passes over the training data."""
    batch_size: PositiveInt | Literal["full"] = 32
    """Samples per step over all ranks; `full`: all samples."""
    shards: Annotated[int, Meta(ge=1, le=MOST_SHARDS)] | Literal["auto"] = "auto"
    """Number of gradient shards that each batch is divided into: the largest number of ranks that the job can use. It \
affects the result. `auto`: one per 16 samples of the batch with `arithmetic = "native"`; 8 with `"numpy"` and 4 \
in Keras and PyTorch mode, or one per sample of a smaller batch."""
    seed: NonNegativeInt = 0
    """Seed of all random numbers."""
    shuffle: bool = True
    """Shuffle the samples in each epoch."""
    dtype: Literal["float32", "float64"] = "float32"
    """Type of weights and arithmetic."""
    arithmetic: Arithmetic = DEFAULT_ARITHMETIC
    """What computes: `native`, the compiled core, whose bits are the same on every processor, or `numpy`, NumPy with \
its BLAS library, whose bits depend on the processor and the library. It affects the result."""
    metrics: list[Metric] = []
    """Metrics computed in addition to the loss. `auc` is computed of validation data alone, and by `hpcnn.evaluate`."""
    top_k: PositiveInt = 5
    """The k of `top_k_accuracy`."""
    iou_class: NonNegativeInt = 1
    """The class, or the label, that `iou` is of."""
    eval_batch_size: PositiveInt = 256
    """Samples per batch in evaluation and prediction."""
    optimizer_sharding: bool | Literal["auto"] = "auto"
    """Each rank updates only its partition of the parameters and keeps only the optimizer state of that partition \
(ZeRO-1): same result, less memory, less work. `auto`: if it is faster."""
    bucket_mb: NonNegative | Literal["auto"] = "auto"
    """MB of gradients per bucket, sent while the rest of the backward pass is computed; 0: send all at the end. Same \
result. `auto`: if it is faster."""
    checkpoint_activations: bool = False
    """Keep the outputs of only some layers until the backward pass, which computes the others again: same result, \
less memory, up to a third more work."""
    compression: Literal["none", "bf16", "fp16"] = "none"
    """Send gradients between hosts in two bytes per entry, with error feedback. This changes the result, on one rank \
too. `fp16` keeps 11 bits instead of 8, but sums beyond 65504 end the run."""
    compression_groups: Annotated[int, Meta(ge=1, le=MOST_SHARDS)] | Literal["auto"] = "auto"
    """Number of partial sums that are rounded, a power of two; it affects the result. One per host is best. `auto`: \
at most the number of hosts at the start."""
    early_stopping: EarlyStopping | None = None
    """A table; off if left out."""
    reduce_on_plateau: ReduceOnPlateau | None = None
    """A table; off if left out."""


SPEED_SETTINGS = ("optimizer_sharding", "bucket_mb", "checkpoint_activations")
"""Keys of `[train]` that do not change the result."""


class Run(Section, frozen=True, kw_only=True):
    """What is shown and stored. Nothing here changes the result."""

    display: Literal["auto", "live", "plain", "quiet", "none"] = "auto"
    """`auto`: `live` in a terminal, `plain` lines elsewhere. `quiet`: only the last line. `none`: nothing."""
    log_every_s: NonNegative = 10.0
    """Seconds between plain lines within an epoch."""
    loggers: list[Literal["csv", "mlflow", "tensorboard", "wandb"]] = []
    """Loggers of the values of each epoch; `tensorboard`, `mlflow` and `wandb` are extras of the same name."""
    timeline: bool = False
    """Write a trace of all ranks by phase and layer for Perfetto, `timeline.json.gz` in the run folder."""
    timeline_steps: PositiveInt = 200
    """Number of steps to record; after them, only evaluations, saves and recoveries are."""
    checkpoint_every_epochs: PositiveInt = 1
    """Epochs between checkpoints; the end is always saved."""
    checkpoint_every_steps: NonNegativeInt = 0
    """Steps between checkpoints, also within an epoch; 0: never."""
    checkpoint_every_minutes: NonNegative = 10.0
    """Minutes between checkpoints, also within an epoch; 0: never."""
    checkpoint_gap_s: NonNegative = 5.0
    """Least seconds between checkpoints at the ends of epochs, so that short epochs are not dominated by writing \
files."""
    keep_checkpoints: PositiveInt = 2
    """Number of newest checkpoints to keep, in addition to the best."""
    noise_scale_every: NonNegativeInt = 200
    """Steps between measurements of the gradient noise scale, which says how large a batch is useful: \
`noise_scale` among the values of an epoch; 0: never."""
    monitor: str = ""
    """The value that determines the best checkpoint; empty: `val_loss`, or `loss` without validation."""
    stop_at_step: NonNegativeInt = 0
    """Save and stop, resumable, after this step of the training, counted from 1; 0: never."""
    max_minutes: NonNegative = 0.0
    """Wall-time limit in minutes: the run has saved and stopped, resumable, by then; 0: none."""
    stall_warn_s: NonNegative = 60.0
    """Seconds without progress after which a rank is reported, with its phase; 0: never."""
    stall_abort_s: NonNegative = 600.0
    """Seconds without progress of a rank after which the job is aborted; 0: never."""
    on_rank_loss: Literal["end", "continue"] = "end"
    """When ranks fail: end the job, or let the survivors take over their shards and continue, with the same result. \
`continue` needs Open MPI 5, started with `mpirun --with-ft ulfm`."""
    min_ranks: PositiveInt = 1
    """Least number of surviving ranks; with fewer, the run saves and stops, resumable."""

    @property
    def quiet(self) -> bool:
        """Whether nothing is shown during training."""
        return self.display in ("quiet", "none")


class Keras(Section, frozen=True, kw_only=True):
    """How the ranks of a job with `backend = "keras"` sum their gradients."""

    comm: Literal["auto", "mpi", "horovod"] = "auto"
    """`mpi`: as with the NumPy backend, the same bits on any number of ranks. `horovod`: with Horovod, the same up to \
rounding. `auto`: `mpi`."""


class Torch(Section, frozen=True, kw_only=True):
    """How a job with `backend = "torch"` computes."""

    autocast: Literal["none", "bfloat16"] = "none"
    """`bfloat16`: products and convolutions in that type, by torch.autocast; weights and gradients stay float32."""
    device: Literal["cpu", "cuda", "auto"] = "cpu"
    """`cuda`: each rank computes on the GPU of its number on the node, and gradients are summed in the memory of the \
host. It affects the result. `auto`: `cuda` where PyTorch sees a GPU, which must be on all ranks or none."""
    comm: Literal["mpi", "distributed"] = "mpi"
    """`mpi`: as with the NumPy backend, the same bits on any number of ranks. `distributed`: with torch.distributed, \
NCCL on GPUs and gloo on the CPU, the same up to rounding."""


class Job(Section, frozen=True, kw_only=True):
    """A whole job file."""

    name: str = ""
    """Name of the job and of its run folders; default: the name of the file."""
    backend: Literal["numpy", "keras", "torch"] = "numpy"
    """Layers implemented in NumPy, Keras 3 on TensorFlow, or PyTorch."""
    data: Data
    """Source and preprocessing of the samples."""
    model: Model
    """The network: a list of layers, or a Python function that returns a network."""
    loss: Loss | None = None
    """The loss to minimise: the mean over samples, plus the penalties of the layers."""
    losses: dict[str, Loss] = {}
    """In place of `[loss]`, where `model.outputs` names several: a section for each, as `[losses.digit]`, with the \
keys of `[loss]`."""
    optimizer: Optimizer = Adam()
    """The optimizer."""
    schedule: Schedule = Constant()
    """The learning-rate schedule."""
    train: Train = Train()
    """Training."""
    keras: Keras = Keras()
    """How the ranks of a job with `backend = "keras"` sum their gradients."""
    torch: Torch = Torch()
    """How a job with `backend = "torch"` computes."""
    run: Run = Run()
    """What is shown and stored. Nothing here changes the result."""


def sums_by_library(job: Job) -> str:
    """Return the setting by which another library sums the gradients, in whatever order; empty: hpcnn does."""
    if job.backend == "keras" and job.keras.comm == "horovod":
        return 'keras.comm = "horovod"'
    if job.backend == "torch" and job.torch.comm == "distributed":
        return 'torch.comm = "distributed"'
    return ""
