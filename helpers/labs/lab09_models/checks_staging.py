"""Checks of parts 1 to 5: one model staged in four ways, what each costs, and what is chosen for that.

Each way is seen by a witness, which looks into its pods, tries to write and has it answer. A record counts for as
long as the Deployment is the one that it saw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any

import yaml

from helpers.grading import Verdict, falls_short, not_attempted
from helpers.labs.lab09_models.ground import DECISIONS, NAMESPACE, WAYS
from helpers.labs.lab09_models.lab import lab
from helpers.labs.lab09_models.witness_staging import BOOK, PODS
from helpers.labs.witnessing import NoRecord, several, verdict_on, without_record
from helpers.stack import models

if TYPE_CHECKING:
    from helpers.cluster import ClusterView
    from helpers.grading.declare import CheckFunction

Seen = Mapping[str, Any]
Expectation = tuple[bool, str, str]
MIB = 2**20
# A folder of links and an empty folder take some kilobytes; a copy of the model takes all of it.
NOTHING_MIB, COPY_SHARE = 1.0, 0.98
TABLE = "table.yaml"
TOLERANCE = 0.02
FIVE = 5
# What each situation of the page asks for.
CHOICES = {
    "old_cluster": "by-copy",
    "big_share": "by-claim",
    "kserve_1_30": "by-car",
    "registry_1_36": "by-image",
}
COPIES = {"by-copy": FIVE, "by-claim": 1, "by-car": 0, "by-image": 0}


def staged(name: str) -> Callable[[Callable[[list[Seen]], list[Expectation]]], CheckFunction]:
    """A check of one way: it gets what the witness saw of the pods, if all of them serve version 1 of the model."""

    def wrap(check: Callable[[list[Seen]], list[Expectation]]) -> CheckFunction:
        def judged(cluster: ClusterView, seen: Seen) -> Verdict:
            if refused := not_served(cluster, name, seen):
                return refused
            pods = seen["pods"]
            return several(*check(pods), *_read_only(pods), *_answers(pods))

        @wraps(check)
        def verdict(cluster: ClusterView) -> Verdict:
            return verdict_on(BOOK, cluster, name, judged)

        return verdict

    return wrap


def not_served(cluster: ClusterView, name: str, seen: Seen, version: str = "1") -> Verdict | None:
    """What is said where the pods are not Ready, or what they serve is not this version, whole."""
    pods, wanted = seen["pods"], PODS[name]
    if seen.get("problem"):
        return falls_short(f"{name}: {wanted} Ready", str(seen["problem"]))
    if len(pods) < wanted:
        return falls_short(f"{name}: {wanted} Ready", f"{len(pods)} pods")
    known = models.versions(cluster)
    for pod in pods:
        if pod.get("missing"):
            return falls_short(f"the model in {models.PATH}", f"not there: {pod['missing']}")
        if pod["broken"]:
            return falls_short("all files, whole", f"not whole: {', '.join(pod['broken'])}")
        if pod["model"] != known[version].model:
            other = next((item.number for item in known.values() if item.model == pod["model"]), "")
            said = f"version {other} is served" if other else "the files of another model are served"
            return falls_short(f"version {version} is served", said)
    return None


def _read_only(pods: list[Seen]) -> list[Expectation]:
    written = [pod for pod in pods if pod["write"] == "written"]
    return [
        (not written, "a write is refused", f"a file was written beside the weights (uid {pods[0]['uid']})")
    ]


def _answers(pods: list[Seen]) -> list[Expectation]:
    statuses = [pod.get("status") for pod in pods]
    roots = {pod.get("root") for pod in pods}
    return [
        (statuses == [200] * len(pods), "an answer from each pod", f"status {statuses}"),
        (
            roots == {models.PATH},
            f"{models.PATH} is what is served",
            f"served is {', '.join(map(str, roots))}",
        ),
    ]


def _own_mib(pod: Seen) -> float:
    """What the pod's own volumes take on its node."""
    return float(pod["own"]) / MIB


