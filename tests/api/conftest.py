"""A model that all of these tests may look at."""

from __future__ import annotations

import pytest

import hpcnn
from tests.api.fitting import fit


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> hpcnn.Fitted:
    """A model that nothing disturbed."""
    return fit(tmp_path_factory.mktemp("fitted"))
