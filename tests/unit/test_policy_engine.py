"""The engine's loop: when it loads, when it does not, and what stays when something fails."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from helpers.embedded.policy import engine as module
from helpers.embedded.policy.attachments import Attachments, attachment_of
from helpers.embedded.policy.engine import Engine, LoadFailed, Store
from helpers.embedded.policy.model import Namespace, Pod, Policy

POD = Pod("u", "x", "p", {"app": "a"}, "10.244.0.9")


class Kernel:
    """Keeps the scripts that nft was given, and refuses while told to."""

    def __init__(self) -> None:
        self.scripts: list[str] = []
        self.refuses = False

    def __call__(self, script: str) -> None:
        if self.refuses:
            raise LoadFailed("no such file")
        self.scripts.append(script)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(module, "nft", kernel)
    return kernel


def listed(*pods: Pod) -> Store:
    store = Store()
    store.collections["pods"].replace(list(pods))
    store.collections["namespaces"].replace([Namespace("x", "x", {})])
    store.collections["policies"].replace([])
    return store


def test_nothing_is_loaded_until_all_three_collections_were_listed(kernel: Kernel) -> None:
    store = Store()
    store.collections["pods"].replace([POD])
    store.collections["namespaces"].replace([])
    assert Engine(store, "10.244.0.0/16").step()
    assert kernel.scripts == [], "policies are not known yet: loading now would fail open"
    store.collections["policies"].replace([])
    Engine(store, "10.244.0.0/16").step()
    assert "10.244.0.9" in kernel.scripts[0]


def test_an_unchanged_ruleset_is_not_loaded_again(kernel: Kernel) -> None:
    engine = Engine(listed(POD), "10.244.0.0/16")
    engine.step()
    engine.step()
    assert len(kernel.scripts) == 1


def test_an_update_that_changes_nothing_relevant_wakes_nobody() -> None:
    store = listed(POD)
    store.told.clear()
    store.collections["pods"].changed(POD)
    assert not store.told.is_set()
    store.collections["pods"].changed(Pod("u", "x", "p", {"app": "b"}, "10.244.0.9"))
    assert store.told.is_set()


def test_a_refused_ruleset_is_reported_and_tried_again(kernel: Kernel, tmp_path: Path) -> None:
    status = tmp_path / "run" / "policy.json"
    engine = Engine(listed(POD), "10.244.0.0/16", status)
    kernel.refuses = True
    assert not engine.step()
    assert "no such file" in json.loads(status.read_text())["error"]
    kernel.refuses = False
    assert engine.step()
    report = json.loads(status.read_text())
    assert (report["error"], report["pods"], report["policies"]) == (None, 1, 0)


def test_a_policy_that_cannot_be_compiled_leaves_the_former_rules(kernel: Kernel) -> None:
    store = listed(POD)
    engine = Engine(store, "10.244.0.0/16")
    engine.step()
    wrong = {"matchExpressions": [{"key": "a", "operator": "Near"}]}
    store.collections["policies"].changed(Policy("n", "x", "n", {"podSelector": wrong}))
    assert not engine.step()
    assert len(kernel.scripts) == 1


def cached(uid: str, address: str, interface: str = "eth0") -> dict[str, Any]:
    return {
        "kind": "cniCacheV1",
        "ifName": interface,
        "cniArgs": [["IgnoreUnknown", "1"], ["K8S_POD_NAMESPACE", "x"], ["K8S_POD_UID", uid]],
        "result": {"cniVersion": "1.0.0", "ips": [{"address": address, "gateway": "10.244.0.1"}]},
    }


def test_an_attachment_is_read_from_libcnis_cache() -> None:
    assert attachment_of(cached("u", "10.244.0.7/24")) == ("u", "10.244.0.7")
    assert attachment_of(cached("u", "fd00::7/64")) is None
    assert attachment_of({"result": {}}) is None
    assert attachment_of(cached("u", "127.0.0.1/8", "lo")) is None


def test_attachments_follow_the_folder(tmp_path: Path) -> None:
    attachments = Attachments(tmp_path / "results")
    assert attachments.poll() is None, "no folder before the first pod"
    (tmp_path / "results").mkdir()
    file = tmp_path / "results" / "substrate-1-eth0"
    file.write_text('{"half')
    assert attachments.poll() == {}
    os.utime(tmp_path / "results", (1, 1))  # a slow writer: the folder itself is long at rest
    assert attachments.poll() == {}
    file.write_text(json.dumps(cached("u", "10.244.0.7/24")))
    assert attachments.poll() == {"u": "10.244.0.7"}
    file.unlink()
    assert attachments.poll() == {}


def test_a_folder_at_rest_is_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "substrate-1-eth0").write_text(json.dumps(cached("u", "10.244.0.7/24")))
    os.utime(tmp_path, (1, 1))
    attachments = Attachments(tmp_path)
    assert attachments.poll() == {"u": "10.244.0.7"}
    assert attachments.poll() is None


def test_a_pod_with_a_new_sandbox_has_the_newest_address(tmp_path: Path) -> None:
    for number, stamp in ((1, 200), (2, 100)):
        path = tmp_path / f"substrate-{number}-eth0"
        path.write_text(json.dumps(cached("u", f"10.244.0.{number}/24")))
        os.utime(path, (stamp, stamp))
    assert Attachments(tmp_path).poll() == {"u": "10.244.0.1"}
