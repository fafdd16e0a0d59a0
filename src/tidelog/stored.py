"""What an append of a store that gathers gives."""

from __future__ import annotations

import asyncio
from typing import Any


class Stored(asyncio.Future[None]):
    """Done when what was gathered is stored. Many wait at it, so none of them may cancel it."""

    def cancel(self, msg: Any = None) -> bool:
        return False
