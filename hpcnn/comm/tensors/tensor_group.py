"""Collectives on the arrays of users' programs, over all ranks or some of them.

Before anything is sent, the ranks check that all make the same call: if not, all get an error, and none waits forever.
Sums follow the tree, with one leaf per rank.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from hpcnn.comm.protocol import Array, Communicator, ReplicatedExchange
from hpcnn.comm.tensors.byte_collectives import ByteCollectives
from hpcnn.comm.tensors.call_matching import (
    ArraySpec,
    Call,
    Fusion,
    ReduceOp,
    call_of,
    check_reducible,
    fuse,
    rounded_up,
    specs_of,
)
from hpcnn.core.tree import fold_leaves
from hpcnn.errors import CommunicatorError
from hpcnn.system.memory import aligned_empty

_PAIR: dict[ReduceOp, Callable[[Array, Array], Array]] = {
    ReduceOp.MIN: np.minimum,
    ReduceOp.MAX: np.maximum,
    ReduceOp.PRODUCT: np.multiply,
}
_SUMS = (ReduceOp.SUM, ReduceOp.AVERAGE)
_LEAVE = "the end of its program"
GRADIENTS = "gradients"
"""The kind of the calls of `TensorGroup.run` in which ranks that have joined take part, by `TensorGroup.stand_ins`."""
_ADVICE = (
    "Let every rank take as many steps, and make the same calls in the same order on arrays of the same shapes and "
    "types. Where some have fewer batches: in PyTorch, give DataLoader batch_sampler=hpcnn.torch."
    "DistributedBatchSampler(sampler, batch_size), in Keras, the same steps_per_epoch; or call join() after the last."
)


class StandIn(Protocol):
    """The part of a rank that has joined in a call of `TensorGroup.run` that the others make."""

    def prepare(self) -> None:
        """Have nothing but zeros to contribute, before the others are met."""
        ...

    def run(self) -> None:
        """Take part."""
        ...


class TensorGroup:
    """Ranks that make collective calls together. Each method is such a call, and may come from any thread.

    Args:
        comm: the ranks.
        byte_collectives: those of the same ranks.
        members: their numbers among all ranks of the job, for messages.
    """

    def __init__(self, comm: Communicator, byte_collectives: ByteCollectives, members: Sequence[int]) -> None:
        self.comm, self._bytes, self.members = comm, byte_collectives, tuple(members)
        self._lock = threading.RLock()
        self._digests = comm.exchange(comm.size, 2, np.int64, 1)
        self._digests.activity = comm.activity
        self._exchanges: dict[tuple[np.dtype[np.generic], int], ReplicatedExchange] = {}
        self.stand_ins: dict[Call, StandIn] = {}
        """For calls of `run`, by a rank that has joined."""

    # ------------------------------------------------------------------------------------------------------- arrays

    def allreduce(
        self,
        arrays: Sequence[Array],
        op: ReduceOp,
        *,
        prescale: float = 1.0,
        postscale: float = 1.0,
        wire: np.dtype[np.generic] | None = None,
    ) -> list[Array]:
        """Return the sum, mean, minimum, maximum or product over all ranks of each array, as new arrays.

        Arrays of one type are sent in one message. Larger floating-point numbers are converted to `wire`, and added
        in that type. Integers are averaged rounding down.
        """
        specs = specs_of(arrays)
        check_reducible(op, specs)
        call = call_of("allreduce", tuple((shape, _on_wire(dtype, wire)) for shape, dtype in specs), op)
        with self._lock:
            self._match(call)
            return self._reduce(call, arrays, prescale, postscale)

    def allgather(self, array: Array) -> Array:
        """Concatenate every rank's array along the first axis; the other axes must agree."""
        if array.ndim == 0:
            array = array.reshape(1)
        rest = array.shape[1:]
        with self._lock:
            self._match(Call("allgather", ((rest, array.dtype),), ("rows of",)))
            rows = self.comm.allgather(len(array))
            row = _bytes_of((rest, array.dtype))
            data = self._bytes.allgather(_as_bytes(array), [count * row for count in rows])
        return data.view(array.dtype).reshape(sum(rows), *rest)

    def broadcast(self, arrays: Sequence[Array], root: int) -> list[Array]:
        """Return copies of the arrays of `root`, a number within this group."""
        self._check_root(root)
        specs = specs_of(arrays)
        with self._lock:
            self._match(Call("broadcast", specs, ("from", self.members[root])))
            results: dict[int, Array] = {}
            for fusion in fuse(specs):
                memory = aligned_empty(fusion.length, fusion.dtype)
                if self.comm.rank == root:
                    _fill(memory, fusion, arrays)
                self._bytes.broadcast(_as_bytes(memory), root)
                results |= {number: memory[place].reshape(specs[number][0]) for number, place in fusion.places}
        return [results[number] for number in range(len(arrays))]

    def alltoall(self, array: Array, splits: Sequence[int] | None) -> tuple[Array, list[int]]:
        """Send the next `splits[r]` rows to each rank r; return the rows received by rank, and how many came from each.

        Without splits, each rank gets the same number.
        """
        size, rest = self.comm.size, array.shape[1:]
        sent, trouble = _splits(array, splits, size)
        with self._lock:
            self._match(Call("alltoall", ((rest, array.dtype),), ("rows of",)))
            everyone = self.comm.allgather((sent, trouble))
            for rank, (_, found) in enumerate(everyone):
                if found:
                    raise CommunicatorError(f"alltoall on rank {self.members[rank]}: {found}")
            received = [counts[self.comm.rank] for counts, _ in everyone]
            row = _bytes_of((rest, array.dtype))
            data = self._bytes.alltoall(_as_bytes(array), [n * row for n in sent], [n * row for n in received])
        return data.view(array.dtype).reshape(sum(received), *rest), received

    def reducescatter(self, arrays: Sequence[Array], op: ReduceOp) -> list[Array]:
        """Return this rank's rows of what `allreduce` gives; the first ranks may get one more."""
        size, rank = self.comm.size, self.comm.rank
        parts = []
        for whole in self.allreduce(arrays, op):
            if whole.ndim == 0:
                raise CommunicatorError("reducescatter deals out the rows of an array, and a single number has none")
            each, more = divmod(len(whole), size)
            start = rank * each + min(rank, more)
            parts.append(whole[start : start + each + (rank < more)].copy())
        return parts

    # ------------------------------------------------------------------------------------------------ small objects

    def allgather_object(self, value: Any) -> list[Any]:
        """Return every rank's `value`, by rank."""
        with self._lock:
            self._match(Call("allgather_object"))
            return self.comm.allgather(value)

    def broadcast_object(self, value: Any, root: int) -> Any:
        """Return the `value` of `root`."""
        self._check_root(root)
        own = np.frombuffer(pickle.dumps(value) if self.comm.rank == root else b"", np.uint8)
        with self._lock:
            self._match(Call("broadcast_object", (), ("from", self.members[root])))
            size = max(self.comm.allgather(own.size))
            data = aligned_empty(size, np.uint8)
            if self.comm.rank == root:
                data[...] = own
            self._bytes.broadcast(data, root)
        return value if self.comm.rank == root else pickle.loads(data.tobytes())

    def agree_on(self, kind: str, *detail: object) -> None:
        """Return once every rank has come here with the same arguments."""
        with self._lock:
            self._match(Call(kind, (), detail))

    def run(self, call: Call, body: Callable[[], None]) -> None:
        """Run `body`, which calls the communicator, once every rank has come here with the same call."""
        with self._lock:
            self._match(call)
            body()

    # ------------------------------------------------------------------------------------------------ end of a program

    def join(self) -> int:
        """Contribute zeros to the sums of the others until all ranks have joined; return the last one to join."""
        with self._lock:
            waited = 0
            while self._prepared() and self._sum_digests(0, joined=True)[1] < self.comm.size:
                call = self._require_same(self.comm.allgather(None))
                if call in self.stand_ins:
                    self.stand_ins[call].run()
                else:
                    self._reduce(call, [np.zeros(*spec) for spec in call.specs], 1.0, 1.0)
                waited += 1
            rounds = self.comm.allgather(waited)
            return max(rank for rank, count in enumerate(rounds) if count == min(rounds))

    def _prepared(self) -> bool:
        for stand_in in self.stand_ins.values():
            stand_in.prepare()
        return True

    def leave(self) -> None:
        """Announce that this rank makes no more calls; ranks that still make one get an error."""
        self.agree_on(_LEAVE)

    # ----------------------------------------------------------------------------------------------------- matching

    def _match(self, call: Call) -> None:
        """Return once every rank makes `call`, or has joined."""
        total, joined = self._sum_digests(call.digest, joined=False)
        if joined or total != call.digest * self.comm.size:
            self._require_same(self.comm.allgather(call))

    def _sum_digests(self, digest: int, *, joined: bool) -> tuple[int, int]:
        """Return the sum of the digests of all ranks' calls, and how many ranks have joined."""
        own = self._digests.contributions[0].vector
        own[0], own[1] = digest, joined
        self._digests.allreduce()
        total, count = self._digests.vector.tolist()
        return total, count

    def _require_same(self, calls: Sequence[Call | None]) -> Call:
        """Return the call that all ranks make, given each rank's; None for one that has joined.

        Raises:
            CommunicatorError: the calls differ, or are not sums and ranks have joined.
        """
        made = [(rank, call) for rank, call in zip(self.members, calls, strict=True) if call is not None]
        first, call = made[0]
        for rank, other in made:
            if other != call:
                raise CommunicatorError(
                    f"the ranks do not make the same call: rank {first} makes {call}, rank {rank} {other}. {_ADVICE}"
                )
        is_sum = call.kind == "allreduce" and call.detail[0] in _SUMS
        if len(made) < len(calls) and not (is_sum or call.kind == GRADIENTS):
            raise CommunicatorError(f"{call} while other ranks are in join(), who take part in sums and means alone")
        return call

    def _check_root(self, root: int) -> None:
        if not 0 <= root < self.comm.size:
            raise CommunicatorError(f"root rank {root} is not in 0 to {self.comm.size - 1}")

    # ------------------------------------------------------------------------------------------------------ reducing

    def _reduce(self, call: Call, arrays: Sequence[Array], prescale: float, postscale: float) -> list[Array]:
        op = call.detail[0]
        assert isinstance(op, ReduceOp)
        divisor = self.comm.size if op is ReduceOp.AVERAGE else 1
        results: dict[int, Array] = {}
        with np.errstate(all="ignore"):  # the caller sees infinities, and the gaps between arrays hold anything
            for fusion in fuse(call.specs):
                total = self._sum(fusion, arrays, prescale) if op in _SUMS else self._fold(fusion, arrays, op, prescale)
                for number, place in fusion.places:
                    results[number] = result = aligned_empty(arrays[number].shape, arrays[number].dtype)
                    _scale_into(result.reshape(-1), total[place], divisor, postscale)
        return [results[number] for number in range(len(arrays))]

    def _sum(self, fusion: Fusion, arrays: Sequence[Array], prescale: float) -> Array:
        """Return the sum over all ranks, valid until the next call."""
        exchange = self._exchange(fusion)
        own = exchange.contributions[0].vector
        _fill(own, fusion, arrays, prescale)
        exchange.allreduce()
        return exchange.vector

    def _fold(self, fusion: Fusion, arrays: Sequence[Array], op: ReduceOp, prescale: float) -> Array:
        """Return a reduction other than a sum, of the arrays of all ranks."""
        own = aligned_empty(fusion.length, fusion.dtype)
        _fill(own, fusion, arrays, prescale)
        size = self.comm.size
        everyone = self._bytes.allgather(_as_bytes(own), [own.nbytes] * size).view(own.dtype).reshape(size, -1)
        return fold_leaves((0, size), lambda rank: everyone[rank], _PAIR[op])

    def _exchange(self, fusion: Fusion) -> ReplicatedExchange:
        key = fusion.dtype, rounded_up(max(1, fusion.length))
        if key not in self._exchanges:
            self._exchanges[key] = exchange = self.comm.exchange(self.comm.size, key[1], key[0], 1)
            exchange.activity = self.comm.activity
        return self._exchanges[key]


