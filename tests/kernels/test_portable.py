"""One program of all operations prints the same hashes on every instruction set, those of other processors included."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from hpcnn.kernels.build import zig
from tests.kernels.build import CROSS, EMULATOR, FLAGS, ISA_FLAGS, PORTABLE, build_program, variants
from tests.kernels.structures import KERNELS
from tests.require import missing, require


@pytest.fixture(scope="module")
def expected(kernels_folder):
    return printed([build_program("scalar", kernels_folder)])


def printed(command: list[str | Path]) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.splitlines()


def test_every_operation_is_among_them(expected):
    operations = re.findall(r"^(?:OPERATION|KERNEL)\((\w+)", (KERNELS / "operations.def").read_text(), re.MULTILINE)
    assert len(operations) > 16
    printed_names = {line.split()[0] for line in expected}
    absent = {f"{name}_{bits}" for name in operations for bits in (32, 64)} - printed_names
    assert not absent


def test_table_has_every_need_for_scratch():
    declared = {
        name for path in KERNELS.glob("*.c") for name in re.findall(r"size_t NAME\((\w+_scratch)\)", path.read_text())
    }
    listed = re.findall(r"^SCRATCH\((\w+)", (KERNELS / "operations.def").read_text(), re.MULTILINE)
    assert declared == {f"{name}_scratch" for name in listed}


def test_flags_are_those_of_the_build():
    text = (KERNELS / "CMakeLists.txt").read_text()
    lists = {name: values.split() for name, values in re.findall(r"^ *set\((\w+) (.*)\)", text, re.MULTILINE)}
    assert set(lists["FLAGS"]) <= set(FLAGS)
    for isa, flags in ISA_FLAGS.items():
        assert set(lists[isa]) - {'""', "${avx2}"} | set(lists["avx2"] if "${avx2}" in lists[isa] else []) == set(flags)


@pytest.mark.parametrize("isa", variants()[1:])
def test_instruction_sets_of_this_machine_give_the_same_hashes(kernels_folder, expected, isa):
    assert len(expected) > 100
    assert printed([build_program(isa, kernels_folder)]) == expected


@pytest.mark.parametrize("isa", ["scalar", "neon"])
def test_aarch64_gives_the_same_hashes(kernels_folder, core_of_aarch64, expected, isa):
    flags = {path.name: ["-O1"] for path in PORTABLE}
    compiler = [CROSS, "-static"]
    program = build_program(isa, kernels_folder, flags=flags, compiler=compiler, core=core_of_aarch64)
    assert printed([EMULATOR, program]) == expected


@pytest.mark.parametrize("isa", [variants()[-1], "scalar"])
def test_another_compiler_gives_the_same_hashes(kernels_folder, expected, isa):
    """Clang, as ziglang brings it: that of the wheels."""
    require("ziglang")
    assert printed([build_program(isa, kernels_folder, compiler=shlex.split(zig()))]) == expected


def test_another_rounding_gives_other_hashes(kernels_folder, expected):
    """Proves that the tests above can fail."""
    if "avx2" not in variants():
        missing("this machine does not have AVX2 with FMA")
    flags = {name: ["-ffp-contract=fast"] for name in ("activations.c", "updates.c")}
    other = printed([build_program("avx2", kernels_folder, flags=flags)])
    assert len(other) == len(expected)
    assert other != expected
