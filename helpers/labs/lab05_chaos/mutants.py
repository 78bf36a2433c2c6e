"""Wrong clusters for lab 05: experiments that did not happen as told, and functions that retry wrongly.

The journals are written as the engine writes them, with the cluster's own key, so that each wrong
cluster fails for what it says and not for how it is sealed; one is edited by hand, to be caught.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable
from typing import Any

from helpers.chaos import evidence
from helpers.chaos.backoff import DOWN_BUDGET_S
from helpers.chaos.faults import BACKENDS, CLIENT_OF, SYSTEM
from helpers.chaos.gameday import NAME as GAME_DAY
from helpers.chaos.journal import KEY_SECRET, NAMESPACE, publish, sealed_text
from helpers.grading.author import Mutant, Proofs
from helpers.grading.changes import BEGUN, Change, applied, edited, manifest
from helpers.labs.backends import both_with_probes
from helpers.labs.lab05_chaos.checks import DOWN, FINDINGS, FINDINGS_NAMESPACE

_KEY = b"a key that only this fake cluster has"
_T = BEGUN.timestamp()
Entry = dict[str, Any]
EntriesEdit = Callable[[list[Entry]], list[Entry]]


def start(cluster: Any) -> None:
    """Both backends running; nothing was broken yet."""
    both_with_probes(cluster)
    key = {"key": base64.b64encode(_KEY).decode()}
    applied(manifest("Secret", KEY_SECRET, NAMESPACE, data=key))(cluster)


def solution(cluster: Any) -> None:
    """All experiments as they should be."""
    for backend in BACKENDS:
        _publish(cluster, f"delete-{backend}", deletion(cluster, backend))
    _publish(cluster, "backoff", backoff())
    _publish(cluster, "herd-none", herd(0.01))
    _publish(cluster, "herd-full", herd(0.4))
    _publish(cluster, GAME_DAY, game_day())
    _findings()(cluster)


def _publish(cluster: Any, name: str, entries: list[Entry]) -> None:
    system = cluster.view().get("Namespace", "kube-system")
    head = {"kind": "start", "experiment": name, "cluster": system.uid, "t": _T}
    publish(cluster, sealed_text(_KEY, [head, *entries, {"kind": "end", "t": _T + 60, "steady": True}]), name)


def _published(name: str, entries: list[Entry]) -> Change:
    return lambda cluster: _publish(cluster, name, entries)


def _uid(cluster: Any, backend: str) -> str:
    (pod,) = cluster.view().pods(SYSTEM, labels=BACKENDS[backend].labels)
    return str(pod.uid)


def _pod(backend: str, uid: str, ready: bool, restarts: int = 0) -> Entry:
    return {
        "backend": backend,
        "name": f"{backend}-{uid[:4]}",
        "uid": uid,
        "ready": ready,
        "restarts": restarts,
        "phase": "Running",
    }


def _attempts(client: str, outcomes: list[str], t: float = _T) -> list[list[Any]]:
    return [
        [t + number * 0.25, client, outcome, 200 if outcome == "ok" else None, 5.0]
        for number, outcome in enumerate(outcomes)
    ]


def deletion(cluster: Any, backend: str) -> list[Entry]:
    """A pod deleted after two seconds, its replacement ready after ten, the other backend untouched."""
    other = evidence.OTHER[backend]
    new, other_uid = _uid(cluster, backend), _uid(cluster, other)
    entries: list[Entry] = []
    for tick in range(48):
        t = tick * 0.25
        gone = 2 <= t < 10
        pod = _pod(backend, "old-uid" if t < 4 else new, not gone)
        ready = {backend: {"ready": 0 if gone else 1, "all": 1}, other: {"ready": 1, "all": 1}}
        entries.append(
            {"kind": "sample", "t": _T + t, "pods": [pod, _pod(other, other_uid, True)], "endpoints": ready}
        )
        if t == 2:
            entries.append({"kind": "inject", "t": _T + t, "step": f"delete Pod {backend}-old"})
            entries.append(
                {"kind": "event", "t": _T + t, "reason": "Killing", "uid": "old-uid", "message": ""}
            )
    outcomes = ["refused" if 8 <= number < 40 else "ok" for number in range(48)]
    rows = _attempts(CLIENT_OF[backend], outcomes) + _attempts(CLIENT_OF[other], ["ok"] * 48)
    return [
        *entries,
        {"kind": "clients", "t": _T + 12, "attempts": rows},
        {"kind": "steady-after", "t": _T + 12, "steady": True},
    ]


def trial(scenario: str, ended: str, attempts: list[float], outcomes: list[str], **other: Any) -> Entry:
    """One trial as the judge writes it."""
    usual = {"cause": "", "elapsed_s": attempts[-1] + 0.1, "budget_s": DOWN_BUDGET_S}
    return {
        "scenario": scenario,
        "ended": ended,
        "attempts": attempts,
        "outcomes": outcomes,
        **usual,
        **other,
    }


def good_trials() -> dict[str, Entry]:
    """What a function that does everything right leaves."""
    found = [
        trial("restart", "returned", [0, 0.4, 1.1, 2.6, 5.2], ["reset"] * 4 + ["200"]),
        trial("bad-request", "HTTPStatusError", [0], ["400"]),
        trial("unauthorized", "HTTPStatusError", [0], ["401"]),
        trial("not-found", "HTTPStatusError", [0], ["404"]),
        trial("not-ready", "returned", [0, 0.3, 1.0], ["503", "503", "200"]),
        trial("reset", "returned", [0, 0.2, 0.9], ["reset", "reset", "200"]),
        trial("timeout", "returned", [0, 1.4], ["hang", "200"]),
    ]
    for number, name in enumerate(DOWN):
        times = [0, 0.2 + 0.1 * number, 0.9 + 0.1 * number, 2.4 + 0.2 * number, 4.4 + 0.1 * number]
        found.append(trial(name, "BackendUnavailable", times, ["reset"] * 5, cause="ConnectError"))
    return {item["scenario"]: item for item in found}


def backoff(**changed: Entry) -> list[Entry]:
    """A judged function, with some trials changed."""
    return [{"kind": "during", "t": _T + 9, "result": list({**good_trials(), **changed}.values())}]


def herd(gap_s: float, *, answered: int = 24, took_s: float = 2.0) -> list[Entry]:
    """A herd whose clients came back one after the other, so many seconds apart, and waited so long."""
    back = [_T + 7 + number * gap_s for number in range(24)]
    arrivals = [[_T, client, 0, 0, _T] for client in range(24)]
    arrivals += [[back[client], client, 3, 200, back[client] + took_s] for client in range(answered)]
    return [{"kind": "after", "t": _T + 20, "result": {"queue": [], "arrivals": arrivals}}]


def game_day(
    *, answer: dict[str, str] | None = None, repaired: bool = True, other: str = "ok", failed: bool = True
) -> list[Entry]:
    """A game day on Qdrant's Service."""
    said = {"layer": "network", "cause": "service-selector"} if answer is None else answer
    hit = ["refused" if failed and 8 <= number < 30 else "ok" for number in range(48)]
    bystander = [other if 10 <= number < 20 else "ok" for number in range(48)]
    moment = {"kind": "repaired" if repaired else "time-over", "t": _T + 9, "answer": said}
    if repaired:
        moment["after_s"] = 9.0
    return [
        {"kind": "inject", "t": _T + 2, "step": "a fault drawn from the seed"},
        {
            "kind": "clients",
            "t": _T + 12,
            "attempts": _attempts("retrieval", hit) + _attempts("inference", bystander),
        },
        moment,
        {
            "kind": "reveal",
            "t": _T + 12,
            "backend": "qdrant",
            "layer": "network",
            "cause": "service-selector",
        },
    ]


