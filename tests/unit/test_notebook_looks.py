"""A page's looks: a panel is as fresh as the board, and sent to the browser only where it has changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from queue import Empty, Queue
from typing import Any

import marimo as mo
import pytest

from helpers.cluster.fake import FakeCluster
from helpers.errors import ClusterUnreachable
from helpers.grading import grade
from helpers.labs.registry import load_lab
from helpers.notebook.looks import LiveReport, Looks
from helpers.notebook.session import LabSession

PATIENCE_S = 60


@pytest.fixture
def panels() -> Iterator[Callable[[], list[mo.Thread]]]:
    """The panels of this test that wait for a look; they end with it."""
    before = set(threading.enumerate())

    def since() -> list[mo.Thread]:
        found = (item for item in threading.enumerate() if isinstance(item, mo.Thread))
        return [item for item in found if item not in before]

    yield since
    for item in since():
        item._exit_event.set()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, panels: object) -> Queue[str]:
    """What panels send to the browser after their cell has run, in order."""
    outputs: Queue[str] = Queue()
    monkeypatch.setattr(mo, "running_in_notebook", lambda: True)
    monkeypatch.setattr(mo.output, "replace", lambda drawn: outputs.put(drawn.text))
    return outputs


class Facts:
    """What a panel shows; `drawn` has a place for each time that it drew."""

    def __init__(self) -> None:
        self.text, self.drawn = "first", Queue[str]()

    def draw(self) -> mo.Html:
        text = self.text
        self.drawn.put(text)
        return mo.Html(text)


def opened() -> Looks:
    """The looks of a page that has looked already."""
    looks = Looks(lambda _: LiveReport())
    looks.look()
    return looks


def test_a_look_sends_a_panel_only_where_it_has_changed(sent: Queue[str]) -> None:
    looks, facts = opened(), Facts()
    looks.follow(facts.draw)
    assert sent.get_nowait() == "first", "a cell does not wait for a thread"
    for text in ("first", "second", "second", "third"):
        while not facts.drawn.empty():
            facts.drawn.get()
        facts.text = text
        looks.look()
        assert facts.drawn.get(timeout=PATIENCE_S) == text, (
            "each look draws: no panel is older than the board"
        )
    assert [sent.get(timeout=PATIENCE_S) for _ in range(2)] == ["second", "third"]
    with pytest.raises(Empty):
        sent.get_nowait()


def test_a_panel_whose_cell_runs_again_is_left_to_that_run(
    sent: Queue[str], panels: Callable[[], list[mo.Thread]]
) -> None:
    looks, facts, woken = opened(), Facts(), Facts()
    looks.follow(facts.draw)
    (thread,) = panels()
    thread._exit_event.set()
    looks.follow(woken.draw)
    assert [sent.get_nowait() for _ in range(2)] == ["first", "first"]
    facts.text = woken.text = "second"
    looks.look()
    assert sent.get(timeout=PATIENCE_S) == "second"
    thread.join(timeout=PATIENCE_S)
    assert not thread.is_alive() and facts.drawn.qsize() == 1


def test_where_a_solution_runs_a_panel_is_drawn_once(panels: Callable[[], list[mo.Thread]]) -> None:
    facts = Facts()
    Looks(lambda _: LiveReport()).follow(facts.draw)
    assert facts.drawn.qsize() == 1
    assert not panels()


def _seen(cluster: FakeCluster, tmp_path: Any) -> LiveReport:
    return LiveReport(grade([load_lab("01")], cluster, journals=tmp_path))


def test_two_looks_say_the_same_but_for_how_long_they_took(tmp_path: Any) -> None:
    cluster = FakeCluster()
    one, two = _seen(cluster, tmp_path), _seen(cluster, tmp_path)
    assert one.report and two.report and one.says_the_same(two)
    seen = iter([one, two])
    looks = Looks(lambda _: next(seen))
    first = looks.report
    looks.look()
    assert looks.report is first
    cluster.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm-system"}}])
    assert not one.says_the_same(_seen(cluster, tmp_path))
    fault = LiveReport(problem=ClusterUnreachable("nobody there", next_command="course status"))
    assert not fault.says_the_same(one) and not LiveReport(connected=False).says_the_same(one)


def test_a_pressed_button_makes_the_page_look_again_and_a_solution_does_not() -> None:
    presses: list[Any] = []
    lab = LabSession("01", acted=presses.append)
    pressed, idle = (type("Button", (), {"value": value})() for value in (True, False))
    assert not lab.asked(idle) and not presses
    assert lab.asked(pressed) and len(presses) == 1
    solution = replace(lab, pressed=True)
    assert solution.asked(idle) and not solution.asked(idle, by_hand=True) and len(presses) == 1
