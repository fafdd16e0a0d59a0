"""What an append of a store that gathers gives."""

from __future__ import annotations

import asyncio
from typing import Any

from tidelog.errors import StoreError


class Stored(asyncio.Future[None]):
    """Done when what was gathered is stored. Many wait at it, so none of them may cancel it."""

    def cancel(self, msg: Any = None) -> bool:
        return False


def done() -> asyncio.Future[None]:
    """Of what is stored already."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future


def failed(error: StoreError) -> asyncio.Future[None]:
    """Of what is refused at once."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    return future
