"""Random faults at random ranks, steps and phases: every run must end, and after resuming with the same SHA-256.

``python -m tests.chaos --runs 200 --seed 1`` lets runs fail and resumes them on other rank counts;
``python -m tests.chaos --survivors --runs 50 --seed 1`` kills ranks of runs that go on without them (Open MPI, ULFM).
``--outside`` strikes from outside instead, at any moment from the start of mpirun on.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from tests.mpi.launch import OPEN_MPI_PREFIX, ROOT, Mpi, sha256_of
from tests.outside import random_blows, struck

EPOCHS, STEPS_PER_EPOCH = 4, 23
STALL_ABORT_S = 3
NOTHING_WHOLE = "none of them is whole"
JOB = (
    "-m", "hpcnn.train", ROOT / "jobs" / "digits_mlp.toml", "--out", "run",
    "--set", f"train.epochs={EPOCHS}", "--set", "run.display=plain", "--set", "run.checkpoint_gap_s=0",
    "--set", "run.stall_warn_s=2", "--set", f"run.stall_abort_s={STALL_ABORT_S}",
)  # fmt: skip
START_S = 30.0
"""What a start and the training may take on a busy machine."""
END_S = 10.0
"""Within so many seconds after a fault, a job has ended."""
LATE_S = 30.0
"""Within so many seconds beyond the watchdog's limit, a job that was struck from outside has gone on or ended."""
STEP_PHASES = ("data", "forward", "backward", "reduce", "optimizer", "wait")
ENDING = {"kill": 6, "raise": 3, "exit": 2, "hang": 1, "stop": 1, "nan": 1, "signal": 3}
"""Faults that end a run, and how often each is drawn."""
LASTING = {"slow": 1, "disk-full": 2, "corrupt-checkpoint": 2}
"""Faults that a run survives, drawn beside an ending one."""


@dataclass
class Tally:
    """What came of all runs."""

    good: int = 0
    attempts: int = 0
    begun_anew: int = 0
    """Runs whose only checkpoint was damaged on purpose."""
    faults: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    seconds_lost: list[float] = field(default_factory=list)
    went_on: int = 0
    """Runs that came to their end in spite of all."""
    story: str = ""
    """What happened in the last run."""
    seconds_to_end: list[float] = field(default_factory=list)
    """From a blow from outside to the end of the job."""


Test = Callable[[random.Random, Mpi, Path, str, Tally], "str | None"]


