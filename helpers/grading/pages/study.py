"""`course report`: a learner's own progress on one page, from their own runs. Facts, and a claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from markupsafe import Markup

from helpers.grading.declare import Lab
from helpers.grading.pages.page import facts, page, table, verdicts
from helpers.grading.progress import LabProgress, next_lab
from helpers.grading.render import GPU_WORDS, day, span
from helpers.grading.report import Report


def study_page(
    labs: Mapping[str, LabProgress], reports: Mapping[str, Report], known: Sequence[Lab], now: datetime
) -> Markup:
    """The whole page as HTML.

    Args:
        labs: the learner's progress, by lab.
        reports: the latest Report of each lab.
        known: every lab of the course, in order.
        now: when the page is made.
    """
    body = Markup("\n").join(
        [
            Markup("<header><h1>My labs</h1>"),
            Markup("<small>Made {} from this machine's own runs.</small></header>").format(
                day(now.isoformat())
            ),
            Markup(
                '<div class="card claim"><b>A claim.</b> Nobody has attested what stands here: it is what the '
                "learner's own runs saw, and a learner can write these files.</div>"
            ),
            facts(_figures(labs, reports, known)),
            *_charts(labs, reports, known),
            Markup("<h2>Lab by lab</h2>"),
            table(("lab", "standing", "points", "cluster"), _rows(labs, reports, known), numbers=(2,)),
            *(_lab(lab, reports[lab.id]) for lab in known if lab.id in reports),
        ]
    )
    return page("My labs", body)


def _figures(
    labs: Mapping[str, LabProgress], reports: Mapping[str, Report], known: Sequence[Lab]
) -> list[tuple[str, str]]:
    done = [item for item in labs.values() if item.done_at]
    passed = sum(len(item.passed) for item in labs.values())
    checks = sum(len(lab.checks) for lab in known)
    took = sum((item.took for item in done if item.took), timedelta())
    days = {day(stamp)[:10] for item in labs.values() for stamp in (item.started_at, *item.passed.values())}
    following = next_lab(labs, [lab.id for lab in known])
    figures = [
        (f"{len(done)} of {len(known)}", "labs done"),
        (f"{passed} of {checks}", "checks passed at least once"),
        (str(len(days)), "day on which something was begun or passed" if len(days) == 1 else _DAYS),
        (f"lab {following}" if following else "none", "next"),
    ]
    if done:
        figures.insert(2, (span(took), "from start to all passed, all done labs together"))
    pending = sum(report.pending.count for report in reports.values() if report.pending)
    return [*figures, (str(pending), "hidden checks pending")] if pending else figures


_WORTH_A_CHART = timedelta(minutes=1)
_DAYS = "days on which something was begun or passed"


def _charts(
    labs: Mapping[str, LabProgress], reports: Mapping[str, Report], known: Sequence[Lab]
) -> list[Markup]:
    """The charts that have something to show."""
    from helpers.grading.pages.study_charts import passed_chart, time_chart, verdict_chart

    charts = []
    if reports:
        drawn = verdict_chart(reports, [lab.id for lab in known])
        charts.append(_figure("Verdicts of the latest run of each lab", drawn))
    moments = [datetime.fromisoformat(stamp) for item in labs.values() for stamp in item.passed.values()]
    if moments and max(moments) - min(moments) >= _WORTH_A_CHART:
        charts.append(_figure("Checks, when each passed for the first time", passed_chart(labs)))
    if any(item.took for item in labs.values()):
        charts.append(_figure("How long each lab took", time_chart(labs)))
    return charts


def _figure(caption: str, svg: Markup) -> Markup:
    return Markup(
        '<figure role="img" aria-label="{caption}">{svg}<figcaption>{caption}</figcaption></figure>'
    ).format(caption=caption, svg=svg)


def _rows(
    labs: Mapping[str, LabProgress], reports: Mapping[str, Report], known: Sequence[Lab]
) -> list[list[str]]:
    return [
        [
            f"{lab.id} {lab.title}",
            _standing(labs.get(lab.id), reports.get(lab.id)),
            _points(labs.get(lab.id), reports.get(lab.id)),
            _place(reports.get(lab.id)),
        ]
        for lab in known
    ]


def _standing(progress: LabProgress | None, report: Report | None) -> str:
    if progress is None:
        return "not started"
    pending = f"; {report.standing}" if report and report.pending else ""
    if progress.done_at is None:
        return f"begun {day(progress.started_at)}, {len(progress.passed)} checks passed so far{pending}"
    words = "public checks done" if report and report.pending else "done"
    return f"{words} {day(progress.done_at)}, {span(progress.took)} after it was begun{pending}"


def _points(progress: LabProgress | None, report: Report | None) -> str:
    """Of the latest run; of the best one where no Report was kept."""
    if report:
        return f"{report.earned:g} / {report.possible:g}"
    return f"{progress.earned:g} / {progress.possible:g}" if progress and progress.possible else "–"


def _place(report: Report | None) -> str:
    if report is None or report.cluster.uid is None:
        return ""
    gpu = GPU_WORDS.get(report.cluster.gpu or "", str(report.cluster.gpu))
    return f"{report.cluster.profile}, {report.cluster.server_version}, {gpu}"


def _lab(lab: Lab, report: Report) -> Markup:
    cluster = f"cluster {report.cluster.uid}" if report.cluster.uid else "the cluster did not answer"
    return Markup(
        "<h2>Lab {lab.id} · {lab.title}</h2><p>{report.earned:g} of {report.possible:g} points, "
        "{report.standing}. <small>Graded {day}; {cluster}.</small></p>{verdicts}"
    ).format(lab=lab, report=report, day=day(report.graded_at), cluster=cluster, verdicts=verdicts(report))
