"""Kubeconfigs that kubectl takes: who asks, by which way, and what is said when credentials fail."""

from __future__ import annotations

import base64
import json
import os
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.cluster import login
from helpers.cluster.connection import choose_connection, default_kubeconfig, from_kubeconfig
from helpers.cluster.kubeconfig import kubectl
from helpers.cluster.live import LiveBackend
from helpers.cluster.login import validity
from helpers.cluster.proxies import proxy_for
from helpers.errors import ClusterUnreachable, EnvironmentFault, Forbidden, LabError, NoClusterChosen
from tests.unit.proxies import proxy

V1 = "client.authentication.k8s.io/v1"
PATIENCE_S = 20.0
# Made with openssl for this test: it was valid for one day, 2020-01-01.
EXPIRED = (Path(__file__).parent / "expired_client.pem").read_bytes()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, no choice and no proxy in the environment."""
    for name in ("COURSE_KUBECONFIG", "COURSE_CONTEXT", "COURSE_CLUSTER", "COURSE_SCOPE", "KUBECONFIG",
                 "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def write(path: Path, **parts: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(parts))
    return path


def whole(path: Path, server: str = "http://127.0.0.1:1", user: Any = None, **cluster: Any) -> Path:
    return write(
        path,
        **{"current-context": "main"},
        contexts=[{"name": "main", "context": {"cluster": "c", "user": "ada"}}],
        clusters=[{"name": "c", "cluster": {"server": server, **cluster}}],
        users=[{"name": "ada", "user": user or {}}],
    )


class Api(ThreadingHTTPServer):
    """An API server that remembers each request's headers; it takes the tokens in `tokens`, where there are any."""

    def __init__(self, tokens: tuple[str, ...] = ()) -> None:
        self.seen: list[list[tuple[str, str]]] = []
        self.tokens = tokens
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        self.server.seen.append(self.headers.items())
        known = self.headers.get("Authorization", "").removeprefix("Bearer ") in self.server.tokens
        refused = bool(self.server.tokens) and not known
        status = {"kind": "Status", "apiVersion": "v1", "message": "Unauthorized", "code": 401}
        body = json.dumps(status if refused else {"kind": "Namespace"}).encode()
        self.send_response(401 if refused else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def api(*tokens: str) -> Iterator[Api]:
    server = Api(tokens)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def ask(path: Path) -> Any:
    return LiveBackend(from_kubeconfig(path, None)).request("GET", "/api/v1/namespaces/default")


def plugin(home: Path, script: str, **more: Any) -> dict[str, Any]:
    path = home / "plugin.py"
    path.write_text(script)
    spec = {"apiVersion": V1, "command": sys.executable, "args": [str(path)], "interactiveMode": "Never"}
    return {"exec": spec | more}


# Credential plugins


def test_a_plugin_that_fails_is_told_in_its_own_words(home: Path) -> None:
    script = "import sys; print('Error: session expired,\\n please log in', file=sys.stderr); sys.exit(255)"
    user = plugin(home, script, installHint="Get it from\nexample.org/login")
    with pytest.raises(EnvironmentFault) as caught:
        from_kubeconfig(whole(home / "config", user=user), None)
    said = str(caught.value)
    assert "user ada failed with exit code 255: Error: session expired, please log in." in said
    assert said.endswith("Get it from example.org/login") and sys.executable in said
    assert caught.value.next_command == f"kubectl --kubeconfig {home / 'config'} --context main auth whoami"


def test_a_plugin_that_hangs_is_ended_and_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it started holds its output open, as a shell script's `sleep` does: that ends too."""
    monkeypatch.setattr(login, "PLUGIN_S", 0.5)
    script = f"""
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
open({str(home / "child")!r}, "w").write(str(child.pid))
child.wait()
"""
    with pytest.raises(EnvironmentFault, match=r"plugin .* of user ada did not answer within 0\.5 s"):
        from_kubeconfig(whole(home / "config", user=plugin(home, script)), None)
    child = int((home / "child").read_text()) if (home / "child").exists() else 0
    assert not child or _is_gone(child)


def _is_gone(pid: int) -> bool:
    """Whether a process that was ended is gone: the kernel tells when, some moments after the signal."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], PATIENCE_S)[0])
    finally:
        os.close(handle)


@pytest.mark.parametrize(
    ("script", "more", "words"),
    [
        ("", {"command": "no-such-plugin", "installHint": "apt install it"}, "is not installed. apt install it"),
        ("print('hello')", {}, "printed no ExecCredential, but hello"),
        ("", {}, "printed no ExecCredential, but nothing"),
        ("print('{\"status\": null, \"apiVersion\": \"x\"}')", {}, "printed no ExecCredential"),
        (f"print('{{\"kind\": \"ExecCredential\", \"apiVersion\": \"{V1}\", \"status\": {{}}}}')", {},
         "gave neither a token nor a certificate"),
        ("print('{\"kind\": \"ExecCredential\", \"apiVersion\": \"v9\", \"status\": {\"token\": \"a\"}}')", {},
         f"and the kubeconfig asks for {V1}"),
        ("", {"apiVersion": "client.authentication.k8s.io/v1alpha1"}, "is written wrongly"),
        ("", {"interactiveMode": "Always"}, "asks for something at a terminal"),
        ("import sys; sys.exit(3)", {}, "exit code 3: it said nothing"),
    ],
)  # fmt: skip
def test_every_other_way_in_which_a_plugin_fails(home: Path, script: str, more: Any, words: str) -> None:
    with pytest.raises(EnvironmentFault) as caught:
        from_kubeconfig(whole(home / "config", user=plugin(home, script, **more)), None)
    assert words in str(caught.value) and "of user ada" in str(caught.value)


def test_a_plugin_is_told_of_the_cluster_and_asked_again_after_a_401(home: Path) -> None:
    script = f"""
import json, os, pathlib
count = pathlib.Path({str(home / "count")!r})
count.write_text(str(int(count.read_text() if count.exists() else 0) + 1))
info = json.loads(os.environ["KUBERNETES_EXEC_INFO"])
assert info["spec"]["cluster"]["server"].startswith("http://127.0.0.1") and os.environ["SEAT"] == "7"
print(json.dumps({{"kind": "ExecCredential", "apiVersion": {V1!r}, "status": {{"token": "t" + count.read_text()}}}}))
"""
    user = plugin(home, script, provideClusterInfo=True, env=[{"name": "SEAT", "value": "7"}])
    with api("t2") as server:
        path = whole(home / "config", server.url, user)
        assert ask(path).ok
        assert (home / "count").read_text() == "2"
    with (
        api("never") as server,
        pytest.raises(Forbidden, match=r"what the credential plugin .* gave for user ada"),
    ):
        ask(whole(home / "config", server.url, user))


def test_a_relative_plugin_lies_beside_its_kubeconfig(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = home / "there" / "login"
    script.parent.mkdir()
    answer = {"kind": "ExecCredential", "apiVersion": V1, "status": {"token": "beside"}}
    script.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    script.chmod(0o755)
    path = whole(home / "there" / "config", user={"exec": {"apiVersion": V1, "command": "./login"}})
    assert from_kubeconfig(path, None).login.authorization() == "Bearer beside"


# Other credentials


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ({"token": "old"}, "does not accept the token of user ada: Unauthorized"),
        ({"username": "a", "password": "b"}, "does not accept the name and password of user ada"),
        ({}, "does not accept a request without credentials (user ada of the kubeconfig has none)"),
        (
            {"client-certificate-data": base64.b64encode(EXPIRED).decode()},
            "the client certificate of user ada, which expired on 2020-01-02 00:00 UTC",
        ),
    ],
)
def test_a_401_names_the_credentials(home: Path, user: Any, words: str) -> None:
    with api("new") as server, pytest.raises(Forbidden) as caught:
        ask(whole(home / "config", server.url, user))
    assert words in str(caught.value) and caught.value.next_command.endswith("auth whoami")


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), (" \n", "is empty")])
def test_a_token_file_that_gives_none_is_named(home: Path, content: str | None, words: str) -> None:
    if content is not None:
        (home / "token").write_text(content)
    with pytest.raises(EnvironmentFault, match=f"the token of user ada cannot be read: .*{words}"):
        ask(whole(home / "config", user={"tokenFile": "token"}))


def test_a_certificate_s_validity_is_read() -> None:
    bounds = validity(EXPIRED)
    assert bounds is not None and [f"{moment:%Y-%m-%d}" for moment in bounds] == ["2020-01-01", "2020-01-02"]
    assert validity(b"nothing") is None and validity(EXPIRED[:200]) is None


def test_an_auth_provider_that_is_no_more_is_said(home: Path) -> None:
    with pytest.raises(EnvironmentFault, match="auth provider gcp of user ada gave no"):
        from_kubeconfig(whole(home / "config", user={"auth-provider": {"name": "gcp"}}), None)


# Impersonation


def test_who_is_impersonated_is_who_asks(home: Path) -> None:
    user = {
        "token": "t",
        "as": "nobody",
        "as-uid": "7",
        "as-groups": ["a", "b"],
        "as-user-extra": {"Example.org/Scopes": ["view", "edit"]},
    }
    with api() as server:
        assert ask(whole(home / "config", server.url, user)).ok
    headers = [(name, value) for name, value in server.seen[0] if name.lower().startswith(("imp", "auth"))]
    assert sorted(headers) == [
        ("Authorization", "Bearer t"),
        ("Impersonate-Extra-example.org%2Fscopes", "edit"),
        ("Impersonate-Extra-example.org%2Fscopes", "view"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-User", "nobody"),
    ]


@pytest.mark.parametrize("user", [{"as-groups": ["a"]}, {"as-uid": "7"}, {"as": "x", "as-groups": "a"}])
def test_half_an_impersonation_is_refused(home: Path, user: Any) -> None:
    with pytest.raises(EnvironmentFault, match="user ada of the kubeconfig"):
        from_kubeconfig(whole(home / "config", user=user), None)


# Several files


def test_a_context_may_have_its_cluster_and_user_in_another_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "b").mkdir()
    (home / "b" / "token").write_text("of-b")
    first = write(
        home / "a" / "config", contexts=[{"name": "gpu", "context": {"cluster": "c", "user": "ada"}}]
    )
    empty = home / "empty"
    empty.write_text("")
    second = write(
        home / "b" / "config",
        **{"current-context": "gpu"},
        clusters=[{"name": "c", "cluster": {"server": "http://b:1"}}],
        users=[{"name": "ada", "user": {"tokenFile": "token"}}],
    )
    third = whole(home / "c" / "config", "http://c:1")
    monkeypatch.setenv(
        "KUBECONFIG", os.pathsep.join(map(str, (home / "missing", first, empty, second, third)))
    )
    found = choose_connection(context="gpu")
    assert (found.server, found.login.authorization()) == ("http://b:1", "Bearer of-b")
    assert default_kubeconfig(None) == default_kubeconfig("gpu")
    # The first file that has a name wins: the third file's own cluster c is hidden by the second's.
    assert choose_connection(context="main").server == "http://b:1"
    assert found.kubeconfig is not None and kubectl(found.kubeconfig, "get pods").startswith("KUBECONFIG=")


@pytest.mark.parametrize(
    "text",
    ["clusters: x", "clusters: [x]", "clusters: [{cluster: {}}]", "clusters: [{name: c, cluster: x}]",
     "current-context: [a]", "users: [{name: u, user: {tokenFile: [a]}}]", "contexts: [{name: 1}]"],
)  # fmt: skip
def test_a_kubeconfig_of_another_shape_is_a_sentence(home: Path, text: str) -> None:
    path = home / "config"
    path.write_text(text)
    with pytest.raises(EnvironmentFault, match=str(path)):
        from_kubeconfig(path, None)


def test_an_empty_kubeconfig_has_no_contexts(home: Path) -> None:
    (home / "config").write_text("")
    with pytest.raises(NoClusterChosen, match="it has: none"):
        from_kubeconfig(home / "config", "main")


# Proxies


@pytest.mark.parametrize("kind", ["http", "socks5"])
@pytest.mark.parametrize("by", ["proxy-url", "environment"])
def test_a_proxy_is_gone_through(home: Path, kind: str, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with api() as server, proxy(kind) as between:
        # A name that only the proxy is asked for: loopback itself is never proxied by the environment.
        url = server.url.replace("127.0.0.1", "127.0.0.1.nip.invalid") if by == "environment" else server.url
        if by == "environment":
            monkeypatch.setenv("HTTP_PROXY", between.url)
            with pytest.raises(LabError):
                ask(whole(home / "config", url))
        else:
            assert ask(whole(home / "config", url, **{"proxy-url": between.url})).ok
    assert between.asked == [url.removeprefix("http://")] * len(between.asked) and between.asked


def test_a_proxy_that_is_not_there_is_named(home: Path) -> None:
    path = whole(home / "config", **{"proxy-url": "socks5://127.0.0.1:1"})
    with pytest.raises(ClusterUnreachable):
        ask(path)


@pytest.mark.parametrize("url", ["ftp://x", "proxy:3128", "http://", 7, "http://h:port"])
def test_a_proxy_url_that_is_none_is_refused(home: Path, url: Any) -> None:
    with pytest.raises(EnvironmentFault, match="the kubeconfig's proxy-url is"):
        from_kubeconfig(whole(home / "config", **{"proxy-url": url}), None)


PROXIES = {"HTTPS_PROXY": "http://p:1", "HTTP_PROXY": "q:2"}


@pytest.mark.parametrize(
    ("server", "excluded", "expected"),
    [
        ("https://api.example.org", "", "http://p:1"),
        ("http://api.example.org", "", "http://q:2"),
        ("https://localhost:6443", "", None),
        ("https://127.0.0.1:6443", "", None),
        ("https://[::1]:6443", "", None),
        ("https://10.0.0.1", "10.0.0.0/8", None),
        ("https://11.0.0.1", "10.0.0.0/8", "http://p:1"),
        ("https://10.0.0.1", "10.0.0.1", None),
        ("https://[fd00::1]:6443", "fd00::/8", None),
        ("https://api.example.org", "example.org", None),
        ("https://example.org", ".example.org", "http://p:1"),
        ("https://api.example.org", ".example.org", None),
        ("https://api.example.org", "*.example.org", None),
        ("https://notexample.org", "example.org", "http://p:1"),
        ("https://api.example.org:6443", "a.b, api.example.org:6443", None),
        ("https://api.example.org:6443", "api.example.org:443", "http://p:1"),
        ("https://api.example.org", "*", None),
        ("https://api.example.org", "10.0.0.0/99,,:,[", "http://p:1"),
    ],
)
def test_the_environment_s_proxies_are_those_of_kubectl(
    server: str, excluded: str, expected: str | None
) -> None:
    assert proxy_for(server, None, {**PROXIES, "NO_PROXY": excluded}) == expected
    assert (
        proxy_for(server, None, {"https_proxy": "http://p:1", "http_proxy": "q:2", "no_proxy": excluded})
        == expected
    )
    assert proxy_for(server, "http://k:3", {**PROXIES, "NO_PROXY": excluded}) == "http://k:3"