def _on_wire(dtype: np.dtype[np.generic], wire: np.dtype[np.generic] | None) -> np.dtype[np.generic]:
    return wire if wire is not None and dtype.kind == "f" and dtype.itemsize > wire.itemsize else dtype


def _fill(own: Array, fusion: Fusion, arrays: Sequence[Array], prescale: float = 1.0) -> None:
    for number, place in fusion.places:
        array = arrays[number].reshape(-1)
        if prescale == 1:
            np.copyto(own[place], array, casting="unsafe")
        else:
            np.multiply(array, prescale, out=own[place], casting="unsafe")


def _scale_into(out: Array, total: Array, divisor: int, factor: float) -> None:
    if divisor == 1:
        np.copyto(out, total, casting="unsafe")
    elif out.dtype.kind in "iu":
        np.floor_divide(total, out.dtype.type(divisor), out=out)
    else:
        np.divide(total, total.dtype.type(divisor), out=out, casting="unsafe")
    if factor != 1:
        np.multiply(out, factor, out=out, casting="unsafe")


def _splits(array: Array, splits: Sequence[int] | None, size: int) -> tuple[list[int], str]:
    """Return how many rows go to each rank, and a message if that is invalid."""
    if array.ndim == 0:
        return [], "a single number has no rows to send"
    rows = len(array)
    if splits is None:
        trouble = f"{rows} rows can't be dealt evenly to {size} ranks; give splits" if rows % size else ""
        return [rows // size] * size, trouble
    counts = [int(count) for count in splits]
    if len(counts) != size or min(counts, default=0) < 0 or sum(counts) != rows:
        return counts, f"splits {counts} must be {size} numbers of rows, which sum to the {rows} rows there are"
    return counts, ""


def _bytes_of(spec: ArraySpec) -> int:
    return int(np.prod(spec[0], dtype=np.int64)) * spec[1].itemsize


def _as_bytes(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)
