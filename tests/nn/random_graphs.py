"""Networks drawn at random: layers of all kinds in graphs with branches, joins and shared parameters.

``python -m tests.nn.random_graphs --count 200`` compares so many with Keras.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hpcnn.errors import ModelError
from hpcnn.nn import (
    ELU,
    GRU,
    LSTM,
    Activation,
    Add,
    Average,
    AveragePooling,
    BatchNormalization,
    Bidirectional,
    Block,
    Concatenate,
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
    Cropping,
    CrossAttention,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Embedding,
    Flatten,
    GaussianNoise,
    GlobalAveragePooling,
    GlobalMaxPooling,
    GroupNormalization,
    LayerNorm,
    LeakyReLU,
    Maximum,
    MaxPooling,
    MultiHeadAttention,
    Multiply,
    PaddingMask,
    Permute,
    PositionalEmbedding,
    PReLU,
    RepeatVector,
    Reshape,
    Residual,
    RMSNormalization,
    SeparableConv2D,
    Shared,
    SimpleRNN,
    SpatialDropout,
    SpectralConv1D,
    TimeDistributed,
    UpSampling,
    ZeroPadding,
)
from hpcnn.nn.layer import Layer, MultiInput, Shape
from hpcnn.nn.params import ParamSpec

ENTRIES = 7
"""Of an embedding."""
MOST = 160
"""Numbers in an output of one sample."""
ACTIVATIONS = ("linear", "relu", "tanh", "sigmoid", "elu", "selu", "swish", "gelu", "softplus", "leaky_relu")
INPUTS: list[Shape] = [(5,), (7,), (6, 4), (8, 3), (5, 6, 2), (6, 6, 3), (3, 4, 3, 2)]
KEY_DIMS = 2, 3
"""Not 1: Keras on TensorFlow takes the bias of h heads for one of positions, where there are h of those."""
NOISE = (Dropout, SpatialDropout, GaussianNoise)


@dataclass(frozen=True)
class Graph:
    """Layers of a network, and what it takes."""

    seed: int
    layers: list[Layer]
    input_shape: Shape
    ids: bool
    """Whether it takes ids of an embedding."""
    shares: bool
    """Whether layers share parameters."""

    def samples(self, n: int, dtype: Any) -> np.ndarray:
        """Return inputs; the first id of each sample is not 0, which masks it."""
        rng = np.random.default_rng([self.seed, 1])
        if not self.ids:
            return rng.standard_normal((n, *self.input_shape)).astype(dtype)
        ids = rng.integers(0, ENTRIES, (n, *self.input_shape))
        ids[:, 0] = np.maximum(1, ids[:, 0])
        return ids.astype(dtype)


def drawn(seed: int, *, noise: bool = False, batch_norm: bool = True, pooling_3d: bool = True) -> Graph:
    """Return a graph of 5 to 12 layers before its loose ends are joined: the same for the same arguments.

    Args:
        seed: of all choices.
        noise: with layers that draw random numbers in training.
        batch_norm: with batch normalisation.
        pooling_3d: with pooling of four axes, which Keras has in float32 alone.
    """
    left_out = {kind for kind, used in ((BatchNormalization, batch_norm),) if not used}
    left_out |= set() if noise else set(NOISE)
    drawing = _Drawing(seed, left_out, pooling_3d=pooling_3d)
    return drawing.graph()


class _Drawing:
    def __init__(self, seed: int, left_out: set[type[Layer]], *, pooling_3d: bool) -> None:
        self.seed, self.rng = seed, np.random.default_rng(seed)
        self._left_out, self._pooling_3d = left_out, pooling_3d
        self.layers: list[Layer] = []
        self.shapes: dict[str, Shape] = {}
        self.given: dict[str, Shape] = {}
        """The shape that a layer with parameters, and no state, was given."""
        self.loose: list[str] = []
        self.mask = ""

    def graph(self) -> Graph:
        ids = self.rng.random() < 0.15
        input_shape: Shape = (int(self.rng.integers(4, 8)),) if ids else self.one_of(INPUTS)
        self.shapes["input"] = input_shape
        if ids:
            self._add(Embedding(ENTRIES, int(self.rng.integers(3, 6))), ["input"])
            if self.rng.random() < 0.5:
                self._add(PaddingMask(), ["input"])
                self.mask = self.layers[-1].name
                self.loose.remove(self.mask)
        for _ in range(int(self.rng.integers(5, 13))):
            self._one_more(ids=ids)
        if self.mask and all(self.mask not in layer.inputs for layer in self.layers):
            self._add(Dense(4), [self.mask])
        self._join()
        shares = any(isinstance(layer, Shared) for layer in self.layers)
        return Graph(self.seed, self.layers, input_shape, ids, shares)

    def one_of(self, choices: Sequence[Any]) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def _one_more(self, *, ids: bool) -> None:
        """Add a layer that can take what is there."""
        places = [name for name in self.shapes if name != self.mask and not (ids and name == "input")]
        for _ in range(50):
            source = places[-1] if self.rng.random() < 0.6 else self.one_of(places)
            shape = self.shapes[source]
            makers = [*ANY, *BY_AXES.get(len(shape), ())]
            maker = self.one_of([_merged, _shared, _crossed] if self.rng.random() < 0.25 else makers)
            try:
                made = maker(self, shape, source)
                layer, sources = made if isinstance(made, tuple) else (made, [source])
                if layer is None or type(layer) in self._left_out or self._too_large(layer, sources):
                    continue
            except ModelError:
                continue
            self._add(layer, sources)
            return

    def _too_large(self, layer: Layer, sources: list[str]) -> bool:
        if isinstance(layer, (AveragePooling, MaxPooling)) and len(self.shapes[sources[0]]) == 4:
            return not self._pooling_3d
        shape = self._output(layer, sources)
        return not 0 < math.prod(shape) <= MOST or min(shape) < 1

    def _output(self, layer: Layer, sources: list[str]) -> Shape:
        shapes = [self.shapes[source] for source in sources]
        if isinstance(layer, Shared):
            (layer,) = (other for other in self.layers if other.name == layer.layer)
        if isinstance(layer, Residual):
            return shapes[0]
        if isinstance(layer, Block):
            for inner in layer.layers * layer.repeat:
                shapes[0] = inner.output_shape(shapes[0])
            return shapes[0]
        return layer.output_shape(shapes if isinstance(layer, MultiInput) else shapes[0])  # type: ignore[arg-type]

    def _add(self, layer: Layer, sources: list[str]) -> None:
        named = layer.named(f"l{len(self.layers) + 1}")
        after = list(self.shapes)[-1]
        if sources != [after] or isinstance(layer, MultiInput) or self.rng.random() < 0.5:
            named = named.taking(sources)
        output = self._output(layer, sources)
        self.layers.append(named)
        repeat = getattr(named, "repeat", 1)
        name = named.name if repeat == 1 else f"{named.name}_{repeat}"
        self.shapes[name] = output
        own: Sequence[ParamSpec] = (
            () if isinstance(layer, (Block, Shared, MultiInput)) else layer.parameters(self.shapes[sources[0]])
        )
        if own and not any(spec.state for spec in own):
            self.given[name] = self.shapes[sources[0]]
        self.loose = [name for name in self.loose if name not in sources] + [name]

    def _join(self) -> None:
        """Make one output of all that nobody takes."""
        ends = []
        for name in list(self.loose):
            if len(self.shapes[name]) > 1:
                layer = Flatten() if self.rng.random() < 0.7 else GlobalAveragePooling()
                if len(self.shapes[name]) == 4 and not self._pooling_3d:
                    layer = Flatten()
                self._add(layer, [name])
                name = self.layers[-1].name
            self._add(Dense(4, activation=self.one_of(ACTIVATIONS)), [name])
            ends.append(self.layers[-1].name)
        if len(ends) > 1:
            self._add(self.one_of([Add, Concatenate, Average])(), ends)
        self._add(Dense(3), [self.layers[-1].name])


Maker = Callable[[_Drawing, Shape, str], Any]


def _whole(d: _Drawing, low: int, high: int) -> int:
    return int(d.rng.integers(low, high + 1))


def _yes(d: _Drawing, share: float = 0.5) -> bool:
    return bool(d.rng.random() < share)


def _merged(d: _Drawing, shape: Shape, source: str) -> Any:
    """Put outputs of the same shape together, or side by side; one may come twice."""
    same = [name for name, other in d.shapes.items() if other == shape and name != d.mask]
    if _yes(d, 0.4):
        axis = _whole(d, 1, len(shape))
        rest = shape[: axis - 1] + shape[axis:]
        fit = [
            name
            for name, other in d.shapes.items()
            if len(other) == len(shape) and other[: axis - 1] + other[axis:] == rest and name != d.mask
        ]
        return Concatenate(axis if _yes(d) else axis - len(shape) - 1), [source, d.one_of(fit)]
    kind = d.one_of([Add, Multiply, Average, Maximum])
    return kind(), [source, *(d.one_of(same) for _ in range(_whole(d, 1, 2)))]


def _shared(d: _Drawing, shape: Shape, source: str) -> Any:
    owners = [name for name, given in d.given.items() if given == shape]
    return (Shared(d.one_of(owners)), [source]) if owners else None


def _crossed(d: _Drawing, shape: Shape, source: str) -> Any:
    """Attend from one sequence to another, some with the mask of the ids."""
    if len(shape) != 2:
        return None
    sequences = [name for name, other in d.shapes.items() if len(other) == 2 and name != source]
    inputs = [source, *([d.one_of(sequences)] if sequences else [])]
    if d.mask and d.shapes[inputs[-1]][:1] == d.shapes[d.mask]:
        inputs.append(d.mask)
    return CrossAttention(2, _whole(d, *KEY_DIMS), causal=_yes(d), use_bias=_yes(d)), inputs


def _dense(d: _Drawing, shape: Shape, source: str) -> Layer:
    return Dense(_whole(d, 2, 6), activation=d.one_of([*ACTIVATIONS, "softmax"]), use_bias=_yes(d, 0.7))


def _norm(d: _Drawing, shape: Shape, source: str) -> Layer | None:
    """Normalise; not a single number, which would become 0 or a rounding error."""
    if shape[-1] < 2:
        return None
    center, scale = _yes(d, 0.7), _yes(d, 0.7)
    kind = d.one_of([LayerNorm, BatchNormalization, BatchNormalization, RMSNormalization, GroupNormalization])
    if kind is RMSNormalization:
        return RMSNormalization()
    if kind is GroupNormalization:
        groups = [size for size in range(1, shape[-1] + 1) if shape[-1] % size == 0 and math.prod(shape) > size]
        return GroupNormalization(d.one_of(groups), center=center, scale=scale)
    made: Layer = kind(center=center, scale=scale)
    return made


def _residual(d: _Drawing, shape: Shape, source: str) -> Layer:
    inner = [LayerNorm(name=f"n{len(d.layers)}")] if _yes(d) and shape[-1] > 1 else []
    act = d.one_of(ACTIVATIONS)
    return Residual([*inner, Dense(shape[-1], activation=act, name=f"d{len(d.layers)}")], repeat=_whole(d, 1, 2))


def _block(d: _Drawing, shape: Shape, source: str) -> Layer:
    units = _whole(d, 2, 5)
    return Block([Dense(units, activation=d.one_of(ACTIVATIONS), name=f"b{len(d.layers)}")], repeat=_whole(d, 1, 2))


def _reshaped(d: _Drawing, shape: Shape, source: str) -> Layer:
    size = math.prod(shape)
    rows = d.one_of([rows for rows in range(1, size + 1) if size % rows == 0])
    return Reshape((rows, -1) if _yes(d) else (-1, rows)) if _yes(d, 0.7) else Reshape((1, rows, size // rows))


def _convolution(d: _Drawing, shape: Shape, source: str) -> Layer:
    axes = len(shape) - 1
    kind = {1: Conv1D, 2: Conv2D, 3: Conv3D}[axes]
    options: dict[str, Any] = {"activation": d.one_of(ACTIVATIONS), "use_bias": _yes(d, 0.7)}
    options["padding"] = d.one_of(["valid", "same", *(["causal"] if axes == 1 else [])])
    if _yes(d, 0.3):
        options["strides"] = 2
    elif axes < 3 and _yes(d, 0.2):
        options["dilation_rate"] = 2
    filters = _whole(d, 1, 4)
    if axes == 2 and shape[-1] > 1 and _yes(d, 0.2):
        options["groups"], filters = shape[-1], shape[-1] * _whole(d, 1, 2)
    return kind(filters, tuple(_whole(d, 1, 3) for _ in range(axes)), **options)


def _transposed(d: _Drawing, shape: Shape, source: str) -> Layer:
    axes = len(shape) - 1
    kind = {1: Conv1DTranspose, 2: Conv2DTranspose, 3: Conv3DTranspose}[axes]
    return kind(
        _whole(d, 1, 3),
        tuple(_whole(d, 1, 3) for _ in range(axes)),
        strides=_whole(d, 1, 2),
        padding=d.one_of(["valid", "same"]),
        activation=d.one_of(ACTIVATIONS),
        use_bias=_yes(d, 0.7),
    )


def _depthwise(d: _Drawing, shape: Shape, source: str) -> Layer:
    options: dict[str, Any] = {"padding": d.one_of(["valid", "same"]), "depth_multiplier": _whole(d, 1, 2)}
    options |= {"strides": _whole(d, 1, 2), "use_bias": _yes(d, 0.7), "activation": d.one_of(ACTIVATIONS)}
    kernel = (_whole(d, 1, 3), _whole(d, 1, 3))
    return DepthwiseConv2D(kernel, **options) if _yes(d) else SeparableConv2D(_whole(d, 1, 4), kernel, **options)


def _pooled(d: _Drawing, shape: Shape, source: str) -> Layer:
    kind = d.one_of([MaxPooling, AveragePooling])
    made: Layer = kind(_whole(d, 1, 3), strides=_whole(d, 1, 2), padding=d.one_of(["valid", "same"]))
    return made


def _global(d: _Drawing, shape: Shape, source: str) -> Layer:
    made: Layer = d.one_of([GlobalMaxPooling, GlobalAveragePooling])(keepdims=_yes(d, 0.3))
    return made


def _resized(d: _Drawing, shape: Shape, source: str) -> Layer:
    kind = d.one_of([ZeroPadding, Cropping, UpSampling])
    if kind is UpSampling:
        sizes = [_whole(d, 1, 2) for _ in shape[1:]]
        size = tuple(sizes) if len(sizes) > 1 else sizes[0]
        return UpSampling(size, interpolation="bilinear" if len(shape) == 3 and _yes(d) else "nearest")
    sides = [(_whole(d, 0, 2), _whole(d, 0, 1)) for _ in shape[1:]]
    made: Layer = kind(1 if _yes(d) else sides if len(sides) > 1 else sides[0])
    return made


def _attention(d: _Drawing, shape: Shape, source: str) -> Layer:
    options: dict[str, Any] = {"causal": _yes(d), "use_bias": _yes(d)}
    if _yes(d, 0.3):
        return MultiHeadAttention(4, 2, num_kv_heads=2, **options)
    return MultiHeadAttention(_whole(d, 1, 2), _whole(d, *KEY_DIMS), **options)


def _recurrent(d: _Drawing, shape: Shape, source: str) -> Layer:
    options: dict[str, Any] = {"use_bias": _yes(d, 0.7), "return_sequences": _yes(d, 0.6), "go_backwards": _yes(d, 0.3)}
    kind = d.one_of([SimpleRNN, LSTM, GRU])
    if kind is GRU:
        options["reset_after"] = _yes(d)
    made: Layer = kind(_whole(d, 1, 4), **options, name=f"r{len(d.layers)}")
    return made


def _bidirectional(d: _Drawing, shape: Shape, source: str) -> Layer:
    inner = _recurrent(d, shape, source)
    return Bidirectional([inner], merge_mode=d.one_of(["concat", "sum", "mul", "ave"]))  # type: ignore[arg-type]


def _time_distributed(d: _Drawing, shape: Shape, source: str) -> Layer | None:
    name, inner = f"t{len(d.layers)}", shape[1:]
    makers = [_dense, *([_norm] if shape[-1] > 1 else []), *([_recurrent] if len(inner) == 2 else [_prelu])]
    made = d.one_of(makers)(d, inner, source).named(name)
    if isinstance(made, BatchNormalization):
        return None
    return TimeDistributed([made])  # type: ignore[arg-type]


def _prelu(d: _Drawing, shape: Shape, source: str) -> Layer:
    return PReLU(tuple(axis for axis in range(1, len(shape)) if _yes(d)))


ANY: list[Maker] = [
    _dense,
    _dense,
    _norm,
    _norm,
    _residual,
    _block,
    _reshaped,
    _prelu,
    lambda d, shape, source: Activation(d.one_of(ACTIVATIONS)),
    lambda d, shape, source: d.one_of([Flatten(), LeakyReLU(0.1), ELU(0.7)]),
    lambda d, shape, source: d.one_of([Dropout(0.3), GaussianNoise(0.2), SpatialDropout(0.4)]),
]
_IMAGES: list[Maker] = [_convolution, _convolution, _transposed, _pooled, _global, _resized]
_SEQUENCES: list[Maker] = [
    _attention,
    _attention,
    _recurrent,
    _recurrent,
    _bidirectional,
    _time_distributed,
    lambda d, shape, source: SpectralConv1D(_whole(d, 1, 3), _whole(d, 1, shape[0] // 2 + 1)),
    lambda d, shape, source: PositionalEmbedding(d.one_of(["learned", "sinusoidal"])),
]


def _permuted(d: _Drawing, shape: Shape, source: str) -> Layer:
    return Permute(tuple(int(axis) + 1 for axis in d.rng.permutation(len(shape))))


BY_AXES: dict[int, list[Maker]] = {
    1: [lambda d, shape, source: RepeatVector(_whole(d, 1, 4))],
    2: [*_IMAGES, *_SEQUENCES, _permuted],
    3: [*_IMAGES, _depthwise, _depthwise, _permuted, _time_distributed],
    4: [*_IMAGES, _permuted],
}
"""What takes samples of so many axes."""


def main() -> None:
    """Compare graphs with Keras, and say how long that takes."""
    from tests.nn.test_random_graphs import compare_with_keras

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="how many graphs")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    begin, wrong = time.perf_counter(), 0
    for seed in range(options.first, options.first + options.count):
        try:
            compare_with_keras(seed)
        except Exception as error:
            wrong += 1
            print(f"seed {seed}: {type(error).__name__}: {error}", flush=True)
    seconds = time.perf_counter() - begin
    print(f"{options.count} graphs, {wrong} of them wrong, {seconds:.1f} s, {time.process_time():.1f} s of processor")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
