"""HTML is safe by construction: `Markup` alone makes it, and every text from outside is escaped once."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import marimo as mo
import pytest

from helpers import notebook as nb
from helpers.building import Build, BuildStep
from helpers.chaos.backoff import Trial
from helpers.classroom.board import draw as class_board
from helpers.classroom.board.status import LabStatus, LearnerLab, State
from helpers.classroom.marking.observed import SeenCheck
from helpers.classroom.records.certificate import Attested, certificate
from helpers.cluster.fake import FakeCluster, default_profile
from helpers.errors import LabError, Refused
from helpers.evidence import Evidence
from helpers.grading import Lab
from helpers.grading.pages.study import study_page
from helpers.grading.progress import LabProgress
from helpers.grading.report import Binding, CheckResult, ClusterFacts, CourseVersion, HiddenChecks, Report
from helpers.grading.seat import Seat
from helpers.grading.verdict import Status
from helpers.labs.lab01_substrate import draw_gpu, draw_quota
from helpers.labs.lab02_inference import draw as draw_inference
from helpers.labs.lab03_memory import draw as draw_memory
from helpers.labs.lab04_isolation import draw as draw_isolation
from helpers.labs.lab05_chaos import draw as draw_chaos
from helpers.notebook import actions, reset
from helpers.notebook.html import spinner
from helpers.notebook.looks import Looks
from helpers.settings import REPOSITORY
from helpers.stack import memory, serving
from helpers.stack.dcgm import CardReading
from helpers.stack.images import Bringing
from helpers.stack.network import Caller, Reachability, Target
from helpers.stack.policy_forecast import Decision
from helpers.stack.quota import Workload, amounts

# Where a value's place in a template is: {}, {name:.1f}, %s.
PLACE, HOLE = re.compile(r"\{[^{}]*\}|%[a-z]"), "\0"
# A tag whose name stands there, or is put in. A regular expression's (?P<name>…) is none.
TAG = re.compile(rf"(?<!\?P)</?([a-z][a-z0-9]*(?=[\s/>]|$)|{HOLE}(?=[\s/>]))")
SOURCES = sorted(
    path for room in ("helpers", "solutions", "labs") for path in (REPOSITORY / room).rglob("*.py")
)
# Not a page of ours: Markdown, which has an escaping of its own, and what another web server would answer.
NO_PAGE = {
    ("helpers/grading/export/markdown.py", "<details><summary>What fell short</summary>"),
    ("helpers/grading/export/markdown.py", "</details>"),
    ("helpers/labs/lab03_memory/mutants.py", "<h1>Welcome to nginx!</h1>"),
}
# The only three places where a text that is no literal becomes HTML: our style sheet, Vega's SVG, and the marks.
TRUSTED = {
    ("helpers/grading/pages/page.py", "page"),
    ("helpers/grading/pages/page.py", "inline"),
    ("helpers/grading/pages/study_charts.py", "_svg"),
}
# marimo reads what these are given as HTML, so one module gives it to them.
HTML_READERS = {"mo.Html", "mo.status.spinner", "mo.status.toast"}
OTHER_ESCAPERS = {"html", "xml.sax.saxutils", "cgi"}


@cache
def _nodes(path: Path) -> tuple[ast.AST, ...]:
    """All that a file consists of, what contains before what is contained."""
    return tuple(ast.walk(ast.parse(path.read_text())))


def _dotted(node: ast.AST) -> str:
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def _is_markup(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and _dotted(node.func).split(".")[-1] == "Markup"


def made_outside_markup(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Every literal with a tag in it, plain or an f-string, that is neither `Markup("…")` nor a docstring."""
    passed_over: set[ast.AST] = set()
    for node in nodes:
        if node in passed_over:
            passed_over.update(ast.iter_child_nodes(node))
        elif _is_markup(node):
            assert isinstance(node, ast.Call)
            passed_over.update(item for item in node.args if isinstance(item, ast.Constant))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed_over.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            parts = (item.value if isinstance(item, ast.Constant) else HOLE for item in node.values)
            passed_over.update(item for item in node.values if isinstance(item, ast.Constant))
            if TAG.search(text := "".join(map(str, parts))):
                yield text
        elif isinstance(node, ast.Constant) and TAG.search(PLACE.sub(HOLE, str(node.value))):
            yield str(node.value)


