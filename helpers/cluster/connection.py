"""Which cluster to speak to, and how to prove to it who one is.

Certificates, tokens and passwords in a kubeconfig are read here. Credentials that a program or an
identity provider hands out (exec plugins, OIDC) are left to the official client's loader, which is
imported only then: it costs 0.6 s.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from helpers import settings
from helpers.cluster.scope import Scope
from helpers.errors import EnvironmentFault, NoClusterChosen

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SETTINGS_FILE = "settings.json"
EXTENSION = "course"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Connection:
    """An API server's address, and what it takes to be let in."""

    server: str
    source: str
    context: str = ""
    kubeconfig: Path | None = None
    scope: Scope = field(default_factory=Scope)
    tls: ssl.SSLContext | None = None
    tls_server_name: str | None = None
    proxy: str | None = None
    # What to do when it does not answer.
    remedy: str = "course doctor"
    # Asked for every request: tokens expire and are renewed.
    authorization: Callable[[], str | None] = lambda: None


@dataclass(frozen=True)
class Choice:
    """What `course use` wrote down; a context of None is the embedded cluster."""

    context: str | None = None
    kubeconfig: str | None = None


def load_choice() -> Choice:
    """The cluster that `course use` chose; the embedded one when it never ran."""
    path = settings.home_dir() / SETTINGS_FILE
    try:
        tree = json.loads(path.read_text())
    except FileNotFoundError:
        return Choice()
    except (OSError, ValueError) as error:
        raise NoClusterChosen(
            f"{path} cannot be read: {error}", next_command="course use embedded"
        ) from error
    return Choice(tree.get("context"), tree.get("kubeconfig"))


def save_choice(choice: Choice) -> None:
    """Remember the choice for later commands; what else the file holds is kept."""
    path = settings.home_dir() / SETTINGS_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        tree = json.loads(path.read_text())
    except (OSError, ValueError):
        tree = {}
    tree |= {"context": choice.context, "kubeconfig": choice.kubeconfig}
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(tree, indent=1))
    fresh.replace(path)


def choose_connection(*, kubeconfig: Path | None = None, context: str | None = None) -> Connection:
    """The connection by the first rule that applies; no network is used.

    Arguments, then COURSE_KUBECONFIG and COURSE_CONTEXT, COURSE_CLUSTER, `course use`, the embedded
    cluster, and last the service account of the pod this runs in.
    """
    kubeconfig = kubeconfig or _path_from("COURSE_KUBECONFIG")
    context = context or os.environ.get("COURSE_CONTEXT") or None
    if kubeconfig or context:
        return from_kubeconfig(kubeconfig or default_kubeconfig(context), context)
    choice = Choice() if os.environ.get("COURSE_CLUSTER") else load_choice()
    if choice.context:
        return from_kubeconfig(Path(choice.kubeconfig or default_kubeconfig(choice.context)), choice.context)
    embedded = settings.kubeconfig_path(settings.cluster_name())
    if embedded.exists():
        return replace(from_kubeconfig(embedded, None), remedy="course up")
    if os.environ.get("KUBERNETES_SERVICE_HOST") and (SERVICE_ACCOUNT / "token").exists():
        return in_cluster()
    raise NoClusterChosen(
        f"no cluster named {settings.cluster_name()} is running here and no other one is chosen",
        next_command="course up",
    )


def chosen_kubeconfig() -> Path | None:
    """The kubeconfig that `choose_connection` would read, for kubectl; None inside a pod."""
    return choose_connection().kubeconfig


def default_kubeconfig(context: str | None) -> Path:
    """Where kubectl would find a context: the file of KUBECONFIG that has it, else ~/.kube/config."""
    standard = Path("~/.kube/config").expanduser()
    paths = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    for path in paths or [standard]:
        if path.exists() and (context is None or context in contexts_in(path)):
            return path.resolve()
    return paths[0] if paths else standard


def contexts_in(path: Path) -> list[str]:
    """The names of all contexts in a kubeconfig."""
    return [item.get("name", "") for item in _read(path).get("contexts") or []]


def from_kubeconfig(path: Path, context: str | None) -> Connection:
    """The connection that one context of a kubeconfig describes."""
    tree = _read(path)
    name = context or tree.get("current-context") or ""
    found = _named(tree, "contexts", name, path)["context"]
    cluster = _named(tree, "clusters", found.get("cluster", ""), path)["cluster"]
    user = _named(tree, "users", found["user"], path).get("user") or {} if found.get("user") else {}
    base = path.resolve().parent
    if user.get("exec") or user.get("auth-provider"):
        return _with_official_client(path, name, found, cluster)
    return Connection(
        server=str(cluster.get("server", "")).rstrip("/"),
        source=f"context {name} of {path}",
        context=name,
        kubeconfig=path,
        scope=_scope_of(found),
        tls=_tls(cluster, user, base),
        tls_server_name=cluster.get("tls-server-name"),
        proxy=cluster.get("proxy-url"),
        authorization=_static_authorization(user, base),
    )


def standalone(path: Path, context: str | None) -> dict[str, Any]:
    """One context of a kubeconfig as a kubeconfig of its own: what lies in files beside it is taken in."""
    tree = _read(path)
    name = context or tree.get("current-context") or ""
    found = _named(tree, "contexts", name, path)
    base = path.resolve().parent
    cluster = _inlined(_named(tree, "clusters", found["context"].get("cluster", ""), path), "cluster", base)
    parts: dict[str, Any] = {"clusters": [cluster], "contexts": [found], "users": []}
    if found["context"].get("user"):
        parts["users"] = [_inlined(_named(tree, "users", found["context"]["user"], path), "user", base)]
    return {"apiVersion": "v1", "kind": "Config", "current-context": name, **parts}


