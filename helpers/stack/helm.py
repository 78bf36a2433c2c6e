"""Qdrant as a Helm release: by which chart, and what Helm remembers of it in the cluster.

Helm keeps a record of each revision in a Secret of the release's namespace. The Secret's labels name the
release, the revision and its status; its data is the whole record, packed, with Helm's last word on it.
"""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from helpers.errors import Forbidden
from helpers.stack.memory import NAMESPACE

if TYPE_CHECKING:
    from helpers.cluster import ClusterView
    from helpers.cluster.resource import Resource

RELEASE = "qdrant"
CHART = "manifests/stack/qdrant/chart"
OFFICIAL = "qdrant --repo https://qdrant.github.io/qdrant-helm --version '~1.20.0'"
RECORDS = f"owner=helm,name={RELEASE}"


@dataclass(frozen=True)
class Revision:
    """One line of `helm history`; `said` is Helm's last word on it."""

    number: int
    status: str
    said: str
    record: Resource

    @property
    def is_deployed(self) -> bool:
        return self.status == "deployed"

    @property
    def is_pending(self) -> bool:
        """Helm is at work on it, or was interrupted."""
        return self.status.startswith("pending-")

    @property
    def was_deployed(self) -> bool:
        """Whether it is one to go back to: a later upgrade calls a failed revision superseded, too."""
        return self.is_deployed or (self.status == "superseded" and f'"{RELEASE}" failed: ' not in self.said)

    def __str__(self) -> str:
        return f"revision {self.number} of release {RELEASE} is {self.status}: {self.said}"


def revisions(view: ClusterView) -> list[Revision]:
    """What Helm remembers of the release, the oldest first; none where there is no release."""
    try:
        records = view.list("Secret", NAMESPACE, labels=RECORDS)
    except Forbidden:
        return []  # helm itself could not have made a release with these rights
    found = [_revision(record) for record in records]
    return sorted(found, key=lambda revision: revision.number)


def is_released(found: Resource) -> bool:
    """Whether Helm made an object, by the label that Helm itself asks for."""
    return found.labels.get("app.kubernetes.io/managed-by") == "Helm"


def way_back(history: list[Revision], namespace: str) -> str:
    """The command that leads back from a revision that is not deployed.

    To the newest one that was; where there is none, a failed one is in nobody's way, and an interrupted
    one keeps every other command from the release. Empty where nothing has to be done first.
    """
    good = [revision.number for revision in history if revision.was_deployed]
    if good:
        return f"helm rollback {RELEASE} {good[-1]} -n {namespace} --wait"
    return f"helm uninstall {RELEASE} -n {namespace}" if history[-1].is_pending else ""


def _revision(record: Resource) -> Revision:
    labels = record.labels
    return Revision(int(labels.get("version", 0)), labels.get("status", "unknown"), _said(record), record)


def _said(record: Resource) -> str:
    """The description in a record: JSON, packed by gzip, in base64, in base64 again as all data of a Secret is."""
    try:
        packed = base64.b64decode(base64.b64decode(record.raw["data"]["release"]))
        return str(json.loads(gzip.decompress(packed))["info"]["description"])
    except (KeyError, TypeError, ValueError, OSError, EOFError, zlib.error):
        return "its record cannot be read"
