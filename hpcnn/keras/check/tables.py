"""Names that Keras 3 and TensorFlow 2 no longer have, and their replacements.

`keras.` also stands for `tensorflow.keras.`.
"""

from __future__ import annotations

RENAMED = {
    "keras.layers.advanced_activations": "keras.layers",
    "keras.layers.convolutional": "keras.layers",
    "keras.layers.core": "keras.layers",
    "keras.layers.CuDNNGRU": "keras.layers.GRU",
    "keras.layers.CuDNNLSTM": "keras.layers.LSTM",
    "keras.layers.embeddings": "keras.layers",
    "keras.layers.experimental.preprocessing": "keras.layers",
    "keras.layers.merge": "keras.layers",
    "keras.layers.noise": "keras.layers",
    "keras.layers.normalization": "keras.layers",
    "keras.layers.pooling": "keras.layers",
    "keras.layers.recurrent": "keras.layers",
    "keras.layers.wrappers": "keras.layers",
    "keras.experimental.CosineDecay": "keras.optimizers.schedules.CosineDecay",
    "keras.mixed_precision.experimental.Policy": "keras.mixed_precision.Policy",
    "keras.mixed_precision.experimental.set_policy": "keras.mixed_precision.set_global_policy",
    "keras.optimizers.experimental": "keras.optimizers",
    "keras.optimizers.legacy": "keras.optimizers",
    "keras.utils.data_utils": "keras.utils",
    "keras.utils.generic_utils": "keras.utils",
    "keras.utils.np_utils": "keras.utils",
    "keras.utils.vis_utils": "keras.utils",
    "tensorflow.log": "tensorflow.math.log",
    "tensorflow.logging": "tensorflow.compat.v1.logging",
    "tensorflow.random_normal": "tensorflow.random.normal",
    "tensorflow.random_uniform": "tensorflow.random.uniform",
    "tensorflow.set_random_seed": "tensorflow.random.set_seed",
}
"""The new names of objects. All names of a module move with it."""

PRIVATE = "tensorflow.python.keras"
"""Belongs to another Keras than `tensorflow.keras`."""

ONLY_IN_TENSORFLOW = (
    "keras.backend.",
    "keras.layers.ThresholdedReLU",
    "keras.losses.Reduction",
    "keras.preprocessing.image.DirectoryIterator",
    "keras.preprocessing.image.ImageDataGenerator",
    "keras.preprocessing.image.Iterator",
    "keras.preprocessing.image.NumpyArrayIterator",
    "keras.preprocessing.image.random_",
    "keras.preprocessing.sequence.TimeseriesGenerator",
    "keras.preprocessing.text",
)
"""Prefixes of names that `tensorflow.keras` still has, but `keras` does not."""

STILL_IN_BACKEND = {
    *("backend", "clear_session", "epsilon", "floatx", "get_uid", "image_data_format", "is_float_dtype"),
    *("is_int_dtype", "is_keras_tensor", "result_type", "set_epsilon", "set_floatx", "set_image_data_format"),
    "standardize_dtype",
}
"""The names that `keras.backend` still has."""

SESSION = {
    "keras.backend.get_session",
    "keras.backend.manual_variable_initialization",
    "keras.backend.set_learning_phase",
    "keras.backend.set_session",
    "tensorflow.enable_eager_execution",
    "tensorflow.compat.v1.enable_eager_execution",
}
"""Calls that can be removed: TensorFlow 2 has no sessions."""

CONFIGURATION = {"tensorflow.ConfigProto", "tensorflow.compat.v1.ConfigProto"}
"""The constructors of session settings."""

_GRAPH = (
    "this is code for the graphs of TensorFlow 1. Build a keras.Model, and train it by fit, or in a loop with "
    "tf.GradientTape"
)
GONE = {
    "keras.backend.learning_phase": "give the training argument of call() on instead",
    "keras.layers.LocallyConnected1D": "there is no such layer any more; Conv1D is the nearest",
    "keras.layers.LocallyConnected2D": "there is no such layer any more; Conv2D is the nearest",
    "keras.models.model_from_yaml": "save as JSON: keras.models.model_from_json",
    "keras.utils.multi_gpu_model": "start one rank a GPU",
    "keras.wrappers.scikit_learn": "the package scikeras has these wrappers",
    "tensorflow.contrib": _GRAPH,
    "tensorflow.estimator": _GRAPH,
    "tensorflow.get_variable": _GRAPH,
    "tensorflow.global_variables": _GRAPH,
    "tensorflow.global_variables_initializer": _GRAPH,
    "tensorflow.layers": _GRAPH,
    "tensorflow.placeholder": _GRAPH,
    "tensorflow.Session": _GRAPH,
    "tensorflow.train.AdamOptimizer": _GRAPH,
    "tensorflow.train.get_or_create_global_step": _GRAPH,
    "tensorflow.train.GradientDescentOptimizer": _GRAPH,
    "tensorflow.train.MomentumOptimizer": _GRAPH,
    "tensorflow.train.MonitoredTrainingSession": _GRAPH,
    "tensorflow.train.RMSPropOptimizer": _GRAPH,
    "tensorflow.train.StopAtStepHook": _GRAPH,
}
"""Names without a direct replacement, and what to do instead."""

METHODS = {"evaluate_generator": "evaluate", "fit_generator": "fit", "predict_generator": "predict"}
"""Methods of models, and those that replace them."""

_LOADING = dict.fromkeys(["max_queue_size", "use_multiprocessing", "workers"])
METHOD_KEYWORDS: dict[str, dict[str, str | None]] = {
    "apply_gradients": dict.fromkeys(["experimental_aggregate_gradients", "name"]),
    "compile": {
        **dict.fromkeys(["cloning", "distribute", "experimental_run_tf_function", "sample_weight_mode"]),
        "experimental_steps_per_execution": "steps_per_execution",
        "target_tensors": None,
    },
    "evaluate": _LOADING,
    "evaluate_generator": _LOADING,
    "fit": {**_LOADING, "nb_epoch": "epochs"},
    "fit_generator": {**_LOADING, "nb_epoch": "epochs"},
    "predict": _LOADING,
    "predict_generator": _LOADING,
}
"""Arguments of methods that were removed (None) or renamed."""

NAME_KEYWORDS: dict[str, dict[str, str | None]] = {
    "keras.callbacks.ModelCheckpoint": dict.fromkeys(["options", "period"]),
    "keras.callbacks.TensorBoard": dict.fromkeys(
        ["batch_size", "embeddings_data", "embeddings_layer_names", "write_grads"]
    ),
    "keras.layers.BatchNormalization": dict.fromkeys(["fused"]),
    "keras.layers.LSTM": dict.fromkeys(["time_major"]),
    "keras.optimizers.": {"lr": "learning_rate", "decay": None},
}
"""The same for functions and classes; a final dot stands for all of a module's."""

KEYWORD_NOTES = {
    "decay": "Keras 3 ignores decay; keras.optimizers.schedules.InverseTimeDecay as the learning rate does the same",
    "period": "save_freq counts batches, not epochs",
    "workers": "a keras.utils.PyDataset takes workers itself",
}
"""Notes on removed arguments."""
