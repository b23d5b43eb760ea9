"""The arguments of `hpcnn bench`."""

from __future__ import annotations

import pytest

from hpcnn import bench


@pytest.mark.parametrize(
    ("text", "size"),
    [("4", 4), ("64K", 2**16), ("64kB", 2**16), ("1M", 2**20), ("16MiB", 2**24), ("2G", 2**31), ("100 B", 100)],
)
def test_sizes(text: str, size: int) -> None:
    assert bench._size(text) == size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["allreduce", "--min", "0"], "--min: '0' is not a size. Give bytes, for example 4, 64K or 16M"),
        (["allreduce", "--max", "4T"], "--max: '4T' is not a size"),
        (["allreduce", "--max", "-4"], "--max: '-4' is not a size"),
        (["allreduce", "--min", "8", "--max", "4"], "--max 4 is less than --min 8"),
        (["allreduce", "--min", "6"], "--min 6 is not a multiple of the 4 bytes of float32"),
        (["allreduce", "--min", "4", "--dtype", "float64"], "--min 4 is not a multiple of the 8 bytes of float64"),
        (["allreduce", "--dtype", "int8"], "invalid choice: 'int8'"),
        (["allreduce", "--factor", "3"], "invalid choice: 3"),
        (["allreduce", "--repeats", "0"], "'0' must be an integer from 1 to"),
        (["allreduce", "--seconds", "0"], "'0' must be a positive number of seconds"),
        (["allreduce", "--seconds", "nan"], "'nan' must be a positive number of seconds"),
        (["allreduce", "--seconds", "soon"], "'soon' must be a positive number of seconds"),
        (["step", "--steps", "1.5"], "'1.5' must be an integer from 1 to"),
        (["step", "--steps", "9" * 20], "must be an integer from 1 to 1,000,000"),
        (["step", "--steps", "1000001"], "must be an integer from 1 to 1,000,000"),
        (["stop"], "invalid choice: 'stop'"),
    ],
)
def test_bad_arguments(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as left:
        bench.main(arguments)
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("hpcnn bench")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("arguments", [[], ["--help"], ["allreduce", "--help"], ["step", "--help"]])
def test_help(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        bench.main(arguments)
    assert left.value.code == 0
    assert "mpirun -n 4 python -m hpcnn.bench" in capsys.readouterr().out
