"""Witnesses: Jobs that put a service into a situation, and say what became of it. What labs share of them.

A record is the message with which the Job's container `witness` ended: JSON that names the witness, the Job's
uid, the pod, what it ran with (`files`, `settings`), and what it saw (`seen`) or why it could not look
(`error`). It counts when the Job is the course's own, word for word, when the pod is that Job's, and when what
it ran with is what the cluster holds now.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.cluster.resource import OVER
from helpers.errors import LabError, ObjectMissing, WaitTimeout
from helpers.grading import Verdict, all_of, expect_true, falls_short, not_attempted
from helpers.settings import REPOSITORY

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView
    from helpers.cluster.resource import Pod, Resource
    from helpers.progress import Progress

Manifest = dict[str, Any]
CONTAINER = "witness"
# A variable of the Job: what the service was made from when the witness began. Another one is no forgery.
REVISION = "REVISION"
LONGEST_S = 420.0
# A busy machine takes this many times what a witness takes on a quiet one, and a node soon has room, or never.
SLACK = 5
PLACED_S = 60.0
AT_ONCE = 4
# A line of the log that asks for something: "WITNESS word about".
SAID = "WITNESS "


@dataclass(frozen=True)
class Witness:
    """One witness, and what it shows.

    Args:
        namespace: where its Job runs.
        seconds: about how long it runs.
        alone: it breaks, replaces or needs for itself what the others ask: it runs after them, by itself.
    """

    name: str
    shows: str
    namespace: str
    seconds: int = 15
    alone: bool = False

    @property
    def job(self) -> str:
        return f"witness-{self.name}"


class NoRecord(LabError):
    """The witness has no record that counts; `is_wrong` where it has one that somebody else made."""

    def __init__(self, message: str, *, is_wrong: bool = False, next_command: str = "") -> None:
        super().__init__(message, next_command=next_command)
        self.is_wrong = is_wrong


class Stopped(LabError):
    """Whoever started the witness gave it up."""


@dataclass(frozen=True)
class Record:
    """What a witness left.

    Args:
        files: what its copy ran with, by short hashes.
        error: why it could not look; empty where it did.
    """

    job: Resource
    files: Mapping[str, str]
    settings: Mapping[str, str | None]
    seen: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Book:
    """A lab's witnesses by name, and how each one's Job is made.

    Args:
        make: the Job as it would be started now; may raise ObjectMissing when what it would ask is not there.
    """

    lab: str
    witnesses: Mapping[str, Witness]
    make: Callable[[ClusterView, str], Manifest]

    def jobs(self) -> list[tuple[str, str]]:
        """Name and namespace of each witness's Job."""
        return [(item.job, item.namespace) for item in self.witnesses.values()]

    def record(self, view: ClusterView, name: str) -> Record:
        """What this witness saw.

        Raises:
            NoRecord: it was not run, has not ended, is not the course's own, or saw another revision.
        """
        witness = self.witnesses[name]
        again = f"course witness {name}"
        job = view.find("Job", witness.job, witness.namespace)
        if job is None:
            raise NoRecord(f"the witness {name} was not run yet", next_command=again)
        pod = own_pod(view, witness, job)
        if pod is None:
            raise NoRecord(f"the witness {name} left no pod", next_command=again)
        try:
            wanted = view.scope.manifest(self.make(view, name))
        except ObjectMissing as missing:
            raise NoRecord(f"{missing}: what the witness {name} saw is gone", next_command=again) from missing
        if other := difference(pod.raw, wanted["spec"]["template"]):
            if other == REVISION:
                raise NoRecord(f"{name}: the service was changed since it was seen", next_command=again)
            raise NoRecord(f"{name}: {other} is not the course's own", is_wrong=True, next_command=again)
        return _read(job, pod, witness, again)


def own_pod(view: ClusterView, witness: Witness, job: Resource) -> Pod | None:
    """The Job's own pod, by the Job's uid."""
    pods = view.pods(witness.namespace, labels=f"batch.kubernetes.io/job-name={witness.job}")
    own = [
        pod
        for pod in pods
        if any(item.get("uid") == job.uid for item in pod.metadata.get("ownerReferences") or [])
    ]
    return own[0] if own else None


def _read(job: Resource, pod: Pod, witness: Witness, again: str) -> Record:
    ended = _ended(pod)
    if ended is None:
        raise NoRecord(
            f"the witness {witness.name} has not ended", next_command=f"kubectl get pods -n {pod.namespace}"
        )
    try:
        said = json.loads(ended)
        if not isinstance(said, dict):
            raise ValueError("no record")
    except ValueError as error:
        raise NoRecord(f"the witness {witness.name} left no record", next_command=again) from error
    if (said.get("witness"), said.get("job"), said.get("pod")) != (witness.name, job.uid, pod.name):
        raise NoRecord(f"{witness.name}: the record is another pod's", is_wrong=True, next_command=again)
    return Record(
        job,
        said.get("files") or {},
        said.get("settings") or {},
        said.get("seen") or {},
        said.get("error") or "",
    )


