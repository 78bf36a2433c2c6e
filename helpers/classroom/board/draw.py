"""The class on a page: where everybody is, who needs somebody now, and what was expected and observed."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import marimo as mo
from markupsafe import Markup

from helpers.classroom.board.status import LabStatus, LearnerLab, State, class_status
from helpers.errors import LabError
from helpers.notebook.html import course, definitions, inline, note, problem_card, table, word

if TYPE_CHECKING:
    from helpers.classroom.folder import ClassFolder
    from helpers.classroom.marking.observed import SeenCheck
    from helpers.grading.declare import Lab

LOOK_EVERY_S = 20.0
_NEEDS_NOBODY = ("PASS", "NOT_ATTEMPTED", "BLOCKED")
_TONES = {
    State.BROKEN: "ENV_ERROR",
    State.STUCK: "FAIL",
    State.WORKING: "PARTIAL",
    State.NOT_STARTED: "NOT_ATTEMPTED",
    State.PASSED: "PASS",
    State.UNSEEN: "BLOCKED",
}
_SIGNS = {
    "PASS": "✓",
    "PARTIAL": "½",
    "FAIL": "✗",
    "NOT_ATTEMPTED": "·",
    "BLOCKED": "–",
    "ENV_ERROR": "!",
}


@dataclass(frozen=True)
class Room:
    """The class that a board shows, or the reason why it shows none."""

    folder: ClassFolder | None = None
    labs: tuple[Lab, ...] = ()
    looks: bool = False
    problem: LabError | None = None

    @property
    def learners(self) -> list[str]:
        """The ids of everybody in the class."""
        return [member.learner.id for member in self.folder.active] if self.folder else []

    def card(self) -> mo.Html:
        """Which class this is."""
        if self.folder is None:
            said = self.problem
            return problem_card(str(said or "no class is open"), said.next_command if said else "")
        looks = f"A new look every {LOOK_EVERY_S:g} s." if self.looks else "This is what was seen last."
        return course(
            Markup(
                '<div class="card row"><span>Class <b>{}</b> · {} learners</span>'
                "<small>{} Looking grades nobody and changes nothing.</small></div>"
            ).format(self.folder.name, len(self.learners), looks)
        )


def open_class() -> Room:
    """The class that `course class board` was asked for."""
    from helpers.classroom.folder import DEFAULT_NAME, ClassFolder
    from helpers.labs.registry import load_lab

    try:
        folder = ClassFolder.open(os.environ.get("COURSE_CLASS") or DEFAULT_NAME)
        numbers = [part for part in os.environ.get("COURSE_CLASS_LABS", "").split(",") if part] or ["01"]
        return Room(
            folder, tuple(map(load_lab, numbers)), looks=os.environ.get("COURSE_CLASS_LOOK", "1") == "1"
        )
    except LabError as problem:
        return Room(problem=problem)


def keep_looking(room: Room) -> Any:
    """Look at the class again and again beside the page, until the page is closed."""
    if room.folder is None or not room.looks:
        return None
    folder = room.folder
    thread = mo.Thread(target=_look_again, args=(folder, room.labs), daemon=True)
    thread.start()
    return thread


def _look_again(folder: ClassFolder, labs: Sequence[Lab]) -> None:
    from helpers.classroom.board.ungraded_look import look_at
    from helpers.grading.faultlog import log_fault

    thread = mo.current_thread()
    while not thread.should_exit:
        until = time.monotonic() + LOOK_EVERY_S
        try:
            look_at(folder, folder.active, labs, should_stop=lambda: thread.should_exit)
        except LabError as fault:
            log_fault(fault)  # the page shows how old its picture is
        while time.monotonic() < until and not thread.should_exit:
            time.sleep(0.5)


def look_up(room: Room, stuck_minutes: float, *_again: object) -> list[LabStatus]:
    """The class as it was seen last; further arguments only make marimo run it again."""
    if room.folder is None:
        return []
    now = datetime.now(UTC)
    return class_status(room.folder, room.folder.active, room.labs, now=now, stuck_minutes=stuck_minutes)


def lab_of(found: Sequence[LabStatus], lab: str) -> LabStatus | None:
    """One lab of the class."""
    return next((item for item in found if item.lab == lab), None)


def overview(found: Sequence[LabStatus]) -> mo.Html:
    """Each lab in one bar: how many learners are where."""
    return course(Markup("").join(_overview(lab) for lab in found), live=True)


def _overview(lab: LabStatus) -> Markup:
    total = len(lab.learners) or 1
    part = Markup('<i class="is-{}" style="width:{:.2f}%" title="{} {}"></i>')
    parts = (
        part.format(_TONES[state], 100 * number / total, number, state)
        for state, number in lab.states.items()
    )
    words = (word(_TONES[state], f"{number} {state}") for state, number in lab.states.items())
    return Markup(
        '<div class="card class-lab"><div class="row"><b>Lab {lab.lab}</b> {lab.title}'
        '<small class="points">{age}</small></div>'
        '<div class="class-bar">{parts}</div><div class="row">{words}</div></div>'
    ).format(lab=lab, age=_age(lab), parts=Markup("").join(parts), words=Markup(" ").join(words))


def _age(lab: LabStatus) -> str:
    looked = [item.looked_at for item in lab.learners if item.looked_at]
    if not looked:
        return "no learner has been looked at yet"
    seconds = (datetime.now(UTC) - datetime.fromisoformat(min(looked))).total_seconds()
    return f"oldest look {_span(seconds / 60)} ago"


def needs_you(lab: LabStatus | None) -> mo.Html:
    """Who is stuck, longest first, and whose environment is broken."""
    waiting = lab.in_state(State.STUCK, State.BROKEN) if lab else []
    if not waiting:
        return course(Markup('<small role="status">Nobody is stuck, and no environment is broken.</small>'))
    tiles = Markup("").join(map(_waiting, waiting))
    return course(Markup('<div class="tiles">{}</div>').format(tiles), live=True)


def _waiting(item: LearnerLab) -> Markup:
    why = f"{', '.join(item.stuck_on)} for {_span(item.failing_minutes)}" if item.stuck_on else item.cause
    return Markup('<span class="tile is-{}"><b>{}</b> {}: {}</span>').format(
        _TONES[item.state], item.learner, item.state, why
    )


def matrix(lab: LabStatus | None) -> mo.Html:
    """Learners by checks; a sign and a title in each cell, a frame around what is stuck."""
    if lab is None:
        return note("No lab is shown.")
    checks = list(enumerate(lab.checks, 1))
    numbers = (Markup('<th title="{}">{}</th>').format(check, number) for number, check in checks)
    names = (Markup("<span>{} {}</span>").format(number, check) for number, check in checks)
    signs = (
        Markup('<span><b class="is-{}">{}</b> {}</span>').format(status, sign, _said(status))
        for status, sign in _SIGNS.items()
    )
    return course(
        Markup(
            '<div class="class-scroll"><table class="facts class-matrix"><thead>'
            "<tr><th>learner</th><th>state</th><th>points</th>{numbers}</tr></thead><tbody>{rows}</tbody>"
            '</table></div><div class="legend">{names}</div><div class="legend">{signs}</div>'
        ).format(
            numbers=Markup("").join(numbers),
            rows=Markup("").join(_row(item, lab.checks) for item in lab.learners),
            names=Markup(" ").join(names),
            signs=Markup(" ").join(signs),
        )
    )


def _row(item: LearnerLab, checks: Sequence[str]) -> Markup:
    return Markup(
        '<tr><th scope="row" title="{item.name}">{item.learner}</th><td>{state}</td><td>{points}</td>{cells}</tr>'
    ).format(
        item=item,
        state=word(_TONES[item.state], item.state.value),
        points=f"{item.earned:g}/{item.possible:g}" if item.checks else "",
        cells=Markup("").join(_cell(item, check) for check in checks),
    )


def _cell(item: LearnerLab, check: str) -> Markup:
    seen = item.check(check)
    if seen is None:
        return Markup('<td aria-label="not looked at"></td>')
    return Markup(
        '<td class="is-{status}{frame}" title="{label}. {observed}" aria-label="{label}">{sign}</td>'
    ).format(
        status=seen.status,
        frame=" stuck" if check in item.stuck_on else "",
        label=f"{item.learner}, {check}: {_said(seen.status)}",
        observed=seen.observed,
        sign=_SIGNS[seen.status],
    )


def _said(status: str) -> str:
    return status.replace("_", " ").lower()


def learner_detail(lab: LabStatus | None, learner: str | None) -> mo.Html:
    """One learner, check by check: since when, expected, observed."""
    item = next((one for one in lab.learners if one.learner == learner), None) if lab else None
    if item is None:
        return note("Choose a learner to see what was expected and what was observed.")
    head = Markup(
        '<div class="row"><b>{item.learner}</b> {item.name} {state}'
        '<span class="points">{item.earned:g} / {item.possible:g}</span></div>'
    ).format(item=item, state=word(_TONES[item.state], item.state.value))
    cause = Markup("<div>{} {}</div>").format(word("ENV_ERROR"), inline(item.cause)) if item.cause else ""
    return course(head + cause + Markup("").join(map(_seen, item.checks)), live=True)


def _seen(seen: SeenCheck) -> Markup:
    rows = [("observed", seen.observed)]
    if seen.status != "BLOCKED":
        rows.append(("since", _since(seen.since)))
    if seen.status not in ("PASS", "BLOCKED"):
        rows.insert(0, ("expected", seen.expected))
    if seen.status not in _NEEDS_NOBODY:
        rows.append(("why", seen.why))
    return Markup(
        '<section class="verdict is-{seen.status}"><div class="row">{word}'
        "<span><b>{seen.check}</b>{hidden} {criterion}</span>"
        '<span class="points">{seen.earned:g} / {seen.points:g}</span></div>{rows}</section>'
    ).format(
        seen=seen,
        word=word(seen.status),
        hidden=Markup(" <small>hidden</small>") if seen.hidden else "",
        criterion=inline(seen.criterion),
        rows=definitions(rows),
    )


def check_detail(lab: LabStatus | None, check: str | None) -> mo.Html:
    """One check through the class: the same observation together, most frequent first."""
    if lab is None or not check:
        return note("Choose a check to see who is at which answer.")
    groups: dict[tuple[str, str], list[str]] = {}
    for item in lab.learners:
        seen = item.check(check)
        if seen is not None:
            groups.setdefault((seen.status, seen.observed), []).append(item.learner)
    ordered = sorted(groups.items(), key=lambda group: (group[0][0] in _NEEDS_NOBODY, -len(group[1])))
    rows = [
        (word(status), inline(observed), str(len(names)), ", ".join(names))
        for (status, observed), names in ordered
    ]
    return course(table(("verdict", "observed", "learners", "who"), rows))


def _since(stamp: str) -> str:
    moment = datetime.fromisoformat(stamp)
    minutes = (datetime.now(UTC) - moment).total_seconds() / 60
    return f"{moment.astimezone():%H:%M}, {_span(minutes)}"


def _span(minutes: float) -> str:
    if minutes < 1:
        return "less than a minute"
    whole = int(minutes)
    if whole < 60:
        return f"{whole} min"
    return f"{whole // 60} h {whole % 60} min" if whole < 60 * 24 else f"{whole // (60 * 24)} d"
