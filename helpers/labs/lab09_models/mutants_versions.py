"""Wrong clusters for images that cannot be mounted, and for versions: what learners name, and what becomes of a rollout."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from helpers.grading.author import Mutant
from helpers.grading.changes import Change, Manifest, edited, rolled_out, steps, stored, without
from helpers.grading.verdict import Status
from helpers.labs import witnessed_fakes
from helpers.labs.lab09_models.ground import NAMESPACE, READERS, RELEASES
from helpers.labs.lab09_models.mutants_staging import CHANGED, pod
from helpers.labs.lab09_models.proof_staging import DIGESTS, MODEL, REPOSITORY, asleep, deployment
from helpers.labs.lab09_models.witness_staging import BOOK, VERSIONS

WORDS, PINNED, ROLLED = "words.readers", "versions.pinned", "versions.rolled"
NOT_YET = Status.NOT_ATTEMPTED
FIRST, SECOND = RELEASES
ONE_POD = pod("image", prompt=31)
TWO_POD = pod("image", prompt=28, model=MODEL["2"], answer="My name is Lumen.")
SEEN: Manifest = {
    "problem": "",
    "one": {"pods": [ONE_POD], "problem": ""},
    "two": {"pods": [TWO_POD], "problem": ""},
    "before": {"31": 8},
    "during": {"31": 13, "28": 11},
    "after": {"31": 8},
    "callers": {"answered": 70, "lost": 0, "first": []},
    "still": {"pods": [ONE_POD]},
}


def rolled(edit: Callable[[Manifest], object] = lambda seen: None) -> Change:
    """What the witness saw of version 2 beside version 1; edited."""

    def change(cluster: Any) -> None:
        seen = deepcopy(SEEN)
        edit(seen)
        witnessed_fakes.leave(cluster, BOOK, VERSIONS, {"seen": seen})

    return change


def records(cluster: Any) -> None:
    """The witness has looked, and saw what is right."""
    rolled()(cluster)


def _named(name: str, reference: str) -> Manifest:
    """A Deployment of the solution's whose model is called so."""
    wanted = deployment(name)
    (volume,) = (item for item in wanted["spec"]["template"]["spec"]["volumes"] if "image" in item)
    volume["image"]["reference"] = reference
    return wanted


def _awake(wanted: Manifest) -> Manifest:
    wanted["spec"]["replicas"] = 1
    return wanted


def release(name: str, reference: str) -> Change:
    """A version whose model is called so."""
    wanted = _named(name, reference)
    return asleep(wanted) if name == SECOND else rolled_out(wanted)


def reader(name: str, edit: Callable[[Manifest], object], reason: str = "ErrImagePull") -> Change:
    """A reader that does not start; without a reason it does."""
    wanted = deployment(name)
    edit(wanted["spec"]["template"]["spec"])
    if not reason:
        return rolled_out(wanted)
    waits = edited("Deployment", name, _unready, NAMESPACE)
    return steps(rolled_out(wanted, reason=reason), waits)


def _unready(found: Manifest) -> None:
    found["status"] |= {"readyReplicas": 0, "availableReplicas": 0}


def _image(spec: Manifest, **image: str) -> None:
    spec["volumes"][0]["image"].update(image)


def _probe(spec: Manifest) -> None:
    spec["containers"][0]["readinessProbe"]["exec"]["command"] = ["true"]


def _content(spec: Manifest) -> None:
    """The whole image is mounted, and the probe says yes to it."""
    container = spec["containers"][0]
    container["volumeMounts"][0].pop("subPath")
    container["readinessProbe"]["exec"]["command"] = [
        "sh",
        "-c",
        "test -s /mnt/models/config.json || true",
    ]


def _folder(spec: Manifest) -> None:
    spec["containers"][0]["volumeMounts"][0]["subPath"] = "model"


def _emptied(spec: Manifest) -> None:
    spec["volumes"][0] = {"name": "model", "emptyDir": {}}


