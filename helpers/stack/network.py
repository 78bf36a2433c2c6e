"""Who can connect to what: an expected and an observed truth table.

A NetworkPolicy object proves nothing, a refused packet does. So the course keeps small probe pods
of its own, one for each kind of caller, and asks them. Each caller is asked once, about all targets
at the same time: a denied connection costs one time-out in all, however many pairs are denied.

What upstream's tests taught (kubernetes/test/e2e/network/netpol): a dead target looks like a denied
one, so a control connection that no policy may stop (from the target's own node) must succeed
first; and a probe that could not run is neither allowed nor denied.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from helpers.errors import Forbidden, ObjectMissing, ProbeInconclusive
from helpers.stack.policy_forecast import Decision, Party, World, decide
from helpers.stack.probes import Caller

if TYPE_CHECKING:
    from helpers.cluster import ExecResult

    Execute = Callable[[str, str, list[str], float], ExecResult]

CONNECT_TIMEOUT_S = 1.0
# After connecting, an HTTP answer may take a moment; a gRPC port never gives one.
ANSWER_TIMEOUT_S = 0.6
EXEC_MARGIN_S = 6.0
_LINE = re.compile(r"^PROBE (\d+) (\d+) (\d{3}) ([\d.]+) ([\d.]+) ?(.*)$", re.MULTILINE)

# curl's exit codes: https://curl.se/libcurl/c/libcurl-errors.html
_COULD_NOT_RESOLVE, _COULD_NOT_CONNECT, _TIMED_OUT = 6, 7, 28


class Outcome(StrEnum):
    """What became of one connection attempt."""

    CONNECTED = "connected"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    DNS = "dns"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Seen:
    """One observed attempt; `status` is the HTTP status where one came back, a 403 and a 500 included."""

    outcome: Outcome
    status: int | None = None
    duration_s: float = 0.0
    detail: str = ""

    @property
    def connected(self) -> bool:
        return self.outcome is Outcome.CONNECTED

    @property
    def stopped(self) -> bool:
        """Whether nothing got through; only with a living target does that mean denied."""
        return self.outcome in (Outcome.TIMEOUT, Outcome.REFUSED)

    @property
    def words(self) -> str:
        """As the matrix and the verdicts show it."""
        if self.connected:
            return f"HTTP {self.status}" if self.status else "connected"
        return {"timeout": "timed out", "refused": "refused", "dns": "no DNS"}.get(self.outcome, "no probe")


@dataclass(frozen=True)
class Target:
    """Something to connect to: through a Service's name, or at an address."""

    name: str
    host: str
    port: int
    path: str = "/"
    scheme: str = "http"
    backends: tuple[Party, ...] = ()
    backend_port: int = 0
    protocol: str = "TCP"
    shown: str = ""
    down: str = ""

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}{self.path}"

    @property
    def is_dns(self) -> bool:
        """Whether failing to resolve is this target's own time-out, not somebody else's trouble."""
        return self.port == 53


Pair = tuple[str, str]


@dataclass(frozen=True)
class Reachability:
    """Observed and forecast truth tables over the same callers and targets."""

    callers: tuple[Caller, ...]
    targets: tuple[Target, ...]
    seen: Mapping[Pair, Seen] = field(default_factory=dict)
    forecast: Mapping[Pair, Decision] = field(default_factory=dict)

    def target(self, name: str) -> Target:
        return next(target for target in self.targets if target.name == name)

    def alive(self, target: str) -> bool:
        """Whether the target answers at all: the control connection decides, else its endpoints do.

        From a node that is not the target's own, a refused control proves nothing.
        """
        control = [caller.name for caller in self.callers if caller.control]
        found = [self.seen[(name, target)] for name in control if (name, target) in self.seen]
        if any(seen.connected for seen in found):
            return True
        if any(seen.stopped for seen in found):
            return False
        return not self.target(target).down

    def answer(self, caller: str, target: str) -> bool | None:
        """True: it connects. False: it is stopped on the way to a living target. None: not proven."""
        seen = self.seen.get((caller, target))
        if seen is None:
            return None
        if seen.connected:
            return True
        return False if seen.stopped and self.alive(target) else None

    def words(self, caller: str, target: str) -> str:
        """The observation in a few words, with the dead target named as such."""
        seen = self.seen.get((caller, target))
        if seen is None:
            return "not probed"
        if seen.stopped and not self.alive(target):
            return f"{seen.words}, but {target} is down"
        return seen.words

    def differences(self) -> list[Pair]:
        """Pairs where the forecast and the cluster disagree."""
        return [
            pair
            for pair, decision in self.forecast.items()
            if self.answer(*pair) is not None and self.answer(*pair) != decision.allowed
        ]


