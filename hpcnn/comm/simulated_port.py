"""A direction of a simulated host's connection to the network."""

from __future__ import annotations

from bisect import bisect_left


class Port:
    """One direction of a host's connection: when it is busy. A message takes whatever time others have left free."""

    def __init__(self) -> None:
        self._begins_s: list[float] = []
        self._ends_s: list[float] = []

    def reserve(self, earliest_s: float, duration_s: float) -> tuple[float, float]:
        """Use the port for so long from `earliest_s` on; return when that begins and ends."""
        begins, ends = self._begins_s, self._ends_s
        first = place = bisect_left(ends, earliest_s)
        while place < len(begins) and begins[place] <= earliest_s:
            earliest_s = ends[place]
            place += 1
        end_s, left_s = earliest_s, duration_s
        while place < len(begins) and begins[place] < end_s + left_s:
            left_s -= begins[place] - end_s
            end_s = ends[place]
            place += 1
        end_s += left_s
        # What it takes is free no longer, so that it becomes one busy period with those in between.
        busy_from_s = min(earliest_s, begins[first]) if first < place else earliest_s
        begins[first:place], ends[first:place] = [busy_from_s], [end_s]
        return earliest_s, end_s
