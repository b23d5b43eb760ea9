"""Checks of what joins the ranks: interfaces, messages, sums."""

from __future__ import annotations

from collections.abc import Iterator

from hpcnn.core.formatting import byte_size
from hpcnn.system.cores import oversubscription
from hpcnn.tools.doctor.evidence import Evidence, Interface, Node, Pings
from hpcnn.tools.doctor.finding import Finding, ok, problem, warning

_FAST_MBIT = 10_000
_SLOW = {"in one node": (50e-6, 0.5e9), "between nodes": (200e-6, 0.1e9)}
"""Seconds for a short message from which on, and bytes a second for long ones up to which, something is wrong."""
_INFINIBAND_SHARE = 0.2
_SLOW_SUM = 0.5
_MODULE = (
    "module avail mpi   # load the cluster's own MPI, then: pip install --force-reinstall --no-binary mpi4py mpi4py"
)


def check_interfaces(evidence: Evidence) -> Iterator[Finding]:
    """There is a fast network between the nodes."""
    name, several = "network", len(evidence.nodes) > 1
    for node in evidence.nodes:
        best = _best(node)
        if best is None:
            if several:
                yield problem(name, f"{node.host} has no network interface that is up", "ip -brief link")
                return
        elif several and 0 < best.mbit < _FAST_MBIT:
            yield warning(
                name,
                f"the fastest network of {node.host} is {_named(best)}: large models wait for their gradients",
                "train.compression = 'bf16'   # halves what travels, and changes the result",
            )
            return
    found = [f"{_named(best)}" for node in evidence.nodes[:1] if (best := _best(node)) is not None]
    text = ", ".join(found) or "no interface is up"
    yield ok(name, text if several else f"{text}; not needed on one node")


def check_messages(evidence: Evidence) -> Iterator[Finding]:
    """Messages come as fast as they should."""
    crowded = oversubscription([(rank.host, rank.cores) for rank in evidence.ranks])  # which is another finding
    for pings in evidence.probe.pings:
        between = pings.hosts[0] != pings.hosts[1]
        where = "between nodes" if between else "in one node"
        name, what = f"messages {where}", _described(pings)
        latency, rate = _SLOW[where]
        if between and _wastes_infiniband(evidence, pings):
            yield warning(name, f"{what}: the MPI does not use the InfiniBand that is there", _MODULE)
        elif not crowded and (pings.times[0].seconds > latency or _rate(pings) < rate):
            fix = _MODULE if between else "env | grep -E 'MPI|UCX|FI_'   # which of these keeps MPI from shared memory?"
            yield warning(name, f"{what}: slow", fix)
        else:
            yield ok(name, what)


def check_sums(evidence: Evidence) -> Iterator[Finding]:
    """Gradients are added at least as fast as by MPI itself."""
    if not evidence.probe.sums:
        return
    curve = ", ".join(f"{byte_size(one.size)} {one.ours_s * 1e6:,.0f} us" for one in evidence.probe.sums)
    largest = evidence.probe.sums[-1]
    ratio = largest.mpi_s / largest.ours_s
    what = (
        f"over {evidence.probe.size} ranks: {curve}; {largest.bus_bytes_per_s / 1e9:.2g} GB/s, "
        f"{ratio:.1f} times as fast as MPI_Allreduce"
    )
    if ratio < _SLOW_SUM:
        fix = f"mpirun -n {evidence.probe.size} python -m hpcnn.bench allreduce   # the same, longer, more sizes"
        yield warning("allreduce", what, fix)
    else:
        yield ok("allreduce", what)


def _best(node: Node) -> Interface | None:
    return max((one for one in node.interfaces if one.up), key=lambda one: one.mbit, default=None)


def _named(interface: Interface) -> str:
    speed = f"{interface.mbit / 1000:g} Gbit/s" if interface.mbit else "of unknown speed"
    return f"{interface.name} ({interface.kind}, {speed})"


def _described(pings: Pings) -> str:
    return f"{pings.times[0].seconds * 1e6:.1f} us for {byte_size(pings.times[0].size)}, {_rate(pings) / 1e9:.2g} GB/s"


def _rate(pings: Pings) -> float:
    """Return the bytes a second of the size that travels best."""
    return max(one.size / one.seconds for one in pings.times)


def _wastes_infiniband(evidence: Evidence, pings: Pings) -> bool:
    ports = [one.mbit for node in evidence.nodes for one in node.interfaces if one.kind == "InfiniBand" and one.up]
    return bool(ports) and _rate(pings) < _INFINIBAND_SHARE * max(ports) * 1e6 / 8
