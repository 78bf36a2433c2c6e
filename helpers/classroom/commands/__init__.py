"""`course class …`, and what belongs to it at the top: `verify`, `report`, `certificate`, `export`."""

from __future__ import annotations

import typer

from helpers.terminal import CLASSES


def register(app: typer.Typer) -> None:
    """Add the classroom's commands to the `course` command."""
    from helpers.classroom.commands import export, gpu, learner, looking, marking, members, records

    class_app = typer.Typer(
        name="class",
        help="A class: from a roster to grades, on one shared cluster or on many.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    members.register(class_app)
    gpu.register(class_app)
    marking.register(class_app)
    looking.register(class_app)
    records.register(class_app, app)
    export.register(class_app, app)
    learner.register(app)
    app.add_typer(class_app, rich_help_panel=CLASSES)
