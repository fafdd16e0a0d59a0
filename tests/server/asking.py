"""An application that asks: every endpoint puts questions in another way. Everything is set by the environment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

from fastapi import FastAPI, Request
from pydantic import BaseModel

from tidelog import Answer, Tidelog, ToolEnded, ToolStarted


class Plan(BaseModel):
    """What a person is to decide."""

    action: Literal["send", "drop"]
    copies: int = 1


class App:
    """`closed` names the endpoints whose generators were closed at their question, `ended` tells what `on_end` heard."""

    def __init__(self, store: str = "memory:", *, principal: Any = None, **settings: Any) -> None:
        settings = {"drain_timeout": 0.0, **settings}
        self.tide = tide = Tidelog(store, principal=principal, **settings)
        self.app = FastAPI()
        self.app.include_router(tide.router)
        self.closed: list[str] = []
        self.ended: list[str] = []
        self._add_live(self.app, tide)
        self._add_parked(self.app, tide)

    def _add_live(self, app: FastAPI, tide: Tidelog) -> None:
        @app.post("/live")
        @tide.stream(gap_timeout=1.0, total_timeout=2.0)
        async def live(expires: float | None = None, default: str | None = None) -> AsyncIterator[Any]:
            """Yes or no, in the middle of a sentence."""
            yield "Shall I? "
            answer = await tide.ask("Send it?", options=["yes", "no"], expires=expires, default=default)
            yield f"You said {answer}."

        @app.post("/sync")
        @tide.stream(resume=self.later, park_after=3600)
        def sync() -> Iterator[Any]:
            """From a thread."""
            try:
                yield "Your name? "
                yield f"Hello {tide.ask_blocking('Name?', state={'sync': True})}."
            finally:
                self.closed.append("sync")

        @app.post("/typed")
        @tide.stream
        async def typed() -> AsyncIterator[Any]:
            """A model."""
            plan = await tide.ask("What now?", type=Plan, data={"draft": "…"})
            yield f"{type(plan).__name__} {plan.action} {plan.copies}"

        @app.post("/impatient")
        @tide.stream
        async def impatient() -> AsyncIterator[Any]:
            """Waits for nobody; then asks two at once."""
            try:
                async with asyncio.timeout(0.02):
                    await tide.ask("Quick?")
            except TimeoutError:
                yield "Never mind. "
            both = (tide.ask(f"Or {one}?", options=["a", "b"], expires=0.05, default=one) for one in "ab")
            for each in await asyncio.gather(*both):
                yield each

        @app.post("/wrong")
        @tide.stream
        async def wrong() -> AsyncIterator[Any]:
            """A default that does not fit."""
            await tide.ask("Which?", options=["a", "b"], expires=5, default="c")
            yield "never"

    def _add_parked(self, app: FastAPI, tide: Tidelog) -> None:
        @app.post("/parked")
        @tide.stream(resume=self.goes_on, on_end=lambda ending: self.ended.append(ending.outcome))
        async def parked(
            expires: float | None = None, default: str | None = None, park_after: float = 0.0
        ) -> AsyncIterator[Any]:
            """Parked at once."""
            try:
                yield "Before. "
                yield ToolStarted(call="c1", name="send")
                await tide.ask(
                    "Send it?", options=["yes", "no"], expires=expires, default=default, state={"draft": "Dear all"},
                    park_after=park_after,
                )  # fmt: skip
                yield "never"
            finally:
                self.closed.append("parked")

        @app.post("/twice")
        async def twice(request: Request) -> Any:
            """Not decorated: the function is declared by itself."""
            return tide.response(self.first(), resume=declared, request=request, park_after=0.0)

        @tide.resumes(on_end=lambda ending: self.ended.append(ending.outcome))
        async def declared(state: list[str], answer: Answer) -> AsyncIterator[Any]:
            said = [*state, answer.value]
            if len(said) < 3:
                await tide.ask(f"Word {len(said) + 1}?", state=said, park_after=0.0)
            yield " ".join(said)

    async def first(self) -> AsyncIterator[Any]:
        """The first of three words."""
        yield ""
        await self.tide.ask("Word 1?", state=[])

    async def goes_on(self, state: Any, answer: Answer) -> AsyncIterator[Any]:
        """What follows a parked question."""
        yield ToolEnded(call="c1", output=answer.value)
        yield f"{state['draft']}: {answer.outcome} {answer.value} by {answer.by}."

    async def later(self, state: Any, answer: Answer) -> AsyncIterator[Any]:
        """What follows the sync generator's."""
        yield f"Later {answer.value} {state}."


def of_environment() -> App:
    """For processes of their own."""
    return App(
        os.environ.get("APP_STORE", "memory:"), lease_patience=float(os.environ.get("APP_LEASE_PATIENCE", "8.0"))
    )


made = of_environment() if "APP_STORE" in os.environ else None
app = made.app if made is not None else None
