"""Whether a run may be resumed, and checkpoints that do not fit."""

import json
import weakref
from pathlib import Path

import msgspec
import numpy as np
import pytest

from hpcnn.comm.threads import run_threads
from hpcnn.errors import CheckpointError
from hpcnn.runs.build import build_training
from hpcnn.runs.state import check_same_job, facts_of, job_of, pack, pack_model, unpack
from hpcnn.storage.checkpoint import Checkpoint
from hpcnn.training.loop import Progress
from hpcnn.training.step_stats import COUNT, WEIGHT
from tests.small_jobs import SETTINGS, build, make_job, train


def plain(job):
    return msgspec.to_builtins(job)


def with_numpy(**changes):
    train = {"arithmetic": "numpy"} | changes.pop("train", {})
    return make_job(train=train, **changes)


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
    ({"train": {"arithmetic": "native"}}, r"train\.arithmetic: \"numpy\" -> \"native\""),
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
    with pytest.raises(CheckpointError, match=text + r".*Resume with the settings of its job\.toml, or start a new"):
        check_same_job(plain(with_numpy()), with_numpy(**changes))


def test_a_job_of_a_version_without_the_setting_was_computed_by_numpy():
    old = plain(with_numpy())
    del old["train"]["arithmetic"]
    assert job_of(old) == with_numpy()
    check_same_job(old, with_numpy())
    with pytest.raises(CheckpointError, match=r"train\.arithmetic: \"numpy\" -> \"native\""):
        check_same_job(old, make_job(train={"arithmetic": "native"}))
    assert job_of(plain(make_job(train={"arithmetic": "native"}))).train.arithmetic == "native"


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


@pytest.mark.parametrize("name", ["\ud800", "x" * 10_000], ids=["no Unicode", "long"])
def test_what_a_stranger_wrote_ends_in_a_short_message(name):
    with pytest.raises(CheckpointError, match="is not one of hpcnn") as raised:
        job_of(plain(make_job()) | {"optimizer": {"name": name}})
    assert len(str(raised.value)) < 500


def test_a_state_of_another_model_or_optimizer_is_refused():
    state = train(make_job()).state
    wider = [
        *SETTINGS["model"]["layers"][:-1],
        {"type": "dense", "units": 3, "use_bias": False, "activation": "softmax"},
    ]
    with pytest.raises(CheckpointError, match="the parameters are those of another model: unknown dense_3/bias"):
        unpack(state, build(make_job(model={"layers": wider})))
    with pytest.raises(CheckpointError, match="the optimizer state does not match this optimizer"):
        unpack(state, build(make_job(optimizer={"name": "adam"})))
    with pytest.raises(CheckpointError, match="holds no state of training for this job"):
        unpack(state, build(make_job(train={"metrics": ["accuracy", "f1"]})))


def test_a_finished_model_can_not_be_resumed():
    training = build(make_job())
    model = pack_model(training, Path(), Progress(stats=training.replica.model.layout.zeros()))
    assert {name.split("/")[0] for name in model.arrays} == {"model", "scaling"}
    with pytest.raises(CheckpointError, match=r"finished model, or another job's\. Resume from checkpoints/last"):
        unpack(model.collect(), training)


def test_everything_comes_back(tmp_path):
    """Progress, weights, optimizer and callbacks of a state, in a training that was just built."""
    early = {"early_stopping": {"patience": 1, "min_delta": 9.0}, "reduce_on_plateau": {"patience": 1}}
    job = make_job(train={"epochs": 4, **early})
    state, training = train(job, stop_at=5).state, build(job)
    progress = unpack(state, training)
    assert (progress.epoch, progress.step_in_epoch, progress.step) == (1, 2, 5)
    again = pack(training, tmp_path, progress).collect()
    assert again.tensors.keys() == state.tensors.keys()
    for name, array in state.tensors.items():
        assert array.tobytes() == again.tensors[name].tobytes(), name
    facts = dict(state.facts) | {"base": str(tmp_path)}
    assert facts.pop("weights_sha256") == training.replica.model.fingerprint()
    assert again.facts == facts
    assert any(name.startswith("callbacks/early_stopping/") for name in state.tensors)


def test_the_restored_progress_is_no_view_of_the_checkpoint():
    state, training = train(make_job(), stop_at=2).state, build(make_job())
    unpack(state, training).stats[...] = -1
    assert state.tensors["progress/totals"][0] > 0


def test_the_sums_of_a_version_that_knew_no_weights():
    """They had no number of samples beside the sum of the weights."""
    state, training = train(make_job(), stop_at=2).state, build(make_job())
    totals = state.tensors["progress/totals"]
    assert totals[COUNT] == totals[WEIGHT] > 0
    old = Checkpoint({**state.tensors, "progress/totals": np.delete(totals, COUNT)}, state.facts)
    np.testing.assert_array_equal(unpack(old, training).stats, totals)


