"""Solved clusters that are kept and copied: what is shared, what is refused, and what a killed run leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import restore
from helpers.cli import run
from helpers.cluster import Cluster
from helpers.cluster.fake import FakeCluster
from helpers.cluster.waits import NotYet
from helpers.embedded import addresses, cache, kept, launch
from helpers.embedded.steps import StepFailed, Steps

STORE = "var/lib/containerd"
NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a cache of this test's own."""
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A stopped node's state: an image layer, a database of containerd, an etcd."""
    root = tmp_path / "home" / "clusters" / "solved" / "data"
    for path in (f"{STORE}/content/blob", f"{STORE}/metadata/meta.db", "var/lib/etcd/db", launch.INITIALISED):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    (root.parent / addresses.FILE).write_text("7\n")
    return root


def test_a_copy_shares_what_is_never_written_again_and_nothing_else(state: Path, tmp_path: Path) -> None:
    kept.copy_state(state, tmp_path / "copy")
    shared = {
        str(path.relative_to(state))
        for path in state.rglob("*")
        if path.is_file() and path.samefile(tmp_path / "copy" / path.relative_to(state))
    }
    assert shared == {f"{STORE}/content/blob"}
    assert {path.relative_to(state) for path in state.rglob("*")} == {
        path.relative_to(tmp_path / "copy") for path in (tmp_path / "copy").rglob("*")
    }


def test_a_copy_of_a_copy_keeps_the_address_that_the_first_was_made_with(own: Path, state: Path) -> None:
    def inside(key: str) -> str:
        kept.keep("solved", key, Steps(), label="02")
        return (own / "cache" / "solved" / key / cache.CONTENT / "data" / addresses.BORN_INSIDE).read_text()

    assert inside("first") == "7\n"
    (state.parent / addresses.BORN).write_text("7\n")
    (state.parent / addresses.FILE).write_text("9\n")
    assert inside("second") == "7\n"
    known = addresses.stored(state.parent)
    assert known is not None and (known.node, known.inside) == ("198.18.9.2", "198.18.7.2")


def test_two_of_each_are_kept(own: Path, state: Path) -> None:
    for key, label in (("a", "02"), ("b", "02"), ("other", "01 02"), ("c", "02")):
        kept.keep("solved", key, Steps(), label=label)
    entries = {path.name for path in (own / "cache" / "solved").glob("[!.]*")}
    assert entries == {"b", "other", "c"}


def test_a_folder_without_a_whole_cluster_is_not_kept(own: Path, state: Path) -> None:
    (state / launch.INITIALISED).unlink()
    with pytest.raises(StepFailed, match="holds no cluster"):
        kept.keep("solved", "key", Steps(), label="02")


def test_a_kept_cluster_that_is_damaged_is_not_put_back(own: Path, state: Path) -> None:
    kept.keep("solved", "key", Steps(), label="02")
    (own / "cache" / "solved" / "key" / cache.CONTENT / "data" / STORE / "content" / "blob").unlink()
    with pytest.raises(StepFailed, match="damaged"):
        kept.put_back("lab", "key", Steps())
    assert not (own / "cache" / "solved" / "key").exists()


def test_a_cluster_in_use_is_replaced_only_when_asked(state: Path) -> None:
    with pytest.raises(kept.ClusterExists, match="would be replaced"):
        kept._require_place(state.parent, "02", replace=False)
    kept._require_place(state.parent, "02", replace=True)


def test_two_copies_of_one_cluster_are_not_kept_side_by_side(state: Path) -> None:
    """They have one identity, so a check that was passed on one would count on the other."""
    (state / kept.COPIED).write_text("02\n")
    with pytest.raises(kept.ClusterExists, match="solved is a copy of the same one"):
        kept._require_place(state.parent.parent / "other", "02", replace=True)
    kept._require_place(state.parent.parent / "other", "03", replace=True)


def test_where_nothing_is_kept_the_command_says_how_to_make_it(
    own: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["restore", "02"]) == 2
    said = capsys.readouterr().err
    assert "no cluster is kept" in said
    assert "Next: course restore 02 --make" in said
    assert not (own / "home").exists()


def test_a_solution_of_another_lab_does_not_ask_for_a_new_copy() -> None:
    made_from = {str(part) for part in restore._made_from(["02"])}
    assert "solutions/02_inference.py" in made_from
    assert "solutions/01_substrate.py" not in made_from
    assert restore._key(["01", "02"]) != restore._key(["02", "01"])


def _pod(started_at: str, ready: str) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "vllm", "namespace": "default", "labels": {"app": "vllm"}},
        "spec": {"nodeName": "substrate", "containers": [{"name": "vllm", "image": "vllm"}]},
        "status": {
            "phase": "Running",
            "podIP": "10.244.0.7",
            "conditions": [{"type": "Ready", "status": ready}],
            "containerStatuses": [{"name": "vllm", "state": {"running": {"startedAt": started_at}}}],
        },
    }


@pytest.mark.parametrize(
    ("started_at", "ready", "counts"),
    [
        ("2026-01-01T00:10:00Z", "True", True),
        ("2026-01-01T00:10:00Z", "False", False),
        ("2026-01-01T00:00:00Z", "True", False),
    ],
    ids=["ready again", "still loading", "as it was before the restart"],
)
def test_readiness_of_the_former_start_does_not_count(started_at: str, ready: str, counts: bool) -> None:
    cluster: Cluster = FakeCluster(NAMESPACE, [_pod(started_at, ready)])
    restarted = 1767225900.0  # 2026-01-01T00:05:00Z
    if counts:
        assert restore._ready(cluster.view(), restarted)
        return
    with pytest.raises(NotYet, match="not ready again"):
        restore._ready(cluster.view(), restarted)


def _endpoint(address: str) -> dict:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "vllm-1",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "vllm"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
    }


@pytest.mark.parametrize("address", ["10.244.0.3", "10.244.0.7"], ids=["before the restart", "now"])
def test_a_service_that_leads_to_the_former_pod_is_not_ready_again(address: str) -> None:
    spec = {"selector": {"app": "vllm"}, "ports": [{"port": 8000}]}
    metadata = {"name": "vllm", "namespace": "default"}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
    pod = _pod("2026-01-01T00:10:00Z", "True")
    cluster: Cluster = FakeCluster(NAMESPACE, [pod, service, _endpoint(address)])
    if address == pod["status"]["podIP"]:
        assert restore._ready(cluster.view(), 1767225900.0)
        return
    with pytest.raises(NotYet, match="does not lead to its pods"):
        restore._ready(cluster.view(), 1767225900.0)
