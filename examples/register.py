"""A registration answers at once; the mail is a run, which is tried again and says what came of it.

SMTP_PORT=1025 tidelog serve register:app
curl 127.0.0.1:8000/users -H 'Content-Type: application/json' -d '{"name": "Ann", "mail": "ann@example.com"}'
"""

import os
from collections.abc import AsyncIterator
from email.message import EmailMessage
from functools import partial

import aiosmtplib
from fastapi import FastAPI
from pydantic import BaseModel

from tidelog import Data, SourceError, Tidelog

app = FastAPI()
tide = Tidelog("sqlite:///tidelog.db")
app.include_router(tide.router)
users: dict[str, str] = {}
"""Takes the place of a table of users."""


class User(BaseModel):
    name: str
    mail: str


async def welcome(user: User) -> AsyncIterator[Data]:
    """Nothing is said before the mail is on its way, so a failure is tried again, three times, with longer and longer waits."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "hello@example.com", user.mail, "Welcome"
    message.set_content(f"Hello {user.name}, it is good to have you here.")
    host, port = os.environ.get("SMTP_HOST", "127.0.0.1"), int(os.environ.get("SMTP_PORT", "25"))
    try:
        await aiosmtplib.send(message, hostname=host, port=port, timeout=10)
    except aiosmtplib.SMTPException as error:
        raise SourceError("The mail server does not take the mail now.", code="overloaded") from error
    yield Data(name="mail", data={"sent": True})


@app.post("/users", status_code=201)
async def register(user: User) -> dict[str, str]:
    users[user.mail] = user.name
    run = await tide.start(partial(welcome, user), attempts=4)
    return {"name": user.name, "mail": f"/runs/{run.id}"}
