"""Which cluster is chosen, and what a kubeconfig's credentials become."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import certifi
import pytest
import yaml

from helpers import settings
from helpers.cluster import Cluster
from helpers.cluster.connection import (
    Choice,
    choose_connection,
    contexts_in,
    default_kubeconfig,
    from_kubeconfig,
    load_choice,
    save_choice,
)
from helpers.errors import EnvironmentFault, NoClusterChosen

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, and no choice in the environment."""
    for name in ("COURSE_KUBECONFIG", "COURSE_CONTEXT", "COURSE_CLUSTER", "COURSE_SCOPE", "KUBECONFIG",
                 "KUBERNETES_SERVICE_HOST"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def kubeconfig(path: Path, *contexts: str, user: dict[str, Any] | None = None, **cluster: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    names = contexts or ("main",)
    tree = {
        "current-context": names[0],
        "contexts": [{"name": name, "context": {"cluster": "c", "user": "u"}} for name in names],
        "clusters": [{"name": "c", "cluster": {"server": f"http://{path.stem}:6443", **cluster}}],
        "users": [{"name": "u", "user": user or {}}],
    }
    path.write_text(yaml.safe_dump(tree))
    return path


def test_without_any_cluster_the_next_command_is_up(home: Path) -> None:
    with pytest.raises(NoClusterChosen) as caught:
        Cluster.connect()
    assert caught.value.next_command == "course up"


def test_kubectl_s_own_config_is_not_used_by_accident(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubeconfig(home / ".kube" / "config")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(home / "production")))
    with pytest.raises(NoClusterChosen):
        choose_connection()


def test_the_first_rule_that_applies_decides(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubeconfig(settings.kubeconfig_path("lab"))
    assert choose_connection().source.startswith("context main of")
    chosen = kubeconfig(home / "chosen", "gpu")
    save_choice(Choice("gpu", str(chosen)))
    assert choose_connection().server == "http://chosen:6443"
    kubeconfig(settings.kubeconfig_path("tests"))
    monkeypatch.setenv("COURSE_CLUSTER", "tests")
    assert choose_connection().kubeconfig == settings.kubeconfig_path("tests")
    monkeypatch.setenv("COURSE_KUBECONFIG", str(kubeconfig(home / "environment")))
    assert choose_connection().server == "http://environment:6443"
    assert choose_connection(kubeconfig=kubeconfig(home / "argument")).server == "http://argument:6443"


def test_going_back_to_the_embedded_cluster(home: Path) -> None:
    kubeconfig(settings.kubeconfig_path("lab"))
    save_choice(Choice("gpu", str(kubeconfig(home / "chosen", "gpu"))))
    save_choice(Choice())
    assert choose_connection().kubeconfig == settings.kubeconfig_path("lab")
    assert load_choice() == Choice()


def test_a_choice_keeps_what_else_is_in_the_settings(home: Path) -> None:
    path = settings.home_dir() / "settings.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"theme": "dark"}))
    save_choice(Choice("gpu", "/x"))
    assert json.loads(path.read_text()) == {"theme": "dark", "context": "gpu", "kubeconfig": "/x"}


def test_a_broken_settings_file_names_itself(home: Path) -> None:
    path = settings.home_dir() / "settings.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(NoClusterChosen, match=r"settings\.json cannot be read"):
        choose_connection()


def test_a_context_is_found_in_the_file_that_has_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = kubeconfig(home / "one", "kind"), kubeconfig(home / "two", "gpu", "cloud")
    tree = yaml.safe_load(second.read_text().replace("cluster: c\n", "cluster: d\n"))
    tree["clusters"][0]["name"] = "d"
    second.write_text(yaml.safe_dump(tree))
    monkeypatch.setenv("KUBECONFIG", f"{first}{os.pathsep}{second}")
    assert default_kubeconfig("cloud") == second
    assert contexts_in(second) == ["gpu", "cloud"]
    assert choose_connection(context="gpu").server == "http://two:6443"


@pytest.mark.parametrize(
    ("context", "words"),
    [("nope", r"no entry 'nope' in contexts \(it has: main\)"), (None, "no kubeconfig at")],
)
def test_what_is_not_there_is_named(home: Path, context: str | None, words: str) -> None:
    path = kubeconfig(home / "config") if context else home / "missing"
    with pytest.raises(NoClusterChosen, match=words):
        from_kubeconfig(path, context)


@pytest.mark.parametrize("text", ["- a list", "{", "\x00"])
def test_a_file_that_is_no_kubeconfig_is_named(home: Path, text: str) -> None:
    path = home / "config"
    path.write_text(text)
    with pytest.raises(EnvironmentFault, match="kubeconfig"):
        from_kubeconfig(path, None)


# Credentials


@pytest.mark.parametrize(
    ("user", "header"),
    [
        ({}, None),
        ({"token": "abc"}, "Bearer abc"),
        ({"username": "ada", "password": "x"}, f"Basic {base64.b64encode(b'ada:x').decode()}"),
    ],
)
def test_static_credentials_become_a_header(home: Path, user: dict[str, str], header: str | None) -> None:
    assert from_kubeconfig(kubeconfig(home / "config", user=user), None).login.authorization() == header


def test_a_token_file_is_read_again_for_each_request(home: Path) -> None:
    (home / "token").write_text("one\n")
    connection = from_kubeconfig(kubeconfig(home / "config", user={"tokenFile": "token"}), None)
    assert connection.login.authorization() == "Bearer one"
    (home / "token").write_text("two\n")
    assert connection.login.authorization() == "Bearer two"


def test_an_exec_plugin_is_asked(home: Path) -> None:
    plugin = home / "plugin.py"
    answer = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": "from-plugin"},
    }
    plugin.write_text(f"print({json.dumps(answer)!r})")
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": [str(plugin)],
            "interactiveMode": "Never",
        }
    }
    connection = from_kubeconfig(kubeconfig(home / "config", user=user), None)
    assert connection.login.authorization() == "Bearer from-plugin"


