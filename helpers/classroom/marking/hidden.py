"""Hidden checks: a folder of Python modules that the instructor holds, added to labs for one run.

    from helpers.classroom.marking.hidden import HiddenLab
    from helpers.classroom.seats.variables import Variables

    lab = HiddenLab("01")

    @lab.check("hidden.quota", points=2, needs=["namespaces"])
    def own_figures(cluster: ClusterView, mine: Variables) -> Verdict:
        \"\"\"The quota of `llm-system` has your own figures.\"\"\"

A check takes the view of the cluster like every other, and, where it names a second parameter, the
learner's own figures: derived from the nonce in the class folder, never read from the learner's
cluster. The labs that everybody holds are copied, never changed. What goes wrong in the package is
told by file, line and kind of error; its code is not shown, because messages travel.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.errors import LabError
from helpers.grading.declare import Check, DeclarationError, Lab
from helpers.grading.report import HiddenChecks

if TYPE_CHECKING:
    from types import ModuleType

    from helpers.classroom.seats.variables import Variables

_MODULES = "course_hidden_"


class HiddenInvalid(LabError):
    """The package of hidden checks cannot be used; the message shows none of its code."""


class HiddenLab(Lab):
    """Collects hidden checks for the lab of this number; whatever is declared here is hidden."""

    def __init__(self, number: str) -> None:
        super().__init__(number.zfill(2) if number.isdigit() else number, "")

    def check(self, id: str, **options: Any) -> Callable[..., Any]:
        """Declare a hidden check: as `Lab.check`, but the function may take (cluster, mine)."""
        return super().check(id, **{**options, "hidden": True})


@dataclass(frozen=True)
class HiddenPackage:
    """The hidden checks of one package, by lab."""

    path: Path
    checks: Mapping[str, tuple[Check, ...]]

    def labs(self, labs: Iterable[str | Lab], mine: Variables | None) -> list[Lab]:
        """Copies of the labs with their hidden checks appended, bound to one learner's figures.

        Args:
            labs: lab numbers or Labs; one without hidden checks comes back as it was.
            mine: the learner's figures, `variables(member.nonce)`; None where nobody has any, and
                then a check that asks for them is refused.

        Raises:
            HiddenInvalid: a check needs figures and there are none.
        """
        from helpers.labs.registry import load_lab

        chosen = [load_lab(lab) if isinstance(lab, str) else lab for lab in labs]
        return [self._extended(lab, mine) for lab in chosen]

    def summary(self) -> dict[str, HiddenChecks]:
        """What learners are told: how many hidden checks each lab has, and their points."""
        return {
            lab: HiddenChecks(len(checks), round(sum(check.points for check in checks), 2))
            for lab, checks in sorted(self.checks.items())
        }

    def _extended(self, lab: Lab, mine: Variables | None) -> Lab:
        hidden = self.checks.get(lab.id, ())
        if not hidden:
            return lab
        bound = [_bound(check, mine) for check in hidden]
        return replace(lab, _checks=_by_id([*lab.checks, *bound]))


def load_hidden(path: Path) -> HiddenPackage:
    """Read a package: every `*.py` in the folder that does not begin with an underscore.

    Raises:
        HiddenInvalid: no such folder, no check in it, a module that cannot be imported, an id that
            exists already, a lab that does not, or a need that neither has.
    """
    if not path.is_dir():
        raise HiddenInvalid(f"{path} is not a folder of hidden checks", next_command="add --hidden FOLDER")
    found: dict[str, list[Check]] = {}
    for file in sorted(path.glob("[!_]*.py")):
        for lab in _labs_in(_imported(file)):
            found.setdefault(lab.id, []).extend(lab.checks)
    if not any(found.values()):
        raise HiddenInvalid(f"{path} declares no hidden check: its modules need a HiddenLab with checks")
    for number, checks in found.items():
        _validate(path, number, checks)
    return HiddenPackage(path, {number: tuple(checks) for number, checks in found.items()})


def _imported(file: Path) -> ModuleType:
    """The module under a name of its own, so that no package shadows the course or another package."""
    name = f"{_MODULES}{file.parent.resolve().name}_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise HiddenInvalid(f"{file.name} is not a Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their own module up while it is imported
    try:
        spec.loader.exec_module(module)
    except DeclarationError as problem:
        raise HiddenInvalid(f"{file.name}: {problem}") from problem
    except Exception as problem:
        where = f", line {line}" if (line := _line(problem, file)) else ""
        raise HiddenInvalid(f"{file.name}{where} cannot be imported: {type(problem).__name__}") from problem
    finally:
        sys.modules.pop(name, None)
    return module


def _line(problem: Exception, file: Path) -> int | None:
    """The last line of this file that the error went through."""
    if isinstance(problem, SyntaxError):
        return problem.lineno
    line = None
    trace = problem.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _labs_in(module: ModuleType) -> Sequence[HiddenLab]:
    found = [item for item in vars(module).values() if isinstance(item, HiddenLab)]
    return list({id(lab): lab for lab in found}.values())


def _validate(path: Path, number: str, checks: Sequence[Check]) -> None:
    """Against the lab that everybody holds: unique ids, and needs that exist."""
    from helpers.labs.registry import UnknownLab, load_lab

    try:
        lab = load_lab(number)
    except UnknownLab as problem:
        raise HiddenInvalid(f"{path.name}: {problem}") from problem
    names = [check.id for check in (*lab.checks, *checks)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise HiddenInvalid(f"{path.name}: lab {number} has {', '.join(twice)} twice")
    for check in checks:
        unknown = [need for need in check.needs if need not in names]
        if unknown:
            raise HiddenInvalid(f"{path.name}: {check.id} needs {', '.join(unknown)}, which does not exist")
        if len(_names(check)) not in (1, 2):
            raise HiddenInvalid(f"{path.name}: {check.id} must take (cluster) or (cluster, mine)")


def _names(check: Check) -> list[str]:
    return list(inspect.signature(check.function).parameters)


def _bound(check: Check, mine: Variables | None) -> Check:
    names = _names(check)
    if len(names) == 1:
        return check
    if mine is None:
        raise HiddenInvalid(f"{check.id} asks for a learner's own figures, and this learner has no seat")
    return replace(check, function=partial(check.function, **{names[1]: mine}))


def _by_id(checks: Iterable[Check]) -> dict[str, Check]:
    return {check.id: check for check in checks}
