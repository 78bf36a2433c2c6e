"""The witnesses of lab 06: most run a copy of the orchestrator between two proxies, the others ask the Service.

A copy has the learner's ConfigMaps; the proxies count its calls and let some fail. The others ask the Service
and the gateway while something is broken for them. `helpers.labs.witnessing` says when a record counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from helpers import kubeyaml
from helpers.cluster.manifests import load_one
from helpers.labs.witnessing import CONTAINER, Book, NoRecord, Record, command
from helpers.labs.witnessing import Witness as AnyWitness
from helpers.settings import REPOSITORY
from helpers.stack import gateway, orchestrator

if TYPE_CHECKING:
    from helpers.cluster import ClusterView

__all__ = ["BOOK", "CONTAINER", "WITNESSES", "NoRecord", "Record", "Witness", "manifest", "record"]

MANIFESTS = REPOSITORY / "manifests" / "labs" / "06"
PROGRAM = Path(__file__).with_name("witness_program.py")
APPS, GATEWAY = orchestrator.NAMESPACE, gateway.NAMESPACE
IMAGE = "orchestrator"
LAB_07 = "llm-assistant"


@dataclass(frozen=True)
class Witness(AnyWitness):
    """One witness, and by which settings its copy goes; those in the gateway's namespace have no copy."""

    generation_concurrency: int = 4
    queue_limit: int = 32

    @property
    def of_service(self) -> bool:
        """It asks the Service and not a copy, and is bound to the Deployment's revision."""
        return self.namespace == GATEWAY


WITNESSES = {
    item.name: item
    for item in (
        Witness("answer", "one question to the Service, without its token too", GATEWAY, 10),
        Witness("budget", "a Qdrant that is silent, then both backends slow", APPS, 20),
        Witness("state", "what Redis holds after one question", APPS),
        Witness(
            "survive", "a pod, Redis and a whole revision go while questions are answered", GATEWAY, 120, True
        ),
        Witness("again", "one question five times at once, and once more later", APPS),
        # 3,200 tokens to read, for which the engine needs most of the deadline on a slow machine: nobody may ask beside it.
        Witness("window", "a conversation that is longer than the model's window", APPS, 30, True),
        Witness("retry", "a vLLM that answers 400, 401, 422, 429, 503, or breaks off", APPS),
        Witness("degrade", "no retrieval, for three products", APPS),
        Witness(
            "pressure", "a Qdrant that keeps failing, and forty questions at once", APPS, 30, False, 2, 8
        ),
        Witness("gateway", "keys, tenants and tokens at the gateway", GATEWAY, 30),
    )
}


def manifest(view: ClusterView, name: str) -> dict[str, Any]:
    """The Job as it would be started now, with this cluster's image and the program's text in it.

    Raises:
        ObjectMissing: what it would ask is not there.
    """
    witness = WITNESSES[name]
    deployment = view.deployment(orchestrator.DEPLOYMENT, orchestrator.NAMESPACE)
    image = view.profile.images.get(IMAGE) or deployment.path("spec.template.spec.containers.0.image", "")
    job: dict[str, Any] = json.loads(_text(witness, image, _revision(view, witness)))
    return job


BOOK = Book("06", WITNESSES, manifest)
record = BOOK.record


def _revision(view: ClusterView, witness: Witness) -> str:
    """What a record of the Service or of the gateway is bound to; a copy's record names its files itself."""
    if witness.name == "gateway":
        maps = [view.config_map(name, gateway.NAMESPACE).data for name in (gateway.CONFIG, gateway.TOKENS)]
        return orchestrator.short_hash(json.dumps([_without_assistant(maps[0]), maps[1]], sort_keys=True))
    return orchestrator.revision(view) if witness.of_service else ""


def _without_assistant(data: Mapping[str, str]) -> dict[str, Any]:
    """The gateway's configuration without the way that lab 07 adds to it: it changes nothing of this lab's."""
    return {name: _parsed(text) if name == gateway.FILE else text for name, text in data.items()}


@cache
def _parsed(envoy: str) -> Any:
    """Envoy's configuration as data; as text where it is none."""
    try:
        config = kubeyaml.load(envoy)
    except ValueError:
        return envoy
    return _without(config, LAB_07)


def _without(node: Any, name: str) -> Any:
    """The same without the entries of lists that are a cluster of this name, or a route to it."""
    if isinstance(node, dict):
        return {key: _without(value, name) for key, value in node.items()}
    if not isinstance(node, list):
        return node
    return [_without(item, name) for item in node if name not in _named(item)]


def _named(item: Any) -> tuple[Any, ...]:
    """A cluster's name, or the name of the cluster that a route leads to."""
    if not isinstance(item, dict):
        return ()
    route = item.get("route")
    return item.get("name"), route.get("cluster") if isinstance(route, dict) else None


@cache
def _text(witness: Witness, image: str, revision: str) -> str:
    file = MANIFESTS / f"witness-{'service' if witness.of_service else 'copy'}.yaml"
    names = {
        "NAME": witness.name,
        "ORCHESTRATOR": image,
        "REVISION": revision,
        "GENERATION_CONCURRENCY": str(witness.generation_concurrency),
        "REQUEST_QUEUE_LIMIT": str(witness.queue_limit),
    }
    job = load_one(Template(file.read_text()).safe_substitute(names))
    for container in job["spec"]["template"]["spec"]["containers"]:
        container["command"] = command(PROGRAM, witness.name)
    return json.dumps(job)
