"""When checkpoints are written, which names they have, which stay, and what happens where nothing can be written."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.runs.build import build_training
from hpcnn.runs.checkpoints import saver as saving
from hpcnn.runs.checkpoints.saver import Saver
from hpcnn.runs.run_context import RunContext
from hpcnn.runs.run_folder import RunFolder
from hpcnn.storage import disk as disk_module
from hpcnn.storage.checkpoint import load_checkpoint
from hpcnn.storage.draft import Draft
from hpcnn.training.loop import Progress
from tests.small_jobs import build, make_job, train

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def clock(monkeypatch):
    """The clock of savers; `now` is set by hand, and a sleep moves it on."""
    time = SimpleNamespace(now=1000.0)
    time.monotonic = lambda: time.now

    def sleep(seconds):
        time.now += seconds

    time.sleep = sleep
    monkeypatch.setattr(saving, "time", time)
    return time


@pytest.fixture
def disk(monkeypatch):
    """A disk that may be full."""
    state = SimpleNamespace(full=False, tries=0)
    write, write_at = Draft.write, disk_module.write_at

    def counted(draft, descriptor, arrays, share, beat):
        state.tries += share.root
        return write(draft, descriptor, arrays, share, beat)

    def write_or_fail(descriptor, data, place):
        if state.full:
            raise FULL
        write_at(descriptor, data, place)

    monkeypatch.setattr(Draft, "write", counted)
    monkeypatch.setattr(disk_module, "write_at", write_or_fail)
    return state


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.begin({})
    return folder


class Settled(Saver):
    """Returns from a save when older files are deleted."""

    def __call__(self, progress, **how):
        super().__call__(progress, **how)
        self.wait_for_deletion()


def saver_of(folder, comm=None, **run):
    job = make_job(run=run)
    comm = comm or SerialCommunicator()
    training = build_training(job, Path(), comm) if comm.size > 1 else build(job)
    return Settled(RunContext(comm, training, folder, Path())), Progress(stats=training.replica.model.layout.zeros())


def at(progress, step):
    """Return the progress after so many steps of 3 an epoch."""
    return Progress(epoch=step // 3, step_in_epoch=step % 3, step=step, stats=progress.stats)


def names(folder):
    return sorted(path.name.removesuffix(".safetensors") for path in folder.checkpoints.iterdir())


def step_in(path):
    return load_checkpoint(path).facts["progress"]["step"]


def test_a_state_has_the_name_of_its_step_and_is_the_last(folder, clock):
    saver, progress = saver_of(folder)
    assert (saver.saved_step, saver.save_seconds, saver.unsaved) == (None, None, "")
    saver(at(progress, 7))
    assert names(folder) == ["last", "step-0000000007"]
    assert folder.last.samefile(folder.at_step(7))
    assert (saver.saved_step, saver.unsaved) == (7, "")
    assert saver.save_seconds is not None
    saver(at(progress, 9), best=True)
    assert folder.best.samefile(folder.at_step(9))
    assert folder.last.samefile(folder.at_step(9))
    saver(at(progress, 10))
    assert folder.best.samefile(folder.at_step(9))


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_stay_and_the_best(folder, clock, keep):
    saver, progress = saver_of(folder, keep_checkpoints=keep)
    for step in range(1, 6):
        saver(at(progress, step), best=step == 2)
    steps = [f"step-{step:010d}" for step in range(6 - keep, 6)]
    assert names(folder) == ["best", "last", *steps]
    assert step_in(folder.best) == 2
    assert step_in(folder.last) == 5


def test_without_hard_links_there_are_copies(folder, clock, monkeypatch):
    def fail(self, target):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", fail)
    saver, progress = saver_of(folder)
    saver(at(progress, 3), best=True)
    assert not folder.last.samefile(folder.at_step(3))
    assert [step_in(path) for path in (folder.last, folder.best, folder.at_step(3))] == [3, 3, 3]


@pytest.mark.parametrize("every", [0, 1, 4])
def test_every_so_many_steps_exactly(folder, clock, every):
    saver, _ = saver_of(folder, checkpoint_every_steps=every)
    assert [step for step in range(1, 10) if saver.due(step)] == [s for s in range(1, 10) if every and s % every == 0]


def test_every_so_many_minutes_by_the_clock_of_rank_0(folder, clock):
    def body(comm):
        saver, progress = saver_of(folder, comm, checkpoint_every_minutes=2)
        comm.barrier()
        before = saver.due(1)
        comm.barrier()
        if comm.rank == 0:
            clock.now += 120
        comm.barrier()
        after = saver.due(1)
        saver(at(progress, 1))
        return before, after, saver.due(2)

    assert run_threads(2, body) == [(False, True, False), (False, False, False)]


def test_no_minutes_are_never(folder, clock):
    saver, _ = saver_of(folder, checkpoint_every_minutes=0)
    clock.now += 1e9
    assert not saver.due(1)


def test_short_epochs_wait_and_their_best_state_waits_in_memory(folder, clock, disk):
    saver, progress = saver_of(folder, checkpoint_gap_s=5)
    clock.now += 6
    saver(at(progress, 3), wait=True)
    assert names(folder) == ["last", "step-0000000003"]
    saver(at(progress, 6), best=True, wait=True)
    saver(at(progress, 9), wait=True)
    assert disk.tries == 1
    assert names(folder) == ["last", "step-0000000003"]
    clock.now += 6
    saver(at(progress, 12), wait=True)
    assert (step_in(folder.best), step_in(folder.last)) == (6, 12)
    assert names(folder) == ["best", "last", "step-0000000003", "step-0000000012"]
    saver(at(progress, 15), best=True, wait=True)
    saver(at(progress, 18), wait=True, last=True)
    assert (step_in(folder.best), step_in(folder.last)) == (15, 18)


def test_what_waits_is_the_state_as_it_was(folder, clock):
    saver, progress = saver_of(folder)
    before = saver._context.training.replica.model.fingerprint()
    saver(at(progress, 3), best=True, wait=True)
    saver._context.training.replica.model.vector[...] = 0
    saver(at(progress, 6), last=True)
    assert load_checkpoint(folder.best).facts["weights_sha256"] == before
    assert load_checkpoint(folder.last).facts["weights_sha256"] != before


def test_a_best_state_that_is_too_large_to_wait_is_written_at_once(folder, clock, monkeypatch):
    monkeypatch.setattr(saving, "_SMALL_BYTES", 0)
    saver, progress = saver_of(folder, checkpoint_gap_s=5)
    saver(at(progress, 3), best=True, wait=True)
    assert names(folder) == ["best", "last", "step-0000000003"]


def test_states_of_later_steps_go_when_the_run_went_back_behind_them(folder, clock):
    saver, progress = saver_of(folder, keep_checkpoints=2)
    for step in (3, 6, 9):
        saver(at(progress, step))
    saver(at(progress, 7))
    assert names(folder) == ["last", "step-0000000006", "step-0000000007"]


# ---------------------------------------------------------------------------------------- nothing can be written


def states_of(ranks, folder, disk, clock, *, large, monkeypatch, sharded=False):
    """Return what savers on so many ranks say after a failure, and after the next try."""
    monkeypatch.setattr(saving, "_SMALL_BYTES", 0 if large else 2**30)
    job = make_job(train={"optimizer_sharding": sharded})

    def body(comm):
        training = build_training(job, Path(), comm)
        progress = Progress(stats=training.replica.model.layout.zeros())
        saver = Saver(RunContext(comm, training, folder, Path()))
        saver(at(progress, 3))
        comm.barrier()
        disk.full = True
        saver(at(progress, 4), best=True)
        found = [(saver.saved_step, saver.unsaved, [saver.due(5)])]
        comm.barrier()
        disk.full = False
        saver(at(progress, 5))  # too early for another try
        found.append((saver.saved_step, saver.unsaved))
        comm.barrier()
        if comm.rank == 0:
            clock.now += 30
        comm.barrier()
        found[0][2].append(saver.due(6))
        saver(at(progress, 6))
        found.append((saver.saved_step, saver.unsaved))
        return found

    return [body(SerialCommunicator())] if ranks == 1 else run_threads(ranks, body)


@pytest.mark.parametrize(("ranks", "sharded"), [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize("large", [False, True])
def test_a_disk_that_is_full_for_a_while(folder, disk, clock, monkeypatch, capsys, ranks, sharded, large):
    everyone = states_of(ranks, folder, disk, clock, large=large, monkeypatch=monkeypatch, sharded=sharded)
    full = "No space left on device"
    for rank, found in enumerate(everyone):
        assert found == [(3, full, [False, rank == 0]), (3, full), (6, "")]
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"warning: the checkpoint at step 4 was not saved in {folder.checkpoints} ({full}); "
        "training continues, and it is tried again",
        f"checkpoints are saved again in {folder.checkpoints}, at step 6",
    ]
    assert step_in(folder.last) == 6
    assert names(folder) == sorted([*["best"] * (not large), "last", "step-0000000003", "step-0000000006"])
    if not large:
        assert step_in(folder.best) == 4


def test_the_files_that_are_there_stay_as_they_are(folder, disk, clock):
    saver, progress = saver_of(folder, keep_checkpoints=1)
    saver(at(progress, 3), best=True)
    before = {path.name: path.read_bytes() for path in folder.checkpoints.iterdir()}
    disk.full = True
    for step in range(4, 9):
        clock.now += 100
        saver(at(progress, step), best=True)
    assert {path.name: path.read_bytes() for path in folder.checkpoints.iterdir()} == before


def test_a_state_that_waits_in_memory_is_kept_until_it_can_be_written(folder, disk, clock):
    saver, progress = saver_of(folder)
    disk.full = True
    saver(at(progress, 3), best=True)
    for step in (4, 5):
        clock.now += 100
        saver(at(progress, step))
    disk.full = False
    clock.now += 100
    saver(at(progress, 6))
    assert (step_in(folder.best), step_in(folder.last)) == (3, 6)


def test_tries_are_few_however_often_a_checkpoint_is_due(folder, disk, clock, capsys):
    saver, progress = saver_of(folder, checkpoint_every_steps=1)
    disk.full = True
    for step in range(1, 601):
        clock.now += 0.1
        if saver.due(step):
            saver(at(progress, step), wait=True)
    assert 2 <= disk.tries <= 4
    assert capsys.readouterr().out.count("warning") == 1


@pytest.mark.parametrize(("took", "wait"), [(0.5, 20), (3, 60), (600, 120)])
def test_the_pause_before_the_next_try(folder, clock, monkeypatch, took, wait):
    """The longer a try takes, but never longer than checkpoints are due."""
    saver, progress = saver_of(folder, checkpoint_every_minutes=2)

    def slow(*arguments, **options):
        clock.now += took
        raise FULL

    monkeypatch.setattr(saving, "save_checkpoint", slow)
    saver(at(progress, 3))
    clock.now += wait - 1
    assert not saver.due(4)
    clock.now += 2
    assert saver.due(5)


def test_another_reason_is_said_again(folder, clock, monkeypatch, capsys):
    saver, progress = saver_of(folder)
    for step, code in enumerate((errno.ENOSPC, errno.EIO, errno.EIO, errno.ESTALE), 1):
        error = OSError(code, os.strerror(code))
        monkeypatch.setattr(saving, "save_checkpoint", lambda *a, error=error, **o: (_ for _ in ()).throw(error))
        clock.now += 100
        saver(at(progress, step))
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("(")[2].partition(")")[0] for line in lines] == [
        os.strerror(code) for code in (errno.ENOSPC, errno.EIO, errno.ESTALE)
    ]


def test_the_last_words_say_which_checkpoint_there_is(folder, disk, clock, capsys):
    saver, progress = saver_of(folder)
    disk.full = True
    saver(at(progress, 3))
    saver(at(progress, 4), last=True)
    disk.full = False
    saver(at(progress, 5), last=True)
    disk.full = True
    saver(at(progress, 6), last=True)
    said = [line.partition("); ")[2] for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert said == [
        "training continues, and it is tried again",
        "this job has saved no checkpoint",
        "the newest checkpoint is of step 5",
    ]


def test_the_last_state_is_tried_for_some_seconds(folder, disk, clock):
    saver, progress = saver_of(folder)
    disk.full = True
    begin = clock.now
    saver(at(progress, 4), last=True)
    assert saver.unsaved == "No space left on device"
    assert saver.saved_step is None
    assert disk.tries >= 4
    assert 4 <= clock.now - begin <= 7

    def make_room(seconds):
        clock.now += seconds
        disk.full = False

    clock.sleep = make_room
    disk.full = True
    saver(at(progress, 4), last=True)
    assert (saver.unsaved, saver.saved_step) == ("", 4)


def test_a_folder_that_vanishes_is_not_created_again_but_its_checkpoints_are(folder, clock):
    saver, progress = saver_of(folder)
    folder.checkpoints.rmdir()
    saver(at(progress, 3))
    assert saver.saved_step == 3
    moved = folder.path.rename(folder.path.with_name("moved"))
    saver(at(progress, 4))
    assert saver.unsaved == "No such file or directory"
    assert not folder.path.exists()
    moved.rename(folder.path)
    clock.now += 100
    saver(at(progress, 5))
    assert saver.saved_step == 5


def test_what_ranks_give_is_taken_even_if_there_is_no_folder(folder, monkeypatch):
    """Else they would wait, or their vectors would be taken for those of the next save."""
    monkeypatch.setattr(saving, "_SMALL_BYTES", 0)
    monkeypatch.setattr(saving, "_RETRY_S", 0)
    monkeypatch.setattr(saving, "_RETRY_SHARE", 0)
    away = folder.path.with_name("away")

    class Moving(Saver):
        def __call__(self, progress, **how):
            if self._root and progress.step == 2:
                folder.path.rename(away)
            if self._root and progress.step == 4:
                away.rename(folder.path)
            super().__call__(progress, **how)
            assert bool(self.unsaved) == (progress.step in (2, 3))

    job = make_job(train={"optimizer_sharding": True}, run={"checkpoint_every_steps": 1})
    straight = train(job)
    assert train(job, 3, saver=lambda training, comm: Moving(RunContext(comm, training, folder, Path()))).done
    saved = load_checkpoint(folder.last).part("optimizer")
    assert saved
    for name, array in saved.items():
        assert array.tobytes() == straight.state.tensors[f"optimizer/{name}"].tobytes()


def test_a_file_that_can_not_be_deleted_does_no_harm(folder, clock, monkeypatch):
    saver, progress = saver_of(folder, keep_checkpoints=1)
    saver(at(progress, 3))
    unlink = Path.unlink

    def fail(self, missing_ok=False):
        if self.name.startswith("step"):
            raise OSError(errno.EACCES, "Permission denied")
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", fail)
    saver(at(progress, 4))
    assert (saver.saved_step, saver.unsaved) == (4, "")
    monkeypatch.undo()
    saver(at(progress, 5))
    assert names(folder) == ["last", "step-0000000005"]


def test_each_state_of_a_run_is_one_to_go_on_from(folder, monkeypatch):
    """The files of a real training, one a step, sharded, on two ranks."""
    job = make_job(train={"optimizer_sharding": True}, run={"checkpoint_every_steps": 1, "keep_checkpoints": 99})
    monkeypatch.setattr(saving, "_SMALL_BYTES", 0)
    straight = train(job)

    def saver_for(training, comm):
        return Saver(RunContext(comm, training, folder, Path()))

    outcome = train(job, 2, saver=saver_for)
    assert outcome.fingerprint == straight.fingerprint
    assert len(folder.step_files()) == 6
    for path in folder.step_files():
        assert train(job, 3, start=load_checkpoint(path)).fingerprint == straight.fingerprint
