"""A Go module of which a part is compiled: a copy without the rest, used in the module's place.

KEDA's scalers are one package, which imports the client of every cloud, database and queue there is: 3,710 packages,
of which the course's kinds of trigger need 1,640. Go lets nobody hide files of its module cache, so what was fetched
and checked by go.sum is copied, files are left out, and those below a source's `instead/` are put in their place.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from helpers.embedded.steps import StepFailed

INSTEAD = "instead"
# A case of KEDA's switch over kinds of triggers: two lines.
_CASE = r'\tcase "{}":\n\t\treturn [^\n]*\n'


@dataclass(frozen=True)
class Trim:
    """What is left out of a module.

    Args:
        module: its path.
        without: patterns of files that are left out; `*` also crosses folders.
        but: files that stay, though they match.
        switch: a file with a `switch` over names, of which only the cases `names` stay.
    """

    module: str
    without: tuple[str, ...]
    but: tuple[str, ...]
    switch: str
    names: tuple[str, ...]

    def leaves_out(self, path: str) -> bool:
        return path not in self.but and any(fnmatch(path, pattern) for pattern in self.without)


def inputs(folder: Path) -> list[Path]:
    """The files of ours that take the place of the module's, for the key of what is built."""
    return sorted(path for path in (folder / INSTEAD).rglob("*") if path.is_file())


def prepare(trim: Trim, folder: Path, work: Path, go: str, env: Mapping[str, str]) -> Path:
    """A go.mod that names the trimmed copy in the module's place; its go.sum lies beside it.

    Args:
        folder: of the source, with its go.mod and go.sum.
        work: an empty folder for the copy and the two files.

    Raises:
        StepFailed: the module is not to be had, or is not the one of go.sum.
    """
    words = [go, "mod", "download", "-json", trim.module]
    asked = subprocess.run(words, cwd=folder, env=dict(env), capture_output=True, text=True, check=False)
    if asked.returncode:
        raise StepFailed(
            f"{trim.module} was not fetched: {asked.stdout}{asked.stderr}", next_command="course doctor"
        )
    copy = work / "module"
    _copied(trim, Path(json.loads(asked.stdout)["Dir"]), copy)
    shutil.copytree(folder / INSTEAD, copy, dirs_exist_ok=True)
    pinned = work / "go.mod"
    pinned.write_text(f"{(folder / 'go.mod').read_text()}\nreplace {trim.module} => {copy}\n")
    shutil.copyfile(folder / "go.sum", work / "go.sum")
    return pinned


def _copied(trim: Trim, module: Path, copy: Path) -> None:
    """The module's files that stay; those of the module cache are read-only, these are not."""
    for source in module.rglob("*"):
        path = source.relative_to(module).as_posix()
        if source.is_file() and not trim.leaves_out(path):
            target = copy / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    switch = copy / trim.switch
    others = _CASE.format(f'(?!(?:{"|".join(map(re.escape, trim.names))})")[^"]*')
    switch.write_text(re.sub(others, "", switch.read_text()))
