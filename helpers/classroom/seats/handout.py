"""What a learner is handed: one kubeconfig, with a token that expires and a context that knows its scope.

The token comes from the TokenRequest API and is bound to a Secret in the class's namespace (long-lived
Secret tokens are not made by Kubernetes any more, and would never expire). Deleting the Secret or the
ServiceAccount ends it at once, whatever its date.
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from helpers.atomic_file import write_atomically
from helpers.classroom.folder import ClassFolder, Member
from helpers.classroom.seats.rights import SYSTEM, handout_secret, prefix
from helpers.cluster.connection import EXTENSION, standalone
from helpers.cluster.faults import Asked
from helpers.cluster.scope import Scope
from helpers.errors import EnvironmentFault

if TYPE_CHECKING:
    from helpers.cluster import Cluster

# Half a year's course, and a week's notice: `course class create` renews what ends sooner.
DEFAULT_DAYS = 180
RENEW_BEFORE = timedelta(days=7)


def hand_out(
    folder: ClassFolder, member: Member, cluster: Cluster, *, days: int = DEFAULT_DAYS, server: str = ""
) -> bool:
    """Write the learner's kubeconfig (0600) unless a good one is there; whether it was written."""
    path = folder.handout(member)
    entry = cluster_entry(folder, server)
    secret = cluster.view().get("Secret", handout_secret(member), prefix(folder.name))
    if is_current(path, secret.uid or "", entry, datetime.now(UTC), days):
        return False
    token = request_token(cluster, folder.name, member, secret.uid or "", days)
    write_atomically(path, yaml.safe_dump(kubeconfig(folder, member, entry, token), sort_keys=False))
    return True


def request_token(cluster: Cluster, class_name: str, member: Member, secret_uid: str, days: int) -> str:
    """A token of the learner's ServiceAccount; the API server may shorten the time asked for."""
    secret = {"apiVersion": "v1", "kind": "Secret", "name": handout_secret(member), "uid": secret_uid}
    body = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": {"expirationSeconds": int(timedelta(days=days).total_seconds()), "boundObjectRef": secret},
    }
    path = f"/api/v1/namespaces/{prefix(class_name)}/serviceaccounts/{member.suffix}/token"
    asked = Asked(f"a token for {member.learner.id}", "ServiceAccount", member.suffix, prefix(class_name))
    answer = cluster.api.call("POST", path, asked, body=body)
    return str(answer["status"]["token"])


def kubeconfig(folder: ClassFolder, member: Member, entry: dict[str, Any], token: str) -> dict[str, Any]:
    """The handout: the learner's context begins in their `llm-system`, and says which scope it is."""
    name = f"{folder.name}-{member.suffix}"
    told = {"scope": member.suffix, "class": folder.name, "learner": member.learner.id, "nonce": member.nonce}
    context = {
        "cluster": name,
        "user": name,
        "namespace": Scope(member.suffix).namespace(SYSTEM),
        "extensions": [{"name": EXTENSION, "extension": told}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": entry}],
        "contexts": [{"name": name, "context": context}],
        "users": [{"name": name, "user": {"token": token}}],
    }


def cluster_entry(folder: ClassFolder, server: str = "") -> dict[str, Any]:
    """How learners reach the shared cluster: as the instructor does, or at another address."""
    if folder.kubeconfig is None:
        raise EnvironmentFault(
            "handouts need the address and authority of a kubeconfig, and this class was made without one",
            next_command="COURSE_KUBECONFIG=FILE course class create --roster roster.csv",
        )
    entry: dict[str, Any] = standalone(folder.kubeconfig, folder.context or None)["clusters"][0]["cluster"]
    return {**entry, "server": server} if server else entry


def is_current(path: Path, secret_uid: str, entry: dict[str, Any], now: datetime, days: int) -> bool:
    """Whether the handout is whole, leads to this cluster, and its token holds for a while yet."""
    try:
        tree = yaml.safe_load(path.read_text())
        claims = claims_of(tree["users"][0]["user"]["token"])
        ends = datetime.fromtimestamp(claims["exp"], UTC)
        bound = claims["kubernetes.io"]["secret"]["uid"]
        same_place = tree["clusters"][0]["cluster"] == entry
    except (OSError, yaml.YAMLError, ValueError, KeyError, TypeError, IndexError):
        return False
    notice = min(RENEW_BEFORE, timedelta(days=days) / 2)
    return bool(same_place and bound == secret_uid and ends - now > notice)


def ends_at(path: Path) -> datetime | None:
    """When the handout's token ends; None where there is no readable handout."""
    try:
        tree = yaml.safe_load(path.read_text())
        return datetime.fromtimestamp(claims_of(tree["users"][0]["user"]["token"])["exp"], UTC)
    except (OSError, yaml.YAMLError, ValueError, KeyError, TypeError, IndexError):
        return None


def claims_of(token: str) -> dict[str, Any]:
    """What a token says of itself: read, not verified; ValueError when it is no JSON Web Token."""
    try:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, binascii.Error) as error:
        raise ValueError("not a JSON Web Token") from error
    if not isinstance(claims, dict):
        raise ValueError("not a JSON Web Token")
    return claims
