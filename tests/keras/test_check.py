"""`hpcnn keras-check`: what it finds in scripts for Horovod, what it lets pass, and what it refuses."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from hpcnn.keras.check.edits import rewritten
from hpcnn.keras.check.script import check
from hpcnn.keras_check import main

TF = "import tensorflow as tf\n"
K = "import keras\n"
HVD = "import hpcnn.keras as hvd\n"


def mended(source: str) -> str:
    """Return a script after its changes, which must be Python and need no more of them."""
    new = rewritten(source, check(source, "script"))
    ast.parse(new)
    assert [change for change in check(new, "mended") if change.new is not None] == []
    return new


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import horovod.keras as hvd", "import hpcnn.keras as hvd"),
        ("import horovod.tensorflow as hvd", "import hpcnn.keras as hvd"),
        ("import horovod.tensorflow.keras as hvd", "import hpcnn.keras as hvd"),
        ("import os, horovod.keras as hvd", "import os\nimport hpcnn.keras as hvd"),
        ("import horovod.keras\nhorovod.keras.init()", "import hpcnn.keras\nhpcnn.keras.init()"),
        ("from horovod import keras as hvd", "from hpcnn import keras as hvd"),
        ("from horovod.tensorflow import keras as hvd\nhvd.rank()", "from hpcnn import keras as hvd\nhvd.rank()"),
        ("from horovod.tensorflow import rank, size as n", "from hpcnn.keras import rank, size as n"),
        ("from horovod.tensorflow.mpi_ops import allreduce", "from hpcnn.keras import allreduce"),
        ("from horovod.keras.callbacks import MetricAverageCallback as M",
         "from hpcnn.keras.callbacks import MetricAverageCallback as M"),
        ("def f():\n    import horovod\n    return 1", "def f():\n    return 1"),
        ("def f():\n    import horovod.keras as h\n    h.init()",
         "def f():\n    import hpcnn.keras as h\n    h.init()"),
    ],
)  # fmt: skip
def test_imports_of_horovod(old: str, new: str) -> None:
    assert mended(old) == new


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (K + "keras.layers.convolutional.Conv2D(3)", K + "keras.layers.Conv2D(3)"),
        (TF + "tf.keras.layers.experimental.preprocessing.Rescaling(1)", TF + "tf.keras.layers.Rescaling(1)"),
        (TF + "tf.keras.optimizers.legacy.SGD(lr=1)", TF + "tf.keras.optimizers.SGD(learning_rate=1)"),
        (TF + "tf.optimizers.SGD(lr=1, momentum=0.9)", TF + "tf.optimizers.SGD(learning_rate=1, momentum=0.9)"),
        ("from keras.layers.core import Dense, Dropout\nDense(1)", "from keras.layers import Dense, Dropout\nDense(1)"),
        ("from keras.utils import np_utils\nnp_utils.to_categorical(y)",
         "from keras import utils as np_utils\nnp_utils.to_categorical(y)"),
        ("from keras.preprocessing.image import ImageDataGenerator, load_img",
         "from tensorflow.keras.preprocessing.image import ImageDataGenerator\n"
         "from keras.preprocessing.image import load_img"),
        ("from keras import backend as K\nK.get_value(x)", "from tensorflow.keras import backend as K\nK.get_value(x)"),
        ("import keras.backend as K\nK.mean(x)", "import tensorflow.keras.backend as K\nK.mean(x)"),
        (K + "keras.preprocessing.image.ImageDataGenerator()",
         "from tensorflow import keras\nkeras.preprocessing.image.ImageDataGenerator()"),
        ("from tensorflow.python.keras import backend as K\nK.clear_session()",
         "from tensorflow.keras import backend as K\nK.clear_session()"),
        (TF + "tf.set_random_seed(1)", TF + "tf.random.set_seed(1)"),
        (TF + "tf.enable_eager_execution()\nx = 1", TF + "x = 1"),
        (TF + "if x:\n    tf.enable_eager_execution()", TF + "if x:\n    pass"),
    ],
)  # fmt: skip
def test_names_that_moved(old: str, new: str) -> None:
    assert mended(old) == new


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("m.compile('sgd', experimental_run_tf_function=False)", "m.compile('sgd')"),
        ("m.compile(experimental_run_tf_function=False, optimizer=o)", "m.compile(optimizer=o)"),
        ("m.compile(experimental_run_tf_function=False)", "m.compile()"),
        ("m.compile(a,  # first\n    b,\n    experimental_run_tf_function=False)", "m.compile(a,  # first\n    b)"),
        ("m.fit(x, workers=4, epochs=2, max_queue_size=1, use_multiprocessing=True)", "m.fit(x, epochs=2)"),
        ("m.fit_generator(g, 5, nb_epoch=3)", "m.fit(g, 5, epochs=3)"),
        ("s = f(m.evaluate_generator(g, workers=len(d['a'])), 'ä')", "s = f(m.evaluate(g), 'ä')"),
        ("print('ä', m.predict_generator(g))", "print('ä', m.predict(g))"),
        ("o.apply_gradients(zip(g, v), experimental_aggregate_gradients=False)", "o.apply_gradients(zip(g, v))"),
        ("m.compile(o, metrics=['acc'])", 'm.compile(o, metrics=["accuracy"])'),
        ("model.optimizer.lr.assign(1)", "model.optimizer.learning_rate.assign(1)"),
    ],
)
def test_calls_that_changed(old: str, new: str) -> None:
    assert mended(old) == new


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (K + "keras.callbacks.ModelCheckpoint('./c-{epoch}.h5')",
         K + "keras.callbacks.ModelCheckpoint('./c-{epoch}.keras')"),
        (K + "keras.callbacks.ModelCheckpoint(filepath='c.h5', save_weights_only=True)",
         K + "keras.callbacks.ModelCheckpoint(filepath='c.weights.h5', save_weights_only=True)"),
        ("m.save(f'{folder}/ä-{n}.hdf5')", "m.save(f'{folder}/ä-{n}.keras')"),
        ("path = os.path.join(d, 'm.h5')\nm.save(path)", "path = os.path.join(d, 'm.keras')\nm.save(path)"),
        ("p.add_argument('--check-to', default='c.h5')\nm.save(args.check_to.format(epoch=1))",
         "p.add_argument('--check-to', default='c.keras')\nm.save(args.check_to.format(epoch=1))"),
        (HVD + "m.save('m.h5')\nhvd.load_model('m.h5')", HVD + "m.save('m.keras')\nhvd.load_model('m.keras')"),
        (K + "keras.callbacks.ModelCheckpoint('c-{epoch}.h5')\nkeras.models.load_model(f'c-{n}.h5')",
         K + "keras.callbacks.ModelCheckpoint('c-{epoch}.keras')\nkeras.models.load_model(f'c-{n}.keras')"),
        (K + "m = keras.models.load_model('theirs.h5')\nkeras.models.save_model(m, 'm.h5')",
         K + "m = keras.models.load_model('theirs.h5')\nkeras.models.save_model(m, 'm.keras')"),
        ("m.save_weights('w.h5')\nm.load_weights('w.h5')",
         "m.save_weights('w.weights.h5')\nm.load_weights('w.weights.h5')"),
        ("m.save_weights('w.h5')", "m.save_weights('w.weights.h5')"),
    ],
)  # fmt: skip
def test_files_of_models(old: str, new: str) -> None:
    assert mended(old) == new


def test_sessions() -> None:
    old = """import horovod.keras as hvd
