from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, FastAPI, Header, HTTPException, Request, UploadFile
from starlette.responses import Response

from tidelog import Progress, SourceError, Tidelog, current_run


def user(request: Request) -> str | None:
    return request.headers.get("x-user")


app = FastAPI()
tide = Tidelog("sqlite:///tidelog.db", principal=user)
app.include_router(tide.router)


def known_user(x_user: Annotated[str | None, Header()] = None) -> str:
    if x_user is None:
        raise HTTPException(401, "Who are you?")
    return x_user


async def summary(text: str) -> AsyncIterator[Progress | str]:
    """Run work: it outlives the request, so it takes values, never the request, the upload or a database session."""
    lines = text.splitlines()
    if not lines:
        raise SourceError("The file is empty.", code="invalid_request")  # before the first event: status 400
    for number, line in enumerate(lines, 1):
        yield Progress(task="read", done=number, total=len(lines))
        yield f"{line.split('.')[0]}. "
    tide.emit({"run": current_run().id})


@app.post("/summary")
async def summarise(file: UploadFile, name: Annotated[str, Depends(known_user)]) -> Response:
    """Request work: who asks, what they sent."""
    text = (await file.read()).decode("utf-8", "replace")
    return tide.response(summary(text), default="auto", total_timeout=600)
