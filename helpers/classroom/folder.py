"""A class as the instructor keeps it: one private folder with the members, handouts and history.

    home_dir()/classes/NAME/class.json     who is in the class, and on which cluster
                           /kubeconfigs/   what each learner is handed
                           /clusters/      the instructor's way into learners' own clusters
                           /journals/, /history/   what the instructor's runs saw, a folder a learner

The folder is the instructor's alone (0700). Nothing in it can be derived from the cluster again but
the handouts; what is on the cluster is built from it.
"""

from __future__ import annotations

import fcntl
import json
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.atomic_file import locked, read_json, write_atomically
from helpers.classroom.roster import Learner, suffix_of
from helpers.cluster.kubeconfig import is_there
from helpers.errors import EnvironmentFault, LabError
from helpers.settings import home_dir

if TYPE_CHECKING:
    from helpers.cluster import Cluster

SCHEMA = "course.class/v1"
DEFAULT_NAME = "class"
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


class NoSuchClass(LabError):
    """No class of that name was created on this machine."""


class NoSuchLearner(LabError):
    """The class has no learner with that id."""


class ClassBusy(LabError):
    """Another command is changing the class at this moment."""


@dataclass(frozen=True)
class Member:
    """A learner's place in the class.

    `suffix` tells their namespaces from the others'; empty on a cluster of their own. `kubeconfig`
    is the instructor's way into such a cluster; None stands for the class's shared cluster.
    """

    learner: Learner
    suffix: str
    nonce: str
    kubeconfig: Path | None = None
    removed: bool = False

    @property
    def key(self) -> str:
        """A name for files: unique in the class, also for a learner with a cluster of their own."""
        return suffix_of(self.learner.id)

    @classmethod
    def new(cls, learner: Learner) -> Member:
        """A place on the shared cluster, with a nonce of its own."""
        return cls(learner, suffix_of(learner.id), secrets.token_hex(16))


