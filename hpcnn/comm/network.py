"""What messages cost, as a text says it, or a file that ``hpcnn bench network`` has written."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

from hpcnn.errors import CommunicatorError, shortened

NETWORK = "HPCNN_NETWORK"
"""Environment variable: latency and bandwidth between nodes, or a file with them, in place of what is measured."""

_UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0}
_RATES = {"Mb/s": 1e6, "Gb/s": 1e9}
_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_LATENCY, _BANDWIDTH = (re.compile(f"{_NUMBER}({'|'.join(units)})") for units in (_UNITS, _RATES))
_SHORT_OVERHEAD = 0.2
"""The overhead of a message as a part of the latency, where nobody has measured it."""


@dataclass(frozen=True)
class Network:
    """What messages between hosts cost."""

    latency_s: float
    """Of a short message, until it has arrived."""
    overhead_s: float
    """Of each further message that a rank sends, and receives another, at the same time."""
    byte_s: float
    """Of each byte that leaves a host."""

    @classmethod
    def parse(cls, text: str, name: str = NETWORK) -> Network:
        """Return the network of a text such as ``2us,100Gb/s``: latency and bandwidth, in any order.

        Raises:
            CommunicatorError: it is something else; `name` says where it was given.

        >>> Network.parse("2us,100Gb/s")
        Network(latency_s=2e-06, overhead_s=4e-07, byte_s=8e-11)
        """
        parts = text.split(",")
        latency = [found for part in parts if (found := _LATENCY.fullmatch(part))]
        rate = [found for part in parts if (found := _BANDWIDTH.fullmatch(part))]
        if len(parts) != 2 or not latency or not rate or not float(rate[0][1]):
            raise CommunicatorError(
                f"{name} is {shortened(repr(text))}, but must be a latency and a bandwidth between nodes, such as "
                f"2us,100Gb/s, or a .json file of hpcnn bench network. Units: {', '.join(_UNITS)}; "
                f"{', '.join(_RATES)}. Without it, they are measured."
            )
        latency_s = float(latency[0][1]) * _UNITS[latency[0][2]]
        return cls(latency_s, _SHORT_OVERHEAD * latency_s, 8 / (float(rate[0][1]) * _RATES[rate[0][2]]))


@dataclass(frozen=True)
class Machine:
    """What the nodes of a cluster can do."""

    between: Network | None
    """Messages between nodes; None: it was measured on one."""
    within: Network | None = None
    """Messages between two ranks of a node, where `byte_s` is of one rank; None: not known."""
    memory_byte_s: float | None = None
    """Of each byte that a node reads or writes in memory, all ranks together; None: not known."""


def read_machine(text: str, name: str = NETWORK) -> Machine:
    """Return what a text says of a machine, or a file that it names: whatever ends in ``.json``.

    Raises:
        CommunicatorError: it is neither, or the file holds something else; `name` says where it was given.
    """
    if not text.endswith(".json"):
        return Machine(Network.parse(text, name))
    import msgspec

    from hpcnn.core.conversion import convert

    where = f"{name}: {shortened(repr(text))}"
    try:
        found = convert(msgspec.json.decode(Path(text).read_bytes()), _File).network
    except OSError as error:
        raise CommunicatorError(f"{where} can't be read ({error.strerror}). {_REMEDY}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CommunicatorError(f"{where} is no file of hpcnn bench network ({shortened(error)}). {_REMEDY}") from None
    for part in (found.between, found.within):
        if part is not None and not all(map(_usable, (part.latency_s, part.overhead_s, part.byte_s))):
            raise CommunicatorError(f"{where} holds a time that is negative or not finite. {_REMEDY}")
    if found.memory_byte_s is not None and not _usable(found.memory_byte_s):
        raise CommunicatorError(f"{where} holds a time that is negative or not finite. {_REMEDY}")
    return found


def read_network(text: str, name: str = NETWORK) -> Network:
    """Return the network between nodes that a text names; see `read_machine`."""
    found = read_machine(text, name).between
    if found is None:
        raise CommunicatorError(f"{name}: {shortened(repr(text))} was measured on one node. {_REMEDY}")
    return found


_REMEDY = "Measure on two nodes or more: mpirun ... hpcnn bench network --json network.json"


@dataclass(frozen=True)
class _File:
    network: Machine


def _usable(value: float) -> bool:
    return 0 <= value < math.inf
