"""What the package's documentation promises: a whole resume test in a few lines, found by pytest without any set-up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import tidelog.testing

MODULE = """
from fastapi import FastAPI
from tidelog import Tidelog
from tidelog.testing import Gate, Script, collect, drop, rebuild, serve


def make_app(script):
    app, tide = FastAPI(), Tidelog("memory:")
    app.include_router(tide.router)

    @app.get("/chat")
    async def chat():
        return tide.response(script)

    return app

{example}

def test_with_the_fixture(tide_server):
    server = tide_server(make_app(Script("Hello")))
    assert rebuild(server.watch("/chat").rest()) == "Hello"


async def test_async(anyio_backend):
    async with serve(make_app(Script("Hello"))) as server, server.async_client() as client:
        answer = await client.get("/chat", headers={{"Accept": "application/json"}})
        assert answer.json()["text"] == "Hello"


import pytest
pytestmark = pytest.mark.anyio

@pytest.fixture
def anyio_backend():
    return "asyncio"
"""


def example() -> str:
    """The example of the package's docstring."""
    lines = (tidelog.testing.__doc__ or "").splitlines()
    start = next(number for number, line in enumerate(lines) if "def test_" in line)
    end = next(number for number, line in enumerate(lines) if number > start and line and not line.startswith("    "))
    return "\n".join(line[4:] for line in lines[start:end])


def test_the_example_of_the_documentation(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(MODULE.format(example=example()))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_mine.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_pytest_does_not_load_a_web_framework_for_it() -> None:
    """The plugin is loaded in every pytest run of every project that has tidelog installed."""
    heavy = {"fastapi", "starlette", "uvicorn", "httpx2", "msgspec"}
    code = f"import sys, tidelog.testing.fixtures; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[]"
