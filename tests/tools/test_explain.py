"""Explanations: gradients against finite differences, attributions that add up, shuffles that hit what matters."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hpcnn import explain
from hpcnn.comm.serial import SerialCommunicator
from hpcnn.comm.threads import run_threads
from hpcnn.data.rows import ArrayRows
from hpcnn.errors import DataError, ModelError
from hpcnn.nn import Dense, Network
from hpcnn.nn.activations import ACTIVATIONS
from hpcnn.runs.inference import TrainedModel, open_trained
from hpcnn.storage.checkpoint import save_checkpoint
from hpcnn.tools.explain import gradients, outputs, pictures
from hpcnn.tools.explain.gradients import attribute, check_target
from hpcnn.tools.explain.inputs import ExplainedRows, chosen_inputs, chosen_samples
from hpcnn.tools.explain.permutation import ShuffledRows, permutation_importance
from tests.nn.cases import LAYERS
from tests.nn.helpers import Model, check_gradient, normal
from tests.require import require
from tests.small_jobs import make_job, train

ROWS, ALL = slice(0, 5), slice(None)


def gradient_of(model: Model) -> gradients.InputGradient:
    return gradients.InputGradient(model.network, model.network.layout.state_dict(model.vector))


# The sum of what instance normalisation returns does not depend on what it is given.
@pytest.mark.parametrize("name", [name for name in LAYERS if name != "group_norm_instance"])
def test_gradient_of_each_layer(name: str) -> None:
    layer, input_shape = LAYERS[name]
    model = Model([layer], input_shape).shake()
    check(gradient_of(model), normal(12, *input_shape))


@pytest.mark.parametrize("head", ACTIVATIONS)
def test_gradient_through_the_head_and_past_frozen_layers(head: str) -> None:
    layers = [Dense(5, trainable=False, activation="tanh", name="frozen"), Dense(4, name="out")]
    gradient = gradient_of(Model(layers, (3,), head).shake())
    x = normal(2, 3)
    check(gradient, x)
    scores, of_scores = gradient(x, 1, scores=True)
    np.testing.assert_allclose(scores, gradient_of(Model(layers, (3,)).shake())(x, 1)[0])
    assert head == "linear" or not np.allclose(of_scores, gradient(x, 1)[1])


def check(gradient: gradients.InputGradient, x: np.ndarray) -> None:
    target = gradient(x, 0)[0].shape[-1] - 1
    check_gradient(lambda x: gradient(x, target)[0][..., target].sum(), [x], [gradient(x, target)[1]])


def smooth_model() -> Model:
    return Model([Dense(6, activation="tanh", name="a"), Dense(3, name="b")], (4,), "softmax").shake()


def test_integrated_gradients_add_up() -> None:
    gradient, x = gradient_of(smooth_model()), normal(4)
    gaps = [abs(gradients.integrated_gradients(gradient, x, 1, steps).gap) for steps in (4, 16, 64)]
    assert gaps[2] < gaps[1] / 8  # the error of the midpoint rule falls with the square of the steps
    assert gaps[2] < 1e-3
    found = gradients.integrated_gradients(gradient, x, 1, 64)
    assert found.output == pytest.approx(gradient(x[None], 1)[0][0, 1], abs=1e-12)
    assert found.baseline_output == pytest.approx(gradient(np.zeros((1, 4)), 1)[0][0, 1], abs=1e-12)
    assert found.gap == pytest.approx(found.output - found.baseline_output - found.values.sum())


def test_of_a_linear_model_everything_is_known() -> None:
    model = Model([Dense(2, name="a")], (4,)).shake()
    kernel, x = model.params["a/kernel"], normal(4)
    found = gradients.integrated_gradients(gradient_of(model), x, 1, 3)
    np.testing.assert_allclose(found.values, x * kernel[:, 1], rtol=1e-12)
    assert abs(found.gap) < 1e-12
    plain = gradients.saliency(gradient_of(model), x, 0)
    np.testing.assert_allclose(plain.values, np.abs(kernel[:, 0]))
    assert np.isnan(plain.baseline_output)


def test_saliency_does_not_vanish_where_the_model_is_sure() -> None:
    model = Model([Dense(2, name="a")], (2,), "softmax")
    model.params["a/kernel"][...] = [[200.0, 0.0], [100.0, 0.0]]
    np.testing.assert_allclose(gradients.saliency(gradient_of(model), np.array([5.0, 5.0]), 0).values, [200, 100])


@pytest.mark.parametrize("target", [None, 2])
def test_attributions_are_the_same_bits_on_any_number_of_ranks(target: int | None) -> None:
    x = normal(5, 4)

    def body(comm) -> list[gradients.Attribution]:
        gradient = gradient_of(smooth_model())
        explanation = lambda sample, place: gradients.integrated_gradients(gradient, sample, place, 8)  # noqa: E731
        return attribute(comm, gradient, x, target, explanation)

    alone = body(SerialCommunicator())
    assert [each.target for each in alone] == (
        [2] * 5 if target else gradient_of(smooth_model())(x, 0)[0].argmax(1).tolist()
    )
    for ranks in (2, 7):
        together, *others = run_threads(ranks, body)
        assert others == [[]] * (ranks - 1)
        for one, other in zip(alone, together, strict=True):
            assert one.values.tobytes() == other.values.tobytes()
            assert (one.target, one.output, one.baseline_output) == (other.target, other.output, other.baseline_output)


# ------------------------------------------------------------------------------------------------------ trained models


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of a trained model with five inputs, scaled, and the metric accuracy."""
    file = tmp_path_factory.mktemp("trained") / "last.safetensors"
    save_checkpoint(file, train(make_job(data={"samples": 90})).state)
    return file