def _adds_nothing(pods: list[Seen]) -> Expectation:
    most = max(_own_mib(pod) for pod in pods)
    return most < NOTHING_MIB, "no copy in the pod", f"each pod has {most:.0f} MiB of its own"


def _no_neighbour(pods: list[Seen]) -> Expectation:
    """What is served is not reached by a link into another container, whatever the pod's volumes hold."""
    linked = [str(pod["link"]) for pod in pods if str(pod["link"]).startswith("/proc/")]
    return not linked, "no neighbour's files", f"the server reads {(linked or [''])[0]}, a neighbour's files"


def _lies_in(pods: list[Seen], kind: str, words: str) -> Expectation:
    found = sorted({str(pod["kind"]) for pod in pods})
    return found == [kind], words, f"the model lies in: {', '.join(found)}"


# 1. Init copy


@lab.check("copy.own", points=3, task="copy", timeout_s=10)
@staged("by-copy")
def a_copy_in_every_pod(pods: list[Seen]) -> list[Expectation]:
    """`by-copy`: an init container copies the model into the pod's own volume on disk; the server reads it, and cannot write there.

    Why: It works on every Kubernetes. Each pod pays for it with the whole model, at each start.
    Hint: What does `cp -r /models /mnt/models/` make when /mnt/models is there already? And who may write into the server's mount?
    Next: course witness by-copy
    """
    least = min(_own_mib(pod) / max(1.0, pod["bytes"] / MIB) for pod in pods)
    return [
        _no_neighbour(pods),
        _lies_in(pods, "emptyDir", "the model lies in an emptyDir on disk"),
        (least >= COPY_SHARE, "a whole copy in the pod", f"the pod has {least:.0%} of the model of its own"),
    ]


# 2. A shared claim


@lab.check("claim.shared", points=4, task="claim", timeout_s=10)
@staged("by-claim")
def one_copy_for_all(pods: list[Seen]) -> list[Expectation]:
    """`by-claim`: two pods serve the same file of one claim, each through a mount that is read-only.

    Why: One copy serves all replicas. What one of them could write, all others would serve.
    Hint: `accessModes` says who may mount the claim, not what may be done with the mount. `kubectl describe pvc models -n llm-models` says what the storage class refuses.
    Next: course witness by-claim
    """
    # Nodes number their file systems as they like: of one claim the file's own number is the same everywhere.
    inodes = {str(pod["inode"]).partition(":")[2] for pod in pods}
    writable = [pod for pod in pods if not pod["read_only"]]
    return [
        _no_neighbour(pods),
        _lies_in(pods, "claim", "the model lies in a claim"),
        _adds_nothing(pods),
        (len(inodes) == 1, "one file for both pods", f"{len(inodes)} files, one for each pod"),
        (not writable, "read-only mounts", f"{len(writable)} of {len(pods)} mounts can be written to"),
    ]


# 3. Modelcar


@lab.check("car.beside", points=4, task="car", timeout_s=10)
@staged("by-car")
def a_neighbours_files(pods: list[Seen]) -> list[Expectation]:
    """`by-car`: the server reads the model in a sidecar's root by a link; both run as one user who is not root; the sidecar's startup probe says no where the link leads nowhere.

    Why: No copy, on clusters that know no image volumes. The price is a pod in which every process sees the others.
    Hint: Kubernetes reads `$$` as one `$` before the shell sees it. `test -L` asks for a link, not for what is behind it. And may user 1000 look into the root of user 0?
    Next: course witness by-car
    """
    (pod,) = pods[:1]
    linked = str(pod["link"]).startswith("/proc/")
    probe = pod.get("probe", "no sidecar")
    return [
        (linked, "a link into the sidecar's root", f"the link is {pod['link'] or 'none'}"),
        _adds_nothing(pods),
        (
            linked and pod["owner"] == pod["uid"],
            "server and sidecar run as one user",
            f"server {pod['uid']}, sidecar {pod.get('owner')}",
        ),
        (pod["uid"] != 0 and pod.get("owner") != 0, "nobody runs as root", "root runs in the pod"),
        (
            probe == "no",
            "the startup probe sees that the files are away",
            {
                "none": "the sidecar has no startup probe",
                "yes": "files away, and the startup probe says yes",
            }.get(probe, f"the startup probe: {probe}"),
        ),
    ]