def trusted_places(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """The functions in which `Markup` is given something else than a literal."""
    for function in nodes:
        if isinstance(function, ast.FunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and _is_markup(node):
                    yield from (function.name for item in node.args if not isinstance(item, ast.Constant))


def imports(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (item.name for item in node.names)


def _name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def test_only_markup_makes_html() -> None:
    found = {(_name(path), text) for path in SOURCES for text in made_outside_markup(_nodes(path))}
    assert found == NO_PAGE


def test_only_a_literal_is_html() -> None:
    assert {(_name(path), place) for path in SOURCES for place in trusted_places(_nodes(path))} == TRUSTED


def test_markupsafe_is_the_only_escaper() -> None:
    assert not {_name(path) for path in SOURCES if OTHER_ESCAPERS & set(imports(_nodes(path)))}


def test_one_module_gives_marimo_html() -> None:
    asked = {
        _name(path)
        for path in SOURCES
        for node in _nodes(path)
        if isinstance(node, ast.Call) and _dotted(node.func) in HTML_READERS
    }
    assert asked == {"helpers/notebook/html.py"}


@pytest.mark.parametrize(
    "code",
    [
        'f"<b>{name}</b>"',
        'f"{name}<br>"',
        'f"<{tag}>{name}"',
        '"<b>%s</b>" % name',
        '"<%s>" % tag',
        '"<td>{}</td>".format(name)',
        '"<{}>".format(tag)',
        '"<p>" + name',
        '"<br>".join(names)',
        "f\"<i style='width:{share}%'></i>\"",
        'Markup(f"<b>{name}</b>")',
        'Markup("<b>" + name)',
        'Markup("<b>{}</b>").format(f"<i>{name}</i>")',
    ],
)
def test_a_tag_made_by_hand_is_found(code: str) -> None:
    assert list(made_outside_markup(ast.walk(ast.parse(code))))


@pytest.mark.parametrize(
    "code",
    [
        'Markup("<b>{}</b>").format(name)',
        'markupsafe.Markup("<br>").join(names)',
        'def f():\n    "A <b>docstring</b>."',
        'rf"(?P<name>{part})"',
        'f"{low} < {high} > {least}"',
        'f"{count}<{most}"',
    ],
)
def test_what_makes_no_tag_is_let_be(code: str) -> None:
    assert not list(made_outside_markup(ast.walk(ast.parse(code))))


# What a page shows of hostile texts

EVIL = "<script>alert(1)</script>&\"'"


class Shown(HTMLParser):
    """What a browser makes of a page: its tags, its attributes' values and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.values: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.values += [value or "" for _, value in attrs]
        raw = self.get_starttag_text() or ""
        quoted = re.sub(r'="[^"]*"', "", raw)
        assert "=" not in quoted and "'" not in quoted, f"an attribute without its quotes: {raw}"

    def handle_data(self, data: str) -> None:
        self.text += data


def assert_escaped_once(drawn: object, times: int = 1) -> None:
    html = str(getattr(drawn, "text", drawn))
    shown = Shown(html)
    assert "script" not in shown.tags and "<script" not in html
    whole = shown.text.count(EVIL) + sum(value.count(EVIL) for value in shown.values)
    assert whole >= times, f"{whole} of {times} texts are shown as they are: {html}"
    assert not re.search(r"&amp;(amp|lt|gt|quot|#\d+);", html), f"escaped twice: {html}"


RESULT = CheckResult(
    check=EVIL,
    task="t",
    status=Status.FAIL,
    earned=0,
    points=2,
    mode="level",
    expected=f"not {EVIL}",
    observed=EVIL,
    message=EVIL,
    why=EVIL,
    hint=EVIL,
    next=EVIL,
    duration_s=0.1,
    evidence=(Evidence(EVIL, EVIL, EVIL, EVIL, EVIL),),
    lab="01",
    criterion=EVIL,
)
REPORT = Report(
    lab="01",
    cluster=ClusterFacts(EVIL, EVIL, EVIL, EVIL),
    graded_at="2026-01-01T00:00:00+00:00",
    duration_s=0.8,
    verdicts=(RESULT,),
    course=CourseVersion("0.1.0", "abc"),
    attested_by=EVIL,
    pending=HiddenChecks(2, 4),
    binding=Binding("class", EVIL, "n"),
)
NOW = datetime(2026, 1, 5, tzinfo=UTC)
LIVE = nb.LiveReport(REPORT)


def looking(live: nb.LiveReport) -> nb.LabSession:
    """A page whose latest look at the cluster saw this."""
    return nb.LabSession("01", looks=Looks(lambda _: live))


SEEN = SeenCheck(
    check=EVIL,
    lab="01",
    task="t",
    status="FAIL",
    since="2026-01-01T00:00:00+00:00",
    seen_at="2026-01-01T00:00:00+00:00",
    criterion=EVIL,
    expected=EVIL,
    observed=EVIL,
    why=EVIL,
)
LEARNER = LearnerLab(EVIL, EVIL, "01", State.STUCK, stuck_on=(EVIL,), cause=EVIL, checks=(SEEN,))
CLASS = LabStatus("01", EVIL, (EVIL,), (LEARNER,))
BROKEN = replace(LEARNER, state=State.BROKEN, stuck_on=())


def session(**more: Any) -> nb.LabSession:
    """A page with an empty cluster in memory."""
    cluster = FakeCluster()
    return replace(nb.LabSession("01", cluster, cluster.identity(), default_profile()), **more)


def named_evil() -> nb.LabSession:
    lab = session(seat=Seat(EVIL, EVIL, "n", {EVIL: EVIL}))
    assert lab.identity is not None
    return replace(lab, identity=replace(lab.identity, profile=EVIL, server_version=EVIL, gpu=EVIL))


def with_events() -> nb.LabSession:
    """Pods and an event whose words somebody else chose."""
    lab = session()
    assert isinstance(lab.cluster, FakeCluster)
    lab.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm-system"}})
    lab.cluster.add_event("llm-system", ("Pod", "guest"), "FailedScheduling", EVIL)
    why = [{"type": "PodScheduled", "status": "False", "message": EVIL}]
    lab.cluster.add_pod("guest", "llm-system", phase="Pending", status={"conditions": why, "podIP": None})
    return lab


def crashed() -> nb.LabSession:
    lab = session()
    assert isinstance(lab.cluster, FakeCluster)
    lab.cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": serving.NAMESPACE}})
    ended = {"terminated": {"exitCode": 1, "reason": "Error"}}
    state = {"name": serving.CONTAINER, "restartCount": 1, "lastState": ended, "state": {}, "ready": False}
    lab.cluster.add_pod(
        "vllm-0",
        serving.NAMESPACE,
        labels=dict([serving.LABELS.split(",")[0].split("=")]),
        status={"containerStatuses": [state]},
    )
    lab.cluster.set_log(
        serving.NAMESPACE, "vllm-0", f"Error: {EVIL}", container=serving.CONTAINER, previous=True
    )
    lab.cluster.add_event(serving.NAMESPACE, ("Pod", "vllm-0"), "Killing", EVIL)
    return lab


EVIL_MAP = json.dumps(
    {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "default"},
        "data": {"learner": EVIL},
    }
)


def applied_map() -> nb.LabSession:
    lab = session()
    nb.applied(lab, EVIL_MAP.replace("alert(1)", "alert(2)"))
    return lab


def refused() -> Any:
    """An apply that the API server refuses in words of its own."""
    lab = session()

    def refuse(_: object) -> None:
        raise Refused(EVIL)

    assert lab.cluster is not None
    lab.cluster.apply_or_replace = refuse  # type: ignore[assignment, method-assign]
    return nb.applied(lab, EVIL_MAP)


@nb.needs_cluster
def _fails(_: nb.LabSession) -> None:
    problem = LabError(EVIL, next_command=EVIL)
    problem.diagnostics = (EVIL,)  # type: ignore[attr-defined]
    raise problem


CALLERS = (Caller(EVIL, EVIL, EVIL),)
TARGETS = (Target(EVIL, "host", 80, down=EVIL),)
DECISIONS = {(EVIL, EVIL): Decision(True, EVIL)}
TABLE = Reachability(CALLERS, TARGETS, {}, DECISIONS)
GOALS = {(EVIL, EVIL): False}
LAB = Lab("01", EVIL)
CARD = CardReading(EVIL, EVIL, EVIL, EVIL, EVIL, EVIL, 1.0, None, None, None)
TRIAL = Trial(EVIL, (0.0, 1.0), ("200",), EVIL, EVIL, 1.0, 5.0, 2.0)
MOMENT = serving.Moment(0.0, EVIL, EVIL, EVIL, False, False, 1)
QUOTA = json.dumps(
    {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "q"},
        "spec": {"hard": {"limits.cpu": 1}},
    }
)
WORKLOAD = Workload(EVIL, "memory", amounts({"limits.cpu": 2}))
SIGNED = Attested(REPORT, EVIL, {"signature": {"signed_at": EVIL}})  # type: ignore[arg-type]
DONE = {"01": LabProgress("01", started_at="2026-01-01T00:00:00+00:00")}

PAGES: dict[str, tuple[int, Callable[[], Any]]] = {
    "the certificate, attested": (8, lambda: certificate([SIGNED], {}, {"01": EVIL}, name=EVIL, now=NOW)),
    "the certificate, claimed": (
        3,
        lambda: certificate([], {"01": REPORT}, {"01": EVIL}, name=EVIL, now=NOW),
    ),
    "my labs": (12, lambda: study_page(DONE, {"01": REPORT}, [LAB], NOW)),
    "the class: which": (1, lambda: class_board.Room(SimpleNamespace(name=EVIL, active=())).card()),  # type: ignore[arg-type]
    "the class: why not": (2, lambda: class_board.Room(problem=LabError(EVIL, next_command=EVIL)).card()),
    "the class: overview": (1, lambda: class_board.overview([CLASS])),
    "the class: who is stuck": (2, lambda: class_board.needs_you(CLASS)),
    "the class: who is broken": (2, lambda: class_board.needs_you(replace(CLASS, learners=(BROKEN,)))),
    "the class: matrix": (9, lambda: class_board.matrix(CLASS)),
    "the class: a learner": (8, lambda: class_board.learner_detail(CLASS, EVIL)),
    "the class: a check": (2, lambda: class_board.check_detail(CLASS, EVIL)),
    "verdicts": (6, lambda: nb.board(looking(LIVE), "t")),
    "the score": (3, lambda: nb.scoreboard(looking(LIVE), (nb.Part(EVIL, 5, ("t",)),))),
    "the bar": (2, lambda: nb.bar(looking(LIVE), (nb.Part(f"1 · {EVIL}", 5, ("t",)),))),
    "verdicts that are awaited": (1, lambda: nb.board(looking(replace(LIVE, measured={})), "t")),
    "the score while images come": (
        2,
        lambda: nb.scoreboard(looking(replace(LIVE, images=Bringing((EVIL,), 1.0, EVIL)))),
    ),
    "the score, images failed": (
        3,
        lambda: nb.scoreboard(looking(replace(LIVE, images=Bringing((EVIL,), 1.0, EVIL, 1)))),
    ),
    "no verdicts": (
        2,
        lambda: nb.board(looking(nb.LiveReport(problem=LabError(EVIL, next_command=EVIL))), "t"),
    ),
    "the cluster and the seat": (6, lambda: named_evil().card()),
    "no cluster": (2, lambda: nb.no_cluster_card(LabError(EVIL, next_command=EVIL))),
    "a problem": (4, lambda: nb.problem_card(EVIL, EVIL, title=EVIL, details=[EVIL])),
    "a part that fails": (3, lambda: _fails(session())),
    "a sentence until a task holds": (1, lambda: nb.once_passed(looking(LIVE), "t", "", until_then=EVIL)),
    "hints": (3, lambda: nb.hints(EVIL, EVIL, solution=EVIL)),
    "a prediction": (2, lambda: nb.reveal("a", truth="b", because=EVIL, instead={"a": EVIL})),
    "a right prediction": (1, lambda: nb.reveal("b", truth="b", because=EVIL)),
    "a table": (3, lambda: nb.card(nb.table((EVIL,), [(EVIL,)], kind=EVIL))),
    "code, a note, a word": (4, lambda: nb.course(nb.code(EVIL, EVIL) + nb.word(EVIL, EVIL))),
    "a note": (1, lambda: nb.note(EVIL)),
    "a block of plain text": (1, lambda: nb.course(EVIL)),
    "a card of plain text": (1, lambda: nb.card(EVIL)),
    "the layers": (2, lambda: nb.layer_picture("memory", {"memory": (EVIL, EVIL)})),
    "a build": (
        2,
        lambda: nb.build_card(Build("c", 0.0, steps=(BuildStep(EVIL), BuildStep(EVIL, began=1.0))), 2.0),
    ),
    "a build that failed": (2, lambda: nb.build_card(Build("c", 0.0, "failed", (), EVIL, EVIL))),
    "events": (1, lambda: nb.event_table(with_events(), ("llm-system",))),
    "pods": (1, lambda: nb.pod_table(with_events(), ("llm-system",))),
    "the preview of new YAML": (1, lambda: nb.preview(session(), EVIL_MAP)),
    "the preview of other YAML": (1, lambda: nb.preview(applied_map(), EVIL_MAP)),
    "YAML refused": (1, refused),
    "something done": (1, lambda: actions._done(session(), lambda: EVIL)),
    "lab 01: a quota": (2, lambda: draw_quota.quota_picture(session(), QUOTA, workloads=[WORKLOAD])),
    "lab 01: workloads": (1, lambda: draw_quota.workload_table([WORKLOAD])),
    "lab 01: a pod's wait": (1, lambda: draw_gpu.waiting_meter(session(), "default", EVIL, 1.0)),
    "lab 02: a start": (3, lambda: draw_inference._timeline_words([MOMENT])),
    "lab 02: a crash": (2, lambda: draw_inference.crash_panel(crashed())),
    "lab 02: a row": (
        2,
        lambda: nb.card(nb.table((), [draw_inference._row(draw_inference.Asked(EVIL, EVIL, True))])),
    ),
    "lab 03: a point": (
        3,
        lambda: draw_memory._sample(None, lambda *_: {"id": EVIL, "payload": {EVIL: EVIL}}),  # type: ignore[arg-type, return-value]
    ),
    "lab 03: an answer": (
        3,
        lambda: nb.card(nb.table((), [draw_memory._hit(memory.Hit("k", EVIL, EVIL, EVIL, 0.5))])),
    ),
    "lab 03: no answer": (1, lambda: nb.card(draw_memory._no_hits(EVIL))),
    "lab 03: symptoms": (2, lambda: draw_memory.symptom_table([memory.Symptom(EVIL, {"/": 200}, EVIL)])),
    "lab 03: a GPU": (5, lambda: nb.card(nb.table((), [draw_memory._card_row(CARD)]))),
    "lab 03: what was done": (1, lambda: draw_memory._acted(session(), lambda say: EVIL, "title")),
    "lab 04: what connects": (
        4,
        lambda: draw_isolation._draw(
            TABLE, draw_isolation._observed_cell(TABLE, GOALS), EVIL, legend=draw_isolation._SEEN
        ),
    ),
    "lab 04: the forecast": (
        5,
        lambda: draw_isolation._draw(
            TABLE,
            draw_isolation._forecast_cell(DECISIONS, DECISIONS, GOALS),
            EVIL,
            legend=draw_isolation._MEANT,
        ),
    ),
    "lab 05: no journal": (1, lambda: draw_chaos.timeline(session(), EVIL)),
}


@pytest.mark.parametrize("page", PAGES)
def test_a_text_from_outside_is_escaped_exactly_once(page: str) -> None:
    times, draw = PAGES[page]
    assert_escaped_once(draw(), times)


def test_trials_of_a_retry_function_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helpers.labs.lab05_chaos.checks.trials", lambda view: {EVIL: TRIAL})
    assert_escaped_once(draw_chaos.trials_table(session()), 3)


def test_marks_keep_their_meaning_around_a_text_that_is_escaped() -> None:
    drawn = nb.inline(f"`{EVIL}` and **{EVIL}**")
    assert_escaped_once(drawn, 2)
    assert Shown(str(drawn)).tags == ["code", "b"]


def test_what_marimo_shows_beside_a_page_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A spinner's lines and a toast's text are HTML to marimo, too."""
    lines: list[str] = []

    class Spinner:
        def __init__(self, *, title: str, subtitle: str | None) -> None:
            lines.extend((title, subtitle or ""))

        def __enter__(self) -> Spinner:
            return self

        def __exit__(self, *_: object) -> None: ...

        def update(self, *, subtitle: str) -> None:
            lines.append(subtitle)

    monkeypatch.setattr(mo.status, "spinner", Spinner)
    monkeypatch.setattr(mo.status, "toast", lambda title, text, kind: lines.append(text))
    with spinner(EVIL, EVIL) as say:
        say(EVIL)
    reset._announce(nb.LabSession("01"), lambda: EVIL)
    reset._announce(nb.LabSession("01"), Mock(side_effect=LabError(EVIL)))
    assert len(lines) == 5
    for line in lines:
        assert_escaped_once(line)


def test_the_card_of_a_gpu_names_who_holds_it() -> None:
    drawn = nb.card(
        draw_gpu._offer(
            draw_gpu.gpu.Offer(EVIL, EVIL, 2, next(iter(draw_gpu.gpu.SHAPES))),
            [draw_gpu.gpu.Holder("n", EVIL, EVIL, EVIL, 1)],
            simulated=True,
        )
    )
    assert_escaped_once(drawn, 3)
