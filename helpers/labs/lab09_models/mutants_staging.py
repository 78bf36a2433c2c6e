"""Wrong clusters for the four ways and the decision: what learners write, and what a witness then sees in the pods."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import yaml

from helpers.grading.author import Mutant
from helpers.grading.changes import Change, Manifest, applied, edited, manifest, steps, stored, without
from helpers.grading.verdict import Status
from helpers.labs import witnessed_fakes
from helpers.labs.lab09_models.ground import DECISIONS, NAMESPACE
from helpers.labs.lab09_models.proof_staging import MODEL, asleep, deployment, objects
from helpers.labs.lab09_models.witness_staging import BOOK
from helpers.labs.witnessed_fakes import forged
from helpers.stack import models

COPY, CLAIM, CAR, IMAGE, TABLE = "copy.own", "claim.shared", "car.beside", "image.mounted", "decide.table"
NOT_YET = Status.NOT_ATTEMPTED
SIZE = 272_613_376
CHANGED = "the service was changed since it was seen"


def pod(kind: str, *, own: int = 0, **other: Any) -> Manifest:
    """What a witness sees of one pod where all is well."""
    usual: Manifest = {
        "pod": "8a4c-of-a-pod",
        "uid": 1000,
        "kind": kind,
        "ready": True,
        "link": "",
        "own": own,
        "read_only": True,
        "model": MODEL["1"],
        "broken": [],
        "bytes": SIZE,
        "inode": "254:77",
        "write": "Read-only file system",
        "owner": None,
        "status": 200,
        "answer": "My name is SmolLM.",
        "prompt": 31,
        "root": models.PATH,
    }
    return usual | other


LINKED: Manifest = {
    "link": "/proc/14/root/models",
    "owner": 1000,
    "probe": "no",
    "write": "Permission denied",
}
SEEN: dict[str, Manifest] = {
    "by-copy": {"pods": [pod("emptyDir", own=SIZE)], "problem": ""},
    "by-claim": {"pods": [pod("claim"), pod("claim")], "problem": ""},
    "by-car": {"pods": [pod("emptyDir", **LINKED)], "problem": ""},
    "by-image": {"pods": [pod("image")], "problem": ""},
}


def witnessed(
    name: str, edit: Callable[[Manifest], object] = lambda seen: None, *, error: str = ""
) -> Change:
    """A record of this witness on the cluster as it is; edited, or with why it could not look."""

    def change(cluster: Any) -> None:
        seen = deepcopy(SEEN[name])
        edit(seen)
        witnessed_fakes.leave(cluster, BOOK, name, {"error": error} if error else {"seen": seen})

    return change


def records(cluster: Any) -> None:
    """All four have looked, and saw what is right."""
    for name in SEEN:
        witnessed(name)(cluster)


def saw(name: str, **figures: Any) -> Change:
    """Some figures of every pod are others."""

    def edit(seen: Manifest) -> None:
        for item in seen["pods"]:
            item.update(figures)

    return witnessed(name, edit)


def failed(name: str, problem: str) -> Change:
    """The pods were not Ready, and why."""
    return witnessed(name, lambda seen: seen.update(pods=[], problem=problem))


def rewritten(name: str, edit: Callable[[Manifest], object], then: Change) -> Change:
    """The Deployment with another pod, and what a witness saw of that."""

    def change(cluster: Any) -> None:
        wanted = deployment(name)
        edit(wanted["spec"]["template"]["spec"])
        asleep(wanted)(cluster)
        then(cluster)

    return change


def _mounts(spec: Manifest) -> Manifest:
    """The mount of the model in the server."""
    found: Manifest = spec["containers"][0]["volumeMounts"][0]
    return found


def _copied(spec: Manifest, command: str) -> None:
    spec["initContainers"][0]["command"] = ["sh", "-c", command]


def _own_copy(name: str) -> Callable[[Manifest], object]:
    """The model is in a volume of the pod's own, whatever the name says."""

    def edit(spec: Manifest) -> None:
        spec["volumes"] = [item for item in spec["volumes"] if item["name"] != _mounts(spec)["name"]]
        spec["volumes"].append({"name": _mounts(spec)["name"], "emptyDir": {}})
        filler = deployment("by-copy")["spec"]["template"]["spec"]["initContainers"][0]
        filler["volumeMounts"][0]["name"] = _mounts(spec)["name"]
        spec["initContainers"] = [filler]

    return edit


