"""Which labs there are: a folder `labNN_name` each, whose `checks` declare `lab` and whose `mutants` prove it."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.errors import LabError

if TYPE_CHECKING:
    from helpers.grading.author import Proofs
    from helpers.grading.declare import Lab

_CHECKS, _MUTANTS = "checks", "mutants"


class UnknownLab(LabError):
    """There is no lab of this number."""


def lab_ids() -> list[str]:
    """The numbers of all labs that have checks, in order."""
    return sorted(_folders())


def load_lab(number: str) -> Lab:
    """The lab of this number ("01" or "1").

    Raises:
        UnknownLab: no folder `labNN_…` exists.
    """
    lab: Lab = import_module(_module_name(number, _CHECKS)).lab
    return lab


def load_labs(numbers: Iterable[str | Lab]) -> list[Lab]:
    """The labs of these numbers, each once: "1" and "01" are the same; a lab stands for itself."""
    return list(dict.fromkeys(load_lab(item) if isinstance(item, str) else item for item in numbers))


def load_proofs(number: str) -> Proofs:
    """The author's proofs of this lab: its start, its solution and its mutants."""
    name = _module_name(number, _MUTANTS)
    try:
        module = import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name != name:
            raise
        raise LabError(f"lab {number} has no proofs yet: {name.replace('.', '/')}.py is missing") from missing
    proofs: Proofs = module.PROOFS
    return proofs


def _module_name(number: str, module: str) -> str:
    folders = _folders()
    wanted = number.zfill(2) if number.isdigit() else number
    if wanted not in folders:
        known = ", ".join(sorted(folders)) or "none yet"
        raise UnknownLab(f"there is no lab {number!r}; labs: {known}", next_command="course grade --help")
    return f"{__package__}.{folders[wanted]}.{module}"


def _folders() -> dict[str, str]:
    files = Path(__file__).parent.glob("lab[0-9][0-9]_*/checks.py")
    return {file.parent.name[3:5]: file.parent.name for file in files}
