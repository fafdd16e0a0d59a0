"""Headers as a start finds them are those that every request has."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from tidelog.server.asked import Asked

RAW = [(b"accept", b"a/b"), (b"x-twice", b"first"), (b"x-twice", b"second"), (b"x-name", "J\xf6rg".encode("latin-1"))]
SCOPE = {"type": "http", "method": "GET", "headers": RAW}


@pytest.mark.parametrize("name", ["accept", "Accept", "X-TWICE", "x-name", "x-missing"])
def test_get(name: str) -> None:
    asked, request = Asked(SCOPE), Request(SCOPE)
    assert asked.headers.get(name) == request.headers.get(name)
    assert asked.headers.get(name, "else") == request.headers.get(name, "else")
    assert (name in asked.headers) == (name in request.headers)


def test_all_of_them() -> None:
    asked = Asked(SCOPE)
    assert asked.headers.getlist("x-twice") == ["first", "second"]
    assert asked.headers.raw == RAW
    assert asked.headers is asked.headers
