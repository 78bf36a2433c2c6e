"""One notebook's connection to the cluster: it never raises at the learner, it explains.

A lab opens with `lab = open_lab("01")`. Where no cluster answers, every part of the page that
needs one says so in a sentence with the next command, and the story stays readable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import wraps
from string import Template
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import marimo as mo
from markupsafe import Markup

from helpers import building, settings
from helpers.errors import (
    EnvironmentFault,
    InvalidInput,
    InvalidManifest,
    LabError,
    NoClusterChosen,
    StepMissing,
)
from helpers.notebook.html import code, course, inline, note, problem_card, word
from helpers.notebook.looks import LiveReport, Looks, Told

if TYPE_CHECKING:
    from helpers.cluster import Cluster, Identity, Profile
    from helpers.grading.seat import Seat

P = ParamSpec("P")


@dataclass(frozen=True)
class LabSession:
    """The cluster behind a lab's page, or the reason why there is none.

    `images` maps the course's image names to this cluster's references; empty without a cluster.
    `pressed` stands in for every button where a solution runs headless. `opening` is the session of a panel's
    first frame: it has no cluster to ask, and says that it is being asked.
    """

    id: str
    cluster: Cluster | None = None
    identity: Identity | None = None
    profile: Profile | None = None
    problem: LabError | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    seat: Seat | None = None
    pressed: bool = False
    opening: bool = False
    looks: Looks = field(default_factory=lambda: Looks(lambda _: LiveReport()), compare=False)
    acted: Callable[[Any], None] = field(default=lambda _: None, compare=False)
    _kept: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def report(self) -> LiveReport:
        """What the page's latest look at the cluster saw."""
        return self.looks.report

    def live(self, draw: Callable[Concatenate[LabSession, P], Any], *args: P.args, **kwargs: P.kwargs) -> Any:
        """What `draw(lab, …)` shows, as fresh as the board: after each look drawn again, and sent where it differs.

        It is all that its cell shows: several parts are drawn by one function. Until the page's first look it is
        what can be drawn without the cluster.
        """
        first = replace(self, cluster=None, opening=True)
        return self.looks.follow(
            lambda: draw(self, *args, **kwargs),
            first=lambda: draw(first, *args, **kwargs),
            of_report=any(getattr(part, "of_report", False) for part in (draw, *args)),
        )

    def keep(self, element: Any) -> Any:
        """Keep an element that no name of the notebook stands for: marimo holds it weakly, and would forget it.

        A cell that runs again gives its elements the same ids: the former ones go.
        """
        self._kept[str(element._id)] = element
        return element

    def changed(self) -> None:
        """The page changes the cluster: what was seen is being measured again, as soon as the change is done."""
        self.looks.changed()
        self.acted(lambda times: times + 1)

    def asked(self, button: Any, *, by_hand: bool = False) -> bool:
        """Whether this button was pressed, or all are; the page looks again as soon as what it does is done.

        Args:
            by_hand: not where a solution runs, which does the same in a cell of its own.
        """
        if button.value:
            self.changed()
        return bool(button.value or (self.pressed and not by_hand))

    def card(self) -> mo.Html:
        """Which cluster this page speaks to, or what to do where there is none."""
        if self.cluster is None or self.identity is None:
            return no_cluster_card(self.problem)
        gpu = {"simulated": "GPU simulated", "real": "GPU real", "none": "no GPU offered"}
        connected = Markup(
            '<div class="card row">{connected}<span>profile <b>{profile}</b> · Kubernetes <b>{version}</b> · '
            "<b>{gpu}</b></span>"
            "<small>Opening or running this page changes nothing in it; only a button does.</small></div>"
        ).format(
            connected=word("PASS", "connected"),
            profile=self.identity.profile,
            version=self.identity.server_version,
            gpu=gpu.get(self.identity.gpu, self.identity.gpu),
        )
        return course(connected + _seat_card(self.seat), live=True)

    def render(self, manifest: str) -> str:
        """The manifest with `$TOOLBOX`, `$PAUSE`, `$VLLM` … replaced by this cluster's images.

        Raises:
            InvalidManifest: it is no text, so it cannot be YAML.
        """
        if not isinstance(manifest, str):
            raise InvalidManifest(f"the manifest is {manifest!r:.60}, not a text between quotes")
        names = {name.upper().replace("-", "_"): reference for name, reference in self.images.items()}
        return Template(manifest).safe_substitute(names)


def open_page(lab: str, *_again: object, pressed: bool = False) -> tuple[LabSession, Callable[[], int]]:
    """`open_lab` for a page: with it, marimo's state of how many buttons were pressed, which runs `look` again."""
    acted, set_acted = mo.state(0)
    session = open_lab(lab)
    looks = Looks(lambda told: grade_now(session, told))
    if session.cluster is None:
        looks.look()  # there is nothing to wait for
    return replace(session, pressed=pressed, looks=looks, acted=set_acted), acted


def look(lab: LabSession, tick: Any, acted: Callable[[], int]) -> None:
    """Look at the cluster again, once the page is open: at each tick, and after a button."""
    if tick.value or acted():
        lab.looks.look()


