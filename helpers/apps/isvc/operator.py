"""kopf: what is watched, and when a pass begins.

Handlers of raw events alone (`kopf.on.event`): they write nothing onto the objects. Handlers of changes would keep
their progress in annotations, and timers would add a finalizer, without which no InferenceService could be deleted
while the controller is away. So the clock is a task of this module's own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from helpers.apps.isvc.api import ApiProblem
from helpers.apps.isvc.decisions import GROUP, SERVICE_LABEL
from helpers.apps.isvc.passes import Api, Reconciler, reconcile

if TYPE_CHECKING:
    from kopf import OperatorRegistry, OperatorSettings

log = logging.getLogger("isvc")
CLOCK_S = 10.0
AGAIN_S = 2.0
SUFFIX = "-predictor"
WATCHED = (
    (GROUP, "v1beta1", "inferenceservices", "InferenceService"),
    (GROUP, "v1alpha1", "servingruntimes", "ServingRuntime"),
    ("apps", "v1", "deployments", "Deployment"),
    ("", "v1", "services", "Service"),
    ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
)


@dataclass
class Queue:
    """Names of InferenceServices that want a pass, each once, in the order in which they came."""

    names: dict[str, None] = field(default_factory=dict)
    _some: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, name: str) -> None:
        self.names[name] = None
        self._some.set()

    async def next(self) -> str:
        """The next name, as soon as there is one."""
        while not self.names:
            self._some.clear()
            await self._some.wait()
        name = next(iter(self.names))
        del self.names[name]
        return name


def about(kind: str, body: Any) -> list[str] | None:
    """Which InferenceServices an object is about, by their names; None for all of them."""
    metadata = body.get("metadata") or {}
    name = str(metadata.get("name") or "")
    if kind == "InferenceService":
        return [name]
    if kind == "ServingRuntime":
        return None
    labels = metadata.get("labels") or {}
    owners = [
        str(item.get("name"))
        for item in metadata.get("ownerReferences") or []
        if item.get("kind") == "InferenceService"
    ]
    called = str(labels.get("kubernetes.io/service-name") or name)
    named = [called.removesuffix(SUFFIX)] if called.endswith(SUFFIX) else []
    labelled = [str(labels[SERVICE_LABEL])] if SERVICE_LABEL in labels else []
    return list(dict.fromkeys([*owners, *labelled, *named]))


class Controller:
    """Events in, passes out: one at a time, for whichever name is next."""

    def __init__(
        self, api: Api, reconciler: Reconciler, *, clock_s: float = CLOCK_S, again_s: float = AGAIN_S
    ) -> None:
        self.api, self.reconciler = api, reconciler
        self.queue = Queue()
        self.passes = 0
        self._clock_s, self._again_s = clock_s, again_s
        self._tasks: list[asyncio.Task[None]] = []

    async def told(self, kind: str, change: str, body: Any) -> None:
        """Something happened: whoever it is about gets a pass, if the learner's function says so."""
        if not self.reconciler.wakes(kind, change):
            return
        names = about(kind, body)
        for name in await self._all() if names is None else names:
            self.queue.put(name)

    async def tick(self) -> None:
        """The clock: all of them, if the learner's function says so."""
        if self.reconciler.wakes("clock", "TICK"):
            for name in await self._all():
                self.queue.put(name)

    async def _all(self) -> list[str]:
        try:
            return [item["metadata"]["name"] for item in await self.api.list("InferenceService")]
        except ApiProblem as problem:
            log.warning("%s", problem)
            return []

    async def one(self) -> None:
        """The next pass, as soon as somebody wants one; one that the API server keeps from its end comes again."""
        name = await self.queue.next()
        try:
            await reconcile(self.api, self.reconciler, name)
        except ApiProblem as problem:
            log.warning("%s: %s", name, problem)
            asyncio.get_running_loop().call_later(self._again_s, self.queue.put, name)
        except Exception:
            # One InferenceService must not keep all others from their passes; the clock brings the next one.
            log.exception("%s: the pass broke off", name)
        self.passes += 1

    def start(self) -> None:
        """Begin to work, beside the watches."""
        self._tasks = [asyncio.create_task(self._work()), asyncio.create_task(self._clock())]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _work(self) -> None:
        while True:
            await self.one()

    async def _clock(self) -> None:
        while True:
            await asyncio.sleep(self._clock_s)
            await self.tick()


def registered(controller: Controller, login: Callable[..., Any] | None = None) -> OperatorRegistry:
    """kopf's registry with this controller's handlers.

    Args:
        login: how kopf finds the API server; without it, as the pod's ServiceAccount.
    """
    import kopf

    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def log_in(**about: Any) -> Any:
        return (login or kopf.login_with_service_account)(**about)

    @kopf.on.startup(registry=registry)
    async def startup(settings: OperatorSettings, **_: Any) -> None:
        quiet(settings)
        controller.start()

    @kopf.on.cleanup(registry=registry)
    async def cleanup(**_: Any) -> None:
        await controller.stop()

    @kopf.on.probe(registry=registry, id="source")
    def source(**_: Any) -> str:
        return controller.reconciler.source

    @kopf.on.probe(registry=registry, id="fault")
    def fault(**_: Any) -> str:
        return controller.reconciler.fault

    for group, version, plural, kind in WATCHED:
        _watch(registry, controller, (group, version, plural), kind)
    return registry


def _watch(registry: Any, controller: Controller, resource: tuple[str, str, str], kind: str) -> None:
    import kopf

    @kopf.on.event(*resource, registry=registry, id=f"told-{kind}")
    async def told(type: str | None, body: Any, **_: Any) -> None:
        # What is there already when the watch begins comes without a type.
        await controller.told(kind, type or "ADDED", body)


def quiet(settings: OperatorSettings) -> None:
    """A Role in one namespace is all it has: it asks for nothing outside, and writes no events."""
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.peering.standalone = True
    # A watch that is silent for so long is begun anew.
    settings.watching.server_timeout = 120
    settings.watching.client_timeout = 150
