"""Who is looked at next: every learner once, many at a time, and no API server by too many.

Each API server is knocked at before its learners are looked at, beside everything else: one that does
not answer costs its own learners one time-out and nobody else's time. How many learners of one server
are looked at together falls by half whenever the environment failed there, and grows back slowly.
A server that answered and then went away is waited for, for a while; what it broke is looked at once
more, within the same deadline.

All decisions are made in the caller's thread; threads only knock and look.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from helpers.errors import ClusterUnreachable, EnvironmentFault, LabError
from helpers.grading.report import Report
from helpers.grading.runtime import Runtime, ThreadRuntime
from helpers.grading.verdict import Status

if TYPE_CHECKING:
    from helpers.cluster import Cluster

JOBS = 12
PER_SERVER = 4
KNOCKS = 64
KNOCK_S = 5.0
KNOCK_AGAIN_S = 1.0
# How long a server that has answered before may stay away: a restart of its process, not of its machine.
PATIENCE_S = 40.0
GRACE_S = 5.0

Who = TypeVar("Who")


@dataclass(frozen=True)
class Place(Generic[Who]):
    """Where a learner is looked at. Learners with the same `server` share one API server.

    `open` connects to it and asks who it is; it runs in a thread, once for a server.
    """

    who: Who
    server: str
    open: Callable[[], Cluster]


@dataclass(frozen=True)
class Seen(Generic[Who]):
    """One learner's Report, or the fault for which there is none."""

    who: Who
    report: Report | None
    fault: LabError | None = None
    looks: int = 1


@dataclass
class _Turn(Generic[Who]):
    place: Place[Who]
    looks: int = 0
    spent_s: float = 0.0
    last: Report | None = None


@dataclass
class _Server(Generic[Who]):
    name: str
    limit: float
    waiting: deque[_Turn[Who]] = field(default_factory=deque)
    running: int = 0
    cluster: Cluster | None = None
    is_up: bool = False
    knock: int = 0
    knock_until: float | None = None
    knock_at: float = 0.0
    lost_at: float | None = None


@dataclass(frozen=True)
class _Knocked:
    server: str
    knock: int
    cluster: Cluster | None
    fault: Exception | None


@dataclass(frozen=True)
class _Looked:
    look: int
    report: Report | None
    fault: Exception | None