def drawn(rng: random.Random, weights: dict[str, int]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def random_fault(rng: random.Random, action: str, ranks: int) -> str:
    """Return one fault as `HPCNN_FAULT` takes it."""
    rank = f"rank={rng.randrange(ranks)}"
    step = rng.randrange(1, EPOCHS * STEPS_PER_EPOCH + 1)
    if action in ("disk-full", "corrupt-checkpoint"):
        return f"{action} rank=0 step={rng.randrange(1, step + 1)}-{EPOCHS * STEPS_PER_EPOCH}"
    if action == "slow":
        return f"slow {rank} step={step}-{step + 5} seconds=0.02"
    if action == "nan":
        return f"nan {rank} step={step}"
    kind = rng.choices(["step", "epoch", "moment"], [5, 3, 2])[0]
    if kind == "moment" and action in ("kill", "raise", "signal"):
        return f"{action} {rank} phase=set-up after_s={rng.uniform(0, 2):.3f}"
    if kind == "epoch":
        last = STEPS_PER_EPOCH * rng.randrange(1, EPOCHS + 1)
        return f"{action} {rank} step={last} phase={rng.choice(['evaluate', 'save', 'wait'])}"
    return f"{action} {rank} step={step} phase={rng.choice(STEP_PHASES)} count={rng.choice([1, 1, 2])}"


@dataclass
class Ended:
    """One attempt."""

    code: int
    out: str
    err: str
    seconds: float
    hung: bool = False


def attempt(mpi: Mpi, ranks: int, folder: Path, options: list[str], fault: str) -> Ended:
    """Run or go on with the run in `folder`, and kill what does not end."""
    launcher = [mpi.mpirun, *mpi.options, "-n", str(ranks)] if ranks > 1 else []
    command = [*launcher, mpi.python, *map(str, JOB), "--resume", "auto", *options]
    begin = time.monotonic()
    process = subprocess.Popen(
        command, cwd=folder, env=mpi.environment({"HPCNN_FAULT": fault}), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=START_S + END_S + STALL_ABORT_S)
        return Ended(process.returncode, out, err, time.monotonic() - begin)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        return Ended(process.returncode, out, err, time.monotonic() - begin, hung=True)


def reference(mpi: Mpi, folder: Path) -> str:
    """Return the hash of the job on one rank that nothing disturbs."""
    done = attempt(mpi, 1, folder, [], "")
    assert done.code == 0, done.err
    return sha256_of(done.out)


def fail_and_resume(rng: random.Random, mpi: Mpi, folder: Path, expected: str, tally: Tally) -> str | None:
    """Let a run fail up to three times, then go on undisturbed; return what was wrong, or None."""
    story = []
    most = 5 if mpi.name == "mpich" else 3  # Open MPI's ranks wait busily: more of them than cores crawl
    for left in reversed(range(rng.randrange(1, 4))):
        ranks = rng.randrange(1, most + 1)
        options = ["--set", f"run.checkpoint_every_steps={rng.choice([0, 5, 9, 30])}"]
        actions = [drawn(rng, ENDING), *([drawn(rng, LASTING)] if rng.random() < 0.3 else [])]
        fault = "; ".join(random_fault(rng, action, ranks) for action in actions)
        done = attempt(mpi, ranks, folder, options, fault)
        tally.attempts += 1
        story.append(f"{mpi.name} {ranks} ranks, {fault}: code {done.code}, {done.seconds:.1f} s")
        if done.hung:
            return f"{'; '.join(story)}: HUNG\n{done.out[-1500:]}\n{done.err[-3000:]}"
        for action in actions:
            tally.faults[action] += f": {action}" in done.err or action in ("slow", "kill", "stop")
        if done.code == 0 and expected not in done.out:
            return f"{'; '.join(story)}: WRONG BITS\n{done.out[-1500:]}\n{done.err[-3000:]}"
        if NOTHING_WHOLE in done.err and any("corrupt-checkpoint" in line for line in story):
            shutil.rmtree(folder / "run")  # what a user has to do: the one checkpoint there was is damaged
            tally.begun_anew += 1
        if "Traceback" in done.err and not {"raise", "exit"} & set(actions):
            return f"{'; '.join(story)}: TRACEBACK\n{done.err[-3000:]}"
        if left == 0:
            break
    ranks = rng.randrange(1, most + 1)
    done = attempt(mpi, ranks, folder, [], "")
    tally.attempts += 1
    if NOTHING_WHOLE in done.err and any("corrupt-checkpoint" in line for line in story):
        shutil.rmtree(folder / "run")
        tally.begun_anew += 1
        done = attempt(mpi, ranks, folder, [], "")
    story.append(f"resumed on {ranks}: code {done.code}")
    if done.hung or done.code != 0 or expected not in done.out:
        return f"{'; '.join(story)}\n{done.out[-1500:]}\n{done.err[-3000:]}"
    return None


def kill_and_carry_on(rng: random.Random, mpi: Mpi, folder: Path, expected: str, tally: Tally) -> str | None:
    """Kill one or two ranks of a run that goes on without them; return what was wrong, or None."""
    ranks = rng.randrange(2, 5)
    victims = rng.sample(range(ranks), 2 if ranks > 2 and rng.random() < 0.3 else 1)
    faults = []
    for victim in victims:
        step = rng.randrange(1, EPOCHS * STEPS_PER_EPOCH + 1)
        phase = rng.choice(STEP_PHASES)
        if rng.random() < 0.3:
            step, phase = STEPS_PER_EPOCH * rng.randrange(1, EPOCHS + 1), rng.choice(["evaluate", "save", "wait"])
        faults.append(f"kill rank={victim} step={step} phase={phase} count={rng.choice([1, 1, 2])}")
    if len(faults) == 2 and rng.random() < 0.5:  # at once
        faults[1] = faults[0].replace(f"rank={victims[0]}", f"rank={victims[1]}")
    fault = "; ".join(faults)
    done = attempt(mpi, ranks, folder, ["--set", "run.on_rank_loss=continue"], fault)
    tally.attempts += 1
    tally.faults["kill"] += done.out.count("warning: lost ")
    tally.seconds_lost += [float(found) for found in re.findall(r"after (\d+\.\d+) s, from step", done.out)]
    if done.hung or done.code != 0 or expected not in done.out:
        return f"{ranks} ranks, {fault}: code {done.code}, hung {done.hung}\n{done.out[-1500:]}\n{done.err[-3000:]}"
    return None


class FromOutside:
    """Runs that are struck from outside, at any moment from the start of mpirun on, and then resumed."""

    def __init__(self, *, survivors: bool) -> None:
        self._options = ("--set", "run.on_rank_loss=continue") if survivors else ()
        self._usual_s: dict[str, float] = {}

    def __call__(self, rng: random.Random, mpi: Mpi, folder: Path, expected: str, tally: Tally) -> str | None:
        """Strike at a run; return what was wrong, or None."""
        ranks = rng.randrange(2, 6)
        blows = random_blows(rng, ranks, self._usual(mpi, folder), launcher=not self._options)
        done = struck(mpi, ranks, (*JOB, "--resume", "auto", *self._options), folder, blows)
        tally.attempts += 1
        tally.faults[blows[0].signal.name] += done.after_blow_s >= 0
        story = f"{mpi.name} {ranks} ranks, {', then '.join(map(str, blows))}: code {done.code}"
        told = f"{story}, {done.after_blow_s:.1f} s\n{done.out[-1500:]}\n{done.err[-3000:]}"
        if done.hung:
            return f"HUNG: {told}\n" + "\n".join(done.stacks)
        if done.after_blow_s > STALL_ABORT_S + LATE_S:
            return f"LATE: {told}"
        tally.seconds_to_end.append(max(0.0, done.after_blow_s))
        message = next((line for line in done.err.splitlines() if line.startswith("hpcnn: ")), "no message")
        tally.story = f"{story}, {done.after_blow_s:.1f} s later; {message}"
        went_on = expected in done.out
        if "weights sha256" in done.out and not went_on:
            return f"WRONG BITS: {told}"
        if done.code == 0 and not went_on and not self._options:
            return f"CODE 0: {told}"
        tally.went_on += went_on
        if went_on and done.code == 0:
            return None
        resumed = attempt(mpi, rng.randrange(1, 4), folder, [], "")
        tally.attempts += 1
        if resumed.hung or resumed.code != 0 or expected not in resumed.out:
            return f"NOT RESUMED ({resumed.code}): {told}\n{resumed.out[-1500:]}\n{resumed.err[-3000:]}"
        return None

    def _usual(self, mpi: Mpi, folder: Path) -> float:
        """Return how long the job takes that nobody strikes at."""
        if mpi.name not in self._usual_s:
            calm = folder / "calm"
            calm.mkdir()
            self._usual_s[mpi.name] = attempt(mpi, 3, calm, list(self._options), "").seconds
        return self._usual_s[mpi.name]


def chaos(
    runs: range, seed: int, mpis: list[Mpi], *, survivors: bool, outside: bool = False, verbose: bool = False
) -> Tally:
    """Do the runs of such numbers, each drawn from `seed` and its number."""
    test: Test = kill_and_carry_on if survivors else fail_and_resume
    if outside:
        test = FromOutside(survivors=survivors)
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="hpcnn-chaos-") as top:
        calm = Path(top) / "calm"
        calm.mkdir()
        expected = reference(mpis[0], calm)
        for number in runs:
            rng = random.Random(f"{seed} {number}")
            mpi = rng.choice(mpis)
            folder = Path(top) / str(number)
            folder.mkdir()
            wrong = test(rng, mpi, folder, expected, tally)
            tally.good += wrong is None
            if wrong is not None:
                tally.wrong.append(f"run {number}: {wrong}")
            if verbose:
                print(f"run {number}: {wrong or 'good'} {'' if wrong else tally.story}", flush=True)
    return tally


