"""Fixtures that pytest finds by itself (entry point `pytest11`). Every pytest run loads this: imports stand inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tidelog.testing.serving import Server


@pytest.fixture
def tide_server() -> Iterator[Callable[..., Server]]:
    """Call it with an application and `serve`'s options: it is served on a free loopback port until the test ends."""
    from tidelog.testing.serving import serve

    with ExitStack() as served:

        def start(app: Any, **options: Any) -> Server:
            return served.enter_context(serve(app, **options))

        yield start
