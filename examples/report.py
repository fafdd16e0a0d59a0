"""A long report that is read while it is written, and stays there for whoever comes later.

curl -N 127.0.0.1:8000/reports -H 'Content-Type: application/json' -d '{"title": "Sales"}'
"""

import statistics
import time
from collections.abc import Iterator

from fastapi import FastAPI
from pydantic import BaseModel

from tidelog import Tidelog

app = FastAPI()
tide = Tidelog("sqlite:///tidelog.db")
app.include_router(tide.router)

SALES = {
    "North": [31, 28, 35, 40, 42, 39],
    "South": [22, 25, 21, 19, 26, 30],
    "West": [12, 15, 14, 18, 17, 22],
}
PAUSE = 0.2


class Order(BaseModel):
    title: str


def sentences(months: list[int]) -> Iterator[str]:
    """Takes the place of the work that makes a report long."""
    for sentence in (
        f"The mean is {statistics.mean(months):.1f}. ",
        f"The best month brought {max(months)}. ",
        f"From the first month to the last it is {months[-1] - months[0]:+d}.",
    ):
        time.sleep(PAUSE)
        yield sentence


@app.post("/reports")
@tide.stream
def report(order: Order) -> Iterator[str]:
    yield f"# {order.title}\n"
    for number, (region, months) in enumerate(SALES.items()):
        tide.progress(number, len(SALES), f"Writing {region}")
        yield f"\n## {region}\n\n"
        yield from sentences(months)
        yield "\n"
    tide.progress(len(SALES), len(SALES), "Done")