def _in_memory(spec: Manifest) -> None:
    spec["volumes"][0] = {"name": "model", "emptyDir": {"medium": "Memory"}}


def _baked(spec: Manifest) -> None:
    spec["containers"][0]["volumeMounts"].pop(0)
    spec["containers"][0]["image"] = "registry.example/vllm-with-model:1"


def _sidecar(edit: Callable[[Manifest], object]) -> Callable[[Manifest], object]:
    return lambda spec: edit(spec["initContainers"][0])


def _no_sidecar(spec: Manifest) -> None:
    _copied(spec, "cp -r /models /mnt/")
    spec["initContainers"][0].pop("restartPolicy")


def _root(container: Manifest) -> None:
    container["securityContext"] = {"runAsUser": 0}


def _all_root(spec: Manifest) -> None:
    _root(spec["initContainers"][0])
    _root(spec["containers"][0])


def _link_alone(container: Manifest) -> None:
    container["startupProbe"]["exec"]["command"] = ["test", "-L", models.PATH]


def _one_dollar(container: Manifest) -> None:
    container["command"][2] = container["command"][2].replace("$$$$", "$$")


def table(edit: Callable[[Manifest], object]) -> Change:
    """The decision with other figures or choices."""

    def change(cluster: Any) -> None:
        (wanted,) = objects("table_yaml")
        said = yaml.safe_load(wanted["data"]["table.yaml"])
        edit(said)
        applied(manifest("ConfigMap", DECISIONS, NAMESPACE, data={"table.yaml": yaml.safe_dump(said)}))(
            cluster
        )

    return change


def _row(way: str, **figures: Any) -> Change:
    return table(lambda said: said[way].update(figures))


def _emptied(said: Manifest) -> None:
    for row in said.values():
        row.update(dict.fromkeys(row))


_COPY = [
    Mutant(
        "the copy, not applied", without("Deployment", "by-copy", NAMESPACE), {COPY: "Deployment"}, NOT_YET
    ),
    Mutant(
        "the folder is copied, not its content",
        rewritten(
            "by-copy",
            lambda spec: _copied(spec, "cp -r /models /mnt/models/"),
            failed("by-copy", "server ended 2 times (Error)"),
        ),
        {COPY: "server ended 2 times", TABLE: "nothing was measured"},
    ),
    Mutant(
        "the server may write into its copy",
        rewritten(
            "by-copy",
            lambda spec: _mounts(spec).pop("readOnly"),
            saw("by-copy", write="written", read_only=False),
        ),
        {COPY: "a file was written beside the weights"},
    ),
    Mutant(
        "the copy is made in memory",
        rewritten("by-copy", _in_memory, saw("by-copy", kind="memory")),
        {COPY: "the model lies in: memory"},
    ),
    Mutant(
        "the model is built into the engine's image",
        rewritten("by-copy", _baked, saw("by-copy", kind="container", own=0, write="Permission denied")),
        {COPY: "the model lies in: container", TABLE: "by-copy: 260 MiB for each pod, and 0 were measured"},
    ),
    Mutant(
        "a copy of which half arrived",
        saw("by-copy", broken=["model.safetensors"]),
        {COPY: "not whole: model.safetensors"},
    ),
    Mutant(
        "a copy that nobody reads, beside a neighbour's files",
        saw("by-copy", link="/proc/14/root/models"),
        {COPY: "the server reads /proc/14/root/models"},
    ),
    Mutant("version 2 is copied", saw("by-copy", model=MODEL["2"]), {COPY: "version 2 is served"}),
    Mutant("another model is copied", saw("by-copy", model=MODEL[""]), {COPY: "the files of another model"}),
    Mutant("another folder is served", saw("by-copy", root="/tmp/model"), {COPY: "served is /tmp/model"}),
    Mutant("no answer comes", saw("by-copy", status=0), {COPY: "status [0]"}),
    Mutant("the record of another pod", forged(BOOK, "by-copy"), {COPY: "the record is another pod's"}),
    Mutant(
        "changed after it was seen",
        edited(
            "Deployment",
            "by-copy",
            lambda found: _mounts(found["spec"]["template"]["spec"]).pop("readOnly"),
            NAMESPACE,
        ),
        {COPY: CHANGED},
        NOT_YET,
    ),
    Mutant(
        "a witness that could not look",
        witnessed("by-copy", error="TimeoutError: nobody did it"),
        {COPY: "TimeoutError"},
    ),
]

