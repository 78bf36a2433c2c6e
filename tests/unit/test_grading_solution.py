"""`course solve`: buttons are pressed, and a cell that fails is named."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from helpers.errors import ClusterUnreachable
from helpers.grading import solution
from helpers.grading.solution import SolutionFailed, solve


def notebook(tmp_path: Path, body: str, *, pressed: str = "pressed = False") -> Path:
    """A solution notebook with one Apply cell whose body is given; it writes to a file beside it."""
    path = tmp_path / "99_tiny.py"
    head = textwrap.dedent(
        f"""
        import marimo
        app = marimo.App()

        @app.cell
        def _():
            {pressed}
            return (pressed,)

        @app.cell
        def _():
            from pathlib import Path
            import marimo as mo
            button = mo.ui.run_button(label="Apply")
            here = Path({str(tmp_path)!r})
            return button, here, mo

        @app.cell
        def apply_quota(button, here, mo, pressed):
            mo.stop(not (button.value or pressed))
        """
    )
    path.write_text(head + textwrap.indent(textwrap.dedent(body), "    ") + "\n    return\n")
    return path


def test_solve_presses_the_buttons(tmp_path: Path) -> None:
    solve(notebook(tmp_path, "(here / 'applied').touch()"))
    assert (tmp_path / "applied").exists()


def test_a_failing_cell_is_named_with_its_line_and_its_error(tmp_path: Path) -> None:
    path = notebook(tmp_path, "raise ValueError('no such quota')")
    with pytest.raises(SolutionFailed) as caught:
        solve(path)
    message = str(caught.value)
    assert "99_tiny.py: cell 'apply_quota' at line 18" in message
    assert "ValueError: no such quota" in message and "raise ValueError" in message


def test_a_solution_that_cannot_be_pressed_is_refused(tmp_path: Path) -> None:
    path = notebook(tmp_path, "pass", pressed="other = pressed_ = 1")
    with pytest.raises(SolutionFailed, match="no cell defines `pressed`"):
        solve(path)


def test_a_cluster_that_goes_away_during_the_solution_is_the_environments_fault(tmp_path: Path) -> None:
    body = "from helpers.errors import ClusterUnreachable\nraise ClusterUnreachable('gone')"
    with pytest.raises(ClusterUnreachable, match="gone"):
        solve(notebook(tmp_path, body))


def test_a_cell_without_a_name_is_found_by_its_line(tmp_path: Path) -> None:
    path = notebook(tmp_path, "raise ValueError('x')")
    path.write_text(path.read_text().replace("def apply_quota", "def _"))
    with pytest.raises(SolutionFailed, match=r"the cell at line 18 \(`raise ValueError"):
        solve(path)


def test_a_long_cell_says_that_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cell waits until it has been spoken of."""
    monkeypatch.setattr(solution, "LOOK_EVERY_S", 0.001)
    body = """
    import time
    until = time.monotonic() + 30
    while not (here / 'seen').exists() and time.monotonic() < until:
        pass
    assert (here / 'seen').exists()
    """

    def tell(text: str) -> None:
        if "cell 'apply_quota' at line 18" in text:
            (tmp_path / "seen").touch()

    solve(notebook(tmp_path, body), tell)


def test_a_notebook_that_cannot_run_at_all_says_so(tmp_path: Path) -> None:
    path = notebook(tmp_path, "pass")
    path.write_text(path.read_text() + "\n@app.cell\ndef _():\n    pressed = 1\n    return (pressed,)\n")
    with pytest.raises(SolutionFailed, match="the notebook itself raised MultipleDefinitionError"):
        solve(path)
