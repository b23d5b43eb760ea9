"""How numbers are written for people."""

import pytest

from hpcnn.core.formatting import counted, duration


@pytest.mark.parametrize(("seconds", "text"), [(-1, "0:00"), (0, "0:00"), (59.6, "1:00"), (125, "2:05"),
                                               (3599.7, "1:00:00"), (86399.7, "1 d 0:00:00")])  # fmt: skip
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_none_of_something_is_plural():
    assert counted(0, "rank") == "0 ranks"
