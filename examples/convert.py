"""A Word document becomes Markdown. The upload is read in the endpoint; the work goes on when the client has left.

curl -i 127.0.0.1:8000/conversions -H 'Prefer: respond-async' -F file=@letter.docx
"""

import io
import zipfile
from collections.abc import Iterator
from functools import partial

from docx import Document
from docx.table import Table
from docx.text.paragraph import Paragraph
from fastapi import FastAPI, UploadFile
from starlette.responses import Response

from tidelog import SourceError, Tidelog

app = FastAPI()
tide = Tidelog("sqlite:///tidelog.db")
app.include_router(tide.router)


def paragraph(block: Paragraph) -> str:
    style, text = (block.style.name or "") if block.style is not None else "", block.text.strip()
    if style.startswith("Heading"):
        return f"{'#' * int(style.removeprefix('Heading').strip() or 1)} {text}\n\n"
    if style.startswith("List"):
        return f"- {text}\n"
    return f"{text}\n\n" if text else ""


def table(block: Table) -> str:
    first, *rest = [[cell.text.strip().replace("|", "\\|") for cell in row.cells] for row in block.rows]
    lines = [first, ["---"] * len(first), *rest]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def markdown(data: bytes) -> Iterator[str]:
    try:
        document = Document(io.BytesIO(data))
    except (zipfile.BadZipFile, KeyError, ValueError):
        raise SourceError("This is no Word document.", code="invalid_request") from None
    blocks = list(document.iter_inner_content())
    for number, block in enumerate(blocks, 1):
        yield table(block) if isinstance(block, Table) else paragraph(block)
        tide.progress(number, len(blocks), "Converting")


@app.post("/conversions")
async def convert(file: UploadFile) -> Response:
    return tide.response(partial(markdown, await file.read()), default="text")
