"""Models as data: which versions of the model there are, by digest, and by which names a page's text calls them.

models.versions(view)["1"].image    # REPOSITORY@sha256:…
models.names(view)                  # what $MODELS, $MODEL_V1 and $MODEL_V2 stand for
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.errors import ProbeInconclusive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from helpers.cluster import ClusterView

NAMESPACE = "llm-models"
CATALOGUE, VERSIONS = "model-catalogue", "versions.json"
SERVER, SERVE_FILE = "model-server", "serve.yaml"
PATH = "/mnt/models"
SERVED, PORT = "smollm2", 8000


@dataclass(frozen=True)
class Version:
    """One version of the model.

    Args:
        image: its name by digest.
        model: a short hash of all of its files: what was staged is compared with it.
    """

    number: str
    image: str
    digest: str
    model: str

    @property
    def repository(self) -> str:
        return self.image.partition("@")[0]


def versions(view: ClusterView) -> dict[str, Version]:
    """The versions that the start found, by number.

    Raises:
        ObjectMissing: the lab was not started.
        ProbeInconclusive: somebody wrote something else into the ConfigMap.
    """
    text = view.config_map(CATALOGUE, NAMESPACE).data.get(VERSIONS, "")
    try:
        return read(text)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ProbeInconclusive(
            f"ConfigMap {CATALOGUE} does not hold the list of versions", next_command="course start 09"
        ) from error


def read(text: str) -> dict[str, Version]:
    """The list of versions as the modelcar's image has it."""
    return {
        number: Version(number, item["image"], item["digest"], item["model"])
        for number, item in json.loads(text).items()
    }


def names(view: ClusterView) -> dict[str, str]:
    """What stands for the model in a page's text; empty before the start."""
    if view.find("ConfigMap", CATALOGUE, NAMESPACE) is None:
        return {}
    found = versions(view)
    return {"MODELS": found["1"].repository} | {
        f"MODEL_V{number}": item.image for number, item in found.items()
    }


def version_of(found: Mapping[str, Version], reference: str) -> str:
    """The number of the version that an image is called by digest, with a tag before it or without; else empty."""
    name, _, digest = reference.partition("@")
    folder, slash, last = name.rpartition("/")
    plain = f"{folder}{slash}{last.partition(':')[0]}@{digest}"
    return next((number for number, item in found.items() if item.image == plain), "")


def image_of(pod_spec: Mapping[str, Any]) -> dict[str, Any]:
    """The image volume behind what the server of a pod serves; empty where there is none."""
    volume = volume_of(pod_spec)
    found: dict[str, Any] = volume.get("image") or {}
    return found


def mount_of(pod_spec: Mapping[str, Any], path: str = PATH) -> dict[str, Any]:
    """The mount of a pod's first container in which a path lies; empty where it lies in the container's own image."""
    container: dict[str, Any] = next(iter(pod_spec.get("containers") or []), {})
    mounts = [
        item for item in container.get("volumeMounts") or [] if _within(path, item.get("mountPath", ""))
    ]
    return max(mounts, key=lambda item: len(item["mountPath"]), default={})


def volume_of(pod_spec: Mapping[str, Any], path: str = PATH) -> dict[str, Any]:
    """The volume of that mount."""
    name = mount_of(pod_spec, path).get("name")
    return next((item for item in pod_spec.get("volumes") or [] if item.get("name") == name), {})


def _within(path: str, folder: str) -> bool:
    folder = folder.rstrip("/")
    return bool(folder) and (path == folder or path.startswith(f"{folder}/"))
