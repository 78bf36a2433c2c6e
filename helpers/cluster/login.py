"""How one proves to the API server who one is, and what to say when that fails.

Tokens, files of tokens, certificates and passwords come from the kubeconfig; exec plugins are run
here, by the rules of https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins.
The official client runs them too, but logs a plugin that fails and goes on as nobody, waits for one
that hangs, and has no `installHint`.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from helpers.errors import EnvironmentFault

PLUGIN_S = 5.0
_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_EXTENSION = "client.authentication.k8s.io/exec"
_RENEW_BEFORE = timedelta(seconds=10)
_MOST_WORDS = 400

Header = tuple[str, str]


@dataclass(frozen=True)
class Login:
    """What goes with every request, and what to call it when it is not accepted."""

    # Which credentials these are, for messages: "the token of user ada".
    what: str = "these credentials"
    # Asked for every request: tokens expire and are renewed.
    authorization: Callable[[], str | None] = lambda: None
    # True when other credentials are there to try after a 401.
    renew: Callable[[], bool] = lambda: False
    # As whom kubectl would ask.
    impersonation: tuple[Header, ...] = ()
    certificate: bytes | None = None
    key: bytes | None = None
    next_command: str = ""

    def headers(self) -> list[Header]:
        """The headers that say who asks.

        Raises:
            EnvironmentFault: the credentials cannot be had; it says which ones and why.
        """
        written = self.authorization()
        return [*([("Authorization", written)] if written else []), *self.impersonation]


def login_of(user: Mapping[str, Any], name: str, cluster: Mapping[str, Any], *, check: str) -> Login:
    """The login that a kubeconfig's user describes, its paths being absolute.

    Args:
        name: the user's name in the kubeconfig.
        cluster: the cluster's entry, for plugins that want to know it.
        check: the kubectl command that shows whether the credentials work.
    """
    common: dict[str, Any] = {"impersonation": _impersonation(user, name), "next_command": check}
    common |= {"certificate": content(user, "client-certificate"), "key": content(user, "client-key")}
    whose = f"of user {name}"
    if user.get("tokenFile"):
        path = Path(user["tokenFile"])
        return Login(f"the token in {path} {whose}", lambda: _from_file(path, whose), **common)
    if user.get("token"):
        header = f"Bearer {user['token']}"
        return Login(f"the token {whose}", lambda: header, **common)
    if user.get("username"):
        pair = f"{user['username']}:{user.get('password', '')}".encode()
        basic = f"Basic {base64.b64encode(pair).decode()}"
        return Login(f"the name and password {whose}", lambda: basic, **common)
    if user.get("exec"):
        if not isinstance(user["exec"], dict):
            raise EnvironmentFault(f"user {name} of the kubeconfig: exec is not a mapping with a command")
        return _of_plugin(Plugin(user["exec"], name, cluster, check), common)
    if common["certificate"]:
        return Login(f"the client certificate {whose}{_expiry(common['certificate'])}", **common)
    has_none = f" (user {name} of the kubeconfig has none)" if name else ""
    return Login(f"a request without credentials{has_none}", **common)


def _from_file(path: Path, whose: str) -> str:
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentFault(f"the token {whose} cannot be read: {error}") from error
    if not token:
        raise EnvironmentFault(f"the token {whose} cannot be read: {path} is empty")
    return f"Bearer {token}"


def content(holder: Mapping[str, Any], name: str) -> bytes | None:
    """What a kubeconfig holds of a name: inline in base64, or in a file.

    Raises:
        EnvironmentFault: it is not base64, or the file cannot be read.
    """
    inline = holder.get(f"{name}-data")
    if inline:
        try:
            return base64.b64decode(str(inline))
        except binascii.Error as error:
            raise EnvironmentFault(f"{name}-data in the kubeconfig is not base64") from error
    if holder.get(name):
        try:
            return Path(holder[name]).read_bytes()
        except OSError as error:
            raise EnvironmentFault(f"the kubeconfig's {name} cannot be read: {error}") from error
    return None


# Impersonation


def _impersonation(user: Mapping[str, Any], name: str) -> tuple[Header, ...]:
    """`as` and its companions as the headers that kubectl sends."""
    groups, extra = user.get("as-groups") or [], user.get("as-user-extra") or {}
    if not isinstance(groups, list) or not isinstance(extra, dict):
        raise EnvironmentFault(
            f"user {name} of the kubeconfig: as-groups is a list, as-user-extra maps names to lists"
        )
    headers = [("Impersonate-User", user.get("as")), ("Impersonate-Uid", user.get("as-uid"))]
    headers += [("Impersonate-Group", group) for group in groups]
    for key, values in extra.items():
        words = values if isinstance(values, list) else [values]
        headers += [(f"Impersonate-Extra-{quote(key.lower(), safe='')}", word) for word in words]
    found = tuple((header, str(value)) for header, value in headers if value)
    if found and not user.get("as"):
        raise EnvironmentFault(
            f"user {name} of the kubeconfig: as-uid, as-groups and as-user-extra need `as`, whom to impersonate"
        )
    return found


# Exec plugins


@dataclass
class Plugin:
    """A program that hands out credentials; what it gave is kept until it expires."""

    spec: Mapping[str, Any]
    user: str
    cluster: Mapping[str, Any]
    check: str
    _status: dict[str, Any] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def status(self) -> dict[str, Any]:
        """The credentials, asked for again once they have expired.

        Raises:
            EnvironmentFault: the plugin's name, what it said on stderr, and how to get it.
        """
        with self._lock:
            if self._status is None or _is_over(self._status):
                self._status = self._ask()
            return self._status

    def forget(self) -> bool:
        """Ask again next time: the API server did not accept what the plugin gave last."""
        with self._lock:
            had, self._status = self._status is not None, None
            return had

    @property
    def command(self) -> str:
        return str(self.spec.get("command") or "")

    def _ask(self) -> dict[str, Any]:
        version = self.spec.get("apiVersion")
        if not self.command or version not in _VERSIONS:
            raise self._fault(
                f"is written wrongly: it needs a command, and apiVersion {' or '.join(_VERSIONS)}"
            )
        stdin = self._stdin()
        try:
            process = subprocess.Popen(
                [self.command, *(str(word) for word in self.spec.get("args") or [])],
                env={**os.environ, **self._variables(), "KUBERNETES_EXEC_INFO": json.dumps(self._info())},
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                # So that what it starts itself ends with it; at a terminal it must stay in the foreground.
                start_new_session=stdin is not None,
            )
        except FileNotFoundError as error:
            raise self._fault("is not installed") from error
        except OSError as error:
            raise self._fault(f"cannot be run: {error.strerror}") from error
        try:
            printed, said = process.communicate(timeout=PLUGIN_S)
        except subprocess.TimeoutExpired as error:
            words = _words(error.stderr)
            raise self._fault(
                f"did not answer within {PLUGIN_S:g} s{words and ': '}{words}; if its login asks you something, "
                "do it once in a terminal"
            ) from error
        finally:
            _end(process, whole_group=stdin is not None)
        if process.returncode:
            words = _words(said) or _words(printed) or "it said nothing"
            raise self._fault(f"failed with exit code {process.returncode}: {words}")
        return self._credentials(printed)

    def _credentials(self, printed: bytes) -> dict[str, Any]:
        try:
            tree = json.loads(printed)
            status, version = tree["status"], tree["apiVersion"]
            complete = bool(status.get("token")) or bool(
                status.get("clientCertificateData") and status.get("clientKeyData")
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._fault(f"printed no ExecCredential, but {_words(printed) or 'nothing'}") from error
        if tree.get("kind") != "ExecCredential" or version != self.spec.get("apiVersion"):
            raise self._fault(
                f"printed {tree.get('kind')} of {version}, and the kubeconfig asks for {self.spec['apiVersion']}"
            )
        if not complete:
            raise self._fault("gave neither a token nor a certificate with its key")
        return dict(status)

    def _variables(self) -> dict[str, str]:
        pairs = self.spec.get("env") or []
        return {str(pair.get("name")): str(pair.get("value", "")) for pair in pairs if isinstance(pair, dict)}

    def _info(self) -> dict[str, Any]:
        spec: dict[str, Any] = {"interactive": self._stdin() is None}
        if self.spec.get("provideClusterInfo"):
            spec["cluster"] = self._cluster_info()
        return {"apiVersion": self.spec.get("apiVersion"), "kind": "ExecCredential", "spec": spec}

    def _cluster_info(self) -> dict[str, Any]:
        authority = content(self.cluster, "certificate-authority")
        known = {
            "server": self.cluster.get("server"),
            "tls-server-name": self.cluster.get("tls-server-name"),
            "insecure-skip-tls-verify": self.cluster.get("insecure-skip-tls-verify"),
            "proxy-url": self.cluster.get("proxy-url"),
            "certificate-authority-data": base64.b64encode(authority).decode() if authority else None,
        }
        extensions = self.cluster.get("extensions") or []
        wanted = [item.get("extension") for item in extensions if item.get("name") == _EXTENSION]
        known["config"] = wanted[0] if wanted else None
        return {name: value for name, value in known.items() if value}

    def _stdin(self) -> int | None:
        """Nothing to read, unless the plugin may ask and somebody sits at a terminal."""
        may_ask = self.spec.get("interactiveMode", "IfAvailable") in ("IfAvailable", "Always")
        at_terminal = sys.stdin is not None and sys.stdin.isatty()
        if self.spec.get("interactiveMode") == "Always" and not at_terminal:
            raise self._fault("asks for something at a terminal, and there is none here")
        return None if may_ask and at_terminal else subprocess.DEVNULL

    def _fault(self, what: str) -> EnvironmentFault:
        hint = str(self.spec.get("installHint") or "").strip()
        told = f" {' '.join(hint.split())}" if hint else ""
        message = (
            f"the credential plugin {self.command or 'of the kubeconfig'} of user {self.user} {what}.{told}"
        )
        return EnvironmentFault(message, next_command=self.check)


def _of_plugin(plugin: Plugin, common: dict[str, Any]) -> Login:
    status = plugin.status()
    if status.get("clientCertificateData") and status.get("clientKeyData"):
        common["certificate"] = str(status["clientCertificateData"]).encode()
        common["key"] = str(status["clientKeyData"]).encode()

    def authorization() -> str | None:
        token = plugin.status().get("token")
        return f"Bearer {token}" if token else None

    what = f"what the credential plugin {plugin.command} gave for user {plugin.user}"
    return Login(what, authorization, plugin.forget, **common)


def _end(process: subprocess.Popen[bytes], *, whole_group: bool) -> None:
    """End a plugin that still runs, and what it started."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL) if whole_group else process.kill()
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream:
            stream.close()


