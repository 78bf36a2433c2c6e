"""Checks of parts 6 and 7: what the kubelet says of images that it cannot mount, and versions that do not move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from helpers.grading import Verdict, all_of, expect_true, falls_short
from helpers.labs.lab09_models.checks_staging import not_served
from helpers.labs.lab09_models.ground import NAMESPACE, READERS, RELEASES
from helpers.labs.lab09_models.lab import lab
from helpers.labs.lab09_models.witness_staging import BOOK, VERSIONS
from helpers.labs.witnessing import several, verdict_on
from helpers.stack import models

if TYPE_CHECKING:
    from helpers.cluster import ClusterView
    from helpers.cluster.resource import Workload

Seen = Mapping[str, Any]
FILE = f"{models.PATH}/config.json"


# 6. What the kubelet says


@lab.check("words.readers", points=3, task="words", timeout_s=10)
def every_reader_reads(cluster: ClusterView) -> Verdict:
    """`reader-a`, `reader-b` and `reader-c` are Ready, and each has version 1 of the model as an image volume.

    Why: A status names the step in which something failed. No such tag and nobody to ask look alike in it; the words to their end say more.
    Hint: `kubectl describe pods -n llm-models -l app=reader-c`: read the message to its end, not the reason alone.
    Next: kubectl get pods -n llm-models; kubectl get events -n llm-models
    """
    known = models.versions(cluster)
    first = known["1"]
    names = (first.image, f"{first.repository}:1")
    return all_of(*(_reads(cluster, name, names) for name in READERS)).summed_up("all three read version 1")


def _reads(cluster: ClusterView, name: str, names: tuple[str, ...]) -> Verdict:
    found = cluster.deployment(name, NAMESPACE)
    spec = found.path("spec.template.spec", {})
    reference = models.image_of(spec).get("reference", "no image")
    if reference not in names:
        return falls_short(
            f"{name} has version 1 as an image volume", f"{name} has {_short(reference)}", found
        )
    probe = ((found.containers[0].get("readinessProbe") or {}).get("exec") or {}).get("command") or []
    if FILE not in " ".join(probe):
        return falls_short(
            f"{name} is Ready when {FILE} is there", f"{name}: its probe asks something else", found
        )
    gap = found.rollout_gap()
    if not gap and _files_lie_in(spec) != models.PATH:
        return falls_short(
            f"{name} has the model's files in {models.PATH}",
            f"{name}: they lie in {_files_lie_in(spec) or 'another folder'}",
            found,
        )
    return expect_true(
        not gap and found.ready_replicas >= 1, f"{name} Ready", f"{name}: {gap or 'no pod'}", found
    )


def _files_lie_in(spec: Mapping[str, Any]) -> str:
    """Where a pod has the folder of the image that holds the files: its `/models`; empty where it is not mounted."""
    mount = models.mount_of(spec)
    place, path = str(mount.get("mountPath", "")).rstrip("/"), str(mount.get("subPath") or "").strip("/")
    return {"": f"{place}/models", "models": place}.get(path, "")


def _short(reference: str) -> str:
    """A reference without its folders, and with as much of a digest as one reads."""
    name, at, digest = reference.rpartition("/")[2].partition("@")
    return f"{name}{at}{digest[:15]}"


# 7. Versions


@lab.check("versions.pinned", points=3, task="versions", timeout_s=10)
def versions_by_digest(cluster: ClusterView) -> Verdict:
    """`model-v1` and `model-v2` name their models by digest: version 1 and version 2 of the list.

    Why: A tag is moved by whoever may push. Two pods of one Deployment may then serve two models, and nothing in the cluster says so.
    Hint: ConfigMap model-catalogue lists the versions. A name by digest is REPOSITORY@sha256:…
    Next: kubectl get configmap model-catalogue -n llm-models -o yaml
    """
    known = models.versions(cluster)
    parts = []
    for number, name in enumerate(RELEASES, 1):
        found = cluster.deployment(name, NAMESPACE)
        parts.append(_pinned(found, models.version_of(known, _reference(found)), str(number)))
    return all_of(*parts).summed_up("both are named by digest")


def _reference(found: Workload) -> str:
    return str(models.image_of(found.path("spec.template.spec", {})).get("reference", ""))


def _pinned(found: Workload, version: str, wanted: str) -> Verdict:
    reference = _reference(found)
    if not reference:
        said = "mounts no image"
    elif "@" not in reference:
        said = f"names a tag ({_short(reference)})"
    elif not version:
        said = f"names a digest of no version ({_short(reference)})"
    else:
        said = f"names version {version}"
    return expect_true(
        version == wanted, f"{found.name} names version {wanted} by digest", f"{found.name} {said}", found
    )


@lab.check("versions.rolled", points=4, task="versions", timeout_s=10)
def beside_the_old_one_and_back(cluster: ClusterView) -> Verdict:
    """With one pod of version 2 beside version 1 both answer behind Service `model`; taken back, version 1 answers alone, from the same pods, and nobody's answer was lost.

    Why: Two versions side by side are one of the few tests of a model that users do for you. The way back has to be one command, and quick.
    Hint: Which pods does the Service select? What becomes of a request to a pod that is told to end in that moment?
    Next: course witness versions
    """
    return verdict_on(BOOK, cluster, VERSIONS, _rolled)


def _rolled(cluster: ClusterView, seen: Seen) -> Verdict:
    for number, key in (("1", "one"), ("2", "two")):
        if refused := not_served(cluster, RELEASES[int(number) - 1], seen[key], number):
            return refused
    (one, *_), (two, *_) = seen["one"]["pods"], seen["two"]["pods"]
    first, second = str(one["prompt"]), str(two["prompt"])
    during, callers = seen["during"], seen["callers"]
    same = [pod["pod"] for pod in seen["still"]["pods"]] == [pod["pod"] for pod in seen["one"]["pods"]]
    now, canary = (cluster.deployment(name, NAMESPACE) for name in RELEASES)
    return several(
        (
            first != second,
            "two versions that can be told apart",
            "both have the same template: one model twice",
        ),
        (
            set(seen["before"]) == {first},
            "version 1 alone before",
            f"before: {_counts(seen['before'], first, second)}",
        ),
        (
            during.get(first, 0) > 0 and during.get(second, 0) > 0,
            "both answer while both run",
            f"while both run: {_counts(during, first, second)}",
        ),
        (
            set(seen["after"]) == {first},
            "version 1 alone after",
            f"after: {_counts(seen['after'], first, second)}",
        ),
        (
            callers["answered"] > 0 and callers["lost"] == 0,
            "no answer lost",
            f"{callers['lost']} of {callers['answered'] + callers['lost']} answers lost, {(callers['first'] or [''])[0]}",
        ),
        (same, "version 1's pod stayed", "version 1's pod was replaced"),
        (now.ready_replicas >= 1, "version 1 serves now", "no pod of version 1 is Ready now"),
        (
            canary.replicas == 0,
            "version 2 is taken back",
            f"{canary.replicas} pods of version 2 are wanted now",
        ),
    )


def _counts(found: Mapping[str, int], first: str, second: str) -> str:
    """Who answered how often, by the lengths of the prompts."""
    names = {first: "version 1", second: "version 2", "None": "nobody"}
    said = [f"{names.get(length, 'another')} {count} times" for length, count in sorted(found.items())]
    return ", ".join(said) or "nobody was asked"