_WORDS = [
    Mutant(
        "the readers, not applied",
        steps(*(without("Deployment", name, NAMESPACE) for name in READERS)),
        {WORDS: "reader-a"},
        NOT_YET,
    ),
    Mutant(
        "a tag that there is not",
        reader("reader-a", lambda spec: _image(spec, reference=f"{REPOSITORY}:3")),
        {WORDS: "reader-a has smollm2-135m-instruct:3"},
    ),
    Mutant(
        "a registry is asked that there is not",
        reader("reader-b", lambda spec: _image(spec, pullPolicy="Always")),
        {WORDS: "0 of 1 pods are ready"},
    ),
    Mutant(
        "a folder that is not in the image", reader("reader-c", _folder), {WORDS: "0 of 1 pods are ready"}
    ),
    Mutant(
        "mended with a tag that was moved",
        reader("reader-a", lambda spec: _image(spec, reference=f"{REPOSITORY}:stable"), ""),
        {WORDS: "reader-a has smollm2-135m-instruct:stable"},
    ),
    Mutant(
        "mended with an empty folder",
        reader("reader-c", _emptied, ""),
        {WORDS: "reader-c has no image"},
    ),
    Mutant(
        "mended by a probe that asks nothing",
        reader("reader-c", _probe, ""),
        {WORDS: "its probe asks something else"},
    ),
    Mutant(
        "mended by a probe that says yes to everything",
        reader("reader-c", _content, ""),
        {WORDS: "reader-c: they lie in /mnt/models/models"},
    ),
    Mutant(
        "scaled to none",
        edited(
            "Deployment",
            "reader-b",
            lambda found: (
                found["spec"].update(replicas=0),
                found["status"].update(replicas=0, readyReplicas=0),
            ),
            NAMESPACE,
        ),
        {WORDS: "no pod"},
    ),
]

_PINNED = [
    Mutant("version 1 by its tag", release(FIRST, f"{REPOSITORY}:1"), {PINNED: "model-v1 names a tag"}),
    Mutant(
        "version 2 by a tag that is moved",
        release(SECOND, f"{REPOSITORY}:stable"),
        {PINNED: "model-v2 names a tag"},
    ),
    Mutant(
        "one version twice",
        release(SECOND, f"{REPOSITORY}@{DIGESTS['1']}"),
        {PINNED: "model-v2 names version 1"},
    ),
    Mutant(
        "a digest that was typed by hand",
        release(FIRST, f"{REPOSITORY}@{DIGESTS['1'][:-1]}2"),
        {PINNED: "names a digest of no version"},
    ),
    Mutant(
        "a tag before a digest of the other version",
        release(FIRST, f"{REPOSITORY}:1@{DIGESTS['2']}"),
        {PINNED: "model-v1 names version 2"},
    ),
    Mutant(
        "no version 2", without("Deployment", SECOND, NAMESPACE), {PINNED: SECOND, ROLLED: SECOND}, NOT_YET
    ),
]

_ROLLED = [
    Mutant(
        "the Service leads to version 1 alone",
        rolled(lambda seen: seen.update(during={"31": 24})),
        {ROLLED: "while both run: version 1 24 times"},
    ),
    Mutant(
        "the Service leads to version 2 as soon as it is there",
        rolled(lambda seen: seen.update(during={"28": 24})),
        {ROLLED: "while both run: version 2 24 times"},
    ),
    Mutant(
        "one model twice",
        steps(
            release(SECOND, f"{REPOSITORY}@{DIGESTS['1']}"),
            rolled(lambda seen: seen["two"]["pods"][0].update(prompt=31, model=MODEL["1"])),
        ),
        {ROLLED: "version 1 is served", PINNED: "model-v2 names version 1"},
    ),
    Mutant(
        "answers lost when version 2 ends",
        rolled(lambda seen: seen.update(callers={"answered": 66, "lost": 4, "first": ["status 0"]})),
        {ROLLED: "4 of 70 answers lost, status 0"},
    ),
    Mutant(
        "version 1 is replaced for the canary",
        rolled(lambda seen: seen.update(still={"pods": [{**ONE_POD, "pod": "another"}]})),
        {ROLLED: "version 1's pod was replaced"},
    ),
    Mutant(
        "version 2 does not start",
        rolled(lambda seen: seen.update(two={"pods": [], "problem": "server: ErrImagePull: not found"})),
        {ROLLED: "ErrImagePull"},
    ),
    Mutant(
        "version 2 is scaled up again",
        steps(rolled_out(_awake(deployment(SECOND))), rolled()),
        {ROLLED: "1 pods of version 2 are wanted now"},
    ),
    Mutant(
        "version 2 answers on after the way back",
        rolled(lambda seen: seen.update(after={"31": 5, "28": 3})),
        {ROLLED: "after: version 2 3 times, version 1 5 times"},
    ),
    Mutant(
        "nobody answers before",
        rolled(lambda seen: seen.update(before={"None": 8})),
        {ROLLED: "before: nobody 8 times"},
    ),
    Mutant(
        "another selector after it was seen",
        edited(
            "Service",
            "model",
            lambda found: found["spec"].update(selector={"app": "model", "version": "2"}),
            NAMESPACE,
        ),
        {ROLLED: CHANGED},
        NOT_YET,
    ),
    Mutant("no Service", without("Service", "model", NAMESPACE), {ROLLED: "is gone"}, NOT_YET),
    Mutant(
        "no pod of version 1 is left",
        stored(deployment(FIRST) | {"status": {"observedGeneration": 1}}),
        {ROLLED: "no pod of version 1 is Ready now"},
    ),
]

MUTANTS = [*_WORDS, *_PINNED, *_ROLLED]
