"""A page that opens shows what is known, and the rest as the answers come; what is old is being measured."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import Any

import marimo as mo
import pytest

from helpers import notebook as nb
from helpers.cluster.fake import FakeCluster
from helpers.grading import CheckResult, grade
from helpers.labs.registry import load_lab
from helpers.notebook.looks import LiveReport, Looks, Told

PATIENCE_S = 60
PARTS = (
    nb.Part("1 · Three namespaces", 8, ("namespaces",)),
    nb.Part("2 · A quota that adds up", 14, ("quota",)),
)
NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: llm-system}\n"


class Slow:
    """A grading run that tells each verdict when the test says so."""

    def __init__(self, tmp_path: Path) -> None:
        self.cluster = FakeCluster()
        self.report = grade([load_lab("01")], self.cluster, journals=tmp_path)
        self.told, self.began = Queue[Told](), Queue[None]()
        self.may_end = threading.Semaphore(0)

    def __call__(self, told: Told) -> LiveReport:
        self.told.put(told)
        assert self.may_end.acquire(timeout=PATIENCE_S)
        return LiveReport(self.report)

    def session(self) -> nb.LabSession:
        cluster = self.cluster
        return nb.LabSession("01", cluster, cluster.identity(), cluster.profile(), looks=Looks(self))

    def of(self, check: str) -> CheckResult:
        return next(result for result in self.report.verdicts if result.check == check)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Slow]:
    """A grading run that ends with the test at the latest."""
    run = Slow(tmp_path)
    yield run
    for _ in range(5):
        run.may_end.release()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Queue[str]]:
    """What the panels of a page send to the browser, in order; their threads end with the test."""
    before, outputs = set(threading.enumerate()), Queue[str]()
    monkeypatch.setattr(mo, "running_in_notebook", lambda: True)
    monkeypatch.setattr(mo.output, "replace", lambda drawn: outputs.put(mo.as_html(drawn).text))
    yield outputs
    for thread in set(threading.enumerate()) - before:
        if isinstance(thread, mo.Thread):
            thread._exit_event.set()


def test_a_board_shows_its_criteria_before_any_answer_and_each_verdict_as_it_comes(
    sent: Queue[str], run: Slow
) -> None:
    run.session().live(nb.board, "namespaces")
    first = sent.get(timeout=PATIENCE_S)
    asked = [check for check in load_lab("01").checks if check.task == "namespaces"]
    assert first.count("measuring") == len(asked) == 2 and "are Active" in first
    told = run.told.get(timeout=PATIENCE_S)
    told(run.of("namespaces"))
    second = sent.get(timeout=PATIENCE_S)
    assert second.count("measuring") == 1 and "NOT ATTEMPTED" in second
    run.may_end.release()
    last = sent.get(timeout=PATIENCE_S)
    assert "measuring" not in last and last.count("<section") == 2


def test_the_score_and_the_bar_are_there_before_any_answer(sent: Queue[str], run: Slow) -> None:
    lab = run.session()
    lab.live(nb.scoreboard, PARTS)
    score = sent.get(timeout=PATIENCE_S)
    assert f"0 of {sum(check.points for check in load_lab('01').checks):g} points" in score
    assert score.count("</b> measuring</span>") == len(load_lab("01").checks)
    lab.live(nb.bar, PARTS)
    shown = sent.get(timeout=PATIENCE_S)
    assert 'href="#1-three-namespaces"' in shown and "about 8 min, measuring" in shown


def test_a_panel_that_asks_the_cluster_is_no_page_that_waits(
    sent: Queue[str], run: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab, may_answer = run.session(), threading.Event()
    diff = FakeCluster.diff

    def slow_diff(*args: Any, **kwargs: Any) -> Any:
        assert may_answer.wait(PATIENCE_S)
        return diff(*args, **kwargs)

    monkeypatch.setattr(FakeCluster, "diff", slow_diff)
    lab.live(nb.titled, "### A title", nb.preview, NAMESPACE)
    first = sent.get(timeout=PATIENCE_S)
    assert "A title" in first and "Measuring" in first and "needs a cluster" not in first
    may_answer.set()
    assert "would be created" in sent.get(timeout=PATIENCE_S), "the first look need not end for it"


def test_a_panel_that_fails_beside_its_cell_says_so(sent: Queue[str], run: Slow) -> None:
    def draw(lab: nb.LabSession) -> Any:
        if lab.opening:
            return nb.note("first")
        raise ZeroDivisionError("a <bug>")

    run.session().live(draw)
    assert "first" in sent.get(timeout=PATIENCE_S)
    assert "ZeroDivisionError: a &lt;bug&gt;" in sent.get(timeout=PATIENCE_S)


def test_what_was_seen_before_a_change_is_measuring_until_it_is_seen_again(
    sent: Queue[str], run: Slow
) -> None:
    lab = run.session()
    run.may_end.release()
    lab.looks.look()
    run.told.get(timeout=PATIENCE_S)
    lab.live(nb.board, "namespaces")
    assert "measuring" not in sent.get(timeout=PATIENCE_S)
    pressed = type("Button", (), {"value": True})()
    assert lab.asked(pressed)
    old = sent.get(timeout=PATIENCE_S)
    assert old.count("measuring") == 2 and "before" in old and "NOT ATTEMPTED" not in old
    look = threading.Thread(target=lab.looks.look, daemon=True)
    look.start()
    run.told.get(timeout=PATIENCE_S)(run.of("namespaces"))
    assert sent.get(timeout=PATIENCE_S).count("measuring") == 1
    run.may_end.release()
    assert "measuring" not in sent.get(timeout=PATIENCE_S)
    look.join(PATIENCE_S)


def test_a_look_that_began_before_a_change_does_not_answer_for_it(run: Slow) -> None:
    looks = Looks(run)
    look = threading.Thread(target=looks.look, daemon=True)
    look.start()
    told = run.told.get(timeout=PATIENCE_S)
    looks.look()  # one that began since the last change is under way: nobody waits for another
    looks.changed()
    told(run.of("namespaces"))
    assert looks._measured == {}
    run.may_end.release()
    look.join(PATIENCE_S)
    assert looks._is_old and not looks.is_first


def test_hints_and_the_next_step_keep_to_what_is_not_old(run: Slow) -> None:
    report = run.report
    wrong = replace(report.verdicts[0], status=type(report.verdicts[0].status).FAIL, observed="two of three")
    report = replace(report, verdicts=(wrong, *report.verdicts[1:]))

    def page(live: LiveReport) -> nb.LabSession:
        return nb.LabSession("01", looks=Looks(lambda _: live))

    fresh, old = LiveReport(report), LiveReport(report, measured={})
    assert "Yours: two of three" in nb.task_hints(page(fresh), "namespaces", "a nudge").text
    assert "Yours" not in nb.task_hints(page(old), "namespaces", "a nudge").text
    assert "The cluster is being asked" in nb.scoreboard(page(old), PARTS).text


def test_without_a_cluster_a_page_says_so_at_once(
    sent: Queue[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    monkeypatch.setattr(mo, "state", lambda value: (lambda: value, lambda _: None))
    lab, _ = nb.open_page("01")
    lab.live(nb.board, "namespaces")
    assert "needs a cluster" in sent.get(timeout=PATIENCE_S)
