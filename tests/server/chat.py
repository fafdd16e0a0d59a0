"""The application that most tests of this folder talk to: one endpoint that plays a script."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import Response

from tidelog import Tidelog
from tidelog.testing import Script

NDJSON = "application/x-ndjson"
JSON = "application/json"


def make_tide(store: str = "memory:", **options: Any) -> Tidelog:
    """A Tidelog that does not wait for the runs that a test leaves behind."""
    return Tidelog(store, **{"drain_timeout": 0.0, **options})


class Chat:
    """GET, POST and HEAD `/chat`. `script` tells how often it was played."""

    def __init__(self, *steps: Any, tide: Tidelog | None = None, prefix: str = "", **options: Any) -> None:
        self.script = steps[0] if len(steps) == 1 and isinstance(steps[0], Script) else Script(*steps)
        self.tide = tide or make_tide()
        self.app = FastAPI()
        self.app.include_router(self.tide.router, prefix=prefix)

        @self.app.api_route("/chat", methods=["GET", "POST", "HEAD"])
        async def chat(request: Request) -> Response:
            await request.body()
            return self.tide.response(self.script, request=request, **options)


def who(request: Request) -> str | None:
    """A principal for tests: whoever the header says."""
    return request.headers.get("x-user")


def types(frames: Any) -> list[str]:
    """The event types of native frames."""
    return [frame.json["type"] for frame in frames]
