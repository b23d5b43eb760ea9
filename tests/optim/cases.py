"""One table of all optimizers and options: the job's section, Keras's optimizer, and a plain restatement.

A new optimizer is one line in `OPTIMIZERS` here, and one function that states it plainly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from hpcnn.comm.protocol import Contribution
from hpcnn.comm.serial import SerialExchange
from hpcnn.comm.shared_memory import CommonArray, PrivateMemory
from hpcnn.job import optimizer as job
from hpcnn.nn.params import ParamLayout, ParamSpec
from hpcnn.optim.arithmetic import Arithmetic
from hpcnn.optim.numpy_arithmetic import NUMPY
from hpcnn.optim.optimizer import Optimizer
from hpcnn.optim.transforms import StepInfo
from hpcnn.training.step_stats import WEIGHT
from hpcnn.training.updater import Updater


@dataclass(frozen=True)
class Case:
    """One optimizer with its options."""

    section: job.Optimizer
    keras: str
    """Name of the class in `keras.optimizers`."""
    plain: Any
    """``(state, t, rate, gradient, params, section) -> step``: the textbook's formula, on whole vectors."""

    @property
    def id(self) -> str:
        fields = msgspec.structs.asdict(self.section)
        defaults = msgspec.structs.asdict(type(self.section)())
        changed = "-".join(f"{name}={value}" for name, value in fields.items() if value != defaults[name])
        return f"{self.keras}-{changed}".lower()

    def keras_options(self, dtype: str) -> dict[str, Any]:
        """Return the arguments of Keras's optimizer.

        In float64 they are NumPy's numbers, since Keras takes Python's as float32.
        """
        fields, number = msgspec.structs.asdict(self.section), {"float32": float, "float64": np.float64}[dtype]
        options = {name: number(value) if isinstance(value, float) else value for name, value in fields.items()}
        options["global_clipnorm"] = options.pop("clip_norm") or None
        options["clipvalue"] = options.pop("clip_value") or None
        return options

    def with_clips(self, **clips: float) -> Case:
        return Case(msgspec.structs.replace(self.section, **clips), self.keras, self.plain)


def sgd(state, t, rate, g, p, s):
    velocity = state["v"] = s.momentum * state.get("v", 0) - rate * g
    return -(s.momentum * velocity - rate * g) if s.nesterov else -velocity


def adam(state, t, rate, g, p, s):
    m = state["m"] = s.beta_1 * state.get("m", 0) + (1 - s.beta_1) * g
    v = state["v"] = s.beta_2 * state.get("v", 0) + (1 - s.beta_2) * g**2
    rate = rate * np.sqrt(1 - s.beta_2 ** (t + 1)) / (1 - s.beta_1 ** (t + 1))
    return rate * m / (np.sqrt(v) + s.epsilon)


def adamw(state, t, rate, g, p, s):
    return adam(state, t, rate, g, p, s) + rate * s.weight_decay * p


def rmsprop(state, t, rate, g, p, s):
    square = state["s"] = s.rho * state.get("s", 0) + (1 - s.rho) * g**2
    mean = state["m"] = s.rho * state.get("m", 0) + (1 - s.rho) * g
    step = rate * g / np.sqrt(square - (mean**2 if s.centered else 0) + s.epsilon)
    state["v"] = s.momentum * state.get("v", 0) + step
    return state["v"]


def adagrad(state, t, rate, g, p, s):
    total = state["s"] = state.get("s", s.initial_accumulator_value) + g**2
    return rate * g / np.sqrt(total + s.epsilon)


OPTIMIZERS = [
    Case(job.Sgd(), "SGD", sgd),
    Case(job.Sgd(learning_rate=0.1, decay=0.05), "SGD", sgd),
    Case(job.Sgd(learning_rate=0.1, momentum=0.9), "SGD", sgd),
    Case(job.Sgd(learning_rate=0.1, momentum=0.8, nesterov=True), "SGD", sgd),
    Case(job.Sgd(learning_rate=0.1, momentum=0.8, nesterov=True, decay=0.1), "SGD", sgd),
    Case(job.Adam(), "Adam", adam),
    Case(job.Adam(learning_rate=0.05, beta_1=0.7, beta_2=0.95, epsilon=0.01), "Adam", adam),
    Case(job.Adam(beta_1=0.0, beta_2=0.5), "Adam", adam),
    Case(job.AdamW(), "AdamW", adamw),
    Case(job.AdamW(learning_rate=0.05, weight_decay=0.3, beta_1=0.8, beta_2=0.9, epsilon=0.01), "AdamW", adamw),
    Case(job.AdamW(weight_decay=0.0), "AdamW", adamw),
    Case(job.RmsProp(), "RMSprop", rmsprop),
    Case(job.RmsProp(learning_rate=0.01, rho=0.6, epsilon=0.01), "RMSprop", rmsprop),
    Case(job.RmsProp(learning_rate=0.01, momentum=0.7), "RMSprop", rmsprop),
    Case(job.RmsProp(learning_rate=0.01, centered=True), "RMSprop", rmsprop),
    Case(job.RmsProp(learning_rate=0.01, momentum=0.7, centered=True), "RMSprop", rmsprop),
    Case(job.Adagrad(), "Adagrad", adagrad),
    Case(job.Adagrad(learning_rate=0.1, initial_accumulator_value=0.5, epsilon=0.01), "Adagrad", adagrad),
    Case(job.Adagrad(initial_accumulator_value=0.0), "Adagrad", adagrad),
]
PLAIN = [OPTIMIZERS[i] for i in (2, 5, 8, 11, 16)]
"""One of each kind."""
NORM, VALUE = 2.0, 0.4
CASES = [*OPTIMIZERS, *(case.with_clips(clip_norm=NORM) for case in PLAIN)]
CASES += [case.with_clips(clip_value=VALUE) for case in PLAIN]


class Bound:
    """An optimizer on one rank: `update` does a step by what is in `gradient` then."""

    def __init__(
        self, optimizer: Optimizer, params: np.ndarray, gradient: np.ndarray, arithmetic: Arithmetic = NUMPY
    ) -> None:
        layout = ParamLayout([ParamSpec("all", params.shape, lambda shape, generator: np.zeros(shape))])
        exchange = SerialExchange(Contribution((0, 1), gradient, np.zeros(2)))
        store = CommonArray(PrivateMemory(), params, lambda array: None)
        self.updater = Updater(store, layout, optimizer, exchange, arithmetic)
        self.state, self.load_state = self.updater._bound.state, self.updater.load_optimizer_state

    def update(self, info: StepInfo, count: float) -> bool:
        self.updater.start(info)
        self.updater.exchange.stats[WEIGHT] = count
        return self.updater.finish()


def gradient(step: int, n: int, *, seed: int = 0) -> np.ndarray:
    """Return a float64 gradient of step `step`: its norm lies now below `NORM`, now above."""
    rng = np.random.default_rng([seed, step, n])
    return rng.normal(size=n) * (0.3 if step % 2 else 1.5) * NORM / np.sqrt(n) + (0.5 if step % 3 == 0 else 0)


def start(n: int) -> np.ndarray:
    return np.random.default_rng(n).normal(size=n)
