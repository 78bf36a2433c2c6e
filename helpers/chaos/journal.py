"""The journal of an experiment: a time series whose every entry is sealed to the one before it.

On disk it is one JSON object a line, appended as things happen, so that a killed process leaves what
it saw. In the cluster it is a ConfigMap, so that whoever grades the cluster can read it. Each entry
carries an HMAC over itself and its predecessor's; the key is a Secret of that cluster. An edit by
hand, a missing line or a journal of another cluster do not verify. It is no defence against the
cluster's own administrator, who can read the key: see the threat model in the documentation.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import os
import secrets
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.errors import LabError, ObjectMissing
from helpers.settings import home_dir

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView

SCHEMA = "course.experiment/v1"
NAMESPACE = "llm-probes"
KEY_SECRET = "course-journal-key"
LABEL = "course.llm-stack/experiment"
_MAC_CHARS = 32


class JournalBroken(LabError):
    """The journal does not verify: an entry was changed, removed or added, or it was never finished."""


Entry = Mapping[str, Any]


def _mac(key: bytes, before: str, entry: Entry) -> str:
    body = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hmac.new(key, f"{before}\n{body}".encode(), hashlib.sha256).hexdigest()[:_MAC_CHARS]


class JournalWriter:
    """Appends sealed entries to a file; safe to use from several threads."""

    def __init__(self, path: Path, key: bytes, header: Entry) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self._key, self._last, self._count = path, key, "", 0
        self._lock = threading.Lock()
        self._file = path.open("x", encoding="utf-8")
        self.add("start", schema=SCHEMA, **header)

    def add(self, kind: str, **data: Any) -> None:
        """Append one entry."""
        with self._lock:
            entry = {"n": self._count, "kind": kind, **data}
            self._last = _mac(self._key, self._last, entry)
            self._file.write(json.dumps({**entry, "mac": self._last}, ensure_ascii=False) + "\n")
            # The reader of a running experiment (the notebook's time line) follows the file.
            self._file.flush()
            self._count += 1

    def close(self) -> None:
        """Write everything to disk; a journal that was not ended says so when it is read."""
        with self._lock:
            if not self._file.closed:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()


@dataclass(frozen=True)
class Record:
    """A journal as read back: its header and its entries in order."""

    entries: tuple[Entry, ...]

    @property
    def header(self) -> Entry:
        return self.entries[0]

    @property
    def name(self) -> str:
        return str(self.header.get("experiment", ""))

    @property
    def is_finished(self) -> bool:
        return self.entries[-1]["kind"] == "end"

    def of(self, kind: str) -> list[Entry]:
        """All entries of one kind, in order."""
        return [entry for entry in self.entries if entry["kind"] == kind]

    def first(self, kind: str) -> Entry | None:
        return next((entry for entry in self.entries if entry["kind"] == kind), None)

    def last(self, kind: str) -> Entry | None:
        return next((entry for entry in reversed(self.entries) if entry["kind"] == kind), None)


def parse(text: str) -> Record:
    """Read a journal without verifying it; a half-written last line is dropped.

    Raises:
        JournalBroken: there is no readable entry.
    """
    entries = []
    for line in text.splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    if not entries or entries[0].get("kind") != "start":
        raise JournalBroken("the journal has no beginning")
    return Record(tuple(entries))


def verify(record: Record, key: bytes, cluster_uid: str) -> None:
    """Check every seal, the order, the end, and that it is this cluster's journal.

    Raises:
        JournalBroken: naming the first entry that does not verify.
    """
    before = ""
    for number, entry in enumerate(record.entries):
        body = {name: value for name, value in entry.items() if name != "mac"}
        before = _mac(key, before, body)
        if entry.get("n") != number or not hmac.compare_digest(before, str(entry.get("mac", ""))):
            raise JournalBroken(
                f"entry {number} ({entry.get('kind')}) does not carry the seal it was written with"
            )
    if record.header.get("cluster") != cluster_uid:
        raise JournalBroken("it was written on another cluster")
    if not record.is_finished:
        raise JournalBroken("it breaks off: the experiment did not end")


# Where journals are kept


def experiments_dir(cluster_uid: str) -> Path:
    """The folder of a cluster's experiments on this machine."""
    return home_dir() / "experiments" / cluster_uid


def journal_key(cluster: Cluster) -> bytes:
    """The cluster's key for journals; made on first use."""
    found = read_key(cluster.view())
    if found:
        return found
    key = secrets.token_bytes(32)
    cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}])
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": KEY_SECRET, "namespace": NAMESPACE},
        "immutable": True,
        "data": {"key": base64.b64encode(key).decode()},
    }
    cluster.apply([secret])
    return key


def read_key(view: ClusterView) -> bytes | None:
    """The cluster's key, or None where no experiment was ever run."""
    secret = view.find("Secret", KEY_SECRET, NAMESPACE)
    return base64.b64decode(secret.path("data.key", "")) if secret else None


def publish(cluster: Cluster, record_text: str, name: str, lab: str = "05") -> None:
    """Keep a finished journal in the cluster, in place of an earlier run of the same experiment."""
    packed = base64.b64encode(gzip.compress(record_text.encode(), mtime=0)).decode()
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"journal-{name}",
            "namespace": NAMESPACE,
            "labels": {LABEL: name, "course.llm-stack/lab": lab},
        },
        "binaryData": {"journal.gz": packed},
    }
    cluster.apply([config_map])


def published(view: ClusterView, name: str) -> Record:
    """The verified journal of an experiment as the cluster keeps it.

    Raises:
        ObjectMissing: the experiment was not run on this cluster.
        JournalBroken: it does not verify.
    """
    config_map = view.get("ConfigMap", f"journal-{name}", NAMESPACE)
    key = read_key(view)
    if key is None:
        raise ObjectMissing("Secret", KEY_SECRET, NAMESPACE)
    packed = config_map.path("binaryData", {}).get("journal.gz", "")
    try:
        text = gzip.decompress(base64.b64decode(packed)).decode()
    except (OSError, ValueError, EOFError) as error:
        raise JournalBroken(f"it cannot be read: {error}") from error
    record = parse(text)
    system = view.get("Namespace", "kube-system")
    verify(record, key, system.uid or "")
    return record


def sealed_text(key: bytes, entries: Iterable[Entry]) -> str:
    """Entries as a journal's text; for tests and mutants that need a journal without a cluster."""
    lines: list[str] = []
    before = ""
    for number, entry in enumerate(entries):
        body = {"n": number, **entry}
        before = _mac(key, before, body)
        lines.append(json.dumps({**body, "mac": before}, ensure_ascii=False))
    return "\n".join(lines) + "\n"


def journals(cluster_uid: str, name: str) -> Sequence[Path]:
    """The journals of an experiment on this machine, running or finished, oldest first."""
    return sorted(experiments_dir(cluster_uid).glob(f"*-{name}/journal.jsonl"))


def latest(cluster_uid: str, name: str) -> Path | None:
    """The newest journal of an experiment on this machine, running or finished."""
    found = journals(cluster_uid, name)
    return found[-1] if found else None
