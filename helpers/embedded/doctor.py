"""What is wrong with the machine or the cluster, and the next command for each."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from helpers.cluster import Cluster
from helpers.cluster import doctor as capabilities
from helpers.cluster.connection import load_choice
from helpers.cluster.doctor import Finding
from helpers.embedded import launch, observe, preflight
from helpers.embedded.binaries import OF_IMAGES, SOURCE_LIST
from helpers.embedded.cache import lookup


def uses_embedded() -> bool:
    """Whether the labs work against the embedded cluster and not against one that `course use` chose."""
    chosen = os.environ.get("COURSE_KUBECONFIG") or os.environ.get("COURSE_CONTEXT")
    return not chosen and (bool(os.environ.get("COURSE_CLUSTER")) or load_choice().context is None)


def diagnose_chosen(*, experiment: bool) -> list[Finding]:
    """What the chosen cluster lacks for which labs; `experiment` starts two small pods to find out."""
    return capabilities.diagnose(Cluster.connect(), experiment=experiment, on_progress=_tell)


def _tell(doing: str) -> None:
    print(f"… {doing}", file=sys.stderr, flush=True)


def diagnose(name: str) -> list[Finding]:
    """Look at the machine, the caches and the cluster of that name."""
    return [*_machine(), *_cache(), *_cluster(name)]


def _machine() -> Iterator[Finding]:
    faults = preflight.machine_faults()
    for fault in faults:
        yield Finding(False, fault.problem, fault.next_command)
    if not faults:
        yield Finding(True, "the machine: Linux, root, kernel features, disk and memory")
    missing = preflight.missing_packages()
    if missing:
        yield Finding(True, f"`course up` will install {', '.join(missing)}")
    for pid in preflight.other_kubelets():
        yield Finding(True, f"another kubelet runs (process {pid}); the embedded node does not touch it")


def _cache() -> Iterator[Finding]:
    for source in SOURCE_LIST:
        if lookup("binaries", source.key()) is None:
            yield Finding(True, f"{source.title} is not built yet: the next `course up` builds it")
    for name, source in OF_IMAGES.items():
        if lookup("binaries", source.key()) is None:
            yield Finding(True, f"{source.title} is not built yet: it is when a lab needs the image {name}")


def _cluster(name: str) -> Iterator[Finding]:
    sandbox = launch.existing(name)
    pid = sandbox.pid() if sandbox else None
    if sandbox is None or pid is None:
        yield Finding(True, f"the cluster {name} is not running", "course up")
        return
    for one in observe.observations(sandbox, pid, observe.started_at(pid)):
        seen = one.answer()
        if seen:
            yield Finding(True, f"{one.title}: {seen}")
        else:
            text = f"no answer from: {one.title}\n{sandbox.log_tails(one.logs, lines=3)}"
            yield Finding(
                False,
                text,
                "course down && course up; if that does not help, anew: course down --delete && course up",
            )
