"""What must be true, a module a lab: `labNN_name.py` declares `lab`, `labNN_name_mutants.py` proves it."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.errors import LabError

if TYPE_CHECKING:
    from helpers.grading.author import Proofs
    from helpers.grading.declare import Lab

_MUTANTS = "_mutants"


class UnknownLab(LabError):
    """There is no lab of this number."""


def lab_ids() -> list[str]:
    """The numbers of all labs that have checks, in order."""
    return sorted(_modules())


def load_lab(number: str) -> Lab:
    """The lab of this number ("01" or "1").

    Raises:
        UnknownLab: no module `labNN_…` exists.
    """
    lab: Lab = import_module(_module_name(number)).lab
    return lab


def load_proofs(number: str) -> Proofs:
    """The author's proofs of this lab: its start, its solution and its mutants."""
    name = _module_name(number) + _MUTANTS
    try:
        module = import_module(name)
    except ModuleNotFoundError as missing:
        if missing.name != name:
            raise
        raise LabError(f"lab {number} has no proofs yet: {name.replace('.', '/')}.py is missing") from missing
    proofs: Proofs = module.PROOFS
    return proofs


def _module_name(number: str) -> str:
    modules = _modules()
    wanted = number.zfill(2) if number.isdigit() else number
    if wanted not in modules:
        known = ", ".join(sorted(modules)) or "none yet"
        raise UnknownLab(f"there is no lab {number!r}; labs: {known}", next_command="course grade --help")
    return f"{__name__}.{modules[wanted]}"


def _modules() -> dict[str, str]:
    files = Path(__file__).parent.glob("lab[0-9][0-9]_*.py")
    return {file.stem[3:5]: file.stem for file in files if not file.stem.endswith(_MUTANTS)}
