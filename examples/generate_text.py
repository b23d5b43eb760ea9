"""Continue a text, character by character, with a decoder that was trained on source ``text``.

Train one by ``mpirun -n 4 python -m hpcnn.train jobs/text_transformer.toml``, then run
``python examples/generate_text.py runs/text_transformer "A gradient "``.
"""

from __future__ import annotations

import sys

import numpy as np

import hpcnn

LENGTH = 200
"""Characters to write."""


def main(run: str, text: str) -> None:
    """Print `text`, which must not be empty, and what the model of a run makes of it."""
    fitted = hpcnn.load(run)
    trained = fitted.trained
    (window,) = trained.spec.network.input_shape
    characters = trained.data.vocabulary or [chr(byte) for byte in range(256)]  # with data.units = "byte"
    ids = [characters.index(character) for character in text]
    rng = np.random.default_rng(0)
    for _ in range(LENGTH):
        seen = ids[-window:]
        row = np.zeros((1, window))
        row[0, : len(seen)] = seen  # what comes after a position does not change its output: attention is causal
        probabilities = fitted.predict(row)[0, len(seen) - 1].astype(float)
        ids.append(int(rng.choice(len(probabilities), p=probabilities / probabilities.sum())))
    print("".join(characters[i] for i in ids))


if __name__ == "__main__":
    main(*sys.argv[1:])
