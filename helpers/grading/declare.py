"""Declaring checks: a lab is a list of read-only functions, each answering one success criterion.

    lab = Lab("01", "Substrate", module=__name__, namespaces=("llm-system", "llm-apps"))

    @lab.check("quota.gpu", points=4, needs=["namespaces"], task="quota")
    def one_gpu_at_most(cluster: ClusterView) -> Verdict:
        \"\"\"The namespace admits one GPU and refuses the second.\"\"\"

The docstring's first paragraph is the criterion that learners read. Declaring is all that happens
here: the engine in `engine.py` decides when a check runs and what its exceptions mean.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from helpers.errors import LabError
from helpers.grading.verdict import Verdict

if TYPE_CHECKING:
    from helpers.cluster import ClusterView

Mode = Literal["level", "edge", "window"]
CheckFunction = Callable[["ClusterView"], Verdict]


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

    `module` is where they live; it may also define `start(cluster)`, `reset(cluster)` and
    `prerequisites(view)`, see `lifecycle.py`. `namespaces` are the namespaces the lab works in:
    `course reset` clears them and nothing else. `images` are the workload images that its exercises
    need: opening or starting the lab brings them in where the cluster lacks them.
    """

    id: str
    title: str
    module: str = ""
    namespaces: tuple[str, ...] = ()
    _checks: dict[str, Check] = field(default_factory=dict, repr=False)
    images: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def checks(self) -> tuple[Check, ...]:
        """All checks, in declaration order."""
        return tuple(self._checks.values())

    def check(
        self,
        id: str,
        *,
        points: float = 1,
        needs: Sequence[str] = (),
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
            needs: ids of checks of this lab that must pass first, else this one is BLOCKED.
            task: the exercise it belongs to; the part of the id before the dot unless given.
            mode: "level", "edge" or "window"; a window needs `window_s`.
            timeout_s: one observation's deadline, in seconds.
            why, hint, next: words for verdicts that bring none of their own, so that a missing
                object is explained too.
            hidden: learners see how many there are and what they are worth, until the instructor opens them.

        Raises:
            DeclarationError: a duplicate id, no docstring, or a mode that lacks its window.
        """

        def declare(function: CheckFunction) -> CheckFunction:
            self._add(
                Check(
                    id=id,
                    lab=self.id,
                    function=function,
                    criterion=_first_paragraph(function),
                    points=points,
                    needs=tuple(needs),
                    task=task or id.partition(".")[0],
                    mode=mode,
                    timeout_s=timeout_s,
                    window_s=window_s,
                    why=why,
                    hint=hint,
                    next=next,
                    hidden=hidden,
                )
            )
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

    def hook(self, name: str) -> Callable[..., Any] | None:
        """A function of the lab's own module, such as `start`; None where it defines none."""
        return getattr(sys.modules.get(self.module), name, None)


def _first_paragraph(function: CheckFunction) -> str:
    paragraph = (function.__doc__ or "").strip().partition("\n\n")[0]
    return " ".join(paragraph.split())


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