# 4. Image volume


@lab.check("image.mounted", points=3, task="image", timeout_s=10)
@staged("by-image")
def an_image_for_a_volume(pods: list[Seen]) -> list[Expectation]:
    """`by-image`: the server reads the model straight from an image that is mounted as a volume, and nothing is copied.

    Why: The runtime keeps one copy of an image on a node, and mounts it read-only. Nothing else is needed in the pod.
    Hint: In the image the files lie in /models: `subPath` says which part of it is mounted. Without a registry, who could be asked by `Always`?
    Next: course witness by-image
    """
    linked = [pod for pod in pods if pod["link"]]
    return [
        _lies_in(pods, "image", "the model lies in an image volume"),
        (not linked, "no link", "the served folder is a link"),
        _adds_nothing(pods),
    ]


# 5. The decision


@lab.check("decide.table", points=4, task="decide", timeout_s=15)
def decided_by_what_was_measured(cluster: ClusterView) -> Verdict:
    """ConfigMap `staging-decisions` says what each way costs, as measured here, and which way each situation asks for.

    Why: Tables in books were measured elsewhere. Bytes and copies of your own cluster decide, and stay true when it is busy.
    Hint: MiB that one more pod adds to its node, and copies that five pods on one node need beside the node's image store. The measured table above has the first.
    Next: kubectl get configmap staging-decisions -n llm-models -o yaml
    """
    found = cluster.config_map(DECISIONS, NAMESPACE)
    table = _table(found.data.get(TABLE, ""))
    if not table or _is_untouched(table):
        return not_attempted(f"{TABLE}, filled in", "nothing is filled in").about(found)
    seen: dict[str, Seen] = {}
    for way in WAYS:
        try:
            seen[way] = BOOK.record(cluster, way).seen
        except NoRecord as missing:
            return without_record(missing, "what each way costs, measured on what is there now")
        if not seen[way].get("pods") or "own" not in seen[way]["pods"][0]:
            return falls_short("what each way costs, measured", f"{way} was not Ready: nothing was measured")
    rows = [part for way in WAYS for part in _row(way, table.get(way), seen[way]["pods"])]
    chosen = table.get("choices")
    choices = chosen if isinstance(chosen, dict) else {}
    rows += [
        (
            choices.get(name) == way,
            f"{name} decided",
            f"{name}: {choices.get(name) or 'nothing'} is not what it asks for",
        )
        for name, way in CHOICES.items()
    ]
    return several(*rows).about(found).summed_up("every row is what was measured, and every choice fits")


def _row(way: str, said: object, pods: list[Seen]) -> list[Expectation]:
    row = said if isinstance(said, dict) else {}
    own = max(_own_mib(pod) for pod in pods)
    mib, copies = row.get("mib_per_pod"), row.get("copies_for_five")
    near = (
        isinstance(mib, int | float)
        and not isinstance(mib, bool)
        and abs(mib - own) <= max(NOTHING_MIB, TOLERANCE * own)
    )
    wanted = FIVE if own >= NOTHING_MIB else COPIES[way]
    return [
        (near, f"{way}: MiB as measured", f"{way}: {mib} MiB for each pod, and {own:.0f} were measured"),
        (
            copies == wanted and not isinstance(copies, bool),
            f"{way}: copies",
            f"{way}: {copies} copies for five pods do not follow from what was measured",
        ),
    ]


def _table(text: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_untouched(table: Mapping[str, Any]) -> bool:
    """Whether every value of the draft is still empty."""
    values = [value for row in table.values() if isinstance(row, dict) for value in row.values()]
    return all(value is None for value in values)