def _findings(**changed: str) -> Change:
    data = {
        f"delete-{backend}.{key}": word
        for backend, layer, unaffected in (("vllm", "inference", "memory"), ("qdrant", "memory", "inference"))
        for key, word in (("layer", layer), ("symptom", "refused"), ("unaffected", unaffected))
    }
    data |= {key.replace("__", ".").replace("_", "-"): value for key, value in changed.items()}
    return applied(manifest("ConfigMap", FINDINGS, FINDINGS_NAMESPACE, data=data))


# What goes wrong


def _deletion(backend: str, edit: EntriesEdit) -> Change:
    return lambda cluster: _publish(cluster, f"delete-{backend}", edit(deletion(cluster, backend)))


def _judged(**changed: Entry) -> Change:
    return _published("backoff", backoff(**changed))


def _never_deleted(entries: list[Entry]) -> list[Entry]:
    """A journal in which nothing happened."""
    kept = [entry for entry in entries if entry["kind"] not in ("inject", "event")]
    for entry in kept:
        for pod in entry.get("pods", []):
            pod["uid"] = pod["uid"].replace("old-uid", "same")
    return kept


def _other_restarted(other: str) -> EntriesEdit:
    def edit(entries: list[Entry]) -> list[Entry]:
        for entry in entries[20:]:
            for pod in entry.get("pods", []):
                if pod["backend"] == other:
                    pod["restarts"] = 1
        return entries

    return edit


def _other_replaced(other: str) -> EntriesEdit:
    def edit(entries: list[Entry]) -> list[Entry]:
        for entry in entries[:10]:
            for pod in entry.get("pods", []):
                if pod["backend"] == other:
                    pod["uid"] = "another"
        return entries

    return edit