def _inlined(item: dict[str, Any], section: str, base: Path) -> dict[str, Any]:
    holder = dict(item.get(section) or {})
    for name in ("certificate-authority", "client-certificate", "client-key"):
        content = _content(holder, name, base)
        if content is not None:
            holder.pop(name, None)
            holder[f"{name}-data"] = base64.b64encode(content).decode()
    if holder.get("tokenFile"):
        holder["tokenFile"] = str(base / holder["tokenFile"])
    return {**item, section: holder}


def in_cluster() -> Connection:
    """The connection of a pod's service account; its token is read again as it is renewed."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    host = f"[{host}]" if ":" in host else host
    return Connection(
        server=f"https://{host}:{port}",
        source="the service account of this pod",
        context="in-cluster",
        scope=Scope(os.environ.get("COURSE_SCOPE", "")),
        tls=ssl.create_default_context(cafile=str(SERVICE_ACCOUNT / "ca.crt")),
        authorization=lambda: f"Bearer {(SERVICE_ACCOUNT / 'token').read_text().strip()}",
    )


def _path_from(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None


def _read(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.load(path.read_text(), Loader=_Loader)
    except FileNotFoundError as error:
        raise NoClusterChosen(f"there is no kubeconfig at {path}", next_command="course up") from error
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise EnvironmentFault(f"{path} is not a readable kubeconfig: {error}") from error
    if not isinstance(tree, dict):
        raise EnvironmentFault(f"{path} is not a kubeconfig")
    return tree


def _named(tree: dict[str, Any], section: str, name: str, path: Path) -> dict[str, Any]:
    items = [item for item in tree.get(section) or [] if isinstance(item, dict)]
    for item in items:
        if item.get("name") == name:
            return item
    have = ", ".join(str(item.get("name")) for item in items) or "none"
    raise NoClusterChosen(
        f"{path} has no entry {name!r} in {section} (it has: {have})",
        next_command=f"kubectl config get-contexts --kubeconfig {path}",
    )


def _scope_of(context: dict[str, Any]) -> Scope:
    written = os.environ.get("COURSE_SCOPE")
    if written is not None:
        return Scope(written)
    for item in context.get("extensions") or []:
        if item.get("name") == EXTENSION:
            return Scope(str((item.get("extension") or {}).get("scope") or ""))
    return Scope()


def _tls(cluster: dict[str, Any], user: dict[str, Any], base: Path) -> ssl.SSLContext | None:
    if not str(cluster.get("server", "")).startswith("https"):
        return None
    authority = _content(cluster, "certificate-authority", base)
    certificate, key = _content(user, "client-certificate", base), _content(user, "client-key", base)
    try:
        context = ssl.create_default_context(cadata=authority.decode() if authority else None)
        if certificate and key:
            _load_client_certificate(context, certificate, key)
    except (ssl.SSLError, ValueError) as error:
        raise EnvironmentFault(f"the certificates in the kubeconfig cannot be used: {error}") from error
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _load_client_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """OpenSSL takes a client certificate only from a file: one that nobody else can read, for a moment."""
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(certificate.rstrip() + b"\n" + key)
        file.flush()
        context.load_cert_chain(file.name)


def _content(holder: dict[str, Any], name: str, base: Path) -> bytes | None:
    inline = holder.get(f"{name}-data")
    if inline:
        try:
            return base64.b64decode(inline)
        except binascii.Error as error:
            raise EnvironmentFault(f"{name}-data in the kubeconfig is not base64") from error
    if holder.get(name):
        path = base / holder[name]
        try:
            return path.read_bytes()
        except OSError as error:
            raise EnvironmentFault(f"the kubeconfig's {name} cannot be read: {error}") from error
    return None


def _static_authorization(user: dict[str, Any], base: Path) -> Callable[[], str | None]:
    if user.get("tokenFile"):
        path = base / user["tokenFile"]
        return lambda: f"Bearer {path.read_text().strip()}"
    header = None
    if user.get("token"):
        header = f"Bearer {user['token']}"
    elif user.get("username"):
        pair = f"{user['username']}:{user.get('password', '')}".encode()
        header = f"Basic {base64.b64encode(pair).decode()}"
    return lambda: header


def _with_official_client(
    path: Path, name: str, context: dict[str, Any], cluster: dict[str, Any]
) -> Connection:
    from kubernetes.client import Configuration
    from kubernetes.config import ConfigException, load_kube_config

    configuration = Configuration()
    try:
        load_kube_config(str(path), name, client_configuration=configuration)
    except ConfigException as error:
        raise EnvironmentFault(
            f"the credentials of context {name} cannot be loaded: {error}",
            next_command=f"kubectl --kubeconfig {path} --context {name} get namespaces",
        ) from error
    user: dict[str, Any] = {}
    if configuration.cert_file:
        user = {"client-certificate": configuration.cert_file, "client-key": configuration.key_file}

    def authorization() -> str | None:
        # Runs the loader's refresh hook, which asks the plugin again when its token has expired.
        header = configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        return str(header) if header else None

    return Connection(
        server=str(configuration.host),
        source=f"context {name} of {path}",
        context=name,
        kubeconfig=path,
        scope=_scope_of(context),
        tls=_tls(cluster, user, path.resolve().parent),
        tls_server_name=cluster.get("tls-server-name"),
        proxy=cluster.get("proxy-url"),
        authorization=authorization,
    )
