"""The error function, which NumPy lacks: one rational function, the same operations for every element."""

from __future__ import annotations

import numpy as np

from hpcnn.nn.workspace import Array

BLOCK = 4096
"""Elements done at a time: the work arrays stay in the first-level cache."""

# (limit, P, Q): erf(x) = x P(x^2) / Q(x^2) for |x| <= limit, and +-1 beyond, where it rounds to that. The coefficients
# are a minimax fit of erf(x) / x in the relative error, by Lawson's weights on a linearised least-squares problem, in
# 60 digits: error 3e-17 to 5.92 with degrees (12, 12), 1.9e-8 to 3.92 with (5, 5). All coefficients are positive, so
# that no digit cancels.
_DOUBLE = (
    5.98,
    (
        1.1283791670955126, 0.22006855549379578, 0.0661034379154435, 0.006883949700155888, 0.0008551635721330873,
        5.688147235302469e-05, 3.897160637486431e-06, 1.6926997545179697e-07, 6.754243788666615e-09,
        1.718104608789979e-10, 3.3380744898529584e-12, 2.2318618092768735e-14, 1.5769016609517148e-17,
    ),
    (
        1.0, 0.5283640126574272, 0.13470398409816928, 0.021975192154073248, 0.0025630005351410987,
        0.00022590797381978313, 1.5483839183835524e-05, 8.34154108311699e-07, 3.5118406953277925e-08,
        1.1235427643799748e-09, 2.548220315619966e-11, 3.3238996028334845e-13, 8.877004874173226e-16,
    ),
)  # fmt: skip
_SINGLE = (
    4.1,
    (
        1.128379145004593, 0.19062172220132795, 0.052773186051638665, 0.0037738410031571443, 0.00028489034917922345,
        2.0460348862136544e-06,
    ),
    (
        1.0, 0.5022668184405731, 0.11419447582810928, 0.014985710532375464, 0.0011642067352990052,
        3.8050309584534254e-05,
    ),
)  # fmt: skip


def erf(x: Array, out: Array, work: Array) -> None:
    """Write the error function of x to `out`, which may be x. Relative error: 1.5e-15 in float64, 5e-7 in float32.

    Args:
        x: C-ordered, any shape, float32 or float64.
        out: of the same shape and type.
        work: shape (3, BLOCK), same type; overwritten.

    >>> x = np.array([0.0, 0.5, -9.0])
    >>> erf(x, x, np.empty((3, BLOCK)))
    >>> x.round(12).tolist()
    [0.0, 0.520499877813, -1.0]
    """
    limit, numerator, denominator = _SINGLE if x.dtype == np.float32 else _DOUBLE
    source, target = x.reshape(-1), out.reshape(-1)
    for start in range(0, source.size, BLOCK):
        piece, y = source[start : start + BLOCK], target[start : start + BLOCK]
        square, p, q = work[:, : piece.size]
        np.clip(piece, -limit, limit, out=y)
        np.multiply(y, y, out=square)
        _horner(numerator, square, p)
        _horner(denominator, square, q)
        np.divide(p, q, out=p)
        np.multiply(y, p, out=y)
        np.clip(y, -1, 1, out=y)


def _horner(coefficients: tuple[float, ...], x: Array, out: Array) -> None:
    """Write the polynomial with these coefficients, lowest power first, at `x` to `out`."""
    np.multiply(x, coefficients[-1], out=out)
    for coefficient in coefficients[-2:0:-1]:
        np.add(out, coefficient, out=out)
        np.multiply(out, x, out=out)
    np.add(out, coefficients[0], out=out)
