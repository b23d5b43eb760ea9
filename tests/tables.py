"""Tables like those that people download: made from a seed, with words, gaps, dates and columns of no use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Columns = dict[str, list[Any]]
"""Columns by name; None is a missing value."""


def passengers(n: int = 900) -> Columns:
    """Return passengers of a ship: the women of the first class survive more often. Ages and ports are missing."""
    draw = np.random.default_rng(7)
    female, pclass = draw.random(n) < 0.4, draw.integers(1, 4, n)
    age = draw.normal(30, 13, n).clip(1, 80).round(1)
    fare = (draw.gamma(2, 15, n) / pclass).round(2)
    odds = 3 * female - 1.2 * (pclass - 2) - 0.03 * (age - 30) - 1
    survived = draw.random(n) < 1 / (1 + np.exp(-odds))
    port = draw.choice(["Southampton", "Cherbourg", "Queenstown"], n, p=[0.7, 0.2, 0.1]).tolist()
    gaps, portless = draw.random(n) < 0.2, draw.random(n) < 0.01
    return {
        "id": list(range(1, n + 1)),
        "name": [f"Person {i}, of {i * 7 % 31}" for i in range(n)],
        "survived": ["yes" if one else "no" for one in survived],
        "pclass": pclass.tolist(),
        "sex": ["female" if one else "male" for one in female],
        "age": [None if gap else one for gap, one in zip(gaps, age.tolist(), strict=True)],
        "fare": fare.tolist(),
        "port": [None if gap else one for gap, one in zip(portless, port, strict=True)],
    }


def houses(n: int = 400) -> Columns:
    """Return houses: numbers, qualities in words that have an order, the date of sale, a garage or none."""
    draw = np.random.default_rng(8)
    area = draw.normal(120, 35, n).clip(30, 300).round(1)
    quality, days = draw.integers(0, 4, n), draw.integers(0, 3000, n)
    garage = draw.random(n) < 0.6
    price = 800 * area + 25000 * quality + 15000 * garage + 10 * days + draw.normal(0, 5000, n)
    words = ["poor", "fair", "good", "excellent"]
    year_built = draw.integers(1900, 2010, n).astype(float)
    gaps = draw.random(n) < 0.1
    return {
        "area": area.tolist(),
        "quality": [words[one] for one in quality],
        "sold": [str(np.datetime64("2012-01-01") + int(day)) for day in days],
        "garage": ["true" if one else "false" for one in garage],
        "built": [None if gap else year for gap, year in zip(gaps, year_built.tolist(), strict=True)],
        "district": draw.choice(["north", "south", "old town"], n).tolist(),
        "price": price.round().tolist(),
    }


def flowers(n: int = 150) -> Columns:
    """Return flowers of three species, told apart by the sizes of their petals."""
    draw = np.random.default_rng(9)
    species = draw.integers(0, 3, n)
    names = ["setosa", "versicolor", "virginica"]
    return {
        "petal_length": (1.5 + 2 * species + draw.normal(0, 0.4, n)).round(2).tolist(),
        "petal_width": (0.2 + 0.9 * species + draw.normal(0, 0.2, n)).round(2).tolist(),
        "species": [names[one] for one in species],
    }


def write_csv(path: Path, columns: Columns, names: Sequence[str] = ()) -> Path:
    """Write columns, all or those of these `names` in that order, as a CSV file with a header."""
    names = names or [*columns]
    lines = zip(*(columns[name] for name in names), strict=True)
    cells = [[*names], *(["" if one is None else str(one) for one in line] for line in lines)]
    quoted = [[f'"{cell}"' if "," in cell else cell for cell in line] for line in cells]
    path.write_text("\n".join(map(",".join, quoted)) + "\n")
    return path