import tensorflow as t
from keras import backend as K
config = t.ConfigProto()
config.gpu_options.allow_growth = True
if True:
    config.gpu_options.visible_device_list = str(hvd.local_rank())
config.intra_op_parallelism_threads = 2
config.log_device_placement = True
K.set_session(t.Session(config=config))
"""
    assert (
        mended(old)
        == """import hpcnn.keras as hvd
import tensorflow as t
from keras import backend as K
gpus = t.config.list_physical_devices("GPU")
for gpu in gpus:
    t.config.experimental.set_memory_growth(gpu, True)
if True:
    if gpus:
        t.config.set_visible_devices(gpus[hvd.local_rank()], "GPU")
t.config.threading.set_intra_op_parallelism_threads(2)
"""
    )


@pytest.mark.parametrize(
    "source",
    [
        HVD + TF + "hvd.init()\nhvd.callbacks.MetricAverageCallback()\ntf.keras.optimizers.Adam(learning_rate=1)",
        "import re\nre.compile('a')\nimage.save('x.png')\nh5py.File('data.h5')\ncheckpoint.save(folder)",
        K + "from keras import backend as K\nK.image_data_format()\nm.save('m.keras')\nm.save_weights('m.weights.h5')",
        "import numpy as np, torch\nnp.save('data.h5', x)\ntorch.save(t, f)\ntorch.save('data.h5')",
        "from mine import load_model, ModelCheckpoint\nload_model('m.h5')\nModelCheckpoint('m.h5')\nm.save('m.keras')",
        "def save(path): ...\nsave('data.h5')",
        K + "keras.models.load_model('theirs.h5')\nm.load_weights('theirs.h5')",
        HVD + "hvd.load_model('m.h5')",
        "opt.variables()\nmodel.fit(x, epochs=2)\nfrom . import horovod_like\nfrom .horovod import keras",
        "x = 'ä\\n'\n\f\nargs.lr = self.lr\n",
        "",
    ],
)
def test_what_may_stay(source: str) -> None:
    assert check(source, "script") == []


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import horovod.keras as hvd\nhvd.elastic.run(f)", "hpcnn.keras has no 'elastic'. Save checkpoints"),
        ("import horovod\nhorovod.run(f, np=2)", "hpcnn.keras has no 'run'. Start the script by mpirun"),
        ("import horovod.torch as hvd\nhvd.init()", "hpcnn.keras has no 'torch'. Scripts for PyTorch use hpcnn.torch"),
        ("from horovod.tensorflow.data.compute_service import X", "has no 'data'. Give each rank its own part"),
        ("import horovod.keras as hvd\nhvd.callbacks.Warmup()", "hpcnn.keras.callbacks has no 'Warmup'"),
        (TF + "with tf.Session() as s: pass", "code for the graphs of TensorFlow 1"),
        (K + "keras.optimizers.SGD(1, decay=0.1)", "InverseTimeDecay"),
    ],
)
def test_what_a_person_decides(source: str, why: str) -> None:
    assert why in " ".join(reason for change in check(source, "script") for reason in change.why)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("old.py").write_text("import horovod\nimport horovod.keras as hvd\nhvd.init()\nhvd.elastic.run(f)\n")
    assert main(["old.py"]) == 1
    assert capsys.readouterr().out == (
        "old.py:1: import horovod\n"
        "    delete\n"
        "old.py:2: import horovod.keras as hvd\n"
        "    change to: import hpcnn.keras as hvd\n"
        "old.py:4: hvd.elastic.run(f)\n"
        "    decide: hpcnn.keras has no 'elastic'. Save checkpoints and start the job again; hpcnn's own jobs continue "
        "without lost ranks (run.on_rank_loss = 'continue').\n"
    )
    assert main(["--diff", "old.py"]) == 1
    said = capsys.readouterr()
    assert said.out == (
        "--- old.py\n+++ old.py\n@@ -1,4 +1,3 @@\n-import horovod\n-import horovod.keras as hvd\n"
        "+import hpcnn.keras as hvd\n hvd.init()\n hvd.elastic.run(f)\n"
    )
    assert said.err.startswith("old.py:4: hvd.elastic.run(f): hpcnn.keras has no 'elastic'.")
    Path("new.py").write_text(HVD)
    assert main(["new.py"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.py", None, "can't read 'none.py' (No such file or directory)"),
        ("x.py", b"def f(:\n", "'x.py' is no Python (line 1: invalid syntax): give a script that Python 3 reads"),
        ("x.py", b"a = 1\0", "'x.py' is no Python ("),
        ("x.py", b"# \xff\xfe\n", "'x.py' is no text: give a Python script"),
        ("x.ipynb", b"{}", "'x.ipynb' is a notebook: make a script of it first"),
        ("x.py", b"x = " + b"-" * 100_000 + b"1\n", "'x.py' is no Python ("),
        ("x.py", b"x = " + b"1 + " * 20_000 + b"1\n", "'x.py' is no Python ("),
    ],
)
def test_what_is_refused(
    name: str,
    content: bytes | None,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(name).write_bytes(content)
    assert main([name]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"hpcnn: error: {message}")
