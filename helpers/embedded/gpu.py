"""Which GPUs the node advertises: the files its device plugin watches.

The format is the NVIDIA device plugin's own configuration
(https://github.com/NVIDIA/k8s-device-plugin#configuration-option-details) with a `course` block
that describes the simulated devices.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable
from pathlib import Path

import yaml

from helpers.embedded.devices.config import is_healthy, load_shape, load_unhealthy
from helpers.errors import LabError

DEVICES = "devices.yaml"
UNHEALTHY = "unhealthy.json"


class Shape(enum.StrEnum):
    """How one physical GPU is offered to pods."""

    FULL = "full"
    MIG = "mig"
    TIME_SLICING = "time-slicing"


class NoSuchShape(LabError):
    """A GPU is offered whole, as MIG slices, or in time slices."""


def shape_named(text: str) -> Shape:
    """The shape of that name."""
    try:
        return Shape(text)
    except ValueError as cause:
        names = ", ".join(Shape)
        raise NoSuchShape(
            f"no GPU shape {text!r}: {names}", next_command="course gpu --shape full"
        ) from cause


def expected(folder: Path) -> dict[str, str]:
    """What the node's `allocatable` must show for what is configured: resource -> count."""
    shape = load_shape(folder / DEVICES, "substrate")
    unhealthy = load_unhealthy(folder / UNHEALTHY)
    return {
        resource.name: str(sum(is_healthy(resource, device, unhealthy) for device in resource.device_ids))
        for resource in shape.resources
    }


def configuration(shape: Shape, *, replicas: int = 4) -> dict:
    """The device plugin's configuration for a shape; `replicas` counts for time-slicing only."""
    config: dict = {
        "version": "v1",
        "flags": {"migStrategy": "mixed" if shape is Shape.MIG else "none"},
        "course": {
            "product": "NVIDIA-A100-SXM4-80GB",
            "memoryMiB": 81920,
            "gpus": 1,
            "mig": {"1g.10gb": 7},
        },
    }
    if shape is Shape.TIME_SLICING:
        config["sharing"] = {"timeSlicing": {"resources": [{"name": "nvidia.com/gpu", "replicas": replicas}]}}
    return config


def write_shape(folder: Path, shape: Shape, *, replicas: int = 4) -> None:
    """Write what the node shall advertise into its `/etc/course`."""
    _write(folder / DEVICES, yaml.safe_dump(configuration(shape, replicas=replicas)))


def read_shape(folder: Path) -> Shape:
    """The shape that is configured."""
    config = yaml.safe_load((folder / DEVICES).read_text())
    if "sharing" in config:
        return Shape.TIME_SLICING
    return Shape.MIG if config["flags"]["migStrategy"] == "mixed" else Shape.FULL


def read_unhealthy(folder: Path) -> list[str]:
    """The devices marked unhealthy: ids, indexes, or "all"."""
    try:
        return json.loads((folder / UNHEALTHY).read_text())
    except FileNotFoundError:
        return []


def write_unhealthy(folder: Path, devices: Iterable[str]) -> None:
    """Replace the list of unhealthy devices."""
    _write(folder / UNHEALTHY, json.dumps(sorted(set(devices))))


def _write(target: Path, text: str) -> None:
    """The device plugin reads at any time: it must never see half a file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = target.with_name(f".{target.name}.new")
    work.write_text(text)
    work.replace(target)
