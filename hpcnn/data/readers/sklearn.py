"""Reader of the small data sets that come with scikit-learn, where that is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hpcnn.data.columns import named_columns
from hpcnn.data.readers.reader import Reader
from hpcnn.data.rows import ArrayRows
from hpcnn.data.source import Source, optional_import
from hpcnn.job import data as schema


class SklearnReader(Reader[schema.Sklearn]):
    """Reads data sets of scikit-learn."""

    section = schema.Sklearn

    def read(self, data: schema.Sklearn, base: Path) -> Source:
        """Read a data set by its name."""
        datasets = optional_import("sklearn.datasets", "sklearn", 'data.source = "sklearn"', package="scikit-learn")
        bunch = getattr(datasets, f"load_{data.name}")()
        x, y = np.asarray(bunch.data), np.asarray(bunch.target)
        return Source(ArrayRows(x), ArrayRows(y), columns=named_columns([*map(str, bunch.feature_names)]))
