"""Each cluster has a subnet of its own on this machine, and keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.embedded import addresses


@pytest.fixture(autouse=True)
def free_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "taken_by_routes", set)
    monkeypatch.setattr(addresses.Addresses, "in_use", lambda self: False)


def test_the_learners_cluster_gets_the_first_subnet(tmp_path: Path) -> None:
    chosen = addresses.choose(tmp_path / "lab")
    assert (chosen.host, chosen.node, chosen.interface) == ("198.18.0.1", "198.18.0.2", "course0")


def test_a_cluster_keeps_its_subnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = addresses.choose(tmp_path / "lab")
    monkeypatch.setattr(addresses, "taken_by_routes", lambda: {chosen.slot})
    assert addresses.choose(tmp_path / "lab") == chosen


def test_a_subnet_that_the_machine_routes_is_not_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(addresses, "taken_by_routes", lambda: {0, 1, 2})
    assert addresses.choose(tmp_path / "lab").slot == 3


def test_two_kept_clusters_never_share_a_subnet(tmp_path: Path) -> None:
    slots = [addresses.choose(tmp_path / f"c{number}").slot for number in range(60)]
    assert len(set(slots)) == 60


def test_no_subnet_free_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "taken_by_routes", lambda: set(range(addresses.SLOTS)))
    with pytest.raises(addresses.NoSubnetFree):
        addresses.choose(tmp_path / "lab")


def test_interface_names_fit_the_kernels_limit() -> None:
    assert all(len(addresses.Addresses(slot).interface) <= 15 for slot in range(addresses.SLOTS))
