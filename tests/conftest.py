"""What every test may use: one event loop's kind, and counts that `make soak` makes large."""

from __future__ import annotations

import os

import pytest

from tidelog import turn

turn.GATHER = 0.0  # else a busy machine decides how many records a test finds; those of gathering set it
for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "TIDELOG_MODEL"):
    os.environ.pop(name, None)  # no test asks a developer's own model
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes start, and each would compile tidelog anew

SOAK = os.environ.get("SOAK") == "1"


def count(small: int, large: int) -> int:
    """How often to try: `small` in `make test`, `large` in `make soak`, which runs the tests that are marked `soak`.

    A function, because hypothesis wants it at import: `from tests.conftest import count`.
    """
    return large if SOAK else small


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """asyncio for all. Tests share a loop only while an async fixture of module scope lives, as in tests/browser."""
    return "asyncio"