def _is_over(status: Mapping[str, Any]) -> bool:
    try:
        ends = datetime.fromisoformat(str(status["expirationTimestamp"]).replace("Z", "+00:00"))
    except (KeyError, ValueError):
        return False
    ends = ends if ends.tzinfo else ends.replace(tzinfo=UTC)
    return ends - _RENEW_BEFORE < datetime.now(UTC)


def _words(printed: bytes | str | None) -> str:
    text = printed.decode("utf-8", "replace") if isinstance(printed, bytes) else printed or ""
    line = " ".join(text.split()).rstrip(".")
    return line if len(line) <= _MOST_WORDS else f"…{line[-_MOST_WORDS:]}"


# Certificates


def _expiry(certificate: bytes) -> str:
    """When the client certificate ended or begins, for the message; nothing while it holds."""
    bounds = validity(certificate)
    if bounds is None:
        return ""
    begins, ends = bounds
    now = datetime.now(UTC)
    if now > ends:
        return f", which expired on {ends:%Y-%m-%d %H:%M} UTC"
    return f", which is not valid before {begins:%Y-%m-%d %H:%M} UTC" if now < begins else ""


def validity(certificate: bytes) -> tuple[datetime, datetime] | None:
    """From when to when the first certificate of a PEM text holds; None where it cannot be told.

    Python's `ssl` tells this of a peer's certificate only. In RFC 5280 section 4.1 the validity is
    the fourth part after the optional version.
    """
    try:
        text = certificate.decode("ascii")
        body = text.split("-----BEGIN CERTIFICATE-----", 1)[1].split("-----END", 1)[0]
        whole, _ = _der(base64.b64decode(body))
        parts = _parts(_parts(whole)[0][1])
        offset = 1 if parts[0][0] == 0xA0 else 0
        begins, ends = _parts(parts[offset + 3][1])
        return _moment(*begins), _moment(*ends)
    except (ValueError, IndexError, UnicodeDecodeError):
        return None


def _der(data: bytes) -> tuple[bytes, int]:
    """The content of the first value, and where the next one begins."""
    length, start = data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    return data[start : start + length], start + length


def _parts(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        body, end = _der(data)
        found.append((data[0], body))
        data = data[end:]
    return found


def _moment(tag: int, text: bytes) -> datetime:
    form = "%y%m%d%H%M%SZ" if tag == 0x17 else "%Y%m%d%H%M%SZ"
    return datetime.strptime(text.decode("ascii"), form).replace(tzinfo=UTC)