def _clients_saw_nothing(entries: list[Entry]) -> list[Entry]:
    for entry in entries:
        for row in entry.get("attempts", []):
            row[2] = "ok"
    return entries


def _edited_by_hand(name: str, *replaced: tuple[str, str]) -> Change:
    """The learner unpacks the journal, writes failures away, and packs it again."""

    def edit(config_map: Entry) -> None:
        text = gzip.decompress(base64.b64decode(config_map["binaryData"]["journal.gz"])).decode()
        for old, new in replaced or (("refused", "ok"), ('"ready": 0', '"ready": 1')):
            text = text.replace(old, new)
        config_map["binaryData"]["journal.gz"] = base64.b64encode(gzip.compress(text.encode())).decode()

    return edited("ConfigMap", f"journal-{name}", edit, NAMESPACE)


def _all_down(**change: Any) -> dict[str, Entry]:
    trials = good_trials()
    return {name: {**trials[name], **change} for name in DOWN}


def _game(**options: Any) -> Change:
    return _published(GAME_DAY, game_day(**options))


def _together() -> dict[str, Entry]:
    return _all_down(attempts=[0, 0.5, 1.5, 3.5, 4.9])


def _ticking() -> dict[str, Entry]:
    trials = good_trials()
    shifts = dict(zip(DOWN, (0.0, 0.2, 0.4, 0.6), strict=True))
    return {
        name: {**trials[name], "attempts": [0, 1.0 + shift, 2.0 + shift, 3.0 + shift, 4.0 + shift]}
        for name, shift in shifts.items()
    }