class Scheduler(Generic[Who]):
    """One pass over all places.

    Args:
        look: observes one learner within so many seconds; runs in a thread.
        deadline_s: one learner's, in all.
        jobs: how many learners are looked at together.
        per_server: how many of them on one API server.
    """

    def __init__(
        self,
        places: Sequence[Place[Who]],
        look: Callable[[Who, Cluster, float], Report],
        *,
        deadline_s: float,
        jobs: int = JOBS,
        per_server: int = PER_SERVER,
        patience_s: float = PATIENCE_S,
        runtime: Runtime | None = None,
    ) -> None:
        self._look, self._deadline_s, self._jobs = look, deadline_s, max(1, jobs)
        self._most, self._patience_s = max(1, per_server), patience_s
        self._runtime = runtime or ThreadRuntime()
        self._servers: dict[str, _Server[Who]] = {}
        self._running: dict[int, tuple[_Turn[Who], float]] = {}
        self._looks = 0
        for place in places:
            server = self._servers.setdefault(place.server, _Server(place.server, float(self._most)))
            server.waiting.append(_Turn(place))

    @property
    def running(self) -> int:
        """How many learners are looked at now."""
        return len(self._running)

    @property
    def away(self) -> list[str]:
        """The servers that answered before and do not answer now."""
        return [server.name for server in self._servers.values() if server.lost_at is not None]

    def results(self) -> Iterator[Seen[Who]]:
        """Each learner's result as it comes; ends when every learner has one."""
        while self._running or any(server.waiting for server in self._servers.values()):
            self._knock()
            self._start()
            answer = self._runtime.receive(self._next_moment() - self._runtime.monotonic())
            if isinstance(answer, _Knocked):
                yield from self._knocked(answer)
            elif isinstance(answer, _Looked):
                yield from self._looked(answer)
            yield from self._expire()

    # Servers

    def _knock(self) -> None:
        now = self._runtime.monotonic()
        free = KNOCKS - sum(server.knock_until is not None for server in self._servers.values())
        for server in self._servers.values():
            idle = server.is_up or server.knock_until is not None or not server.waiting
            if idle or server.knock_at > now or free <= 0:
                continue
            free -= 1
            server.knock += 1
            server.knock_until = now + KNOCK_S + GRACE_S
            self._runtime.spawn(_knocking(server.name, server.knock, server.cluster, server.waiting[0].place))

    def _knocked(self, answer: _Knocked) -> Iterator[Seen[Who]]:
        server = self._servers[answer.server]
        if answer.knock != server.knock or server.knock_until is None:
            return  # late: this server has been given up, or knocked at again
        server.knock_until = None
        if answer.cluster is not None:
            server.cluster, server.is_up, server.lost_at = answer.cluster, True, None
            return
        yield from self._absent(server, answer.fault or ClusterUnreachable("the API server did not answer"))

    def _absent(self, server: _Server[Who], fault: Exception) -> Iterator[Seen[Who]]:
        """Nobody opened: knock again where somebody did before, else give its learners up."""
        now = self._runtime.monotonic()
        # One that has just come back may forbid everything, until it has read its roles.
        away = server.lost_at is not None and isinstance(fault, EnvironmentFault)
        if away and server.lost_at is not None and now < server.lost_at + self._patience_s:
            server.knock_at = now + KNOCK_AGAIN_S
            return
        cause = fault if isinstance(fault, LabError) else _bug(fault)
        while server.waiting:
            turn = server.waiting.popleft()
            yield Seen(turn.place.who, turn.last, cause, turn.looks)

    # Learners

    def _start(self) -> None:
        """One learner of each server in turn, as long as there is room."""
        while len(self._running) < self._jobs:
            open_ = [
                server
                for server in self._servers.values()
                if server.is_up and server.waiting and server.running < int(server.limit)
            ]
            if not open_:
                return
            for server in sorted(open_, key=lambda item: item.running)[: self._jobs - len(self._running)]:
                self._begin(server)

    def _begin(self, server: _Server[Who]) -> None:
        assert server.cluster is not None
        turn = server.waiting.popleft()
        turn.looks += 1
        server.running += 1
        self._looks += 1
        left_s = max(1.0, self._deadline_s - turn.spent_s)
        self._running[self._looks] = (turn, self._runtime.monotonic())
        self._runtime.spawn(_looking(self._looks, self._look, turn.place.who, server.cluster, left_s))

    def _looked(self, answer: _Looked) -> Iterator[Seen[Who]]:
        found = self._running.pop(answer.look, None)
        if found is None:
            return  # late: its learner has been given up
        turn, started = found
        turn.spent_s += self._runtime.monotonic() - started
        turn.last = answer.report
        server = self._servers[turn.place.server]
        server.running -= 1
        if answer.report is not None and not is_broken(answer.report):
            server.limit = min(self._most, server.limit + 1 / max(1, int(server.limit)))
            yield Seen(turn.place.who, answer.report, None, turn.looks)
            return
        server.limit = max(1.0, server.limit / 2)
        if answer.report is None and not isinstance(answer.fault, ClusterUnreachable):
            fault = answer.fault
            cause = fault if isinstance(fault, LabError) else _bug(fault)
            yield Seen(turn.place.who, None, cause, turn.looks)
        elif turn.looks < 2 and turn.spent_s < self._deadline_s:
            self._again(server, turn)
        else:
            yield Seen(turn.place.who, answer.report, _lost(answer.fault), turn.looks)

    def _again(self, server: _Server[Who], turn: _Turn[Who]) -> None:
        """After the others of its server, and after a knock that says whether it is still there."""
        server.waiting.append(turn)
        if server.is_up:
            now = self._runtime.monotonic()
            server.is_up, server.knock_at, server.lost_at = False, now, now

    def _expire(self) -> Iterator[Seen[Who]]:
        now = self._runtime.monotonic()
        for server in self._servers.values():
            if server.knock_until is not None and now >= server.knock_until:
                server.knock_until = None
                yield from self._absent(
                    server, ClusterUnreachable(f"the API server did not answer within {KNOCK_S:g} s")
                )
        for look, (turn, started) in list(self._running.items()):
            if now >= started + self._deadline_s + GRACE_S:
                del self._running[look]
                self._servers[turn.place.server].running -= 1
                late = ClusterUnreachable(f"the learner's deadline of {self._deadline_s:g} s is over")
                yield Seen(turn.place.who, turn.last, late, turn.looks)

    def _next_moment(self) -> float:
        moments = [started + self._deadline_s + GRACE_S for _, started in self._running.values()]
        for server in self._servers.values():
            if server.knock_until is not None:
                moments.append(server.knock_until)
            elif server.waiting and not server.is_up:
                moments.append(server.knock_at)
        return min(moments)


def is_broken(report: Report) -> bool:
    """Whether the environment kept any check from being judged."""
    return any(result.status is Status.ENV_ERROR for result in report.verdicts)


def _knocking(server: str, knock: int, cluster: Cluster | None, place: Place[Who]) -> Callable[[], _Knocked]:
    def ask() -> _Knocked:
        from helpers.cluster import Deadline

        try:
            found = cluster or place.open()
            found.view(Deadline(KNOCK_S)).get("Namespace", "kube-system")
        except Exception as fault:  # noqa: BLE001 - becomes the ENV_ERROR of this server's learners
            return _Knocked(server, knock, None, fault)
        return _Knocked(server, knock, found, None)

    return ask


def _looking(
    number: int, look: Callable[[Who, Cluster, float], Report], who: Who, cluster: Cluster, left_s: float
) -> Callable[[], _Looked]:
    def ask() -> _Looked:
        try:
            return _Looked(number, look(who, cluster, left_s), None)
        except Exception as fault:  # noqa: BLE001 - one learner's trouble is not the class's
            return _Looked(number, None, fault)

    return ask


def _lost(fault: Exception | None) -> LabError | None:
    return fault if isinstance(fault, LabError) else None


def _bug(fault: Exception | None) -> LabError:
    from helpers.grading.faultlog import log_fault

    if fault is None:
        return LabError("nothing came back")
    log = log_fault(fault)
    first = f"the grader itself failed: {type(fault).__name__}: {fault}".splitlines()[0]
    return LabError(first, next_command=f"less {log}")
