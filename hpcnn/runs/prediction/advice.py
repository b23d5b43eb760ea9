"""How many nodes pay for a run: by its noise scale, what it measured, and the model of its steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

from hpcnn.comm.network import Machine, Network
from hpcnn.core.activity import BACKWARD, FORWARD, OPTIMIZER, REDUCE, WAIT
from hpcnn.core.formatting import counted, percent, three_digits
from hpcnn.job.schema import Job
from hpcnn.runs.prediction.compute import Compute
from hpcnn.runs.prediction.model import model_of
from hpcnn.runs.prediction.record import ExchangeRecord, RunTimes
from hpcnn.runs.prediction.steps import PAYS, Cluster, Model, Scaling, predict_step

MOST_RANKS = 2**14
"""More are not looked at: it would take seconds."""
_MUCH = 1.5
"""Times the prediction from which on the time of a step needs a word."""
_FREE = Network(0.0, 0.0, 0.0)
_MEASURE = "Train with train.shards of 2 or more and run.noise_scale_every = 10 for a while."


@dataclass(frozen=True)
class Advice:
    """How many nodes pay, each with as many ranks, and each rank with as many samples, as in the run."""

    pay: int
    wasteful: int | None
    """Twice as many; None: `pay` are the most that were looked at."""
    efficiency: float
    """Of `wasteful`, or else of `pay`: progress a second and node, as a part of that of one node."""
    tasks: int
    samples: int
    """Of a rank."""
    compute_s: float
    """Of a rank, in a step."""
    own_nodes: int
    network: Network | None
    predicted_s: float
    """Of the run's own step."""
    measured_s: float

    @property
    def verdict(self) -> str:
        """How many nodes pay, in a sentence."""
        verb = "pays" if self.pay == 1 else "pay"
        said = f"{counted(self.pay, 'node')} of {counted(self.tasks, 'rank')} {verb}"
        if self.wasteful is None:
            said += f", the most that were looked at, at an efficiency of {percent(self.efficiency)}"
        else:
            said += f"; {self.wasteful:,} waste {percent(1 - self.efficiency)} of their time"
        return said if self.network else f"at most {said}; messages between nodes are not counted"

    @property
    def basis(self) -> list[str]:
        """What it rests on, in sentences."""
        own = counted(self.own_nodes, "node")
        said = [
            "With batches that grow, to the same loss, by the model of hpcnn predict-scaling: "
            f"{counted(self.samples, 'sample')} a rank, {three_digits(self.compute_s * 1e3)} ms of computation a step.",
            f"On {own}, as here, that makes {three_digits(self.predicted_s * 1e3)} ms a step; "
            f"it took {three_digits(self.measured_s * 1e3)} ms.",
        ]
        if self.measured_s > _MUCH * self.predicted_s:
            said.append("No part of the model has the rest: ranks that wait for a core, or for one that is slower.")
        if self.network is not None:
            latency, rate = self.network.latency_s * 1e6, 8e-9 / max(self.network.byte_s, 1e-15)
            said.append(f"The network is that of the run: {three_digits(latency)} us, {three_digits(rate)} Gbit/s.")
        else:
            why = "All ranks were on one node" if self.own_nodes == 1 else "The run measured no network"
            said.append(
                f"{why}: messages between nodes are left out. "
                "hpcnn predict-scaling --run RUN --network 2us,100Gb/s counts those of a network that you name."
            )
        return said


def advise(job: Job, times: RunTimes, noise_scale: float | None) -> Advice | str:
    """Return the advice for a run, or in a sentence what it lacks for one."""
    record, lack = times.record, "No advice on how many nodes pay"
    ranks, of_nodes = len(times.hosts), Counter(times.hosts)
    if noise_scale is None or noise_scale <= 0:
        return f"{lack}: the noise scale is not known. {_MEASURE}"
    if record is None or not times.steps or not isinstance(job.train.shards, int):
        return f"{lack}: time.jsonl does not tell what a step's exchange depends on. {_MEASURE}"
    if ranks > MOST_RANKS:
        return f"{lack}: there were more than {MOST_RANKS:,} ranks. hpcnn predict-scaling --run RUN looks at so many."
    if len(set(of_nodes.values())) > 1:
        return f"{lack}: the nodes had different numbers of ranks. Start as many on each."
    compute_s = max(times.of(FORWARD, BACKWARD)) / times.steps
    measured_s = median(times.of(FORWARD, BACKWARD, OPTIMIZER, WAIT, REDUCE)) / times.steps
    if not compute_s:
        return f"{lack}: its steps were too short to be measured. Train for longer."
    model, nodes, tasks = _model(job, record, times, compute_s), len(of_nodes), max(of_nodes.values())
    cluster = Cluster(Machine(record.network or _FREE, None, record.memory_byte_s), tasks)
    samples = -(-record.batch // ranks)

    def towards(numbers: list[int]) -> list[float]:
        steps = [predict_step(model, cluster, each, each * tasks * samples) for each in numbers]
        return Scaling(steps).towards(noise_scale)

    pay, wasteful, efficiency = _search(towards, max(1, MOST_RANKS // tasks))
    predicted_s = predict_step(model, cluster, nodes, record.batch).seconds
    return Advice(pay, wasteful, efficiency, tasks, samples, compute_s, nodes, record.network, predicted_s, measured_s)


def _model(job: Job, record: ExchangeRecord, times: RunTimes, compute_s: float) -> Model:
    """Return the model of a run's steps, all computation in proportion to the samples."""
    ranks = len(times.hosts)
    model = model_of(job, record.sums, Compute.of_step(compute_s, -(-record.batch // ranks)))
    parts = ranks if model.shares_update(ranks, len(set(times.hosts))) else 1
    update_s = parts * max(times.of(OPTIMIZER)) / times.steps
    return replace(model, compute=replace(model.compute, update_s=update_s))


def _search(towards: Callable[[list[int]], list[float]], most: int) -> tuple[int, int | None, float]:
    """Return the largest number of nodes that pays, twice as many, and the efficiency of those.

    None in place of twice as many, and the efficiency of the largest number itself, if more than `most` would pay.

    >>> _search(lambda nodes: [3 / (2 + n) for n in nodes], 1024)
    (4, 8, 0.3)
    >>> _search(lambda nodes: [1.0 for _ in nodes], 100)
    (64, None, 1.0)
    """
    good = 1
    for nodes in (2**power for power in range(1, most.bit_length())):
        if towards([1, nodes])[1] < PAYS:
            break
        good = nodes
    else:
        return good, None, towards([1, good])[1]
    low, high = good, 2 * good
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if towards([1, middle])[1] >= PAYS else (low, middle)
    return low, 2 * low, towards([1, 2 * low])[1]
