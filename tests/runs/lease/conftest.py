"""Leases that are renewed and looked at often."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from hpcnn.runs.lease import lease as leases
from hpcnn.runs.lease.keeper import LeaseKeeper
from hpcnn.runs.lease.lease import Lease


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_S", 0.05)
    monkeypatch.setattr(leases, "LEASE_S", 60.0)  # not to expire on a busy machine, unless it is to
    monkeypatch.setattr(leases, "GRACE_S", 0.1)
    monkeypatch.setattr(leases, "_POLL_S", 0.01)


@pytest.fixture
def _expiring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LEASE_S", 0.6)


@pytest.fixture
def keep() -> Iterator[Callable[[Lease], LeaseKeeper]]:
    keepers: list[LeaseKeeper] = []

    def start(lease: Lease) -> LeaseKeeper:
        keepers.append(LeaseKeeper(lease))
        return keepers[-1]

    yield start
    for keeper in keepers:
        keeper.close()
