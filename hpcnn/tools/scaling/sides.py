"""The sides of a scaling study: one job, trained by hpcnn, by other exchanges, and by PyTorch, step by step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

from hpcnn.comm.collectives import agree
from hpcnn.comm.protocol import Communicator, ReplicatedExchange
from hpcnn.errors import CommunicatorError, DivergedError, HpcnnError, JobError
from hpcnn.runs.build import build_replica
from hpcnn.runs.reading import shard_loader
from hpcnn.tools.scaling.names import ALLREDUCE, DDP, HOROVOD, HPCNN
from hpcnn.training.loader import ShardLoader
from hpcnn.training.replica import NotFiniteError, Replica
from hpcnn.training.step_stats import COUNT
from hpcnn.training.training import Training
from hpcnn.training.tuning import cores_of_ranks, own_threads, use_cores


class Side:
    """What trains the job for some steps.

    Args:
        name: of the side.
        loader: brings the samples.
        owned: the gradient shards of this rank.
        step: takes the number of a step and its place in the epoch; returns the samples of the whole batch.
        sha256: returns the SHA-256 of this rank's weights.
    """

    def __init__(
        self,
        name: str,
        loader: ShardLoader,
        owned: tuple[int, int],
        step: Callable[[int, int], int],
        sha256: Callable[[], str],
    ) -> None:
        self.name, self.sha256 = name, sha256
        self.steps = 0
        """Those done so far."""
        self._loader, self._owned, self._step = loader, owned, step

    def train(self, steps: int) -> int:
        """Do so many steps and return their samples, over all ranks. Collective."""
        samples = 0
        for _ in range(steps):
            epoch, in_epoch = divmod(self.steps, self._loader.steps_per_epoch)
            if in_epoch == 0:
                self._loader.start_epoch(epoch, 0, self._owned)
            samples += self._step(self.steps, in_epoch)
            self.steps += 1
        return samples

    def close(self) -> None:
        """End the reading ahead."""
        self._loader.close()


class ReplicaSide(Side):
    """A side whose network and arithmetic are those of the job."""

    def __init__(
        self, name: str, training: Training, comm: Communicator, replica: Replica, loader: ShardLoader
    ) -> None:
        schedule = training.schedule
        replica.synchronize()
        use_cores(comm, replica.model)

        def step(number: int, in_epoch: int) -> int:
            try:
                sums = replica.train_step(number, partial(loader.shards, in_epoch), factor=schedule(number))
            except NotFiniteError as error:
                raise DivergedError(
                    f"step {number + 1}: {error.what} is not finite, so its time says nothing. "
                    "Try a lower optimizer.learning_rate, or fewer --steps."
                ) from None
            return int(sums[COUNT])

        super().__init__(name, loader, replica.owned, step, replica.model.fingerprint)


def own_side(training: Training, comm: Communicator) -> Side:
    """Return the job as `hpcnn train` trains it. Collective."""
    return ReplicaSide(HPCNN, training, comm, training.replica, training.shards)


def allreduce_side(training: Training, comm: Communicator) -> Side:
    """Return the job with gradients summed by MPI_Allreduce. Collective.

    Raises:
        CommunicatorError: there is a single rank.
    """
    from hpcnn.comm.exchange.allreduce_exchange import AllreduceExchange

    _check_several(comm)
    return _with_exchange(ALLREDUCE, training, comm, AllreduceExchange)


def horovod_side(training: Training, comm: Communicator) -> Side:
    """Return the job with gradients summed by Horovod. Collective.

    Raises:
        HpcnnError: there is a single rank, or no Horovod that fits.
    """
    from hpcnn.comm.exchange.horovod_exchange import horovod_exchange

    _check_several(comm)
    return _with_exchange(HOROVOD, training, comm, partial(horovod_exchange, comm))


def _check_several(comm: Communicator) -> None:
    if comm.size == 1:
        raise CommunicatorError("one rank has nothing to exchange: hpcnn's own figure holds")


def _with_exchange(
    name: str, training: Training, comm: Communicator, make: Callable[..., ReplicatedExchange]
) -> ReplicaSide:
    job, spec = training.job, training.spec
    exchange = make(job.train.shards, spec.network.layout.trainable_size, job.train.dtype, spec.stats_length)
    replica = build_replica(job, spec, comm, training.class_weights, exchange=exchange)
    return ReplicaSide(name, training, comm, replica, shard_loader(job, spec, training.splits, comm))


def ddp_side(training: Training, comm: Communicator, stack: ExitStack) -> Side:
    """Return the same network under DistributedDataParallel, whose process group ends with `stack`. Collective.

    Raises:
        HpcnnError: PyTorch is not installed, the job can't be translated to it, or the ranks can't connect.
    """
    from hpcnn.tools.scaling.torch_ddp import TorchSteps, check_torch, process_group

    job, spec, owned = training.job, training.spec, training.replica.owned

    def check() -> None:
        if training.class_weights is not None or training.splits.train.weights is not None:
            raise JobError("weights of classes and samples are not translated to PyTorch")
        check_torch(job, spec.network.input_shape)

    agree(comm, check)
    threads = 1 if job.backend == "torch" else own_threads(comm, cores_of_ranks(comm))  # what hpcnn computes on as well
    stack.enter_context(process_group(comm))
    steps = TorchSteps(job, spec.network.input_shape, threads)
    loader = shard_loader(job, spec, training.splits, comm)

    def step(number: int, in_epoch: int) -> int:
        steps(loader.shards(in_epoch, *owned), training.schedule(number))
        return min(loader.batch_size, loader.samples - in_epoch * loader.batch_size)

    return Side(DDP, loader, owned, step, steps.sha256)


def attempt(make: Callable[[], Side], left_out: dict[str, str], name: str) -> list[Side]:
    """Return the side, or none where it can't be measured here: then `left_out` says why."""
    try:
        return [make()]
    except HpcnnError as error:
        left_out[name] = str(error)
        return []
