"""Collective calls are believed only if nobody has died: those with the dead may succeed, and give garbage."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hpcnn.comm import ulfm


class LostError(Exception):
    """What MPI raises for a rank that is dead."""


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Return whether each of the next looks finds a rank that is dead."""
    found: list[bool] = []

    def look() -> None:
        if found and found.pop(0):
            raise LostError

    monkeypatch.setattr(ulfm, "loss_check", lambda communicator: look)
    monkeypatch.setattr(ulfm, "outlive_each_other", lambda: True)
    monkeypatch.setattr(ulfm, "_NOTICED_S", 0.3)
    yield found
    assert not found


def garbage() -> Any:
    return pickle.loads(b"\xf0")


def checked(call: Callable[[], Any]) -> Any:
    return ulfm.call_checked(None, call)  # type: ignore[arg-type]


def test_a_call_among_the_living(looks: list[bool]) -> None:
    looks.append(False)
    assert checked(lambda: 5) == 5


def test_a_call_that_succeeds_with_the_dead(looks: list[bool]) -> None:
    looks.append(True)
    with pytest.raises(LostError):
        checked(lambda: 5)


def test_garbage_that_is_explained_a_little_later(looks: list[bool]) -> None:
    looks += [False, False, True]
    with pytest.raises(LostError):
        checked(garbage)


def test_garbage_that_nobody_explains(looks: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    looks += [False, False]
    with pytest.raises(pickle.UnpicklingError):
        checked(garbage)
    monkeypatch.setattr(ulfm, "outlive_each_other", lambda: False)
    looks.clear()
    with pytest.raises(pickle.UnpicklingError):
        checked(garbage)
