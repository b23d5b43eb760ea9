"""One flat vector of parameters, and the named views that layers see of it."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hpcnn.errors import CheckpointError, ModelError
from hpcnn.nn.draws import INIT_STREAM, CoreDraws, stream_of
from hpcnn.nn.initializers import OwnInitializer
from hpcnn.nn.workspace import Array

Initializer = Callable[[tuple[int, ...], np.random.Generator], Array]
"""``(shape, generator) -> float64 array of that shape``."""


@dataclass(frozen=True)
class ParamSpec:
    """One named array of parameters, before it exists."""

    name: str
    shape: tuple[int, ...]
    initializer: Initializer
    trainable: bool = True
    l1: float = 0.0
    l2: float = 0.0
    state: bool = False
    """Whether training changes it without a gradient, as an average over the samples seen. It is not trainable then."""

    def __post_init__(self) -> None:
        if self.state and self.trainable:
            raise ModelError(f"parameter {self.name!r} is state, which no gradient changes: set trainable=False")

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)


MOST_ENTRIES = 2**36
"""Of an array: more than any machine holds."""


def check_size(what: str, shape: Sequence[int]) -> None:
    """Raise ModelError if `what`, which is in the message, would have more entries than arrays can have."""
    if math.prod(shape) > MOST_ENTRIES:
        raise ModelError(
            f"{what} would have {math.prod(shape):,} entries, the shape {tuple(shape)}, but at most "
            f"{MOST_ENTRIES:,} are possible. Make the layer smaller."
        )


class ParamLayout:
    """Where each parameter lies in the flat vector: the trainable ones first, in the model's order, then the frozen.

    Gradients and optimizer state are vectors over the trainable part alone.
    """

    def __init__(self, specs: Sequence[ParamSpec]) -> None:
        counts = Counter(spec.name for spec in specs)
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            raise ModelError(f"parameter names must differ, but these appear twice: {', '.join(twice)}")
        for spec in specs:
            check_size(spec.name, spec.shape)
        self.specs = tuple(specs)
        self.offsets: dict[str, int] = {}
        position = 0
        for spec in sorted(specs, key=lambda spec: not spec.trainable):  # stable: keeps the model's order
            self.offsets[spec.name] = position
            position += spec.size
        self.size = position
        self.trainable_size = sum(spec.size for spec in specs if spec.trainable)

    def views(self, vector: Array) -> dict[str, Array]:
        """Return each parameter as a shaped view of `vector`, of shape (size,)."""
        return {s.name: self._view(vector, s) for s in self.specs}

    def gradient_views(self, vector: Array) -> dict[str, Array]:
        """Return each trainable parameter's gradient as a shaped view of `vector`, of shape (trainable_size,)."""
        return {s.name: self._view(vector, s) for s in self.specs if s.trainable}

    def _view(self, vector: Array, spec: ParamSpec) -> Array:
        start = self.offsets[spec.name]
        return vector[start : start + spec.size].reshape(spec.shape)

    def name_at(self, place: int) -> str:
        """Return the name of the parameter that the entry at `place` of the vector belongs to."""
        return next(s.name for s in self.specs if self.offsets[s.name] <= place < self.offsets[s.name] + s.size)

    @cached_property
    def penalized(self) -> tuple[ParamSpec, ...]:
        """The trainable parameters that carry an L1 or L2 penalty."""
        return tuple(s for s in self.specs if s.trainable and (s.l1 or s.l2))

    def initialize(self, vector: Array, seed: int, arithmetic: str = "numpy") -> None:
        """Fill `vector` from the job's seed. Each parameter has a stream of its own, keyed by its place."""
        views = self.views(vector)
        for place, spec in enumerate(self.specs):
            if arithmetic == "native" and isinstance(spec.initializer, OwnInitializer):
                values = spec.initializer.draw(spec.shape, CoreDraws(seed, stream_of(INIT_STREAM, place)))
            else:
                key = np.random.SeedSequence([seed, INIT_STREAM, place])
                values = spec.initializer(spec.shape, np.random.Generator(np.random.Philox(key)))
            views[spec.name][...] = values

    def state_dict(self, vector: Array) -> dict[str, Array]:
        """Return a copy of each parameter under its name."""
        return {name: view.copy() for name, view in self.views(vector).items()}

    def load_state_dict(self, vector: Array, state: Mapping[str, Array]) -> None:
        """Fill `vector` from arrays by name. All names and shapes must be those of the model."""
        self.check_state_dict(state)
        for name, view in self.views(vector).items():
            view[...] = state[name]

    def check_state_dict(self, state: Mapping[str, Array]) -> None:
        """Check that `state` has the names and shapes of the model.

        Raises:
            CheckpointError: it is of another model.
        """
        missing, extra = sorted(self.offsets.keys() - state.keys()), sorted(state.keys() - self.offsets.keys())
        if missing or extra:
            raise CheckpointError(
                "the parameters are those of another model: "
                + "; ".join(
                    f"{what} {', '.join(names)}" for what, names in (("missing", missing), ("unknown", extra)) if names
                )
            )
        for spec in self.specs:
            if state[spec.name].shape != spec.shape:
                raise CheckpointError(
                    f"parameter {spec.name!r} has shape {state[spec.name].shape} in the file, "
                    f"but the model needs {spec.shape}"
                )

    def fingerprint(self, vector: Array) -> str:
        """Return the SHA-256 of names, types, shapes and little-endian bytes of all parameters, in model order."""
        digest = hashlib.sha256()
        for name, view in self.views(vector).items():
            digest.update(f"{name} {view.dtype.name} {view.shape}\n".encode())
            digest.update(np.ascontiguousarray(view, dtype=view.dtype.newbyteorder("<")).data)
        return digest.hexdigest()
