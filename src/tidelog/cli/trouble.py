"""What goes wrong is told in one sentence, without a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from tidelog.errors import TidelogError


class Trouble(Exception):
    """It cannot be done (`code` 1), or the command makes no sense (2)."""

    def __init__(self, sentence: str, code: int = 1) -> None:
        self.code = code
        super().__init__(sentence)


@contextmanager
def told() -> Iterator[None]:
    """Print the sentence of a `Trouble`, or of an error of tidelog's own, and exit."""
    try:
        yield
    except Trouble as trouble:
        typer.echo(f"tidelog: {trouble}", err=True)
        raise typer.Exit(trouble.code) from None
    except TidelogError as error:
        typer.echo(f"tidelog: {error}", err=True)
        raise typer.Exit(1) from None