def _ended(pod: Pod) -> str | None:
    """The message with which the witness's container ended; None while it runs."""
    for status in pod.path("status.containerStatuses", []) or []:
        ended = (status.get("state") or {}).get("terminated")
        if status.get("name") == CONTAINER and ended is not None:
            return str(ended.get("message") or "")
    return None


_COMPARED = ("image", "command", "args", "envFrom", "volumeMounts", "lifecycle")
_POD_WIDE = ("hostNetwork", "hostAliases", "dnsConfig", "ephemeralContainers", "shareProcessNamespace")


def difference(pod: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What makes a pod another than the course's own; empty for a genuine one."""
    spec, right = pod.get("spec") or {}, wanted["spec"]
    for kind in ("initContainers", "containers"):
        found = {item["name"]: item for item in spec.get(kind) or []}
        named = {item["name"]: item for item in right.get(kind) or []}
        if found.keys() != named.keys():
            return f"a container ({', '.join(sorted(found.keys() ^ named.keys()))})"
        for name, item in named.items():
            for key in _COMPARED:
                if (found[name].get(key) or None) != (item.get(key) or None):
                    return f"{key} of {name}"
            if other := _other_variable(found[name], item):
                return other if other == REVISION else f"{other} of {name}"
    if _sources(spec) != _sources(right):
        return "a volume"
    return next((key for key in _POD_WIDE if (spec.get(key) or None) != (right.get(key) or None)), "")


def _other_variable(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    here, right = ({item["name"]: item for item in side.get("env") or []} for side in (found, wanted))
    return next((name for name in sorted({*here, *right}) if here.get(name) != right.get(name)), "")


def _sources(spec: Mapping[str, Any]) -> list[Any]:
    """Where the volumes come from, by their names; what the API server adds for a service account is not counted."""
    return sorted(
        (volume["name"], json.dumps(volume, sort_keys=True))
        for volume in spec.get("volumes") or []
        if not volume["name"].startswith("kube-api-access-")
    )


# Programs

BASE = Path(__file__).with_name("witness_base.py")
# A pod has no module of the labs: what a program imports of them are these texts, under their names.
_LOADER = """\
import sys, types
names, *texts, program, name = sys.argv[1:]
sys.argv[1:] = [name]
for module, text in zip(names.split(), texts, strict=True):
    sys.modules[module] = types.ModuleType(module)
    exec(compile(text, module, "exec"), sys.modules[module].__dict__)
exec(compile(program, "program", "exec"), {"__name__": "__main__"})
"""


def command(program: Path, name: str, *modules: Path) -> list[str]:
    """What a witness's container runs: a program's text, with those that it stands on, for this witness.

    Args:
        modules: what the program imports of its lab beside the base, each after those that it imports itself.
    """
    texts = (BASE, *modules)
    names = " ".join(_module(file) for file in texts)
    return ["python3", "-c", _LOADER, names, *(file.read_text() for file in texts), program.read_text(), name]


def _module(file: Path) -> str:
    """`helpers.labs.witness_base` for its file, also where a link leads to the folder."""
    return ".".join(file.resolve().relative_to(REPOSITORY).with_suffix("").parts)


# Judging a record


def verdict_on(
    book: Book,
    cluster: ClusterView,
    name: str,
    check: Callable[..., Verdict],
    *,
    changed: Callable[[Record], str] = lambda record: "",
) -> Verdict:
    """What a check says of a witness's record: `check(cluster, seen)`, if the record counts.

    Args:
        changed: what is not as it was when the witness saw it, in words; empty where all is.
    """
    try:
        found = book.record(cluster, name)
    except NoRecord as missing:
        return without_record(missing, "a record of the course's own witness")
    if other := changed(found):
        said = f"{other} was changed since the witness saw it"
        return not_attempted("a record of what is there now", said, next_command=f"course witness {name}")
    if found.error:
        return falls_short("a service that can be asked", found.error, found.job)
    return check(cluster, found.seen).about(found.job)


def without_record(missing: NoRecord, wanted: str) -> Verdict:
    """What a check says where a witness has no record that counts: one that somebody else made falls short."""
    words = wanted, str(missing)
    verdict = falls_short(*words) if missing.is_wrong else not_attempted(*words)
    return verdict.next(missing.next_command)


def several(*expectations: tuple[bool, str, str]) -> Verdict:
    """Expectations on one record: met or not, what is wanted, what was seen where it is not so."""
    parts = (expect_true(met, that, that if met else seen) for met, that, seen in expectations)
    return all_of(*parts).summed_up("; ".join(that for _, that, _ in expectations))


# Running


Asked = Callable[["Pod", str], None]


def run(
    book: Book,
    cluster: Cluster,
    name: str,
    *,
    on_progress: Progress,
    should_stop: Callable[[], bool] = lambda: False,
    asked: Mapping[str, Asked] | None = None,
) -> Record:
    """Make the witness's Job anew, and wait until it is over; its record.

    Args:
        asked: what the witness may ask for in its log, by the word: `asked[word](pod, about)`, each line once.

    Raises:
        ObjectMissing: what it would ask is not there.
        WaitTimeout: it does not end.
        Stopped: `should_stop` said so; the Job is gone.
        NoRecord: it left none.
    """
    witness = book.witnesses[name]
    cluster.delete("Job", witness.job, witness.namespace, wait_s=30, grace_s=1)
    cluster.apply(book.make(cluster.view(), name))
    _Run(cluster, witness, on_progress, should_stop, asked or {}).until_over()
    return book.record(cluster.view(), name)


def run_all(
    book: Book, names: Sequence[str], run_one: Callable[[str], object], *, at_once: int = AT_ONCE
) -> None:
    """These witnesses, a few at once; those that want to be alone come last, one after the other."""
    from concurrent.futures import ThreadPoolExecutor

    alone = [name for name in names if book.witnesses[name].alone]
    with ThreadPoolExecutor(at_once) as pool:
        for done in [pool.submit(run_one, name) for name in names if name not in alone]:
            done.result()
    for name in alone:
        run_one(name)


def answer(cluster: Cluster, pod: Pod, word: str, text: str = "") -> None:
    """Answer a witness that asked for something: a file of this name in its /tmp."""
    command = ["python3", "-c", "import sys; open(sys.argv[1], 'w').write(sys.argv[2])", f"/tmp/{word}", text]
    cluster.exec(pod.namespace or "", pod.name, command, container=CONTAINER)


class _Run:
    """One Job, followed by its log."""

    def __init__(
        self,
        cluster: Cluster,
        witness: Witness,
        say: Progress,
        should_stop: Callable[[], bool],
        asked: Mapping[str, Asked],
    ) -> None:
        self._cluster, self._witness, self._say = cluster, witness, say
        self._should_stop, self._asked = should_stop, asked
        self._done: set[str] = set()
        self._job = cluster.view().get("Job", witness.job, witness.namespace)

    def until_over(self) -> None:
        began, witness = time.monotonic(), self._witness
        while not self._is_over():
            elapsed_s = time.monotonic() - began
            if self._should_stop():
                self._cluster.delete("Job", witness.job, witness.namespace, grace_s=1)
                raise Stopped(f"the witness {witness.name} was stopped")
            longest_s = max(LONGEST_S, SLACK * witness.seconds)
            if elapsed_s > longest_s or (elapsed_s > PLACED_S and self._unplaced()):
                raise WaitTimeout(
                    self._unplaced() or f"the witness {witness.name} did not end within {longest_s:.0f} s",
                    next_command=f"kubectl describe job {witness.job} -n {witness.namespace}",
                )
            self._say(f"{witness.name}: {elapsed_s:.0f} s of about {witness.seconds}")
            self._follow()
            time.sleep(0.3)

    def _unplaced(self) -> str:
        """Why no node has taken the pod; empty where one has."""
        pod = self._pod()
        placed = pod.conditions("PodScheduled") if pod else None
        if placed is None or placed.is_true:
            return ""
        return f"the witness {self._witness.name} has no place: {placed.message}"

    def _is_over(self) -> bool:
        """Whether the pod has ended too, with its sidecars: a Job that has not would delete it at its deadline."""
        pod = self._pod()
        return pod is not None and _ended(pod) is not None and pod.phase in OVER

    def _pod(self) -> Pod | None:
        return own_pod(self._cluster.view(), self._witness, self._job)

    def _follow(self) -> None:
        """What the witness asks for in its log, each once."""
        pod = self._pod() if self._asked else None
        if pod is None or pod.path("status.phase") != "Running":
            return
        for line in self._cluster.logs(self._witness.namespace, pod.name, container=CONTAINER).splitlines():
            word, _, about = line.removeprefix(SAID).partition(" ")
            if line.startswith(SAID) and line not in self._done:
                self._done.add(line)
                self._asked[word](pod, about)