def installed() -> list[Mpi]:
    """Return the MPIs at hand: MPICH in this environment, Open MPI in the one that the variable names."""
    mpis = [Mpi("mpich", Path(sys.prefix)), Mpi("openmpi", Path(os.environ.get(OPEN_MPI_PREFIX, "/nonexistent")))]
    return [mpi for mpi in mpis if Path(mpi.mpirun).exists()]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="number of the first run; 0")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--outside", action="store_true", help="strike from outside, from the start of mpirun on")
    parser.add_argument("--survivors", action="store_true", help="kill ranks of runs that go on without them")
    arguments = parser.parse_args()
    mpis = installed()
    if arguments.survivors:
        mpis = [replace(mpi, options=("--with-ft", "ulfm")) for mpi in mpis if mpi.name == "openmpi"]
    if not mpis:
        parser.error(f"no MPI found; {OPEN_MPI_PREFIX} names an environment with Open MPI")
    runs = range(arguments.first, arguments.first + arguments.runs)
    tally = chaos(runs, arguments.seed, mpis, survivors=arguments.survivors, outside=arguments.outside, verbose=True)
    print(f"{tally.good} of {arguments.runs} runs good, {tally.attempts} starts, faults: {dict(tally.faults)}")
    if tally.begun_anew:
        print(f"{tally.begun_anew} begun anew, since the only checkpoint was damaged on purpose")
    if tally.seconds_to_end:
        ends = tally.seconds_to_end
        print(f"{tally.went_on} went on to the end; seconds from a blow to the end: largest {max(ends):.1f}")
    if tally.seconds_lost:
        lost = tally.seconds_lost
        print(f"seconds lost a fault: median {median(lost):.3f}, largest {max(lost):.3f} of {len(lost)}")
    return int(bool(tally.wrong))


if __name__ == "__main__":
    sys.exit(main())
