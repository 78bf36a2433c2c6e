"""What a journal says: replaced pods, endpoint gaps, what each client saw. Pure functions over a Record."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from helpers.chaos.clients import Attempt
from helpers.chaos.faults import CLIENT_OF
from helpers.chaos.journal import Record
from helpers.cluster.resource import OVER

OTHER = {"vllm": "qdrant", "qdrant": "vllm"}
SERVED, NO_ATTEMPT = "served", "no attempt yet"


@dataclass(frozen=True)
class PodSeen:
    """One pod over an experiment: its UID and the restart counts it was first and last seen with."""

    backend: str
    name: str
    uid: str
    first_t: float
    last_t: float
    restarts_first: int
    restarts_last: int


def pods(record: Record, backend: str) -> list[PodSeen]:
    """The backend's pods in the order in which they appeared."""
    seen: dict[str, PodSeen] = {}
    for entry in record.of("sample"):
        for pod in entry["pods"]:
            if pod["backend"] != backend:
                continue
            before = seen.get(pod["uid"])
            if before is None and pod.get("phase") in OVER:
                continue  # it was over before the experiment began
            seen[pod["uid"]] = PodSeen(
                backend,
                pod["name"],
                pod["uid"],
                before.first_t if before else entry["t"],
                entry["t"],
                before.restarts_first if before else pod["restarts"],
                pod["restarts"],
            )
    return list(seen.values())


def attempts(record: Record, client: str | None = None) -> list[Attempt]:
    """Everything that the clients saw, in order."""
    found = [Attempt(*row) for entry in record.of("clients") for row in entry["attempts"]]
    return sorted((item for item in found if client in (None, item.client)), key=lambda item: item.t)


def injected_at(record: Record) -> float | None:
    """When the first step of the fault was carried out; None when nothing was injected."""
    entry = record.first("inject")
    return float(entry["t"]) if entry else None


def undone_at(record: Record) -> float | None:
    """When the undo began."""
    entry = record.first("undo")
    return float(entry["t"]) if entry else None


def ready_endpoints(record: Record, backend: str) -> list[tuple[float, int]]:
    """How many endpoints were ready, over time."""
    return [(entry["t"], int(entry["endpoints"][backend]["ready"])) for entry in record.of("sample")]


def endpoint_gap_s(record: Record, backend: str) -> float:
    """How long the Service had no ready endpoint, as the samples show it, in seconds."""
    series = ready_endpoints(record, backend)
    return sum(later - t for (t, ready), (later, _) in pairwise(series) if not ready)


def failures(record: Record, client: str) -> Counter[str]:
    """What the client saw other than success, and how often."""
    return Counter(item.outcome for item in attempts(record, client) if not item.ok)


def main_symptom(record: Record, backend: str) -> str:
    """The word the interrupted client said most often: refused, timeout, reset, dns, HTTP 5xx."""
    seen = failures(record, CLIENT_OF[backend])
    return seen.most_common(1)[0][0] if seen else ""


def clients_now(items: Iterable[Attempt]) -> dict[str, str]:
    """What each client saw within its latest second: served, the words of its failures, or nothing yet."""
    found = list(items)
    return {
        client: _lately([item for item in found if item.client == client]) for client in CLIENT_OF.values()
    }


def in_words(items: Iterable[Attempt]) -> str:
    """The same in one line: which client fails, and how."""
    seen = clients_now(items)
    said = {SERVED: "is served", NO_ATTEMPT: "has not called yet"}
    return ", ".join(
        f"{client} ({backend}) {said.get(seen[client], f'fails: {seen[client]}')}"
        for backend, client in CLIENT_OF.items()
    )


def _lately(mine: list[Attempt]) -> str:
    if not mine:
        return NO_ATTEMPT
    latest = max(item.t for item in mine)
    failed = Counter(item.outcome for item in mine if item.t > latest - 1 and not item.ok)
    return ", ".join(outcome for outcome, _ in failed.most_common()) or SERVED


def availability(items: Iterable[Attempt]) -> float | None:
    """The share of attempts that succeeded; None without any."""
    outcomes = [item.ok for item in items]
    return sum(outcomes) / len(outcomes) if outcomes else None


def slowdown(record: Record, client: str) -> float | None:
    """How many times as long the client waited at its median tick under the fault as before it.

    Both halves come from one journal, so that a slow machine is slow in both. A tick's requests are
    taken together: a starved server answers a few at once and lets the next one wait. A time-out
    counts as long as it was waited for. None while either half has no attempt.
    """
    injected, undone = record.first("injected"), undone_at(record)
    if injected is None or undone is None:
        return None
    ticks: dict[float, float] = defaultdict(float)
    for item in attempts(record, client):
        ticks[item.t] += item.ms
    before = [ms for t, ms in ticks.items() if t < (injected_at(record) or 0.0)]
    under = [ms for t, ms in ticks.items() if float(injected["t"]) <= t < undone]
    return median(under) / max(median(before), 0.1) if before and under else None


def interrupted_s(record: Record, client: str) -> float:
    """From the client's first failure to its next success after the last one, in seconds."""
    seen = attempts(record, client)
    bad = [item.t for item in seen if not item.ok]
    if not bad:
        return 0.0
    after = next((item.t for item in seen if item.ok and item.t > bad[-1]), seen[-1].t)
    return after - bad[0]


def recovered(record: Record, client: str) -> bool:
    """Whether the client's last attempts succeeded again."""
    seen = attempts(record, client)
    return bool(seen) and all(item.ok for item in seen[-2:])


def told(record: Record, old: PodSeen, new: PodSeen) -> list[dict[str, Any]]:
    """The cluster's own events about the old pod's end or the new one's beginning.

    The kubelet drops events of a pod that reported many (its probes while loading), so that the end
    of a pod is not always told: its replacement is, by its controller and by the scheduler.
    """
    return [
        dict(entry)
        for entry in record.of("event")
        if (entry.get("uid") == old.uid and entry["reason"] == "Killing")
        or entry.get("uid") == new.uid
        or (entry["reason"] == "SuccessfulCreate" and new.name in entry.get("message", ""))
    ]
