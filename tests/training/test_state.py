"""Whether a run may be gone on with, and a state that does not fit."""

from pathlib import Path

import msgspec
import pytest

from hpcnn.errors import CheckpointError
from hpcnn.training.checkpoint import Checkpoint
from hpcnn.training.state import check_same_job, job_of, pack, pack_model, unpack
from hpcnn.training.trainer import Progress
from tests.training.helpers import SETTINGS, build, make_job, train


def plain(job):
    return msgspec.to_builtins(job)


def with_epochs(epochs, **changes):
    return make_job(train={"epochs": epochs}, **changes)


def test_the_same_job_may_go_on_and_what_is_only_shown_is_free():
    old = make_job(run={"display": "quiet", "stop_at_step": 3})
    check_same_job(plain(old), make_job(run={"display": "plain", "log_every_s": 1.0, "checkpoint_every_epochs": 7}))
    check_same_job(plain(old), msgspec.structs.replace(make_job(), name="another name"))


DIFFERENT = [
    ({"train": {"seed": 9}}, r"train\.seed: 5 -> 9"),
    ({"train": {"shards": 4}}, r"train\.shards: 8 -> 4"),
    ({"train": {"batch_size": 7, "dtype": "float64"}}, r"train\.batch_size: 13 -> 7; train\.dtype: \"float32\""),
    ({"train": {"epochs": 1}}, r"train\.epochs: 2 -> 1"),
    ({"train": {"metrics": []}}, r"train\.metrics: \[\"accuracy\"\] -> \[\]"),
    ({"optimizer": {"name": "sgd", "learning_rate": 0.05, "momentum": 0.8}}, r"optimizer\.momentum: 0\.9 -> 0\.8"),
    ({"optimizer": {"name": "adam"}}, r"optimizer\.name: \"sgd\" -> \"adam\""),
    ({"schedule": {"name": "cosine"}}, r"schedule\.name: \"constant\" -> \"cosine\""),
    ({"data": {"scale": "none"}}, r"data\.scale: \"standardize\" -> \"none\""),
    ({"loss": {"class_weights": [1.0, 1.0, 2.0]}}, r"loss\.class_weights: \"none\" -> \[1\.0, 1\.0, 2\.0\]"),
    ({"model": {"layers": SETTINGS["model"]["layers"][1:]}}, r"model\.layers\.0\.type: \"layer_norm\" -> \"dense\""),
    ({"train": {"early_stopping": {"patience": 3}}}, r"train\.early_stopping\.patience: none -> 3"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "text"), DIFFERENT)
def test_settings_that_differ_are_listed(changes, text):
    with pytest.raises(CheckpointError, match=text + r".*Go on with the settings of its job\.toml, or start a new"):
        check_same_job(plain(make_job()), make_job(**changes))


FREE = [{}, {"schedule": {"name": "step", "every": 3}}, {"schedule": {"name": "exponential", "rate": 0.9}},
        {"schedule": {"name": "inverse_time", "rate": 0.9}}, {"schedule": {"name": "cosine", "length": 5}},
        {"schedule": {"name": "polynomial", "length": 5}}, {"schedule": {"name": "constant", "warmup": 1}}]  # fmt: skip
BOUND = [{"schedule": {"name": "cosine"}}, {"schedule": {"name": "polynomial", "end": 0.1}}]


@pytest.mark.parametrize("changes", FREE, ids=str)
def test_more_epochs_may_be_asked_for(changes):
    check_same_job(plain(with_epochs(3, **changes)), with_epochs(5, **changes))


@pytest.mark.parametrize("changes", BOUND, ids=str)
def test_not_where_the_schedule_stretches_to_the_end(changes):
    check_same_job(plain(with_epochs(3, **changes)), with_epochs(3, **changes))
    with pytest.raises(CheckpointError, match=r"train\.epochs: 3 -> 5"):
        check_same_job(plain(with_epochs(3, **changes)), with_epochs(5, **changes))


@pytest.mark.parametrize("changes", [*FREE, *BOUND], ids=str)
def test_fewer_epochs_never(changes):
    with pytest.raises(CheckpointError, match=r"train\.epochs: 5 -> 3"):
        check_same_job(plain(with_epochs(5, **changes)), with_epochs(3, **changes))


def test_the_comparison_leaves_the_old_job_as_it_was():
    old = plain(make_job())
    kept = msgspec.json.encode(old)
    check_same_job(old, with_epochs(9))
    assert msgspec.json.encode(old) == kept


def test_the_job_comes_back():
    job = make_job()
    assert job_of(msgspec.json.decode(msgspec.json.encode(plain(job)))) == job


@pytest.mark.parametrize("change", [{"future": {"a": 1}}, {"optimizer": {"name": "lion"}}, {"train": {"epochs": "x"}}])
def test_the_job_of_another_version(change):
    with pytest.raises(CheckpointError, match=r"the job in the checkpoint is not one of hpcnn \S+: "):
        job_of(plain(make_job()) | change)


def test_a_state_of_another_model_or_optimizer_is_refused():
    state = train(make_job()).state
    wider = [*SETTINGS["model"]["layers"][:-1], {"type": "dense", "units": 3, "use_bias": False}]
    with pytest.raises(CheckpointError, match="the parameters are those of another model: unknown dense_3/bias"):
        unpack(state, build(make_job(model={"layers": wider})))
    with pytest.raises(CheckpointError, match="the optimizer state is another's"):
        unpack(state, build(make_job(optimizer={"name": "adam"})))
    with pytest.raises(CheckpointError, match="holds no state of training for this job"):
        unpack(state, build(make_job(train={"metrics": ["accuracy", "f1"]})))


def test_a_finished_model_can_not_be_gone_on_with():
    training = build(make_job())
    model = pack_model(training, Path(), Progress(totals=training.replica.layout.zeros()))
    assert {name.split("/")[0] for name in model.tensors} == {"model", "scaling"}
    with pytest.raises(CheckpointError, match=r"finished model, or another job's\. Resume from checkpoints/last"):
        unpack(model, training)


def test_everything_comes_back(tmp_path):
    """Progress, weights, optimizer and callbacks of a state, in a training that was just built."""
    early = {"early_stopping": {"patience": 1, "min_delta": 9.0}, "reduce_on_plateau": {"patience": 1}}
    job = make_job(train={"epochs": 4, **early})
    state, training = train(job, stop_at=5).state, build(job)
    progress = unpack(state, training)
    assert (progress.epoch, progress.step_in_epoch, progress.step) == (1, 2, 5)
    again = pack(training, tmp_path, progress)
    assert again.tensors.keys() == state.tensors.keys()
    for name, array in state.tensors.items():
        assert array.tobytes() == again.tensors[name].tobytes(), name
    assert again.facts == dict(state.facts) | {"base": str(tmp_path)}
    assert any(name.startswith("callbacks/early_stopping/") for name in state.tensors)


def test_the_restored_progress_is_no_view_of_the_checkpoint():
    state, training = train(make_job(), stop_at=2).state, build(make_job())
    unpack(state, training).totals[...] = -1
    assert state.tensors["progress/totals"][0] > 0


def test_a_checkpoint_without_a_state():
    with pytest.raises(CheckpointError, match="holds no state of training"):
        unpack(Checkpoint({}, {}), build(make_job()))
