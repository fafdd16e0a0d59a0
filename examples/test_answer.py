from fastapi import FastAPI
from starlette.responses import Response

from tidelog import Tidelog
from tidelog.testing import Gate, Script, collect, drop, rebuild, serve


def test_the_answer_survives_a_cut() -> None:
    gate = Gate()
    app = FastAPI()
    tide = Tidelog("memory:")
    app.include_router(tide.router)

    @app.get("/chat")
    async def chat() -> Response:
        return tide.response(Script("Hel", "lo ", gate, "world"))

    with serve(app) as server:
        seen = drop(f"{server.url}/chat", after=2)
        gate.open()
        seen += collect(f"{server.url}/chat", last_event_id=seen[-1].id)
    assert rebuild(seen) == "Hello world"
