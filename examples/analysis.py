"""The analysis of a table: what is known is shown at once, as tables, while the rest is worked out.

curl -N '127.0.0.1:8000/analyses?group=city&value=price' -H 'Content-Type: text/csv' --data-binary @flats.csv
"""

import csv
import io
import statistics
from collections import defaultdict
from collections.abc import Iterator
from functools import partial

from fastapi import FastAPI, Request
from starlette.responses import Response

from tidelog import Data, SourceError, Tidelog

app = FastAPI()
tide = Tidelog("sqlite:///tidelog.db")
app.include_router(tide.router)


def table(name: str, columns: list[str], rows: list[list[str | float]]) -> Data:
    return Data(name=name, data={"columns": columns, "rows": rows})


def read(text: str, group: str, value: str) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = defaultdict(list)
    for number, row in enumerate(csv.DictReader(io.StringIO(text)), 1):
        try:
            groups[row[group]].append(float(row[value]))
        except (KeyError, TypeError, ValueError):
            raise SourceError(
                f"Row {number} has no {group}, or no number as {value}.", code="invalid_request"
            ) from None
        tide.progress(number, note="Reading", task="read")
    return groups


def analyse(text: str, group: str, value: str) -> Iterator[Data | str]:
    groups = read(text, group, value)
    yield table("sizes", [group, "rows"], [[name, len(found)] for name, found in groups.items()])
    means = {name: statistics.mean(found) for name, found in groups.items()}
    yield table("means", [group, f"mean of {value}"], [[name, round(mean, 2)] for name, mean in means.items()])
    far: list[list[str | float]] = []
    for number, (name, found) in enumerate(groups.items(), 1):
        spread = statistics.pstdev(found)
        far += [[name, one] for one in found if abs(one - means[name]) > 2 * spread]
        tide.progress(number, len(groups), f"Looking for outliers in {name}", task="outliers")
    yield table("outliers", [group, value], far)
    best = max(means, key=lambda name: means[name])
    yield f"The highest mean is that of {best}; {len(far)} values lie far from their group's."


@app.post("/analyses")
async def analyses(request: Request, group: str, value: str) -> Response:
    text = (await request.body()).decode("utf-8", "replace")
    return tide.response(partial(analyse, text, group, value), request=request)