def grade_now(lab: LabSession, told: Told | None = None) -> LiveReport:
    """Grade the lab as `course grade` does; each verdict is told as it comes."""
    if lab.cluster is None:
        return LiveReport(connected=False)
    from helpers.grading import grade
    from helpers.grading.progress import take_up
    from helpers.grading.seat import with_pending
    from helpers.labs.registry import load_lab
    from helpers.stack.images import bringing

    try:
        report = grade([load_lab(lab.id)], lab.cluster, on_verdict=told)
    except LabError as problem:
        return LiveReport(problem=problem)
    take_up(report, lab.seat)
    return LiveReport(with_pending(report, lab.seat), images=bringing())


def open_lab(lab: str) -> LabSession:
    """Connect a lab's page to the cluster in use.

    Images that the lab needs and the nodes lack are brought in beside it; no object of the cluster changes.

    Args:
        lab: the lab's number, such as "01".
    """
    try:
        from helpers.cluster import Cluster
        from helpers.grading.seat import seat_of
        from helpers.labs.registry import load_lab
        from helpers.stack.images import bring_in

        cluster = Cluster.connect()
        profile = cluster.profile()
        images = dict(profile.images)
        bring_in(cluster, load_lab(lab).images)
        return LabSession(lab, cluster, cluster.identity(), profile, None, images, seat_of(cluster))
    except LabError as problem:
        return LabSession(lab, problem=problem)


def _seat_card(seat: Seat | None) -> Markup:
    """In a class: whose seat this is, and the figures that only this learner has."""
    if seat is None:
        return Markup()
    from helpers.grading.seat import own_figures

    figures = Markup(" · ").join(
        Markup("{} {}").format(name, code(value)) for name, value in own_figures(seat.variables)
    )
    own = Markup("<div>Your own figures, where this class asks for them: {}</div>").format(figures)
    return Markup(
        '<div class="card">Seat of <b>{seat.learner}</b> in the class <b>{seat.class_name}</b>.{own}</div>'
    ).format(seat=seat, own=own if figures else "")


def no_cluster_card(problem: LabError | None = None) -> mo.Html:
    """No cluster answers: what was tried, and the next command; the page stays readable."""
    said = str(problem) if problem else "no cluster is running or chosen"
    command = (problem.next_command if problem else "") or "course up"
    missing = problem is None or isinstance(problem, NoClusterChosen)
    title = "No cluster yet." if missing else "The cluster does not answer."
    return course(
        Markup(
            '<div class="card" role="status">{state} <b>{title}</b> {said}'
            "<div>In a terminal: {command}, then press <b>Connect again</b>.</div>"
            "<small>You can read on: the story, the pictures and the predictions need no cluster.</small></div>"
        ).format(state=word("none", "not connected"), title=title, said=inline(said), command=code(command))
    )


def needs_cluster(
    draw: Callable[Concatenate[LabSession, P], Any],
) -> Callable[Concatenate[LabSession, P], Any]:
    """A part of the page that speaks to the cluster: without one, or when it stops answering, it says so."""

    @wraps(draw)
    def drawn(lab: LabSession, *args: P.args, **kwargs: P.kwargs) -> Any:
        if lab.cluster is None:
            return waiting_card(lab)
        try:
            return draw(lab, *args, **kwargs)
        except LabError as problem:
            more = [str(line) for line in getattr(problem, "diagnostics", ())]
            # What was written or left out is mended on the page, not in a terminal.
            command = problem.next_command or (
                "course status" if isinstance(problem, EnvironmentFault) else ""
            )
            return problem_card(str(problem), command, title=_title(problem), details=more)

    return drawn


def titled(
    lab: LabSession,
    title: str,
    draw: Callable[Concatenate[LabSession, P], Any],
    *args: P.args,
    **kwargs: P.kwargs,
) -> Any:
    """What `draw(lab, …)` shows, with markdown above it."""
    return mo.vstack([mo.md(title), draw(lab, *args, **kwargs)])


def of_report(draw: Callable[P, Any]) -> Callable[P, Any]:
    """A part of the page that shows verdicts and asks the cluster nothing: it follows each verdict as it comes."""
    draw.of_report = True  # type: ignore[attr-defined]
    return draw


def waiting_card(lab: LabSession) -> mo.Html:
    """A part of the page that has nothing to show until a cluster is connected, or has answered for the first time."""
    if lab.opening:
        return note("Measuring: the cluster is being asked.")
    if building.is_building(settings.cluster_name()):
        return note("This part appears by itself when the cluster is built.")
    return note("This part needs a cluster: `course up`, then Connect again.")


def _title(problem: LabError) -> str:
    from helpers.errors import ClusterUnreachable, ObjectMissing

    if isinstance(problem, InvalidManifest):
        return "The API server was not asked."
    if isinstance(problem, StepMissing) or problem.next_command.startswith("course start "):
        return "Another step comes first."
    if isinstance(problem, InvalidInput):
        return "The cell above cannot be used as it is."
    if isinstance(problem, ObjectMissing):
        return "Nothing to show yet."
    if isinstance(problem, ClusterUnreachable):
        return "The cluster does not answer."
    return "The environment failed, not you." if isinstance(problem, EnvironmentFault) else "Not done."
