"""When Python's garbage collector looks: hardly while a server starts, and seldom while it serves. Nothing heavy is imported."""

from __future__ import annotations

import gc
from typing import Final

DEFAULT: Final = (700, 10, 10)
"""Python's own thresholds. Others are somebody's choice, and stay."""
STARTING: Final = (200_000, 10, 10)
"""How many objects more there must be while a server starts: nearly all that is made stays, and to look through it over and over
took a tenth of the start.
"""
SERVING: Final = (20_000, 10, 10)
"""How many while it serves: 1,000 live runs make so many short-lived ones that by default the collector goes through all of them
every few seconds, and everybody waits for 50 ms.
"""


def starting() -> None:
    """A server starts, and will say when it serves."""
    if gc.get_threshold() == DEFAULT:
        gc.set_threshold(*STARTING)


def serving() -> None:
    """All is loaded."""
    freeze()
    if gc.get_threshold() in (DEFAULT, STARTING):
        gc.set_threshold(*SERVING)


def freeze() -> None:
    """What is there now stays: the collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
