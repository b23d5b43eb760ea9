"""Options of sbatch, and what size of job they come to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcnn.errors import JobError
from hpcnn.slurm.options import directives, node_range, parse_options, size_of


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--nodes=2"], {"nodes": "2"}),
        (["--nodes", "2", "-n8"], {"nodes": "2", "ntasks": "8"}),
        (["-N", "2-4", "-t", "1:00"], {"nodes": "2-4", "time": "1:00"}),
        (["--exclusive", "-N", "2"], {"exclusive": "", "nodes": "2"}),
        (["--exclusive=user"], {"exclusive": "user"}),
        (["--nodes=2", "--nodes=3"], {"nodes": "3"}),
        (["--comment=a b=c"], {"comment": "a b=c"}),
        (["--time="], {"time": ""}),
        ([], {}),
    ],
)
def test_options(words: list[str], options: dict[str, str]) -> None:
    assert parse_options(words) == options


def test_lines_of_a_template_end_with_its_first_command() -> None:
    script = "#!/bin/bash\n# words\n\n#SBATCH --nodes=2   # two\n##SBATCH -n 9\n#SBATCH -t 5\necho\n#SBATCH -N 7\n"
    assert directives(script) == {"nodes": "2", "time": "5"}
    assert directives("#!/bin/bash\n#SBATCH --comment='half\n#SBATCH -N 3\n") == {"nodes": "3"}


@pytest.mark.parametrize(
    ("options", "ranks", "text"),
    [
        ({}, 1, "1 rank on 1 node"),
        ({"nodes": "2"}, 2, "2 ranks on 2 nodes"),
        ({"nodes": "2", "ntasks-per-node": "4"}, 8, "8 ranks on 2 nodes"),
        ({"nodes": "2-4", "ntasks-per-node": "4"}, 16, "at most 16 ranks on 2 to 4 nodes"),
        ({"nodes": "2", "ntasks-per-node": "4", "ntasks": "5"}, 5, "5 ranks on 2 nodes"),
    ],
)
def test_sizes(options: dict[str, str], ranks: int, text: str) -> None:
    assert (size_of(options).ranks, str(size_of(options))) == (ranks, text)


@given(st.integers(1, 10_000), st.integers(0, 100))
def test_ranges(low: int, more: int) -> None:
    assert node_range(f"{low}-{low + more}") == (low, low + more)
    assert node_range(str(low)) == (low, low)


@pytest.mark.parametrize("text", ["", "0", "4-2", "2-", "x", "-1", "2,4"])
def test_what_is_no_number_of_nodes(text: str) -> None:
    with pytest.raises(JobError, match=r"--nodes .*: expected a number, as 2, or a range"):
        node_range(text)


@pytest.mark.parametrize("text", ["0", "x", "-3", "1.5"])
def test_what_is_no_number_of_ranks(text: str) -> None:
    with pytest.raises(JobError, match=f"--ntasks-per-node {text}: expected an integer"):
        size_of({"ntasks-per-node": text})
