"""A server in a process of its own, for tests that end it: SIGTERM, SIGSTOP, `kill -9`."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Literal, Self

from tidelog.testing.script import PATIENCE

START_TIMEOUT: Final = 30.0
"""Seconds for a process to answer; machines that run tests are busy."""

Kind = Literal["tidelog", "uvicorn", "granian"]


class Process:
    """A server process that answers. It is killed when its `with` block ends."""

    def __init__(self, started: subprocess.Popen[bytes], url: str, output: IO[bytes]) -> None:
        self.url = url
        self._process = started
        self._output = output

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def output(self) -> str:
        """What it has printed so far."""
        file = self._output.fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode(
            "utf-8", "replace"
        )  # the process writes where a seek goes

    def signal(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def terminate(self) -> None:
        """SIGTERM: ask it to go."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, for whatever processes it has started too, and wait until it is dead."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait(PATIENCE)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Until it has exited; its exit code. Raises `TimeoutError`."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"still alive after {timeout} s:\n{self.output}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.kill()
        self._output.close()


def serve_process(
    target: str,
    *,
    kind: Kind = "tidelog",
    cwd: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    port: int = 0,
) -> Process:
    """Run `tidelog serve module:app`, or another ASGI server, from the folder `cwd`; return when it answers HTTP.

    `env` is added to this process's environment; port 0 takes a free one. Raises `RuntimeError` if it does not answer.
    """
    port = port or _free_port()
    command = {
        "tidelog": ["-m", "tidelog", "serve", target, "--port", str(port)],
        "uvicorn": ["-m", "uvicorn", target, "--port", str(port), "--no-access-log"],
        "granian": ["-m", "granian", target, "--port", str(port), "--interface", "asgi"],
    }[kind]
    output = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the process)
    started = subprocess.Popen(
        [sys.executable, *command], cwd=cwd, env={**os.environ, **(env or {})},
        stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    process = Process(started, f"http://127.0.0.1:{port}", output)
    try:
        _wait_until_it_answers(started, port)
    except BaseException as error:
        said = process.output
        process.__exit__(None, None, None)
        raise RuntimeError(f"{target} did not start:\n{said}") from error
    return process


def _wait_until_it_answers(started: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + START_TIMEOUT
    while time.monotonic() < until:
        if started.poll() is not None:
            raise RuntimeError(f"exit code {started.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", port), 1.0) as probe:
                probe.settimeout(START_TIMEOUT)
                probe.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                if probe.recv(16):
                    return
        except OSError:
            pass
        time.sleep(0.02)
    raise TimeoutError(f"no answer within {START_TIMEOUT} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
