"""The memory that a rank of a job will need, as a table of text."""

from __future__ import annotations

from collections.abc import Iterator

from hpcnn.core.formatting import approximate_size, counted
from hpcnn.runs.memory import MemoryNeed, memory_need, shards_by_itself, shortage
from hpcnn.system.free_memory import free_memory
from hpcnn.tools.show.open_job import ShownJob

_NAME, _FIGURE = 48, 20


def memory_table(shown: ShownJob) -> Iterator[str]:
    """Yield the lines: one column, or two where the optimizer's state can be shared out among several ranks."""
    ways = (False, True) if shown.ranks > 1 and shown.job.run.on_rank_loss == "end" else (False,)
    needs = {sharded: _need(shown, sharded=sharded) for sharded in ways}
    yield f"memory of a rank in training, {counted(shown.ranks, 'rank')}:"
    if len(ways) > 1:
        yield _line("train.optimizer_sharding", *(str(way).lower() for way in ways))
    for part in needs[False].parts:
        yield _line(f"  {part}", *(approximate_size(need.parts[part]) for need in needs.values()))
    if needs[False].scratch is None:
        library = "PyTorch" if shown.job.backend == "torch" else "Keras"
        yield _line(f"  activations in {library}", *("not known" for _ in ways))
    yield _line("  together, about", *(approximate_size(need.total) for need in needs.values()))
    yield "Data in memory, Python and its libraries come on top."
    if len(ways) > 1:
        yield "With optimizer_sharding = true, the ranks of a host have one copy of the weights."
    if not all(node.layer.recordable for node in shown.network.nodes):
        yield "With layers of your own, activations and scratch are estimated from the shapes alone."
    chosen = needs[shards_by_itself(shown.job, shown.network.layout.trainable_size, shown.ranks)]
    warning = shortage(chosen.total * shown.ranks, free_memory(), shown.ranks, shown.host)
    for each in filter(None, (warning, shown.warning)):
        yield f"warning: {each}"


def _need(shown: ShownJob, *, sharded: bool) -> MemoryNeed:
    return memory_need(
        shown.job, shown.spec, samples=shown.samples, held_out=shown.held_out, ranks=shown.ranks, sharded=sharded
    )


def _line(name: str, *figures: str) -> str:
    return f"{name:<{_NAME}}" + "".join(f"{figure:>{_FIGURE}}" for figure in figures)
