"""One validated JSON document: half of one is worth nothing, so nothing is yielded before all of it is right.

curl 127.0.0.1:8000/extract -H 'Content-Type: application/json' -d '{"text": "Invoice 7 of Miller Ltd: 120.50 EUR"}'
"""

import json
import re
from collections.abc import AsyncIterator

from fastapi import FastAPI
from pydantic import BaseModel, Field, ValidationError

from tidelog import SourceError, Tidelog

app = FastAPI()
tide = Tidelog("sqlite:///tidelog.db")
app.include_router(tide.router)

ATTEMPTS = 2


class Text(BaseModel):
    text: str


class Invoice(BaseModel):
    number: int
    customer: str = Field(min_length=1)
    total: float = Field(gt=0)


async def stand_in(text: str, complaint: str) -> str:
    """Takes the place of a model that is asked for JSON, and asked again with the complaint about its first answer."""
    found = re.search(r"Invoice (\d+) of (.+?): ([\d.]+)", text)
    number, customer, total = found.groups() if found else ("", "", "0")
    return json.dumps({"number": number, "customer": customer if complaint else "", "total": total})


@app.post("/extract")
@tide.stream(default="json")
async def extract(text: Text) -> AsyncIterator[Invoice]:
    complaint = ""
    for _ in range(ATTEMPTS):
        try:
            invoice = Invoice.model_validate_json(await stand_in(text.text, complaint))
        except ValidationError as error:
            complaint = str(error)
        else:
            yield invoice  # a pydantic model is data: {"name": "Invoice", "data": {…}}
            return
    raise SourceError("There is no invoice in this text.", code="invalid_request")
