"""Declaring checks: a lab is a list of read-only functions, each answering one success criterion.

    lab = Lab("01", "Substrate", namespaces=("llm-system", "llm-apps"))

    @lab.check("quota.gpu", points=4, needs=three_namespaces)
    def one_gpu_at_most(cluster: ClusterView) -> Verdict:
        \"\"\"The namespace admits one GPU and refuses the second.

        Why: Nothing else limits how many cards a namespace takes.
        Hint: A ResourceQuota counts a GPU by its request.
        Next: kubectl describe quota -n llm-system
        \"\"\"

The docstring is what learners read: the criterion, then the words for verdicts that bring none of
their own, so that a missing object is explained too. `needs` takes the check functions themselves.
Declaring is all that happens here: the engine in `engine.py` decides when a check runs and what its
exceptions mean.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from helpers.errors import LabError
from helpers.grading.verdict import Verdict
from helpers.progress import Progress

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView

Mode = Literal["level", "edge", "window"]
CheckFunction = Callable[["ClusterView"], Verdict]
Need = CheckFunction | str  # an id only where the function cannot be imported: in hidden checks
LifeCycle = Callable[["Cluster", Progress], Sequence[str]]
Prerequisites = Callable[["ClusterView"], Sequence[Verdict]]
_ID = "check_id"
_WORDS = ("why", "hint", "next")
_FIELD = re.compile(r"^([A-Z][a-z]+): ", re.MULTILINE)


def quiet(line: str) -> None:
    """The Progress of whoever does not watch."""


class DeclarationError(LabError):
    """A lab's checks contradict each other: for authors, never for learners."""


@dataclass(frozen=True)
class Check:
    """One success criterion of one lab.

    `mode` is "level" (holds now), "edge" (was observed once; a journal keeps it) or "window"
    (holds for `window_s` seconds without a break). `timeout_s` bounds one observation.
    """

    id: str
    lab: str
    function: CheckFunction
    criterion: str
    points: float = 1
    needs: tuple[str, ...] = ()
    task: str = ""
    mode: Mode = "level"
    timeout_s: float = 5.0
    window_s: float = 0.0
    why: str = ""
    hint: str = ""
    next: str = ""
    hidden: bool = False


