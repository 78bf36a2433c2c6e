"""What a page runs first: marimo orders cells by what they define, not by where they stand."""

from __future__ import annotations

import pytest
from marimo._ast.app import InternalApp

from helpers.settings import REPOSITORY
from tests.notebooks.notebook_app import app_of


@pytest.mark.parametrize(
    ("page", "first", "then"),
    [
        # The time line sees the old pod go only if it watches before the pod is replaced.
        ("02_inference.py", "watched = draw.start_timeline(", "draw.drain_panel("),
        # What is asked of the memory, further up, is asked after the loss and after the restore.
        ("03_memory.py", "lost = draw.act(", "draw.answers("),
        ("03_memory.py", "restored = draw.act(", "draw.answers("),
    ],
)
@pytest.mark.parametrize("folder", ["labs", "solutions"])
def test_a_cell_that_shows_what_another_does_runs_after_it(
    folder: str, page: str, first: str, then: str
) -> None:
    app = InternalApp(app_of(REPOSITORY / folder / page))
    codes = [app.cell_manager.get_cell_code(cell) or "" for cell in app.execution_order]
    (before,) = (n for n, code in enumerate(codes) if first in code)
    (after,) = (n for n, code in enumerate(codes) if then in code)
    assert before < after
