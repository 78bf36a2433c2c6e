"""`course seat`, `report` and `certificate`: what a learner asks about their own work."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from helpers.classroom.commands.options import Keys, read_text
from helpers.terminal import FELL_SHORT, LABS


def register(app: typer.Typer) -> None:
    """Add the commands to `course`."""
    app.command("seat", rich_help_panel=LABS)(seat)
    app.command("report", rich_help_panel=LABS)(report)
    app.command("certificate", rich_help_panel=LABS)(certificate)


def seat() -> None:
    """Your seat in a class: whose it is, the figures that are yours alone, and what is hidden."""
    from helpers.cluster import Cluster
    from helpers.grading.seat import own_figures, seat_of

    cluster = Cluster.connect()
    cluster.identity()  # no seat, and no cluster, are different answers
    found = seat_of(cluster)
    if found is None:
        typer.echo("You work outside a class: this cluster has no seat for you.")
        raise typer.Exit(FELL_SHORT)
    typer.echo(f"Seat of {found.learner} in the class {found.class_name}")
    for name, value in own_figures(found.variables):
        typer.echo(f"  {name:<24}{value}")
    for lab, checks in sorted(found.hidden.items()):
        typer.echo(f"  lab {lab}: {checks.count} hidden checks, {checks.points:g} points, pending")


def report(
    html: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the page.")] = Path(
        "course-report.html"
    ),
) -> None:
    """Your own progress as a page: what is done, how long it took, and what it rests on. No network."""
    from helpers.grading.export.results import write
    from helpers.grading.pages.study import study_page
    from helpers.grading.progress import LastReports, Progress
    from helpers.labs.registry import lab_ids, load_lab

    known = [load_lab(number) for number in lab_ids()]
    write(html, study_page(Progress().labs(), LastReports().all(), known, datetime.now(UTC)))
    typer.echo(f"Your report: {html.resolve().as_uri()}")


def certificate(
    signed: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A signed Report from your instructor.")
    ] = None,
    key: Keys = None,
    learner_name: Annotated[str, typer.Option("--as", metavar="NAME", help="Your name on it.")] = "",
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Where to write it.")] = Path(
        "certificate.html"
    ),
) -> None:
    """What you have done, saying plainly what an instructor attested and what is your own claim."""
    from helpers.classroom.records.attest import PublicKey
    from helpers.classroom.records.certificate import attested
    from helpers.classroom.records.certificate import certificate as render
    from helpers.grading.export.results import write
    from helpers.grading.progress import LastReports
    from helpers.labs.registry import lab_ids, load_lab

    if signed and not key:
        raise typer.BadParameter("a signed Report is checked with your instructor's public key: give --key")
    trusted = [PublicKey.given(item) for item in key or ()]
    verified = [attested(read_text(path), trusted) for path in signed or ()]
    titles = {number: load_lab(number).title for number in lab_ids()}
    write(output, render(verified, LastReports().all(), titles, name=learner_name, now=datetime.now(UTC)))
    what = "attested" if verified else "not attested: a claim"
    typer.echo(f"Certificate ({what}): {output.resolve().as_uri()}")
