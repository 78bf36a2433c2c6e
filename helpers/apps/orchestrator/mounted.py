"""The decisions in force, as the service asks them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from helpers.apps.orchestrator import defaults
from helpers.apps.orchestrator.decisions import PLUG_POINTS, DecisionWrong, PlugPoint, answer_of, load

log = logging.getLogger("orchestrator")


class Decisions:
    """The decisions in force: the learner's where a file is mounted, the course's own elsewhere.

    Args:
        folder: where the files are mounted.
        on_error: told the name of a decision that failed while a request was answered.
        points: what a service lets its learners decide; `own` are the course's functions of the same names.
        types: what they are asked about, see `load`.
    """

    def __init__(
        self,
        folder: Path,
        on_error: Callable[[str], None] = lambda name: None,
        *,
        points: Sequence[PlugPoint] = PLUG_POINTS,
        own: object = defaults,
        types: Sequence[type] | None = None,
    ) -> None:
        self._own: dict[str, Callable[..., Any]] = {point.name: getattr(own, point.name) for point in points}
        self._points = {point.name: point for point in points}
        self._types = types
        self._mounted: dict[str, Callable[..., Any]] = {}
        self._on_error = on_error
        self.problems: list[str] = []
        self.sources: dict[str, str] = {}
        """By file: the first digits of its sha256; empty where the course's own decision is in force."""
        for file in sorted({point.file for point in points}):
            self._read(folder / file)
        for problem in self.problems:
            log.error("%s", problem)

    def _read(self, path: Path) -> None:
        self.sources[path.name] = ""
        try:
            source = path.read_bytes()
        except FileNotFoundError:
            return
        self.sources[path.name] = hashlib.sha256(source).hexdigest()[:12]
        try:
            asked = [point for point in self._points.values() if point.file == path.name]
            self._mounted |= load(path.name, source, asked, self._types)
        except DecisionWrong as wrong:
            self.problems.append(str(wrong))

    def ask(self, name: str, *arguments: Any) -> Any:
        """What this decision says of these arguments; the course's own answers where the learner's cannot."""
        function = self._mounted.get(name)
        if function is None:
            return self._own[name](*arguments)
        try:
            return answer_of(self._points[name], function, arguments)
        except DecisionWrong as wrong:
            log.warning("%s", wrong)
            self._on_error(name)
            return self._own[name](*arguments)
