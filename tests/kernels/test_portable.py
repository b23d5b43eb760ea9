"""One program of all operations prints the same hashes on every instruction set, those of other processors included."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernels.build import build_program, variants
from tests.require import missing

CROSS, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"


@pytest.fixture(scope="module")
def expected(kernels_folder):
    return printed([build_program("scalar", kernels_folder)])


def printed(command: list[str | Path]) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.splitlines()


@pytest.mark.parametrize("isa", variants()[1:])
def test_instruction_sets_of_this_machine_give_the_same_hashes(kernels_folder, expected, isa):
    assert len(expected) > 100
    assert printed([build_program(isa, kernels_folder)]) == expected


@pytest.mark.parametrize("isa", ["scalar", "neon"])
def test_aarch64_gives_the_same_hashes(kernels_folder, expected, isa):
    if not shutil.which(CROSS) or not shutil.which(EMULATOR):
        missing(
            f"there is no {CROSS} or no {EMULATOR} (Debian: gcc-aarch64-linux-gnu, libc6-dev-arm64-cross, qemu-user)"
        )
    program = build_program(isa, kernels_folder, compiler=[CROSS, "-static"])
    assert printed([EMULATOR, program]) == expected


def test_another_rounding_gives_other_hashes(kernels_folder, expected):
    """Proves that the tests above can fail."""
    if "avx2" not in variants():
        missing("this machine does not have AVX2 with FMA")
    other = printed([build_program("avx2", kernels_folder, flags=["-ffp-contract=fast", "-mfma"])])
    assert len(other) == len(expected)
    assert other != expected
