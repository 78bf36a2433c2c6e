"""`course review`: may it go live?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helpers.terminal import LABS, console, typed

if TYPE_CHECKING:
    from helpers.review.answers import Line

_WORD = {
    "met": "[bold green]met[/]",
    "missing": "[bold red]missing[/]",
    "unknown": "[bold magenta]unknown[/]",
}


def register(app: typer.Typer) -> None:
    """Add the command to the `course` command."""
    app.command("review", rich_help_panel=LABS)(review)


def review(
    backends: Annotated[
        list[str] | None, typer.Option(metavar="NS", help="Where model servers and stores are (repeatable).")
    ] = None,
    apps: Annotated[
        list[str] | None, typer.Option(metavar="NS", help="Where applications are (repeatable).")
    ] = None,
    traces: Annotated[
        list[str] | None, typer.Option(metavar="NS", help="Where the Collector is (repeatable).")
    ] = None,
    monitoring: Annotated[
        list[str] | None, typer.Option(metavar="NS", help="Where Prometheus is (repeatable).")
    ] = None,
    prometheus: Annotated[
        str, typer.Option(metavar="SERVICE[:PORT]", help="Its Service, where it is not found by itself.")
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document, and nothing else.")] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page too, to be handed around.")
    ] = None,
) -> None:
    """Ask a stack whether it may go live: twelve criteria, each a question to the cluster; nothing is changed.

    Without options: the namespaces of the course. Exit code 0 all met, 1 something missing, 2 it could not be asked.
    """
    from helpers.cluster import Cluster
    from helpers.cluster.resource import now_text
    from helpers.review.answers import exit_code
    from helpers.review.criteria import review as ask
    from helpers.review.stack import Places

    usual = Places()
    places = Places(
        tuple(backends or usual.backends),
        tuple(apps or usual.apps),
        tuple(traces or usual.traces),
        tuple(monitoring or usual.monitoring),
        prometheus,
    )
    cluster = Cluster.connect()
    known, at = cluster.identity(), now_text()
    lines = ask(cluster.view(), places, on_line=(lambda line: None) if json else _print)
    about = {"uid": known.uid, "server_version": known.server_version, "profile": known.profile}
    if json:
        print(_document(lines, about, at))
    else:
        _sum_up(lines)
    if html:
        _write(html, lines, f"{known.profile} {known.server_version}", at)
    raise typer.Exit(exit_code(lines))


def _print(line: Line) -> None:
    out = console()
    about, answer = line.criterion, line.answer
    out.print(f"{_WORD[answer.standing]} [bold]{about.title}[/] [dim]({about.id}, lab {about.lab})[/]")
    out.print(f"  asked: {about.asks}", markup=False, style="dim")
    out.print(f"  seen:  {answer.seen}", markup=False)
    if not line.is_met and answer.next:
        out.print(f"  next:  {typed(answer.next)}", markup=False)


def _sum_up(lines: list[Line]) -> None:
    met = sum(line.is_met for line in lines)
    left = ", ".join(line.criterion.id for line in lines if not line.is_met)
    print(f"\n{met} of {len(lines)} criteria met" + (f"; left: {left}" if left else ": it may go live"))


def _document(lines: list[Line], cluster: dict[str, Any], at: str) -> str:
    from json import dumps

    from helpers.review.answers import SCHEMA

    return dumps(
        {
            "schema": SCHEMA,
            "cluster": cluster,
            "asked_at": at,
            "met": sum(line.is_met for line in lines),
            "criteria": [line.to_dict() for line in lines],
        },
        indent=1,
        ensure_ascii=False,
    )


def _write(path: Path, lines: list[Line], cluster: str, at: str) -> None:
    from helpers.atomic_file import write_atomically
    from helpers.errors import LabError
    from helpers.review.page import review_page
    from helpers.terminal import say

    try:
        write_atomically(path, str(review_page(lines, cluster=cluster, at=at)))
    except OSError as problem:
        raise LabError(f"cannot write {path}: {problem.strerror}") from problem
    say(f"The page is in {path}.")
