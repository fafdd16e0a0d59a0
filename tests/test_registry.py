"""Names become leaves; what is not there is told to whoever asked."""

from __future__ import annotations

from typing import Any

import pytest

from tidelog import registry
from tidelog.errors import InvalidRequest
from tidelog.seams import Dialect, Framing


@pytest.mark.parametrize("name", registry.DIALECTS)
def test_dialects(name: str) -> None:
    made: Dialect = registry.dialect(name)("r")
    assert made.broken is False
    assert list(made.farewell(100, "reauth")) is not None


@pytest.mark.parametrize("name", registry.FRAMINGS)
def test_framings(name: str) -> None:
    made: Framing = registry.framing(name)(100)
    assert "/" in made.media_type


def test_stores_are_named_by_their_scheme() -> None:
    assert type(registry.store("memory:")).__name__ == "MemoryStore"
    assert type(registry.store("sqlite:///x.db")).__name__ == "SqliteStore"


@pytest.mark.parametrize("ask", [registry.store, registry.dialect, registry.framing])
@pytest.mark.parametrize("name", ["", "nothing", "../native", "tidelog.run:Run"])
def test_what_is_not_there(ask: Any, name: str) -> None:
    with pytest.raises(InvalidRequest, match="there are"):
        ask(name)


def test_installed_packages_add_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        @staticmethod
        def load() -> type[Any]:
            return dict

    monkeypatch.setattr(
        registry, "entry_points", lambda group, name: [Point] if (group, name) == ("tidelog.dialects", "x") else []
    )
    assert registry.dialect("x") is dict  # type: ignore[comparison-overlap]
