"""Which cluster to speak to, and how to prove to it who one is.

A kubeconfig's fields that say where to (`helpers.cluster.proxies`) and who asks (`helpers.cluster.login`)
are honoured as kubectl honours them, or refused in a sentence. Only what an identity provider hands out
(OIDC) is left to the official client's loader, which is imported only then: it costs 0.6 s.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from helpers import settings
from helpers.atomic_file import write_atomically
from helpers.cluster import kubeconfig as files
from helpers.cluster.login import Header, Login, content, login_of
from helpers.cluster.proxies import proxy_for
from helpers.cluster.scope import Scope
from helpers.errors import EnvironmentFault, NoClusterChosen

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SETTINGS_FILE = "settings.json"
EXTENSION = "course"


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
    login: Login = field(default_factory=Login)

    def headers(self) -> list[Header]:
        """Who asks, as headers of a request; EnvironmentFault says which credentials failed and why."""
        return self.login.headers()


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
    try:
        tree = json.loads(path.read_text())
    except (OSError, ValueError):
        tree = {}
    tree |= {"context": choice.context, "kubeconfig": choice.kubeconfig}
    write_atomically(path, json.dumps(tree, indent=1))


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
    """Where kubectl would find a context: the file of KUBECONFIG that has all of it, else ~/.kube/config.

    A context whose cluster or user stands in another file of KUBECONFIG needs them all, `a:b`.
    """
    standard = Path("~/.kube/config").expanduser()
    paths = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    together = Path(os.pathsep.join(str(path.resolve()) for path in paths)) if paths else standard
    if len(paths) > 1 and files.is_there(together):
        whole = files.read(together)
        for path in paths:
            if path.exists() and _holds(files.read(path), whole, context or whole["current-context"]):
                return path.resolve()
        return together
    return paths[0].resolve() if paths else standard


def _holds(part: dict[str, Any], whole: dict[str, Any], context: str) -> bool:
    """Whether one file says the same of a context as all together."""

    def entry(tree: dict[str, Any], section: str, name: str) -> Any:
        return next((item for item in tree[section] if item["name"] == name), None)

    found = entry(part, "contexts", context)
    if found is None or found != entry(whole, "contexts", context):
        return False
    names = (("clusters", found["context"].get("cluster")), ("users", found["context"].get("user")))
    return all(
        not name or (entry(part, section, name) or 0) == entry(whole, section, name)
        for section, name in names
    )


def contexts_in(path: Path) -> list[str]:
    """The names of all contexts in a kubeconfig."""
    return [item["name"] for item in files.read(path)["contexts"]]


def from_kubeconfig(path: Path, context: str | None) -> Connection:
    """The connection that one context of a kubeconfig describes.

    Args:
        path: a file, or several as KUBECONFIG has them (`a:b`).

    Raises:
        NoClusterChosen: a file, the context, its cluster or its user is not there.
        EnvironmentFault: credentials that cannot be had: which ones, and why.
    """
    tree = files.read(path)
    name = context or tree["current-context"]
    found = files.named(tree, "contexts", name, path)["context"]
    cluster = files.named(tree, "clusters", str(found.get("cluster") or ""), path)["cluster"]
    who = str(found.get("user") or "")
    user = files.named(tree, "users", who, path)["user"] if who else {}
    check = files.kubectl(path, f"--context {name} auth whoami")
    server = str(cluster.get("server", "")).rstrip("/")
    if user.get("auth-provider") and not user.get("token"):
        login = _of_provider(path, name, who, user, check)
    else:
        login = login_of(user, who, cluster, check=check)
    return Connection(
        server=server,
        source=f"context {name} of {path}",
        context=name,
        kubeconfig=path,
        scope=_scope_of(found),
        tls=_tls(cluster, login),
        tls_server_name=cluster.get("tls-server-name"),
        proxy=proxy_for(server, cluster.get("proxy-url"), {} if _is_own(path) else os.environ),
        login=login,
    )


def _is_own(path: Path) -> bool:
    """Whether the kubeconfig is an embedded cluster's: its address is on this machine, behind no proxy."""
    return settings.home_dir().resolve() / "clusters" in path.resolve().parents


def standalone(path: Path, context: str | None) -> dict[str, Any]:
    """One context of a kubeconfig as a kubeconfig of its own: what lies in files beside it is taken in."""
    tree = files.read(path)
    name = context or tree["current-context"]
    found = files.named(tree, "contexts", name, path)
    cluster = files.named(tree, "clusters", str(found["context"].get("cluster") or ""), path)
    parts: dict[str, Any] = {"clusters": [_inlined(cluster, "cluster")], "contexts": [found], "users": []}
    if found["context"].get("user"):
        parts["users"] = [_inlined(files.named(tree, "users", found["context"]["user"], path), "user")]
    return {"apiVersion": "v1", "kind": "Config", "current-context": name, **parts}


def _inlined(item: dict[str, Any], section: str) -> dict[str, Any]:
    holder = dict(item[section])
    for name in ("certificate-authority", "client-certificate", "client-key"):
        held = content(holder, name)
        if held is not None:
            holder.pop(name, None)
            holder[f"{name}-data"] = base64.b64encode(held).decode()
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
        login=login_of(
            {"tokenFile": str(SERVICE_ACCOUNT / "token")},
            "this pod's service account",
            {},
            check="kubectl auth whoami",
        ),
    )


def _path_from(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None


def _scope_of(context: dict[str, Any]) -> Scope:
    written = os.environ.get("COURSE_SCOPE")
    if written is not None:
        return Scope(written)
    for item in context.get("extensions") or []:
        if item.get("name") == EXTENSION:
            return Scope(str((item.get("extension") or {}).get("scope") or ""))
    return Scope()


def _tls(cluster: dict[str, Any], login: Login) -> ssl.SSLContext | None:
    if not str(cluster.get("server", "")).startswith("https"):
        return None
    authority = content(cluster, "certificate-authority")
    try:
        context = ssl.create_default_context(cadata=authority.decode() if authority else None)
        if login.certificate and login.key:
            _load_client_certificate(context, login.certificate, login.key)
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


def _of_provider(path: Path, context: str, who: str, user: dict[str, Any], check: str) -> Login:
    """The token that the official client gets from an identity provider."""
    provider = str(
        (user["auth-provider"] or {}).get("name") if isinstance(user["auth-provider"], dict) else ""
    )
    if provider != "oidc":
        # kubectl has no other since 1.26.
        raise EnvironmentFault(
            f"the auth provider {provider or 'without a name'} of user {who} gave no credentials: oidc is the only "
            "auth provider left, clouds use credential plugins instead",
            next_command=check,
        )
    from kubernetes.client import Configuration
    from kubernetes.config import ConfigException, load_kube_config

    configuration = Configuration()
    try:
        load_kube_config(str(path), context, client_configuration=configuration)
    except (ConfigException, OSError, ValueError, KeyError) as error:
        raise EnvironmentFault(
            f"the auth provider {provider} of user {who} gave no credentials: {error}", next_command=check
        ) from error

    def authorization() -> str | None:
        # Runs the loader's refresh hook, which asks the provider again when its token has expired.
        header = configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        return str(header) if header else None

    if authorization() is None:
        # The loader logs why and goes on as nobody.
        raise EnvironmentFault(
            f"the auth provider {provider} of user {who} gave no token: its own has expired and is not renewed",
            next_command=check,
        )
    return Login(f"the {provider} token of user {who}", authorization, next_command=check)
