"""`tidelog.problem`: an endpoint of the application refuses as tidelog's own do (spec §9)."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from starlette.responses import Response

import tidelog
from tidelog.testing import serve


def refused(*args: Any, **more: Any) -> Any:
    app = FastAPI()

    @app.get("/")
    async def refuse() -> Response:
        return tidelog.problem(*args, **more)

    with serve(app) as server:
        return server.client.get("/")


def test_words_and_a_code() -> None:
    answer = refused("Only one file, please.", code="too_large")
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "urn:tidelog:too_large",
        "title": "A size limit was exceeded.",
        "status": 413,
        "code": "too_large",
        "detail": "Only one file, please.",
        "retryable": False,
    }


def test_an_error_tells_its_code_and_when_to_come_back() -> None:
    answer = refused(tidelog.SourceError("Busy.", code="rate_limited", retry_after=1.2))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    assert (answer.json()["detail"], answer.json()["retry_after"]) == ("Busy.", 1.2)


@pytest.mark.parametrize(("given", "title"), [({}, "Payment Required"), ({"title": "No credit."}, "No credit.")])
def test_a_code_of_the_application_needs_a_status(given: dict[str, str], title: str) -> None:
    answer = refused("Add credit first.", code="no_credit", status=402, **given)
    assert (answer.status_code, answer.json()["code"], answer.json()["title"]) == (402, "no_credit", title)
