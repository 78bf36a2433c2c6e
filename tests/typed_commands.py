"""The commands that the labs' pages give to be typed by hand, read from the pages' own cards."""

from __future__ import annotations

import ast
import shlex
from dataclasses import dataclass

from helpers.grading.solution import notebook_of


@dataclass(frozen=True)
class Typed:
    """One command of one page."""

    lab: str
    line: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.line)


def typed(lab: str, folder: str = "solutions") -> list[Typed]:
    """The commands of a lab's cards, in the page's order."""
    tree = ast.parse(notebook_of(lab, folder).read_text())
    cards = [
        node.args[1]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "nb.by_hand"
    ]
    texts = [ast.literal_eval(card) for card in cards]
    return [Typed(lab, line.strip()) for text in texts for line in text.strip().splitlines()]
