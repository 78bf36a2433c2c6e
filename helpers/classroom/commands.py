"""`course class …`, and what belongs to it at the top: `verify`, `report`, `certificate`, `export`."""

from __future__ import annotations

import typer

from helpers.terminal import CLASSES


def register(app: typer.Typer) -> None:
    """Add the classroom's commands to the `course` command."""
    from helpers.classroom import (
        commands_export,
        commands_gpu,
        commands_learner,
        commands_looking,
        commands_marking,
        commands_members,
        commands_records,
    )

    class_app = typer.Typer(
        name="class",
        help="A class: from a roster to grades, on one shared cluster or on many.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    commands_members.register(class_app)
    commands_gpu.register(class_app)
    commands_marking.register(class_app)
    commands_looking.register(class_app)
    commands_records.register(class_app, app)
    commands_export.register(class_app, app)
    commands_learner.register(app)
    app.add_typer(class_app, rich_help_panel=CLASSES)
