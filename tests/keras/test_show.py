"""`hpcnn show` of jobs for Keras: layers of the job as ever, a model that only Keras knows refused."""

from __future__ import annotations

from pathlib import Path

from tests.mpi.launch import ROOT, Mpi

JOB = ROOT / "jobs" / "digits_mlp.toml"


def test_a_model_of_keras_is_refused(tensorflow_environment: Mpi, tmp_path: Path) -> None:
    (tmp_path / "keras_shown.py").write_text(
        "import keras\n\n\ndef build(input_shape):\n    return keras.Sequential([keras.Input(input_shape), "
        "keras.layers.Flatten(), keras.layers.Dense(10, activation='softmax')])\n"
    )
    job = ("--set", "backend=keras", "--set", "model.layers=[]", "--set", "model.entry=keras_shown:build")
    done = tensorflow_environment.run(0, "-m", "hpcnn.show", JOB, *job, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert (
        "hpcnn: error: model.entry 'keras_shown:build' returns a model of Keras, which hpcnn show can't look into. "
        "Print it by its own means, or give the network as layers of the job.\n"
    ) in done.stderr
