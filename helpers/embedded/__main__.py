"""`python -m helpers.embedded`: the embedded cluster's commands alone."""

import typer

from helpers.embedded.commands import register

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
register(app)

if __name__ == "__main__":
    app()