def test_a_checkpoint_without_a_state():
    with pytest.raises(CheckpointError, match="holds no state of training"):
        unpack(Checkpoint({}, {}), build(make_job()))


EARLY = {"early_stopping": {"patience": 3}, "reduce_on_plateau": {"patience": 1}}


@pytest.fixture(scope="module")
def state():
    return train(make_job(train=EARLY), stop_at=4).state


def with_facts(state, **facts):
    return Checkpoint(state.tensors, dict(state.facts) | facts)


def with_progress(state, **changes):
    return with_facts(state, progress=state.facts["progress"] | changes)


def test_weights_that_are_not_those_of_the_sha256_are_refused(state):
    with pytest.raises(CheckpointError, match="the weights that were loaded do not have the SHA-256"):
        unpack(with_facts(state, weights_sha256="0"), build(make_job(train=EARLY)))


@pytest.mark.parametrize("changes", [
    {"step": 5}, {"epoch": 2}, {"step_in_epoch": 2}, {"epoch": 0, "step_in_epoch": 4}, {"step": 2**52},
], ids=str)  # fmt: skip
def test_a_place_that_the_training_does_not_have_is_refused(state, changes):
    with pytest.raises(CheckpointError, match=r"of another training: epoch .* where an epoch has 3"):
        unpack(with_progress(state, **changes), build(make_job(train=EARLY)))


@pytest.mark.parametrize("changes", [
    {"step": -1}, {"step": 1.5}, {"step": "1"}, {"step": None}, {"step": 10**400}, {"best": "x"}, {"best": []},
    {"values": []}, {"values": {"loss": "x"}}, {"finish": 1}, {"epoch": True},
], ids=str)  # fmt: skip
def test_a_progress_of_other_types_is_refused(state, changes):
    with pytest.raises(CheckpointError, match=r"not a training checkpoint \(.* Use one that hpcnn train wrote"):
        unpack(with_progress(state, **changes), build(make_job(train=EARLY)))


@pytest.mark.parametrize("name", ["job", "base", "progress", "callbacks", "weights_sha256", "input_shape", "machine"])
@pytest.mark.parametrize("value", ["missing", None, 3, [None], {"x": [{}]}], ids=str)
def test_facts_that_are_missing_or_of_other_types_are_refused(state, name, value):
    facts = {key: fact for key, fact in state.facts.items() if key != name} | (
        {name: value} if value != "missing" else {}
    )
    if name in ("job", "machine") and value == {"x": [{}]}:  # for others to judge
        facts_of(facts)
        return
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        facts_of(facts)


def test_facts_as_json_gives_them_back(state):
    facts = json.loads(json.dumps(dict(state.facts)))
    assert json.loads(msgspec.json.encode(facts_of(facts))) == facts


@pytest.mark.parametrize("callbacks", [
    {}, {"early_stopping": {}}, {"early_stopping": {"best": 1.0, "waited": None}},
    {"early_stopping": {"best": None, "waited": 1, "more": 1}}, {"early_stopping": {"best": "x", "waited": 1}},
    {"early_stopping": {"best": 1.0, "waited": True}}, {"early_stopping": {"best": 1.0, "waited": [1]}},
], ids=str)  # fmt: skip
def test_callbacks_of_another_kind_are_refused(state, callbacks):
    with pytest.raises(CheckpointError, match=r"the state of early_stopping does not fit: the file holds"):
        unpack(with_facts(state, callbacks=callbacks), build(make_job(train=EARLY)))


def test_best_weights_of_another_model_are_told_at_once_not_at_the_end(state):
    tensors = dict(state.tensors)
    name = next(name for name in tensors if name.startswith("callbacks/early_stopping/"))
    for wrong in ({**tensors, name: np.zeros(99)}, {key: array for key, array in tensors.items() if key != name}):
        with pytest.raises(CheckpointError, match=r"are those of another model|has shape"):
            unpack(Checkpoint(wrong, state.facts), build(make_job(train=EARLY)))


def test_a_sharded_state_is_gathered_one_vector_at_a_time(monkeypatch):
    """No second copy of everything: while one is fetched, the one before can be freed."""
    job, sizes = make_job(train={"optimizer_sharding": True}, optimizer={"name": "adam"}), []

    def body(comm):
        training = build_training(job, Path(), comm)
        alive = []
        for lazy in pack(training, Path(), Progress(stats=training.replica.model.layout.zeros())).arrays.values():
            array = lazy.whole()
            if comm.rank == 0 and array.size == training.spec.network.layout.trainable_size:
                alive.append(weakref.ref(array))
            del array
        sizes.append([ref() for ref in alive])

    run_threads(3, body)
    assert [len(refs) for refs in sizes if refs] == [2]
    assert all(array is None for refs in sizes for array in refs)
