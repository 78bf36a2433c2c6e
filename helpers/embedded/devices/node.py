"""The Node object's side of the simulation: labels as NVIDIA's tools set them, and the word "simulated"."""

from __future__ import annotations

import logging
from typing import Any

from helpers.embedded.devices.config import SIMULATED, SIMULATED_LABEL, VENDOR, Shape
from helpers.embedded.kubeapi import MERGE_PATCH, Api

log = logging.getLogger(__name__)


def read_node(api: Api, name: str) -> dict[str, Any]:
    """The Node object; raises ApiError 404 while the kubelet has not registered it."""
    return api.request("GET", f"/api/v1/nodes/{name}")


def metadata_patch(node: dict[str, Any], shape: Shape) -> dict[str, Any]:
    """The merge patch that gives the node this shape's labels and annotation; empty when it has them.

    Labels of an earlier shape are removed: all of `nvidia.com/` belong to this daemon.
    """
    metadata = node["metadata"]
    have = metadata.get("labels") or {}
    ours = {key for key in have if key.startswith(VENDOR) or key == SIMULATED_LABEL}
    labels: dict[str, str | None] = dict.fromkeys(ours - set(shape.labels))
    labels |= {key: value for key, value in shape.labels.items() if have.get(key) != value}
    annotation = SIMULATED if shape.resources else None
    patch: dict[str, Any] = {}
    if labels:
        patch["labels"] = labels
    if (metadata.get("annotations") or {}).get(SIMULATED_LABEL) != annotation:
        patch["annotations"] = {SIMULATED_LABEL: annotation}
    return {"metadata": patch} if patch else {}


def stale_resources(node: dict[str, Any], shape: Shape) -> list[str]:
    """Extended resources of an earlier shape that the node still counts."""
    wanted = {resource.name for resource in shape.resources}
    capacity = (node.get("status") or {}).get("capacity") or {}
    return sorted(
        name
        for name, amount in capacity.items()
        if name.startswith(VENDOR) and amount != "0" and name not in wanted
    )


def label_node(api: Api, name: str, shape: Shape) -> dict[str, Any]:
    """Bring the node's labels and annotation up to date; returns the node as it was before."""
    node = read_node(api, name)
    if patch := metadata_patch(node, shape):
        api.request("PATCH", f"/api/v1/nodes/{name}", patch, content_type=MERGE_PATCH)
        log.info("labelled node %s: %s", name, sorted(patch["metadata"].get("labels", {})))
    return node
