"""Events appear in OpenAPI."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel

from tidelog import Tidelog
from tidelog.events import AnyEvent
from tidelog.testing import serve


class Ask(BaseModel):
    question: str


def make_app() -> FastAPI:
    app, inner, tide = FastAPI(), APIRouter(), Tidelog("memory:")

    @app.post("/chat")
    @tide.stream
    async def chat(ask: Ask) -> AsyncIterator[str]:
        yield ask.question

    @inner.get("/late")
    @tide.stream(default="auto")
    async def late() -> AsyncIterator[str]:
        yield "x"

    @app.get("/plain")
    async def plain() -> str:
        return "x"

    app.include_router(inner, prefix="/inner")
    app.include_router(tide.router)
    return app


def test_events_and_forms_are_described() -> None:
    with serve(make_app()) as server:
        for _ in range(2):  # the second comes from FastAPI's cache
            document = server.client.get("/openapi.json").json()
    paths, schemas = document["paths"], document["components"]["schemas"]
    for operation in (paths["/chat"]["post"], paths["/inner/late"]["get"]):
        content = operation["responses"]["200"]["content"]
        assert set(content) == {"text/event-stream", "application/x-ndjson", "application/json", "text/plain"}
        assert content["text/event-stream"]["itemSchema"] == {"$ref": "#/components/schemas/TidelogEvent"}
        assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/TidelogTranscript"}
    assert "text/event-stream" not in paths["/plain"]["get"]["responses"]["200"]["content"]
    assert paths["/chat"]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/Ask")
    names = {ref["$ref"].rpartition("/")[2] for ref in schemas["TidelogEvent"]["anyOf"]}
    assert names == {f"Tidelog{kind.__name__}" for kind in AnyEvent.__args__}
    assert names <= set(schemas)