@pytest.fixture
def trained(path: Path) -> TrainedModel:
    return open_trained(path)


def test_own_data_and_a_file(trained: TrainedModel, tmp_path: Path) -> None:
    comm = SerialCommunicator()
    chosen, x = chosen_inputs(trained, comm, None, slice(2, 4))
    assert (chosen.what, chosen.numbers.tolist(), chosen.shape) == ("validation data", [2, 3], (5,))
    assert x.shape == (2, 5)
    raw = normal(6, 5)
    np.save(tmp_path / "x.npy", raw)
    chosen, x = chosen_inputs(trained, comm, str(tmp_path / "x.npy"), slice(4, None))
    assert trained.scaling is not None
    np.testing.assert_allclose(x, (raw[4:] - trained.scaling.shift) * trained.scaling.scale, rtol=1e-6, atol=1e-6)
    assert chosen.numbers.tolist() == [4, 5]
    with pytest.raises(DataError, match=r"--rows 6:9 takes no row: .*x.npy has only rows 0 to 5"):
        chosen_inputs(trained, comm, str(tmp_path / "x.npy"), slice(6, 9))
    with pytest.raises(DataError, match=r"--rows 7: takes no row"):
        chosen_inputs(trained, comm, str(tmp_path / "x.npy"), slice(7, None))
    np.savez(tmp_path / "xy.npz", x=raw, y=np.array([0, 1, 2, 0, 1, 2]))
    chosen, samples = chosen_samples(trained, comm, str(tmp_path / "xy.npz"), slice(1, 5))
    assert (len(samples), chosen.numbers.tolist()) == (4, [1, 2, 3, 4])
    np.save(tmp_path / "wide.npy", normal(6, 7))
    with pytest.raises(DataError, match=r"\(7,\)"):
        chosen_inputs(trained, comm, str(tmp_path / "wide.npy"), ROWS)


def test_a_shuffled_column() -> None:
    rows = np.arange(24.0).reshape(4, 2, 3)
    shuffled = ShuffledRows(ArrayRows(rows), 4, np.array([3, 2, 1, 0]))
    out = np.empty((2, 2, 3), np.float32)
    shuffled.take(np.array([0, 2]), out)
    expected = rows[[0, 2]].copy()
    expected[:, 1, 1] = rows[[3, 1], 1, 1]
    np.testing.assert_array_equal(out, expected)