def probe_command(targets: Sequence[Target], *, timeout_s: float = CONNECT_TIMEOUT_S) -> list[str]:
    """One command that tries all targets at once and prints a line for each."""
    command = [
        "curl",
        "--parallel",
        "--parallel-immediate",
        "--parallel-max",
        "200",
        "--noproxy",
        "*",
        "-s",
        "-k",
    ]
    command += ["--connect-timeout", f"{timeout_s:g}", "--max-time", f"{timeout_s + ANSWER_TIMEOUT_S:g}"]
    command += ["-w", "PROBE %{urlnum} %{exitcode} %{http_code} %{time_connect} %{time_total} %{errormsg}\\n"]
    for target in targets:
        command += ["-o", "/dev/null", target.url]
    return command


def parse_probe(output: str, targets: Sequence[Target]) -> dict[str, Seen]:
    """What the command printed, by target; a target without a line was not probed.

    >>> parse_probe("PROBE 0 7 000 0.000000 0.001 refused", [Target("qdrant", "qdrant", 6333)])["qdrant"].outcome
    <Outcome.REFUSED: 'refused'>
    """
    lines = {int(number): rest for number, *rest in _LINE.findall(output)}
    return {
        target.name: _read(target, *lines[number])
        if number in lines
        else Seen(Outcome.INCONCLUSIVE, detail="the probe printed nothing about this target")
        for number, target in enumerate(targets)
    }


def _read(target: Target, code: str, status: str, connected: str, total: str, said: str) -> Seen:
    exit_code, http, duration = int(code), int(status), float(total)
    if float(connected) > 0 or http:
        return Seen(Outcome.CONNECTED, http or None, duration, said)
    resolving = exit_code == _COULD_NOT_RESOLVE or (exit_code == _TIMED_OUT and "esolv" in said)
    if resolving and not target.is_dns:
        return Seen(Outcome.DNS, None, duration, said)
    if exit_code == _TIMED_OUT or (resolving and "timed out" in said.lower()):
        return Seen(Outcome.TIMEOUT, None, duration, said)
    if exit_code == _COULD_NOT_CONNECT:
        return Seen(Outcome.REFUSED, None, duration, said)
    # Resolvers report a dropped query as "could not resolve" after their own time-out.
    if resolving:
        return Seen(Outcome.TIMEOUT, None, duration, said)
    return Seen(Outcome.INCONCLUSIVE, None, duration, f"curl {exit_code}: {said}")


def observe(
    execute: Execute,
    callers: Iterable[Caller],
    targets: Iterable[Target],
    *,
    timeout_s: float = CONNECT_TIMEOUT_S,
) -> Reachability:
    """Ask every caller about every target: one exec for each caller, all of them at once.

    Args:
        execute: runs a command in a pod: (namespace, pod, command, timeout in seconds).
        timeout_s: how long one connection may take, in seconds.
    """
    callers, targets = tuple(callers), tuple(targets)
    command = probe_command(targets, timeout_s=timeout_s)

    def ask(caller: Caller) -> dict[str, Seen]:
        try:
            result = execute(caller.namespace, caller.pod, command, timeout_s + EXEC_MARGIN_S)
        except (ProbeInconclusive, ObjectMissing, Forbidden) as error:
            return {target.name: Seen(Outcome.INCONCLUSIVE, detail=str(error)) for target in targets}
        found = parse_probe(result.stdout, targets)
        if all(seen.outcome is Outcome.INCONCLUSIVE for seen in found.values()) and result.stderr:
            said = result.stderr.strip().splitlines()[-1]
            return {name: Seen(Outcome.INCONCLUSIVE, detail=said) for name in found}
        return found

    if not callers or not targets:
        raise ProbeInconclusive("no probe pod or no target: there is nothing to observe")
    with ThreadPoolExecutor(max_workers=len(callers)) as pool:
        rows = list(pool.map(ask, callers))
    seen = {
        (caller.name, target): answer
        for caller, row in zip(callers, rows, strict=True)
        for target, answer in row.items()
    }
    return Reachability(callers, targets, seen)


def predict(world: World, parties: Mapping[str, Party], targets: Iterable[Target]) -> dict[Pair, Decision]:
    """What the policies of this world would allow, for every caller and target.

    A Service with several backends is allowed only when each of them is: a connection may land on any.
    """
    table: dict[Pair, Decision] = {}
    for name, party in parties.items():
        for target in targets:
            answers = [
                decide(world, party, backend, target.backend_port or target.port, target.protocol)
                for backend in target.backends
            ]
            if answers:
                table[(name, target.name)] = min(answers, key=lambda answer: answer.allowed)
    return table
