"""What the compiled module refuses as arguments of attention and embeddings, and that it computes on views."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hpcnn.kernels import core

HEADS = np.zeros((2, 5, 4, 3), np.float32)
KEYS = np.zeros((2, 6, 2, 3), np.float32)
VALUES = np.zeros((2, 6, 2, 7), np.float32)
OUT = np.zeros((2, 5, 4, 7), np.float32)
MASK, SAVED = np.zeros((2, 6), np.float32), np.zeros((2, 4, 5, 2))
FORWARD: dict[str, Any] = {
    "q": HEADS, "k": KEYS, "v": VALUES, "mask": MASK, "out": OUT, "saved": SAVED, "causal": True, "scale": 0.5,
}  # fmt: skip
BACKWARD: dict[str, Any] = {
    "q": HEADS, "k": KEYS, "v": VALUES, "mask": MASK, "saved": SAVED, "dout": OUT,
    "dq": HEADS, "dk": KEYS, "dv": VALUES, "causal": True, "scale": 0.5,
}  # fmt: skip
WRONG = {
    "queries": ({"q": HEADS[0]}, r"q must be \(samples, rows, heads, dim\), the last axis contiguous"),
    "gaps": ({"k": np.zeros((2, 6, 2, 6), np.float32)[..., ::2]}, "k must be .* the last axis contiguous"),
    "type": ({"v": VALUES.astype(float)}, "v must be float32, as the others are"),
    "samples": ({"k": KEYS[:1]}, "q must be .* k .* and v"),
    "keys": ({"v": VALUES[:, :5]}, "q must be .* k .* and v"),
    "dim": ({"q": HEADS[..., :2]}, "q must be .* k .* and v"),
    "heads": ({"q": HEADS[:, :, :3]}, "the heads of q must be a multiple of those of k"),
    "no_heads": ({"k": KEYS[:, :, :0], "v": VALUES[:, :, :0]}, "the heads of q must be a multiple of those of k"),
    "mask": ({"mask": MASK[:, :5].copy()}, "mask has 10 entries, but needs 12"),
    "saved": ({"saved": SAVED[:, :, :4].copy()}, "saved has 64 entries, but needs 80"),
    "saved_type": ({"saved": SAVED.astype(np.float32)}, "saved must hold floats of 64 bits"),
    "causal": ({"causal": 2}, "causal is 2, but must be 0 to 1"),
    "scale": ({"scale": 0.0}, "scale must be above 0, and finite"),
    "nan": ({"scale": np.nan}, "scale must be above 0, and finite"),
}
WRONG_OUT = {
    "forward": (core.attention, FORWARD, {"out": OUT[:, :4]}, r"out must be \(samples, queries, heads, value dim\)"),
    "dout": (core.attention_backward, BACKWARD, {"dout": OUT[..., :6]}, r"dout must be \(samples, queries, heads"),
    "dq": (
        core.attention_backward,
        BACKWARD,
        {"dq": HEADS[:, :4]},
        "dq must have the shape of what it is the gradient",
    ),
    "dk": (core.attention_backward, BACKWARD, {"dk": VALUES}, "dk must have the shape of what it is the gradient"),
    "dv": (core.attention_backward, BACKWARD, {"dv": KEYS}, "dv must have the shape of what it is the gradient"),
}


@pytest.mark.parametrize("case", WRONG)
def test_attention_refuses(case: str) -> None:
    changed, message = WRONG[case]
    for run, right in ((core.attention, FORWARD), (core.attention_backward, BACKWARD)):
        with pytest.raises(ValueError, match=message):
            run(*(right | changed).values())


@pytest.mark.parametrize("case", WRONG_OUT)
def test_attention_refuses_outputs(case: str) -> None:
    run, right, changed, message = WRONG_OUT[case]
    with pytest.raises(ValueError, match=message):
        run(*(right | changed).values())


@pytest.mark.parametrize("empty", ["samples", "queries", "keys"])
def test_nothing_to_attend(empty: str) -> None:
    n, queries, keys = (0 if empty == name else 2 for name in ("samples", "queries", "keys"))
    q, k = np.ones((n, queries, 4, 3)), np.ones((n, keys, 2, 3))
    out, saved, dq, dk = np.full_like(q, 9), np.empty((n, 4, queries, 2)), np.full_like(q, 9), np.full_like(k, 9)
    dv = np.full_like(k, 9)
    core.attention(q, k, k, None, out, saved, False, 1.0)
    core.attention_backward(q, k, k, None, saved, out, dq, dk, dv, False, 1.0)
    for array in (out, dq, dk, dv):
        assert not array.any()


def test_embedding_refuses() -> None:
    ids, table, y = np.zeros(4, np.float32), np.zeros((5, 3), np.float32), np.zeros((4, 3), np.float32)
    for arguments, message in (
        ((ids.astype(int), table, y), "ids must hold floats of 32 bits"),
        ((ids, table.astype(float), y), "table must hold floats of 32 bits"),
        ((ids, table.reshape(-1), y), r"the table must be \(entries, columns\)"),
        ((ids[:3], table, y), "y has 12 entries, but needs 9"),
    ):
        with pytest.raises(ValueError, match=message):
            core.embedding(*arguments)
    shards = core.Shards([0, 1], [0, 4], [0])
    for gradient, message in (
        ((shards, ids[:3], y, (table,)), "ids has 3 entries, but needs 4"),
        ((shards, ids, y[:3], (table,)), "dy has 9 entries, but needs 12"),
        ((shards, ids, y, (table, table)), "outs must be a tuple of 1 arrays"),
        ((shards, ids, y, ()), "outs must be a tuple of arrays"),
        ((shards, ids, y, (table.reshape(-1),)), r"outs must be \(entries, columns\)"),
    ):
        with pytest.raises(ValueError, match=message):
            core.embedding_gradient(*gradient)
    for other, message in (((y, table, y), "table has 15 entries, but needs 3"), ((y, table[0], y[:3]), "x has 12")):
        with pytest.raises(ValueError, match=message):
            core.add_table(*other)
    with pytest.raises(ValueError, match="y must have one axis at least"):
        core.add_table(np.zeros(()), np.zeros(()), np.zeros(()))
    with pytest.raises(ValueError, match="x has 9 entries, but needs 12"):
        core.not_zero(y[:3], y)