def test_importance_finds_what_the_model_uses(tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"  # with samples enough that chance does not decide which input matters
    save_checkpoint(path, train(make_job(data={"samples": 400}, train={"seed": 7})).state)

    def body(comm):
        trained = open_trained(path)
        params = trained.model.params
        params["layer_norm_1/gamma"][3] = params["layer_norm_1/beta"][3] = 0  # this input speaks by the norm alone
        samples = chosen_samples(trained, comm, None, ALL)[1]
        return permutation_importance(trained, comm, samples, 3)

    alone = body(SerialCommunicator())
    assert (alone.score, alone.worse.shape) == ("accuracy", (5, 3))
    assert alone.mean.max() > 0.05
    assert np.abs(alone.mean[3]) < alone.mean.max() / 2
    np.testing.assert_allclose(alone.spread, alone.worse.std(axis=1, ddof=1))
    for together in run_threads(3, body):
        assert together.worse.tobytes() == alone.worse.tobytes()


def linear_model(weights: list[float], metrics: list[str]):
    """Return a stand-in for a trained model y = x . weights, and samples that it fits exactly."""
    job = make_job(
        data={"source": "synthetic", "kind": "linear", "samples": 40, "features": 3},
        model={"layers": [{"type": "dense", "units": 1, "use_bias": False}]},
        loss={"name": "mse"},
        train={"metrics": metrics, "shards": 1},
    )
    from hpcnn.data.samples import Samples
    from hpcnn.runs.build import build_spec

    parts = build_spec(job, (3,))
    model = parts.make_model(job.train.dtype)
    model.load_weights({"dense_1/kernel": np.array(weights)[:, None]})
    x = normal(40, 3, dtype=np.float32)
    samples = Samples(ArrayRows(x), ArrayRows(x @ np.array(weights, np.float32)[:, None]))
    return SimpleNamespace(job=job, spec=parts, model=model), samples


@pytest.mark.parametrize(("metrics", "score"), [([], "loss"), (["mae", "r2"], "mae"), (["r2"], "r2")])
def test_importance_by_any_score(metrics: list[str], score: str) -> None:
    trained, samples = linear_model([3.0, 0.0, 1.0], metrics)
    found = permutation_importance(trained, SerialCommunicator(), samples, 4)
    assert found.score == score
    assert found.mean[0] > found.mean[2] > 0  # whichever way the score goes
    assert (found.worse[1] == 0).all()
    assert outputs.ranked(found) == [0, 2, 1]


def test_one_sample_can_not_be_shuffled(trained: TrainedModel) -> None:
    samples = chosen_samples(trained, SerialCommunicator(), None, slice(0, 1))[1]
    with pytest.raises(DataError, match="needs 2 samples at least, but there is 1"):
        permutation_importance(trained, SerialCommunicator(), samples, 2)


def test_refusals(trained: TrainedModel) -> None:
    assert gradients.input_gradient(trained)
    with pytest.raises(DataError, match=r"--target 3: the model's outputs are 0 to 2"):
        check_target(3, 3)
    check_target(2, 3)
    check_target(None, 3)
    many = SimpleNamespace(spec=SimpleNamespace(network=Network([Dense(2, name="a")], (4, 3))))
    with pytest.raises(ModelError, match=r"outputs have shape \(4, 2\) a sample. Use --method permutation"):
        gradients.input_gradient(many)  # type: ignore[arg-type]
    keras = SimpleNamespace(network=SimpleNamespace(outputs=(), output_shape=(3,)))
    texts = {
        "m:f": "Keras computes what the function 'm:f' builds.*--backend numpy; else use --method permutation",
        "": "Keras computes the model. Leave out --backend, or use --method permutation",
    }
    for entry, text in texts.items():
        stand_in = SimpleNamespace(
            spec=keras, model=None, job=SimpleNamespace(backend="keras", model=SimpleNamespace(entry=entry))
        )
        with pytest.raises(ModelError, match=text):
            gradients.input_gradient(stand_in)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------- outputs


def found_for(
    shape: tuple[int, ...], count: int = 3, *, signed: bool = True
) -> tuple[ExplainedRows, list[gradients.Attribution]]:
    values = [normal(*shape, seed=place) for place in range(count)]
    found = [gradients.Attribution(1, 0.5 + each.sum(), 0.5 if signed else float("nan"), each) for each in values]
    return ExplainedRows("made up", np.arange(10, 10 + count), shape, None), found


def test_csv(capsys: pytest.CaptureFixture[str]) -> None:
    chosen, found = found_for((2, 2))
    rows = list(csv.DictReader(io.StringIO(outputs.attributions_csv(chosen, found))))
    assert [row["row"] for row in rows] == ["10", "11", "12"]
    for row, each in zip(rows, found, strict=True):
        assert [float(row[name]) for name in ("x0_0", "x0_1", "x1_0", "x1_1")] == each.values.reshape(-1).tolist()
        assert float(row["output"]) - float(row["output_at_baseline"]) == pytest.approx(each.values.sum())
    outputs.show_attributions("title", chosen, found, "zeros")
    said = capsys.readouterr().out
    assert "baseline: zeros" in said
    assert "warning" not in said
    wrong = [gradients.Attribution(1, 5.0, 0.5, np.zeros((2, 2)))]
    outputs.show_attributions("title", found_for((2, 2), 1)[0], wrong, "zeros")
    assert "warning: 1 of 1 gaps are above 5% of the rise: give more --steps" in capsys.readouterr().out
    plain = outputs.attributions_csv(*found_for((3,), signed=False))
    assert plain.splitlines()[0] == "row,target,output,output_at_baseline,x0,x1,x2"
    assert plain.splitlines()[1].split(",")[3] == ""


def test_importance_csv(capsys: pytest.CaptureFixture[str]) -> None:
    trained, samples = linear_model([3.0, 0.0, 1.0], [])
    importance = permutation_importance(trained, SerialCommunicator(), samples, 2)
    chosen = ExplainedRows("made up", np.arange(40), (3,), ("age", "height, in m", "income"))
    rows = list(csv.DictReader(io.StringIO(outputs.importance_csv(chosen, importance))))
    assert [row["feature"] for row in rows] == ["age", "height, in m", "income"]
    assert float(rows[0]["loss_worse_by"]) == importance.mean[0]
    outputs.show_importance("title", chosen, importance)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines[2:5]] == ["age", "income", "height,"]


