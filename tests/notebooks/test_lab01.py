"""Lab 01's page: its solution and its texts for kubectl are in step with it.

That its solution passes, and does no harm the second time, is shown by tests/live/test_journey.py and
tests/live/test_labs_together.py.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from helpers.settings import REPOSITORY

LAB, SOLUTION = (REPOSITORY / folder / "01_substrate.py" for folder in ("labs", "solutions"))
_SIGNATURE = re.compile(r"^def \w+\(([^)]*)\):", re.M)
YAML_CELL = re.compile(r'    (\w+_yaml) = """\n(.*?)\n    """', re.S)


def _cells(path: Path) -> list[str]:
    """The cells as text, whatever they are called and however their arguments are broken into lines."""
    return [_SIGNATURE.sub(_plain, cell) for cell in re.split(r"\n\n\n(?=@app\.cell)", path.read_text())]


def _plain(signature: re.Match[str]) -> str:
    names = sorted(name.strip() for name in signature[1].split(",") if name.strip())
    return f"def _({', '.join(names)}):"


def test_the_solution_is_the_same_page_with_other_answers() -> None:
    """Every cell of the lab is in the solution, but for the title, the exercises and the panels around them."""
    solved = set(_cells(SOLUTION))
    missing = [cell for cell in _cells(LAB)[2:] if cell not in solved]
    assert [cell for cell in missing if "_yaml = " not in cell] == []


def test_the_texts_for_kubectl_are_those_of_the_page() -> None:
    """Learners who prefer a terminal start from the same words."""
    folder = REPOSITORY / "manifests" / "stack" / "substrate"
    files = {file.stem.replace("-", "_"): file.read_text() for file in folder.glob("*.yaml")}
    cells = dict(YAML_CELL.findall(LAB.read_text()))
    assert len(files) == len(cells)
    for variable, text in cells.items():
        written = files[variable.removesuffix("_yaml")]
        lines = [line for line in written.splitlines() if not line.startswith("#")]
        assert lines == textwrap.dedent(text).splitlines()
