"""Runs Slurm's programs; no other module does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from hpcnn.slurm.messages import SlurmError, explain_error, means_no_cluster

TIMEOUT_S = 60.0
"""A busy controller may take long, and a program without a configuration retries for a minute."""

_OF_THE_CLUSTER = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")


class NoSlurmError(SlurmError):
    """Slurm is not available: the machine does not belong to a cluster."""


def run_slurm(*command: str, environ: Mapping[str, str] | None = None) -> str:
    """Run one of Slurm's programs and return its standard output, or its standard error if that is empty.

    Raises:
        SlurmError: it fails, does not exist, or does not return. The message explains the error.
    """
    try:
        done = subprocess.run(
            command,
            env=clean_environment(os.environ if environ is None else environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=TIMEOUT_S,
        )
    except FileNotFoundError:
        raise NoSlurmError(
            f"there is no program {command[0]!r} here: this machine does not belong to a Slurm cluster. Log in to one, "
            "or train without Slurm: mpirun -n 4 hpcnn train JOB"
        ) from None
    except subprocess.TimeoutExpired:
        raise SlurmError(
            f"{command[0]} did not answer within {TIMEOUT_S:.0f} s: Slurm's controller is down or busy. "
            "Check it with `scontrol ping` and try again later."
        ) from None
    except OSError as error:
        raise SlurmError(f"{command[0]} can't be run: {error.strerror}") from None
    if done.returncode:
        said = done.stderr or done.stdout
        raise (NoSlurmError if means_no_cluster(said) else SlurmError)(f"{command[0]}: {explain_error(said)}")
    return done.stdout or done.stderr


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without variables that change the output or leak from a job into one that it submits."""
    inside = "SLURM_JOB_ID" in environ
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(("SQUEUE_", "SACCT_"))
        and name != "SLURM_TIME_FORMAT"
        and not (inside and name.startswith("SLURM_") and name not in _OF_THE_CLUSTER)
    }
