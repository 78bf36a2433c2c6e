"""The twelve criteria, in the order in which a team would ask them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from helpers.errors import ClusterUnreachable, Forbidden, LabError
from helpers.review import bounds, running, watched
from helpers.review.answers import Answer, Criterion, Line
from helpers.review.stack import Places, Stack

if TYPE_CHECKING:
    from helpers.cluster import ClusterView

CRITERIA: tuple[Criterion, ...] = (
    Criterion(
        "resources",
        "Requests and limits",
        "Every container asks for CPU and memory, and has a limit of memory.",
        "The scheduler places by requests; what has none is the first to be killed, or kills its neighbour.",
        "01",
        running.resources,
    ),
    Criterion(
        "quota",
        "A share for each namespace",
        "A namespace that uses cards refuses more of them, and more memory, than its quota has.",
        "One team's experiment takes the cards that another team's users wait for.",
        "01",
        bounds.quota,
    ),
    Criterion(
        "images",
        "Pinned images",
        "Every image has a digest, or a tag that stays the same image.",
        "A pod that is replaced at night runs something that nobody has tested.",
        "01",
        running.images,
    ),
    Criterion(
        "probes",
        "Probes that ask for the process",
        "Who has a Service says when it is ready; who has none is noticed when it hangs; liveness asks for no backend.",
        "A liveness probe that asks a backend restarts everything when one thing fails.",
        "02",
        running.probes,
    ),
    Criterion(
        "drain",
        "Drain before the end",
        "Who answers users leaves the Service before it ends, and has time for what it has begun; workers too.",
        "Every rollout and every scale-down costs somebody an answer.",
        "02",
        running.drain,
    ),
    Criterion(
        "state",
        "State on claims",
        "What is kept lies on a bound claim, and a Redis that keeps something appends to a file.",
        "A restart forgets what users were promised.",
        "03",
        running.state,
    ),
    Criterion(
        "isolation",
        "Closed until named",
        "A new pod beside a backend is closed both ways, strangers reach no backend, applications say who may come.",
        "Whoever gets into one pod has them all.",
        "04",
        bounds.isolation,
    ),
    Criterion(
        "gate",
        "Releases behind a gate",
        "A Rollout is judged by an analysis, which can run, before all users have it.",
        "What answers worse is noticed by users.",
        "07",
        watched.gate,
    ),
    Criterion(
        "traces",
        "Traces arrive",
        "The Collector has received spans and sent them on.",
        "Which part was slow is a guess.",
        "07",
        watched.traces,
    ),
    Criterion(
        "targets",
        "Metrics are read",
        "Each model server, each worker and whatever else is scaled is a target that is up; no target is down.",
        "A monitor with a wrong label is silence, and a scaler that reads silence does nothing.",
        "08",
        watched.targets,
    ),
    Criterion(
        "alerts",
        "Alerts that name the layer",
        "Each alert has a layer and a sentence and reads metrics that exist; two layers have one, and the dead letters.",
        "“It is slow” wakes everybody, and a job that nobody can do is found by its user.",
        "08",
        watched.alerts,
    ),
    Criterion(
        "scaling",
        "Scaling on what users feel",
        "Model servers are scaled by more than CPU, up to what the quota has, and each workload by one scaler.",
        "CPU lies, a maximum above the quota is a promise that nobody keeps, and two scalers undo each other.",
        "08",
        bounds.scaling,
    ),
)


def review(
    view: ClusterView,
    places: Places | None = None,
    *,
    on_line: Callable[[Line], None] = lambda line: None,
) -> list[Line]:
    """Ask all twelve.

    Args:
        on_line: told each line as soon as it is known.

    Raises:
        ClusterUnreachable: the API server does not answer.
    """
    stack = Stack(view, places or Places())
    lines = []
    for criterion in CRITERIA:
        lines.append(Line(criterion, _asked(criterion, stack)))
        on_line(lines[-1])
    return lines


def _asked(criterion: Criterion, stack: Stack) -> Answer:
    try:
        return criterion.ask(stack)
    except ClusterUnreachable:
        raise
    except Forbidden as error:
        return Answer(
            "unknown", f"you may not ask: {error}", next=error.next_command or "kubectl auth whoami"
        )
    except LabError as error:
        return Answer(
            "unknown", f"it could not be asked: {error}", next=error.next_command or "course doctor"
        )
