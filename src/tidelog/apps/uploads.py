"""`/documents`: upload, list and delete the documents that answers come from.

Reading the upload is request work, and done here under limits; reading the documents is the work of a run, which goes
on when the client has left.
"""

from __future__ import annotations

import unicodedata
import weakref
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, BinaryIO, Final, NamedTuple

from fastapi import APIRouter, Depends, Request
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Message, Receive

from tidelog import Data, Progress, Tidelog, TidelogError, problem
from tidelog.apps.documents import READERS, Unreadable
from tidelog.apps.documents.way import Way
from tidelog.apps.library import Library
from tidelog.apps.shelf import Full, beside

MAX_NAME_BYTES: Final = 255
FORM_BYTES: Final = 64 * 1024
"""What the form may hold beside its files."""
READ_GAP: Final = 900.0
"""Seconds that a run may wait for its next file: others may be read before it."""
SKIPS_LISTED: Final = 100

_BIDIRECTIONAL: Final = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_FORM: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"files": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                    "required": ["files"],
                }
            }
        },
    }
}


class UploadLimits(NamedTuple):
    """What one upload may hold; sizes in bytes."""

    file_bytes: int = 16 * 1024 * 1024
    total_bytes: int = 32 * 1024 * 1024
    files: int = 20


LIMITS: Final = UploadLimits()


@dataclass(frozen=True, eq=False)
class Parcel:
    """One uploaded file that waits to be read; `refused` is why it will not be. The file is closed with it."""

    name: str
    file: BinaryIO
    refused: str | None = None

    def __post_init__(self) -> None:
        weakref.finalize(self, self.file.close)  # a run that never begins closes nothing


def uploads_router(tide: Tidelog, library: Library, *, limits: UploadLimits = LIMITS) -> APIRouter:
    """`POST /documents`, `GET /documents` and `DELETE /documents/{name}`; what is kept lies beside the store's file.

    Where the application asks who comes, whoever it knows may use them: the documents are everybody's.
    """
    library.place = library.place or beside(tide.store_url)
    router = APIRouter(tags=["documents"], dependencies=[Depends(tide.principal_of)])

    @router.post("/documents", status_code=202, response_class=Response, openapi_extra=_FORM)
    async def upload(request: Request) -> Response:
        """Upload documents: 202 at once; the run named in `Location` tells the progress, and what could be read.

        Who asks for a stream gets the run's own.
        """
        try:
            parcels = await _parcels(request, limits, library.way)
        except TidelogError as error:
            return problem(error)
        return tide.response(indexed(library, parcels), default="async", gap_timeout=READ_GAP)

    @router.get("/documents")
    async def documents() -> Any:
        """The uploaded documents, what is known of the folder, and what an upload may be."""
        skipped = [{"name": one.path, "reason": one.reason} for one in library.skipped[:SKIPS_LISTED]]
        return {
            "documents": [one._asdict() for one in await library.kept()],
            "folder": {**library.state(), "skipped": skipped},
            "formats": list(READERS),
            "limits": limits._asdict(),
        }

    @router.delete("/documents/{name}", status_code=204, response_class=Response)
    async def delete(name: str) -> Response:
        """Delete an uploaded document, its text and its words. Answers that quote it stay in their runs."""
        try:
            if await library.drop(name):
                return Response(status_code=204)
        except TidelogError as error:
            return problem(error)
        return problem("No document of this name was uploaded.", code="not_found", title="There is no such document.")

    return router


async def indexed(library: Library, parcels: list[Parcel]) -> AsyncIterator[Progress | Data]:
    """The run of one upload: progress file by file, then what was read, and what was not and why."""
    read: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = []
    try:
        for done, parcel in enumerate(parcels):
            yield Progress(task="index", done=done, total=len(parcels), note=parcel.name)
            try:
                if parcel.refused is not None:
                    raise Unreadable(parcel.refused)
                read.append((await library.add(parcel.name, parcel.file))._asdict())
            except (Unreadable, Full) as reason:
                skipped.append({"name": parcel.name, "reason": str(reason)})
        yield Progress(task="index", done=len(parcels), total=len(parcels))
        yield Data(name="indexed", data={"read": read, "skipped": skipped, "documents": library.state()["count"]})
    finally:
        for parcel in parcels:
            parcel.file.close()


def plain_name(filename: str) -> str:
    """The name under which a file is kept: without folders, in one spelling. Raises `Unreadable` for none at all.

    It is a key in a table and never a path, so that no name can lead anywhere; it must still be one that people can
    see and ask to delete.
    """
    name = unicodedata.normalize("NFC", filename.replace("\\", "/").rpartition("/")[2].strip())
    if not name.strip("."):
        raise Unreadable("it has no name")
    if len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        raise Unreadable(f"its name is longer than {MAX_NAME_BYTES} bytes")
    if any(unicodedata.category(one) in ("Cc", "Cs") or one in _BIDIRECTIONAL for one in name):
        raise Unreadable("its name holds characters that do not show")
    return name


async def _parcels(request: Request, limits: UploadLimits, way: Way) -> list[Parcel]:
    """The files of a multipart request. Raises `TidelogError` (`too_large`, `invalid_request`)."""
    if find_spec("python_multipart") is None:
        raise TidelogError(
            'Uploads need a package that is not installed: pip install "tidelog[documents]".', retryable=False
        )
    most = limits.total_bytes + FORM_BYTES
    if int(request.headers.get("content-length", "0")) > most:
        raise _over("total_bytes", limits.total_bytes)
    bounded = Request(request.scope, _bounded(request.receive, most, limits.total_bytes, way))
    try:
        form = await bounded.form(max_files=limits.files, max_fields=limits.files)
    except HTTPException as error:
        if str(error.detail).startswith("Too many files"):
            raise _over("files", limits.files) from None
        raise TidelogError(f"The form cannot be read: {error.detail}", code="invalid_request") from None
    uploads = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    parcels = [_parcel(upload) for upload in uploads]
    if not parcels:
        raise TidelogError("Send one file or several as multipart/form-data.", code="invalid_request")
    sizes = [upload.size or 0 for upload in uploads]
    if max(sizes) > limits.file_bytes:
        raise _over("file_bytes", limits.file_bytes)
    if sum(sizes) > limits.total_bytes:
        raise _over("total_bytes", limits.total_bytes)
    return parcels


def _parcel(upload: UploadFile) -> Parcel:
    try:
        return Parcel(plain_name(upload.filename or ""), upload.file)
    except Unreadable as reason:
        shown = "".join(one if one.isprintable() else "\ufffd" for one in (upload.filename or "")[:MAX_NAME_BYTES])
        return Parcel(shown, upload.file, str(reason))


def _bounded(receive: Receive, most: int, limit: int, way: Way) -> Receive:
    """The body, as long as it is within `most` bytes. What is indexed meanwhile gives way to it."""
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        way.needed()
        message = await receive()
        way.needed()
        taken += len(message.get("body", b""))
        if taken > most:
            raise _over("total_bytes", limit)
        return message

    return bounded


def _over(name: str, limit: int) -> TidelogError:
    return TidelogError(f"The upload is over {name} ({limit}).", code="too_large")
