"""One pass over one InferenceService: what is there, what is wanted, what is done about it, what is said.

A pass begins with nothing but a name. Whatever happened, and however often, it reads the objects anew: an event that
was missed, or seen twice, makes no difference.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from helpers.apps.isvc import course
from helpers.apps.isvc.api import ApiProblem
from helpers.apps.isvc.decisions import (
    APPLY,
    CHILDREN,
    FILE,
    PLUG_POINTS,
    POINTS,
    REFUSE,
    TYPES,
    InvalidSpec,
    Object,
    Problem,
    Seen,
    asked,
)
from helpers.apps.orchestrator.decisions import DecisionWrong, load

log = logging.getLogger("isvc")
Functions = Mapping[str, Callable[..., Any]]


class Api(Protocol):
    """What a pass asks of the API server, in its namespace."""

    async def find(self, kind: str, name: str) -> Object | None: ...

    async def list(self, kind: str, labels: str = "") -> list[Object]: ...

    async def apply(self, wanted: Object) -> Object: ...

    async def put_status(self, kind: str, name: str, status: Object) -> None: ...


@dataclass(frozen=True)
class Reconciler:
    """The six functions in force, and where they come from.

    Args:
        source: the first digits of the file's sha256; empty where the course's own are in force.
        fault: why the learner's file is not in force, in a sentence; empty where nothing is wrong.
    """

    functions: Functions
    source: str = ""
    fault: str = ""

    @classmethod
    def of_folder(cls, folder: Path) -> Reconciler:
        """The learner's functions, where their file is mounted and can be used."""
        own = {name: getattr(course, name) for name in POINTS}
        try:
            text = (folder / FILE).read_bytes()
        except FileNotFoundError:
            return cls(own)
        source = hashlib.sha256(text).hexdigest()[:12]
        try:
            return cls(load(FILE, text, PLUG_POINTS, TYPES), source)
        except DecisionWrong as wrong:
            log.error("%s", wrong)
            return cls(own, source, str(wrong))

    def wakes(self, kind: str, change: str) -> bool:
        """Whether a pass begins after this; one that cannot be decided begins."""
        try:
            return bool(asked(self.functions, "wakes", kind, change))
        except (DecisionWrong, InvalidSpec) as wrong:
            log.warning("%s", wrong)
            return True


async def reconcile(
    api: Api, reconciler: Reconciler, name: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> None:
    """One pass. An InferenceService that is gone, or going, is left to the garbage collector.

    Raises:
        ApiProblem: of the API server; the next pass begins anew.
    """
    service = await api.find("InferenceService", name)
    if service is None or service["metadata"].get("deletionTimestamp"):
        return
    functions = reconciler.functions
    problem = Problem("ControllerFault", reconciler.fault) if reconciler.fault else None
    wanted: list[Object] = []
    if problem is None:
        wanted, problem = _wanted(functions, service, await api.list("ServingRuntime"))
    failed: ApiProblem | None = None
    if problem is None:
        try:
            problem = await _make_so(api, functions, service, wanted)
        except ApiProblem as refused:
            failed, problem = refused, Problem("ApplyFailed", str(refused))
    await _say(api, functions, service, await _seen(api, name, wanted), problem, now)
    if failed is not None:
        raise failed


def _wanted(
    functions: Functions, service: Object, runtimes: list[Object]
) -> tuple[list[Object], Problem | None]:
    """All objects that are wanted, before anything is made; or why there are none."""
    try:
        model = ((service.get("spec") or {}).get("predictor") or {}).get("model") or {}
        runtime = asked(functions, "find_runtime", model, runtimes)
        return asked(functions, "children", service, runtime), None
    except InvalidSpec as invalid:
        return [], Problem("InvalidSpec", str(invalid))
    except DecisionWrong as wrong:
        log.warning("%s", wrong)
        return [], Problem("ControllerFault", str(wrong))


async def _make_so(api: Api, functions: Functions, service: Object, wanted: list[Object]) -> Problem | None:
    """Decide about all objects, then touch them: one that may not be touched keeps all others from being made."""
    steps = []
    for item in wanted:
        kind, name = item["kind"], item["metadata"]["name"]
        found = await api.find(kind, name)
        try:
            said = asked(functions, "step", service, item, found)
        except InvalidSpec as invalid:
            return Problem("InvalidSpec", str(invalid))
        except DecisionWrong as wrong:
            log.warning("%s", wrong)
            return Problem("ControllerFault", str(wrong))
        if said == REFUSE:
            return Problem("NotOurs", f"{kind} {name} is there, and belongs to somebody else")
        steps.append((said, item))
    for said, item in steps:
        if said == APPLY:
            metadata = {**item["metadata"], "namespace": service["metadata"]["namespace"]}
            await api.apply({**item, "metadata": metadata})
    return None


async def _seen(api: Api, name: str, wanted: list[Object]) -> Seen:
    """The children as they are now; without wanted ones, those of the usual names."""
    names = {item["kind"]: item["metadata"]["name"] for item in wanted}
    found = {kind: await api.find(kind, names.get(kind, f"{name}-predictor")) for kind in CHILDREN}
    service = found["Service"]
    addresses = 0
    if service is not None:
        slices = await api.list("EndpointSlice", f"kubernetes.io/service-name={service['metadata']['name']}")
        addresses = len(
            {
                address
                for item in slices
                for endpoint in item.get("endpoints") or []
                if (endpoint.get("conditions") or {}).get("ready") is not False
                for address in endpoint.get("addresses") or []
            }
        )
    return Seen(found["Deployment"], service, addresses)


async def _say(
    api: Api,
    functions: Functions,
    service: Object,
    seen: Seen,
    problem: Problem | None,
    now: Callable[[], datetime],
) -> None:
    """Write the status, where it says something else than before."""
    try:
        said = dict(asked(functions, "status", service, seen, problem))
    except (DecisionWrong, InvalidSpec) as wrong:
        log.warning("%s", wrong)
        condition = {"type": "Ready", "status": "Unknown", "reason": "ControllerFault", "message": str(wrong)}
        said = {"conditions": [condition]}
    before = service.get("status") or {}
    said["conditions"] = [_since(item, before.get("conditions") or [], now) for item in said["conditions"]]
    if said != before:
        gone: Object = dict.fromkeys(before.keys() - said.keys())
        await api.put_status("InferenceService", service["metadata"]["name"], {**gone, **said})


def _since(condition: Object, before: list[Object], now: Callable[[], datetime]) -> Object:
    """A condition with the time at which its status became what it is."""
    was = next((item for item in before if item.get("type") == condition["type"]), {})
    is_same = was.get("status") == condition["status"] and was.get("lastTransitionTime")
    return {
        **condition,
        "lastTransitionTime": was["lastTransitionTime"] if is_same else now().strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