_CLAIM = [
    Mutant(
        "a claim that no class provides",
        failed(
            "by-claim",
            "a pod waits for its node: the claim models is not bound. NodePath only supports ReadWriteOnce",
        ),
        {CLAIM: "the claim models is not bound", TABLE: "nothing was measured"},
    ),
    Mutant(
        "the access mode is trusted, and no mount is read-only",
        rewritten(
            "by-claim",
            lambda spec: _mounts(spec).pop("readOnly"),
            saw("by-claim", read_only=False, write="written"),
        ),
        {CLAIM: "2 of 2 mounts can be written to"},
    ),
    Mutant(
        "files of root, and a mount that can be written to",
        rewritten(
            "by-claim",
            lambda spec: _mounts(spec).pop("readOnly"),
            saw("by-claim", read_only=False, write="Permission denied"),
        ),
        {CLAIM: "2 of 2 mounts can be written to"},
    ),
    Mutant(
        "a volume of each pod's own, filled from the claim's Job's image",
        rewritten("by-claim", _own_copy("by-claim"), saw("by-claim", kind="emptyDir", own=SIZE)),
        {CLAIM: "the model lies in: emptyDir", TABLE: "by-claim: 0 MiB for each pod, and 260 were measured"},
    ),
    Mutant(
        "a claim for each pod",
        witnessed("by-claim", lambda seen: seen["pods"][1].update(inode="254:78")),
        {CLAIM: "2 files, one for each pod"},
    ),
    Mutant(
        "two models answer behind one name",
        witnessed("by-claim", lambda seen: seen["pods"][1].update(model=MODEL[""])),
        {CLAIM: "the files of another model"},
    ),
    Mutant(
        "an empty claim",
        saw("by-claim", missing="/mnt/models/SHA256SUMS: No such file or directory"),
        {CLAIM: "not there"},
    ),
    Mutant(
        "a claim for nothing but the link to a neighbour's files",
        saw("by-claim", link="/proc/14/root/models"),
        {CLAIM: "the server reads /proc/14/root/models"},
    ),
    Mutant("one pod alone", witnessed("by-claim", lambda seen: seen["pods"].pop()), {CLAIM: "1 pods"}),
    Mutant(
        "the claim made anew after it was seen",
        steps(
            without("PersistentVolumeClaim", "models", NAMESPACE),
            stored(next(item for item in objects("claim_yaml") if item["kind"] == "PersistentVolumeClaim")),
        ),
        {CLAIM: CHANGED},
        NOT_YET,
    ),
]

_CAR = [
    Mutant(
        "a link to nowhere, which the probe takes for a model",
        rewritten(
            "by-car",
            lambda spec: (_sidecar(_one_dollar)(spec), _sidecar(_link_alone)(spec)),
            failed("by-car", "server ended 2 times (Error)"),
        ),
        {CAR: "server ended 2 times", TABLE: "nothing was measured"},
    ),
    Mutant(
        "a link that is right, and a probe that asks for the link alone",
        rewritten("by-car", _sidecar(_link_alone), saw("by-car", probe="yes")),
        {CAR: "files away, and the startup probe says yes"},
    ),
    Mutant(
        "no startup probe",
        rewritten("by-car", _sidecar(lambda found: found.pop("startupProbe")), saw("by-car", probe="none")),
        {CAR: "the sidecar has no startup probe"},
    ),
    Mutant(
        "the sidecar runs as root, and the server may not enter",
        rewritten("by-car", _sidecar(_root), failed("by-car", "server ended 2 times (Error)")),
        {CAR: "server ended 2 times"},
    ),
    Mutant(
        "both run as root, and the server writes into the sidecar",
        rewritten("by-car", _all_root, saw("by-car", uid=0, owner=0, write="written")),
        {CAR: "root runs in the pod"},
    ),
    Mutant(
        "a server of root in a sidecar of 1000",
        rewritten("by-car", lambda spec: _root(spec["containers"][0]), saw("by-car", uid=0, owner=1000)),
        {CAR: "server 0, sidecar 1000"},
    ),
    Mutant(
        "the files are copied beside the link",
        saw("by-car", own=SIZE),
        {CAR: "each pod has 260 MiB of its own", TABLE: "by-car: 0 MiB for each pod, and 260 were measured"},
    ),
    Mutant(
        "a copy by an init container in the place of a sidecar",
        rewritten(
            "by-car",
            _no_sidecar,
            saw("by-car", link="", own=SIZE, owner=None, probe="no sidecar"),
        ),
        {CAR: "the link is none"},
    ),
]

