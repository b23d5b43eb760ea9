"""Messages of any size between real ranks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mpi.launch import Mpi

TYPES = """
import numpy as np
from hpcnn.comm.exchange.mpi_transport import MOST_BYTES, byte_message, large_type
from mpi4py import MPI

for size in (1, 2**20 - 1, 2**20, 2**20 + 1, 2**31 - 1, 2**31, 2**33 + 5, 2**40 + 1):
    kind = large_type(size)
    assert kind.Get_size() == size, size
    assert kind.Get_extent() == kind.Get_true_extent() == (0, size), size
    kind.Free()
for size, most, large in ((1000, 1000, False), (1001, 1000, True), (MOST_BYTES, MOST_BYTES, False),
                          (MOST_BYTES + 1, MOST_BYTES, True), (2**33 + 5, MOST_BYTES, True)):
    array = np.empty(size, np.uint8)  # never touched: takes no memory
    data, count, kind = byte_message(array) if most == MOST_BYTES else byte_message(array, most)
    assert np.shares_memory(data, array) and data.size == size
    assert (count, kind.Get_size()) == ((1, size) if large else (size, 1)), size
data, count, kind = byte_message(np.zeros((3, 5)))
assert (data.shape, count, kind) == ((120,), 120, MPI.BYTE)
"""

TRANSFERS = """
import itertools
import numpy as np
from functools import partial
from hpcnn.comm.exchange import mpi_transport as mpi_links
from mpi4py import MPI

world = MPI.COMM_WORLD.Dup()
rank, peer = world.rank, 1 - world.rank
byte_message = partial(mpi_links.byte_message, most=1000)
mpi_links.byte_message = byte_message  # as if MPI could count no further
links = mpi_links.MpiLinks(world)
sizes = (0, 1, 999, 1000, 1001, 2**20 - 1, 2**20, 2**20 + 3, 3 * 2**20)

def content(turn, sender, size):
    return np.random.default_rng([turn, sender, size]).integers(0, 256, size, np.uint8)

sent, received = ([np.zeros(size, np.uint8) for size in sizes] for _ in range(2))
transfers = [
    links.transfer([(peer, array) for array in sent[i::2]], [(peer, array) for array in received[i::2]], tag=i)
    for i in range(2)
]
for turn, spin in enumerate((True, False, True)):
    for array in sent:
        array[...] = content(turn, rank, array.size)
    for transfer in transfers:
        transfer.start()
    for transfer in reversed(transfers):
        transfer.wait(spin=spin)
    for array in received:
        assert array.tobytes() == content(turn, peer, array.size).tobytes(), (turn, array.size)
    for size in sizes:
        array = content(turn, rank, size)
        world.Bcast(byte_message(array), root=1)
        assert array.tobytes() == content(turn, 1, size).tobytes(), (turn, size)
    everyone = links.allgather(np.arange(3.0 * rank) + turn, [0, 3])
    assert everyone.tolist() == [turn, turn + 1, turn + 2]
nothing = links.transfer([], [], tag=7)
nothing.start()
nothing.wait(spin=False)
"""


@pytest.mark.parametrize(("ranks", "script"), [(1, TYPES), (2, TRANSFERS)], ids=["types", "transfers"])
def test_messages_larger_than_mpi_counts(mpi: Mpi, ranks: int, script: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(script)
    done = mpi.run(ranks, "-m", "mpi4py.run", "script.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
