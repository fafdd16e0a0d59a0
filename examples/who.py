import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import FileResponse

from tidelog import Tidelog
from tidelog.auth import Target, api_keys, cookie, first_of, is_owner, new_key

KEYS = {  # of keys that `tidelog key NAME` makes; these two are ann-in-an-example-only and support-in-an-example-only
    "ann": "sha256:045a934c38a5a43ffa59083ee706c9e7768c7d7f4a6db4fca4c882017ceaa5ce",
    "support": "sha256:825b7bee62514e8800c35d547714c6f41a9da0a6fa1045e0193d570efe81dba1",
}
badge = cookie(os.environ.get("COOKIE_SECRET") or new_key(), max_age=8 * 3600)


def may(principal: str | None, run: Target, verb: str) -> bool:
    """Everybody may do everything with their own; support reads what others have."""
    return is_owner(principal, run, verb) or (principal == "support" and verb in ("read", "list"))


app = FastAPI()
tide = Tidelog("sqlite:///tidelog.db", principal=first_of(api_keys(KEYS), badge), authorize=may)
app.include_router(tide.router)

User = Annotated[str, Depends(tide.principal_of)]  # 401 for nobody


@app.post("/sign-in", status_code=204)
async def sign_in(request: Request, response: Response, user: User) -> None:
    """A key becomes a cookie, which the page's EventSource sends by itself."""
    badge.put(response, user, request=request)


@app.get("/answer")
@tide.stream
async def answer(question: str, user: User) -> AsyncIterator[str]:
    for word in f"{user} asked: {question}".split():
        yield f"{word} "


@app.get("/")
def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("who.html"))
