"""The command `eventray`."""

from __future__ import annotations

import sys

import typer

from eventray.domain.errors import EventRayError
from eventray.runtime import cli_app, cli_store, cli_views

FAILED = 2  # could not be done, or was asked for wrongly; 1 is the answer "no" of a command that checks

app = typer.Typer(
    name="eventray",
    help="Run eventray apps, look at them, and look after their stores.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
cli_app.add_to(app)
cli_store.add_to(app)
cli_views.add_to(app)


def main() -> None:
    """Run the command line; exit code 0, 1 (`verify` found problems) or 2 (an error, which is told)."""
    try:
        app()
    except (EventRayError, ValueError) as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(FAILED)


if __name__ == "__main__":
    main()