@dataclass(frozen=True)
class ClassFolder:
    """One class: a snapshot of its file, and where its parts lie."""

    name: str
    path: Path
    cluster_uid: str = ""
    members: tuple[Member, ...] = ()
    # How the instructor reached the shared cluster when the class was created.
    kubeconfig: Path | None = None
    context: str = ""
    # What the class runs by, such as the GPU queue's time-out: kept as written.
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, name: str = DEFAULT_NAME) -> ClassFolder:
        """The class of that name.

        Raises:
            NoSuchClass: there is none; the next command creates one.
            EnvironmentFault: its file cannot be read.
        """
        path = _path_of(name)
        try:
            tree = read_json(path / "class.json", SCHEMA)
            if not tree:
                raise _no_such_class(name)
            return cls(
                name,
                path,
                tree["cluster"]["uid"],
                tuple(_member(item, path) for item in tree["members"]),
                Path(tree["cluster"]["kubeconfig"]) if tree["cluster"]["kubeconfig"] else None,
                tree["cluster"]["context"],
                tree["settings"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EnvironmentFault(f"{path / 'class.json'} cannot be read: {error}") from error

    @classmethod
    def at(cls, name: str = DEFAULT_NAME) -> ClassFolder:
        """The class of that name, or an empty one that `save` would create."""
        try:
            return cls.open(name)
        except NoSuchClass:
            return cls(name, _path_of(name))

    @property
    def active(self) -> tuple[Member, ...]:
        """The members that are in the class now."""
        return tuple(member for member in self.members if not member.removed)

    def member(self, identity: str) -> Member:
        """The member with that id, removed or not; upper and lower case are the same."""
        try:
            return self._by_id[identity.lower()]
        except KeyError as error:
            raise NoSuchLearner(
                f"class {self.name} has no learner {identity!r}",
                next_command=f"course class list{name_option(self.name)}",
            ) from error

    @cached_property
    def _by_id(self) -> dict[str, Member]:
        return {member.learner.id.lower(): member for member in self.members}

    def handout(self, member: Member) -> Path:
        """The kubeconfig that the learner is given (0600)."""
        return self.path / "kubeconfigs" / f"{member.key}.yaml"

    def own_cluster(self, member: Member) -> Path:
        """Where the instructor's kubeconfig for a learner's own cluster is kept (0600)."""
        return self.path / "clusters" / f"{member.key}.yaml"

    @property
    def policy_file(self) -> Path:
        """Due dates and which attempt counts; absent until the instructor sets any."""
        return self.path / "policy.toml"

    def history_dir(self, member: Member) -> Path:
        """What the instructor's runs graded, for one learner."""
        return self.path / "history" / member.key

    def journals_dir(self, member: Member) -> Path:
        """The home of the instructor's own journal of one learner: `grade(…, journals=…)`."""
        return self.path / "journals" / member.key

    def instructor_cluster(self, member: Member) -> Cluster:
        """The learner's cluster with the instructor's credentials, seen in the learner's namespaces.

        Raises:
            EnvironmentFault: the learner has no place yet; grading would look into nobody's namespaces.
        """
        from helpers.cluster import Scope

        if member.kubeconfig is None and not member.suffix:
            raise EnvironmentFault(
                f"{member.learner.id} has no cluster yet",
                next_command=f"course class add-cluster {member.learner.id} --kubeconfig FILE{name_option(self.name)}",
            )
        return self.connect(member.kubeconfig, Scope(member.suffix))

    def shared_cluster(self) -> Cluster:
        """The class's shared cluster with the instructor's credentials, in nobody's namespaces."""
        from helpers.cluster import Scope

        return self.connect(None, Scope())

    def connect(self, kubeconfig: Path | None, scope: Any) -> Cluster:
        """A cluster by its kubeconfig; without one, the way in which the class was created.

        Where that file is not (in a Job on the cluster), the cluster in use is taken.
        """
        from helpers.cluster import Cluster

        if kubeconfig is not None:
            return Cluster.connect(kubeconfig=kubeconfig, scope=scope)
        if self.kubeconfig is not None and is_there(self.kubeconfig):
            return Cluster.connect(kubeconfig=self.kubeconfig, context=self.context or None, scope=scope)
        return Cluster.connect(scope=scope)

    def with_members(self, members: Iterable[Member]) -> ClassFolder:
        """The class with these members in place of those of the same id; new ones come last."""
        fresh = {member.learner.id.lower(): member for member in members}
        kept = [fresh.pop(member.learner.id.lower(), member) for member in self.members]
        return replace(self, members=(*kept, *fresh.values()))

    def save(self) -> ClassFolder:
        """Write the class's file in one step; the folder is made private first."""
        self._make()
        tree = {
            "schema": SCHEMA,
            "name": self.name,
            "cluster": {
                "uid": self.cluster_uid,
                "kubeconfig": str(self.kubeconfig) if self.kubeconfig else "",
                "context": self.context,
            },
            "settings": self.settings,
            "members": [_plain(member, self.path) for member in self.members],
        }
        file = self.path / "class.json"
        with locked(file):
            write_atomically(file, json.dumps(tree, indent=1, ensure_ascii=False))
        return self

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Only one command at a time changes a class; a second one is told so and waits for nothing."""
        self._make()
        with (self.path / "changing.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ClassBusy(
                    f"another command is changing class {self.name} now",
                    next_command="wait for it to end, then run this again",
                ) from error
            yield

    def _make(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.path.chmod(0o700)


def name_option(name: str) -> str:
    """How the next command names the class: not at all when it is the default one."""
    return "" if name == DEFAULT_NAME else f" --name {name}"


def class_names() -> list[str]:
    """The classes that were created on this machine."""
    return sorted(file.parent.name for file in (home_dir() / "classes").glob("*/class.json"))


def _path_of(name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise LabError(
            f"{name!r} cannot name a class: lower-case letters, digits and dashes, at most 40 characters"
        )
    return home_dir() / "classes" / name


def _no_such_class(name: str) -> NoSuchClass:
    others = [other for other in class_names() if other != name]
    if others and name == DEFAULT_NAME:
        known = f"there is no class named {name!r} (there is: {', '.join(others)})"
        return NoSuchClass(known, next_command=f"course class list --name {others[0]}")
    return NoSuchClass(
        f"there is no class named {name!r}",
        next_command=f"course class create --roster roster.csv{name_option(name)}",
    )


def _plain(member: Member, home: Path) -> dict[str, Any]:
    kubeconfig = member.kubeconfig
    if kubeconfig is not None and kubeconfig.is_relative_to(home):
        kubeconfig = kubeconfig.relative_to(home)  # the folder can be moved, or mounted elsewhere
    return {
        "id": member.learner.id,
        "name": member.learner.name,
        "email": member.learner.email,
        "suffix": member.suffix,
        "nonce": member.nonce,
        "kubeconfig": str(kubeconfig) if kubeconfig else "",
        "removed": member.removed,
    }


def _member(tree: dict[str, Any], home: Path) -> Member:
    learner = Learner(tree["id"], tree["name"], tree["email"])
    kubeconfig = home / tree["kubeconfig"] if tree["kubeconfig"] else None
    return Member(learner, tree["suffix"], tree["nonce"], kubeconfig, tree["removed"])