_IMAGE = [
    Mutant(
        "the registry is asked, and there is none",
        failed("by-image", "server: ErrImagePull: failed to resolve image"),
        {IMAGE: "ErrImagePull", TABLE: "nothing was measured"},
    ),
    Mutant(
        "without the folder of the image that has the files",
        failed("by-image", "server ended 2 times (Error)"),
        {IMAGE: "server ended 2 times"},
    ),
    Mutant("the tag that was moved", saw("by-image", model=MODEL["2"]), {IMAGE: "version 2 is served"}),
    Mutant(
        "an image volume that is copied from all the same",
        rewritten("by-image", _own_copy("by-image"), saw("by-image", kind="emptyDir", own=SIZE)),
        {IMAGE: "the model lies in: emptyDir", TABLE: "by-image: 0 MiB for each pod, and 260 were measured"},
    ),
    Mutant(
        "a modelcar again",
        rewritten("by-image", lambda spec: None, saw("by-image", kind="emptyDir", **LINKED)),
        {IMAGE: "the model lies in: emptyDir"},
    ),
    Mutant(
        "an image volume, and a copy in a second volume",
        saw("by-image", own=SIZE),
        {IMAGE: "each pod has 260 MiB of its own"},
    ),
]

_TABLE = [
    Mutant("the table as it was given", table(_emptied), {TABLE: "nothing is filled in"}, NOT_YET),
    Mutant("no table", without("ConfigMap", DECISIONS, NAMESPACE), {TABLE: DECISIONS}, NOT_YET),
    Mutant(
        "a table that is no YAML",
        applied(manifest("ConfigMap", DECISIONS, NAMESPACE, data={"table.yaml": "by-copy: {"})),
        {TABLE: "nothing is filled in"},
        NOT_YET,
    ),
    Mutant(
        "figures from a book, of another model",
        _row("by-copy", mib_per_pod=134_000),
        {TABLE: "by-copy: 134000 MiB for each pod, and 260 were measured"},
    ),
    Mutant(
        "parameters are taken for MiB",
        _row("by-copy", mib_per_pod=135),
        {TABLE: "by-copy: 135 MiB for each pod"},
    ),
    Mutant(
        "an image volume is thought to copy, as an init container does",
        table(lambda said: said["by-image"].update(mib_per_pod=260, copies_for_five=5)),
        {TABLE: "by-image: 260 MiB for each pod, and 0 were measured"},
    ),
    Mutant(
        "one copy for five pods that each have their own",
        _row("by-copy", copies_for_five=1),
        {TABLE: "by-copy: 1 copies"},
    ),
    Mutant(
        "yes in place of a number",
        _row("by-claim", copies_for_five=True),
        {TABLE: "by-claim: True copies"},
    ),
    Mutant("a claim without its copy", _row("by-claim", copies_for_five=0), {TABLE: "by-claim: 0 copies"}),
    Mutant(
        "image volumes for a cluster that knows none",
        table(lambda said: said["choices"].update(kserve_1_30="by-image")),
        {TABLE: "kserve_1_30: by-image"},
    ),
    Mutant(
        "one way for everything",
        table(lambda said: said["choices"].update(dict.fromkeys(said["choices"], "by-image"))),
        {TABLE: "old_cluster: by-image"},
    ),
    Mutant(
        "filled in before anything was measured",
        without("Job", "witness-by-image", NAMESPACE),
        {TABLE: "the witness by-image was not run yet", IMAGE: "the witness by-image was not run yet"},
        NOT_YET,
    ),
]

MUTANTS = [*_COPY, *_CLAIM, *_CAR, *_IMAGE, *_TABLE]
