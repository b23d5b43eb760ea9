"""The figures of `bench network`: a table, JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from hpcnn.comm.network import NETWORK, Network
from hpcnn.core.formatting import counted, three_digits
from hpcnn.tools.bench.network import NetworkFigures
from hpcnn.tools.outputs import print_table

_COLUMNS = ("messages", "latency us", "overhead us", "Gbit/s")


def show(figures: NetworkFigures, written: str, warnings: list[str]) -> None:
    """Print the table; `written`: the file of the figures, or nothing."""
    machine, ranks = figures.machine, figures.ranks_by_node
    both = (("between nodes, of a node", machine.between), ("within a node, of a rank", machine.within))
    rows = [_row(name, network) for name, network in both if network is not None]
    notes = []
    if machine.memory_byte_s:
        notes.append(f"memory of a node: {three_digits(1e-9 / machine.memory_byte_s)} GB/s, read and written by sums")
    if machine.between is None:
        notes.append("all ranks are on one node: nothing is known of the network between nodes")
    elif written:
        notes.append(f"{NETWORK}={written} lets runs use these figures in place of a quick measurement")
    on = f"{counted(sum(ranks), 'rank')} on {counted(len(ranks), 'node')}"
    print_table(f"messages and memory: {on}", _COLUMNS, rows, [*notes, *warnings])


def _row(name: str, network: Network) -> tuple[str, ...]:
    rate = three_digits(8e-9 / network.byte_s) if network.byte_s else "-"
    return name, three_digits(network.latency_s * 1e6), three_digits(network.overhead_s * 1e6), rate


def as_json(figures: NetworkFigures) -> dict[str, Any]:
    """Return the figures, as `hpcnn.comm.network.read_machine` reads them: seconds, and seconds per byte."""
    return {"benchmark": "network", "network": asdict(figures.machine)}