@dataclass(eq=False)
class Lab:
    """A lab's checks, in the order in which the lab declares them.

    `namespaces` are the namespaces the lab works in: `course reset` clears them and nothing else.
    `images` are the workload images that its exercises need: opening or starting the lab brings them
    in where the cluster lacks them. What a lab does at its start and on reset beyond its start
    manifests is declared with `start`, `reset` and `prerequisites`, see `lifecycle.py`.
    """

    id: str
    title: str
    namespaces: tuple[str, ...] = ()
    _checks: dict[str, Check] = field(default_factory=dict, repr=False)
    images: tuple[str, ...] = field(default=(), kw_only=True)
    start_with: LifeCycle | None = field(default=None, repr=False)
    reset_with: LifeCycle | None = field(default=None, repr=False)
    asks_first: Prerequisites | None = field(default=None, repr=False)

    @property
    def checks(self) -> tuple[Check, ...]:
        """All checks, in declaration order."""
        return tuple(self._checks.values())

    def check(
        self,
        id: str,
        *,
        points: float = 1,
        needs: Need | Sequence[Need] = (),
        task: str = "",
        mode: Mode = "level",
        timeout_s: float = 5.0,
        window_s: float = 0.0,
        why: str = "",
        hint: str = "",
        next: str = "",
        hidden: bool = False,
    ) -> Callable[[CheckFunction], CheckFunction]:
        """Declare a check; the decorated function is returned unchanged.

        Args:
            id: unique in the lab, dotted: "quota.gpu".
            points: what a PASS earns; PARTIAL earns its share.
            needs: the check functions of this lab that must pass first, else this one is BLOCKED.
            task: the exercise it belongs to; the part of the id before the dot unless given.
            mode: "level", "edge" or "window"; a window needs `window_s`.
            timeout_s: one observation's deadline, in seconds.
            why, hint, next: in place of the docstring's, where a figure must be filled in.
            hidden: learners see how many there are and what they are worth, until the instructor opens them.

        Raises:
            DeclarationError: a duplicate id, no docstring, or a mode that lacks its window.
        """

        def declare(function: CheckFunction) -> CheckFunction:
            criterion, words = _docstring(function)
            self._add(
                Check(
                    id=id,
                    lab=self.id,
                    function=function,
                    criterion=criterion,
                    points=points,
                    needs=_ids(needs),
                    task=task or id.partition(".")[0],
                    mode=mode,
                    timeout_s=timeout_s,
                    window_s=window_s,
                    why=why or words.get("why", ""),
                    hint=hint or words.get("hint", ""),
                    next=next or words.get("next", ""),
                    hidden=hidden,
                )
            )
            setattr(function, _ID, id)
            return function

        return declare

    def _add(self, check: Check) -> None:
        if check.id in self._checks:
            raise DeclarationError(f"lab {self.id} declares the check {check.id} twice")
        if not check.criterion:
            raise DeclarationError(
                f"{check.id}: the docstring is the criterion learners read, and it is empty"
            )
        if check.mode not in get_args(Mode):
            raise DeclarationError(f"{check.id}: mode {check.mode!r} is none of {', '.join(get_args(Mode))}")
        if (check.mode == "window") != (check.window_s > 0):
            raise DeclarationError(f"{check.id}: window_s belongs to mode window, and is needed there")
        if check.points < 0 or check.timeout_s <= 0:
            raise DeclarationError(f"{check.id}: points may not be negative, timeout_s must be positive")
        self._checks[check.id] = check

    def start(self, function: LifeCycle) -> LifeCycle:
        """Declare what `course start` does in place of applying the start manifests."""
        self.start_with = function
        return function

    def reset(self, function: LifeCycle) -> LifeCycle:
        """Declare what `course reset` does in place of pruning back to the start manifests."""
        self.reset_with = function
        return function

    def prerequisites(self, function: Prerequisites) -> Prerequisites:
        """Declare what must hold before the lab makes sense; each verdict must PASS."""
        self.asks_first = function
        return function


def _ids(needs: Need | Sequence[Need]) -> tuple[str, ...]:
    """The ids of checks, whether one or several are given, as functions or as ids."""
    listed = [needs] if isinstance(needs, str) or callable(needs) else needs
    return tuple(need if isinstance(need, str) else _id_of(need) for need in listed)


def _id_of(function: CheckFunction) -> str:
    found: str | None = getattr(function, _ID, None)
    if found is None:
        raise DeclarationError(f"{getattr(function, '__name__', function)} is needed, and is not a check")
    return found


def _docstring(function: CheckFunction) -> tuple[str, dict[str, str]]:
    """The criterion, and the words that follow it as `Why:`, `Hint:` and `Next:`."""
    first, _, rest = inspect.cleandoc(function.__doc__ or "").partition("\n\n")
    parts = _FIELD.split(rest)[1:]
    words = {name.lower(): " ".join(text.split()) for name, text in zip(parts[::2], parts[1::2], strict=True)}
    unknown = sorted(words.keys() - set(_WORDS))
    if unknown:
        name = getattr(function, "__name__", function)
        raise DeclarationError(f"{name}: its docstring may say {', '.join(_WORDS)}, not {', '.join(unknown)}")
    return " ".join(first.split()), words


def with_needs(wanted: set[str], checks: Mapping[str, Check]) -> set[str]:
    """The wanted checks and every check they need, directly or not."""
    found: set[str] = set()
    pending = list(wanted)
    while pending:
        name = pending.pop()
        if name in found:
            continue
        found.add(name)
        pending.extend(checks[name].needs)
    return found