@pytest.mark.parametrize(
    ("shape", "given", "drawn"),
    [((28, 28), None, (28, 28)), ((32, 32, 3), None, (32, 32, 3)), ((1, 8), None, None), ((5,), None, None),
     ((2, 3, 4, 5), None, None), ((4, 5, 7), None, None), ((12,), (2, 2, 3), (2, 2, 3))],
)  # fmt: skip
def test_what_is_drawn_as_an_image(shape, given, drawn) -> None:
    assert pictures.image_shape(shape, given) == drawn


def test_hints_about_images() -> None:
    with pytest.raises(DataError, match=r"--shape 8x9 has 72 numbers, but a sample has 64"):
        pictures.image_shape((64,), (8, 9))
    assert pictures.shape_hint((64,)) == "if these are images, draw them as such by --shape 8x8"
    assert pictures.shape_hint((8, 8)) == pictures.shape_hint((65,)) == pictures.shape_hint((9,)) == ""


def test_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = require("matplotlib.image")
    monkeypatch.setattr(pictures, "ACROSS", 2)  # so that three samples take two blocks
    trained, samples = linear_model([3.0, 0.0, 1.0], [])
    importance = permutation_importance(trained, SerialCommunicator(), samples, 2)
    # No mathematics, whatever it looks like.
    table = ExplainedRows("made up", np.arange(40), (3,), ("a$^$b", r"$\foo$", "c"))
    chosen, found = found_for((4, 4, 3))
    x = np.stack([each.values for each in found])
    pictures.draw_images("title", chosen, x, found, (4, 4, 3), tmp_path / "colour.png")
    chosen, found = found_for((4, 4), 1, signed=False)
    pictures.draw_images("title", chosen, x[:1, :, :, 0], found, (4, 4), tmp_path / "grey.png")
    pictures.draw_bars("title", *found_for((6,)), tmp_path / "bars.png")
    pictures.draw_importance(r"$\bar$", table, importance, None, tmp_path / "importance.png")
    pictures.draw_importance("title", table, importance, (1, 3), tmp_path / "map.png")
    for name in ("colour", "grey", "bars", "importance", "map"):
        pixels = image.imread(tmp_path / f"{name}.png")
        assert pixels.std() > 0.05, name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "1-2"], "'1-2' is not a range of rows. Give it as 0:8"),
        (["--target", "x"], "'x' is not the number of an output"),
        (["--steps", "0"], "'0' must be an integer from 1 to"),
        (["--shape", "8"], "'8' is not an image shape. Give it as 8x8"),
        (["--method", "saliency", "--steps", "5"], "--steps has no effect with --method saliency"),
        (["--method", "permutation", "--target", "5"], "--target has no effect with --method permutation"),
        (["--repeats", "5"], "--repeats has no effect with --method integrated-gradients"),
        (["--method", "magic"], "invalid choice: 'magic'"),
        (["--rows", "0:2", "x.npy", "y.npy"], "unrecognized arguments: y.npy"),
    ],
)
def test_bad_arguments(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as left:
        explain.main(["run", *arguments])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1
