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
# Two halves of an A100: what lab 08's pool asks for (helpers/stack/gpu.py names the resource).
SECOND_CARD = {"3g.40gb": 2}


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


def configuration(shape: Shape, *, replicas: int = 4, second_card: bool = False) -> dict:
    """The device plugin's configuration for a shape; `replicas` counts for time-slicing only.

    Args:
        second_card: one more card beside the first, in two halves whatever the first one's shape is.
    """
    config: dict = {
        "version": "v1",
        "flags": {"migStrategy": "mixed" if shape is Shape.MIG else "none"},
        "course": {
            "product": "NVIDIA-A100-SXM4-80GB",
            "memoryMiB": 81920,
            "gpus": 1,
            "mig": {"1g.10gb": 7},
            **({"cut": dict(SECOND_CARD)} if second_card else {}),
        },
    }
    if shape is Shape.TIME_SLICING:
        config["sharing"] = {"timeSlicing": {"resources": [{"name": "nvidia.com/gpu", "replicas": replicas}]}}
    return config


def write_shape(folder: Path, shape: Shape, *, replicas: int = 4, second_card: bool = False) -> None:
    """Write what the node shall advertise into its `/etc/course`."""
    config = configuration(shape, replicas=replicas, second_card=second_card)
    _write(folder / DEVICES, yaml.safe_dump(config))


def put_second_card(folder: Path, *, there: bool) -> None:
    """Add the second card to what is configured, or take it away; the first one stays as it is."""
    config = yaml.safe_load((folder / DEVICES).read_text())
    config["course"].pop("cut", None)
    if there:
        config["course"]["cut"] = dict(SECOND_CARD)
    _write(folder / DEVICES, yaml.safe_dump(config))


def has_second_card(folder: Path) -> bool:
    """Whether a second card is configured."""
    return bool(yaml.safe_load((folder / DEVICES).read_text())["course"].get("cut"))


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
