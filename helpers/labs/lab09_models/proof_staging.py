"""The first half of lab 09 as fakes keep it: the start, and what the page's solution leaves, without the records.

`mutants_staging` and `mutants_versions` begin here. Objects come from the manifests and from the solution's cells.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from helpers.cluster.fake import default_profile
from helpers.grading.changes import (
    Change,
    Manifest,
    applied,
    manifest,
    one,
    rolled_out,
    solved,
    steps,
    stored,
)
from helpers.labs.lab09_models.ground import MANIFESTS, NAMESPACE, READERS, RELEASES, WAYS
from helpers.stack import models

REPOSITORY = "course.local/models/smollm2-135m-instruct"
DIGESTS = {"1": "sha256:" + "1" * 64, "2": "sha256:" + "2" * 64}
# A short hash of all files of each version; another model's is neither.
MODEL = {"1": "aaaaaaaaaaaa", "2": "bbbbbbbbbbbb", "": "cccccccccccc"}
NAMES = {
    "MODELCAR": "course.local/smollm2-135m-modelcar:1",
    "MODELS": REPOSITORY,
    **{f"MODEL_V{number}": f"{REPOSITORY}@{digest}" for number, digest in DIGESTS.items()},
    "STORAGE_CLASS": default_profile().storage_class,
}
CELLS = ("copy_yaml", "claim_yaml", "car_yaml", "image_yaml", "versions_yaml", "readers_yaml", "table_yaml")


def start(cluster: Any) -> None:
    """What `course start 09` leaves of the first half; in a class the namespace is there already."""
    if cluster.view().find("Namespace", NAMESPACE) is None:
        applied({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})(cluster)
    found = list(yaml.safe_load_all((MANIFESTS / "ground.yaml").read_text()))
    applied(*(item for item in found if item["kind"] != "Namespace"))(cluster)
    listed = {
        number: {"image": f"{REPOSITORY}@{digest}", "digest": digest, "model": MODEL[number]}
        for number, digest in DIGESTS.items()
    }
    applied(manifest("ConfigMap", models.CATALOGUE, NAMESPACE, data={models.VERSIONS: json.dumps(listed)}))(
        cluster
    )


def objects(cell: str) -> list[Manifest]:
    """What a cell of the page holds, as solved."""
    return solved("09", cell, **NAMES)


def deployment(name: str) -> Manifest:
    """One of the solution's Deployments, to be changed freely."""
    cells = dict(zip(WAYS, CELLS, strict=False)) | dict.fromkeys(RELEASES, "versions_yaml")
    return one(objects(cells.get(name, "readers_yaml")), "Deployment", name)


def asleep(wanted: Manifest) -> Change:
    """A Deployment that a witness has looked at: scaled to none."""
    wanted["spec"]["replicas"] = 0
    return stored(wanted | {"status": {"observedGeneration": 1}})


def solution(cluster: Any) -> None:
    """All that the page applies, as witnesses and controllers leave it."""
    steps(*(asleep(deployment(name)) for name in (*WAYS, RELEASES[1])))(cluster)
    claim = one(objects("claim_yaml"), "PersistentVolumeClaim")
    stored(claim | {"status": {"phase": "Bound"}})(cluster)
    stored(one(objects("claim_yaml"), "Job") | {"status": {"succeeded": 1}})(cluster)
    rolled_out(*(deployment(name) for name in READERS))(cluster)
    rolled_out(one(objects("versions_yaml"), "Service"), deployment(RELEASES[0]))(cluster)
    applied(*objects("table_yaml"))(cluster)