MUTANTS = [
    *(
        mutant
        for backend, other in evidence.OTHER.items()
        for mutant in (
            Mutant(
                f"{backend}: a journal without a deletion",
                _deletion(backend, _never_deleted),
                {f"chaos.{backend}": "nothing was deleted"},
            ),
            Mutant(
                f"{backend}: the deletion also restarted the other backend",
                _deletion(backend, _other_restarted(other)),
                {f"chaos.{backend}": f"{other} restarted 1 times"},
            ),
            Mutant(
                f"{backend}: both backends were deleted",
                _deletion(backend, _other_replaced(other)),
                {f"chaos.{backend}": f"{other} had 2 pods"},
            ),
            Mutant(
                f"{backend}: the clients asked somebody else",
                _deletion(backend, _clients_saw_nothing),
                {f"chaos.{backend}": "0 failed attempts"},
            ),
            Mutant(
                f"{backend}: a journal edited by hand",
                _edited_by_hand(f"delete-{backend}"),
                {f"chaos.{backend}": "does not verify"},
            ),
        )
    ),
    Mutant(
        "the wrong layer is blamed",
        _findings(delete_qdrant__layer="inference"),
        {"chaos.findings": "delete-qdrant.layer: inference"},
    ),
    Mutant(
        "a symptom that no client had",
        _findings(delete_vllm__symptom="HTTP 404"),
        {"chaos.findings": "delete-vllm.symptom: HTTP 404"},
    ),
    Mutant(
        "everything is said to be affected",
        _findings(delete_vllm__unaffected="nothing"),
        {"chaos.findings": "`delete-vllm.unaffected` is `nothing`: it is one of"},
    ),
    Mutant(
        "a retry that stops after two attempts",
        _judged(restart=trial("restart", "BackendUnavailable", [0, 0.5], ["reset", "reset"])),
        {"backoff.restart": "the call ended: BackendUnavailable"},
    ),
    Mutant(
        "a retry that gives up and returns nothing",
        _judged(restart=trial("restart", "returned nothing", [0, 1.0, 2.0, 3.0, 4.0], ["reset"] * 5)),
        {"backoff.restart": "the call ended: returned nothing"},
    ),
    Mutant(
        "a retry without a pause",
        _judged(
            restart=trial("restart", "returned", [n / 100 for n in range(400)], ["reset"] * 399 + ["200"])
        ),
        {"backoff.restart": "400 attempts in the fullest minute"},
    ),
    Mutant(
        "patient for a minute, and then again and again",
        _judged(
            restart=trial(
                "restart",
                "returned",
                [0, 1.0, 3.0, *(61 + n / 20 for n in range(100))],
                ["reset"] * 102 + ["200"],
                budget_s=240.0,
            )
        ),
        {"backoff.restart": "100 attempts in the fullest minute"},
    ),
    Mutant(
        "the pod was not restarting at all",
        _judged(restart=trial("restart", "returned", [0], ["200"])),
        {"backoff.restart": "1 attempts: 200"},
    ),
    Mutant(
        "a 503 is not retried",
        _judged(**{"not-ready": trial("not-ready", "HTTPStatusError", [0], ["503"])}),
        {"backoff.retries": "not-ready: HTTPStatusError"},
    ),
    Mutant(
        "a time-out is not retried",
        _judged(timeout=trial("timeout", "ReadTimeout", [0], ["hang"])),
        {"backoff.retries": "timeout: ReadTimeout"},
    ),
    Mutant(
        "a judged journal edited by hand",
        _edited_by_hand("backoff", ("503", "200")),
        {
            "backoff.retries": "does not verify",
            "backoff.restart": "does not verify",
            "backoff.fail_fast": "does not verify",
            "backoff.bounded": "does not verify",
        },
    ),
    Mutant(
        "a reset is not retried",
        _judged(reset=trial("reset", "ReadError", [0], ["reset"])),
        {"backoff.retries": "reset: ReadError"},
    ),
    Mutant(
        "a backoff that retries 404",
        _judged(**{"not-found": trial("not-found", "HTTPStatusError", [0, 0.5, 1.5], ["404"] * 3)}),
        {"backoff.fail_fast": "not-found: 3 attempts"},
    ),
    Mutant(
        "a 401 is called unavailability",
        _judged(unauthorized=trial("unauthorized", "BackendUnavailable", [0], ["401"])),
        {"backoff.fail_fast": "unauthorized: BackendUnavailable"},
    ),
    Mutant(
        "a 400 is swallowed",
        _judged(**{"bad-request": trial("bad-request", "returned nothing", [0], ["400"])}),
        {"backoff.fail_fast": "bad-request: returned nothing"},
    ),
    Mutant(
        "a backoff without a bound",
        _judged(**_all_down(ended="never stopped", elapsed_s=9.5)),
        {"backoff.bounded": "never stopped"},
    ),
    Mutant("the cause is lost", _judged(**_all_down(cause="")), {"backoff.bounded": "cause: none"}),
    Mutant("the budget is overrun", _judged(**_all_down(elapsed_s=8.9)), {"backoff.bounded": "8.9 s"}),
    Mutant(
        "the last error comes out as it is",
        _judged(**_all_down(ended="ConnectError")),
        {"backoff.bounded": "ConnectError"},
    ),
    Mutant("no jitter", _judged(**_together()), {"backoff.jitter": "clients differ by at most 0.00 s"}),
    Mutant(
        "pauses that do not grow", _judged(**_ticking()), {"backoff.jitter": "first 1.30 s, longest 1.00 s"}
    ),
    Mutant(
        "jitter of a hundredth",
        _judged(
            **{
                name: {**good_trials()[name], "attempts": [0, 0.5 + n / 100, 1.5, 3.5, 4.9]}
                for n, name in enumerate(DOWN)
            }
        ),
        {"backoff.jitter": "clients differ by at most 0.03 s"},
    ),
    Mutant(
        "a herd that never came together",
        _published("herd-none", herd(0.4)),
        {"herd.queue": "3 back within one second without jitter"},
    ),
    Mutant(
        "somebody answered the herd who never lets anybody wait",
        _published("herd-none", herd(0.01, took_s=0.005)),
        {"herd.queue": "1 wait for vLLM at the same time"},
    ),
    Mutant(
        "jitter that changes nothing",
        _published("herd-full", herd(0.03)),
        {"herd.queue": "24 back within one second with jitter, 24 without"},
    ),
    Mutant(
        "most of the herd was never served",
        _published("herd-full", herd(0.4, answered=5)),
        {"herd.queue": "24 and 5 of 24"},
    ),
    Mutant(
        "the wrong layer on the game day",
        _game(answer={"layer": "memory", "cause": "service-selector"}),
        {"gameday.diagnosis": "layer: memory"},
    ),
    Mutant(
        "the wrong cause on the game day",
        _game(answer={"layer": "network", "cause": "policy-cut"}),
        {"gameday.diagnosis": "cause: policy-cut"},
    ),
    Mutant("no diagnosis", _game(answer={}), {"gameday.diagnosis": "layer: no answer"}),
    Mutant("the time was over", _game(repaired=False), {"gameday.repair": "undone when the time was over"}),
    Mutant("a fault that nobody felt", _game(failed=False), {"gameday.repair": "0 failed attempts"}),
    Mutant(
        "a game day edited by hand",
        _edited_by_hand(GAME_DAY),
        {"gameday.repair": "does not verify", "gameday.diagnosis": "does not verify"},
    ),
    Mutant(
        "the repair restarted what was well",
        _game(other="refused"),
        {"gameday.objective": "inference: 79.2%"},
    ),
    Mutant(
        "the repair made the other backend fail",
        _game(other="HTTP 503"),
        {"gameday.objective": "inference: 79.2%"},
    ),
    Mutant("the other backend timed out", _game(other="timeout"), {"gameday.objective": "inference: 79.2%"}),
]

PROOFS = Proofs(start=start, solution=solution, mutants=MUTANTS)