def test_in_a_pod_the_service_account_is_used_and_read_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = home / "account"
    account.mkdir()
    (account / "ca.crt").write_text(Path(certifi.where()).read_text())
    (account / "token").write_text("one")
    monkeypatch.setattr("helpers.cluster.connection.SERVICE_ACCOUNT", account)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "6443")
    connection = choose_connection()
    assert (connection.server, connection.login.authorization()) == ("https://[fd00::1]:6443", "Bearer one")
    (account / "token").write_text("two")
    assert connection.login.authorization() == "Bearer two"


def test_certificates_that_are_none_are_the_kubeconfig_s_fault(home: Path) -> None:
    data = base64.b64encode(b"not a certificate").decode()
    path = kubeconfig(home / "config", server="https://x", **{"certificate-authority-data": data})
    with pytest.raises(EnvironmentFault, match="certificates in the kubeconfig cannot be used"):
        from_kubeconfig(path, None)
    path = kubeconfig(home / "config", server="https://x", **{"certificate-authority": "gone.crt"})
    with pytest.raises(EnvironmentFault, match="certificate-authority cannot be read"):
        from_kubeconfig(path, None)


def test_the_scope_comes_from_the_context_or_the_environment(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = kubeconfig(home / "config")
    tree = yaml.safe_load(path.read_text())
    tree["contexts"][0]["context"]["extensions"] = [{"name": "course", "extension": {"scope": "ada"}}]
    path.write_text(yaml.safe_dump(tree))
    assert from_kubeconfig(path, None).scope.suffix == "ada"
    monkeypatch.setenv("COURSE_SCOPE", "bob")
    assert from_kubeconfig(path, None).scope.suffix == "bob"


# Cost


def test_the_official_client_is_not_imported_to_read_a_cluster() -> None:
    script = (
        "import sys, helpers.cluster.live, helpers.cluster.connection\n"
        "print(*[name for name in ('kubernetes', 'pydantic', 'websocket', 'requests') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert done.stdout.split() == []
