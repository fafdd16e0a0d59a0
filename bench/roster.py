"""The servers, one row each: how to start it and what to ask it."""

from __future__ import annotations

from dataclasses import dataclass

BASELINE = "raw"  # what every ratio is against

_UVICORN = (
    *("{python}", "-m", "uvicorn", "--host", "127.0.0.1", "--port", "{port}"),
    *("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"),
)
_TIDELOG_SERVE = (
    *("{python}", "-m", "tidelog", "serve", "bench.servers.tide:app"),
    *("--host", "127.0.0.1", "--port", "{port}"),
)


@dataclass(frozen=True)
class Server:
    """A row.

    In ``command`` and ``env``, ``{python}``, ``{port}``, ``{bin}`` (compiled programs) and ``{scratch}`` (a folder that
    is fresh for every start) are filled in. ``beside`` is the command of another server that runs on the client's core, at
    ``{beside}``, a port. ``stream`` and ``idle`` are requests, a method and a target. ``viewers``
    opens one more viewer of a run, where the server knows runs; ``{run}`` is what it answered as ``Run-Id``.
    """

    name: str
    title: str
    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    peer: bool = True  # runs in bench/.venv; otherwise in the interpreter that runs the bench
    stream: str = "GET /stream?seconds={seconds}&rate={rate}"
    idle: str = "GET /idle"
    viewers: str | None = None
    beside: tuple[str, ...] = ()


def _peer(name: str, title: str, module: str) -> Server:
    return Server(name, title, (*_UVICORN, f"bench.servers.{module}:app"))


def _tidelog(name: str, title: str, store: str, *, command: tuple[str, ...], beside: tuple[str, ...] = ()) -> Server:
    env = (("BENCH_STORE", store),)
    return Server(name, title, command, env, peer=False, viewers="GET /runs/{run}/events", beside=beside)


_MEMORY, _SQLITE, _REDIS = "memory:", "sqlite:///{scratch}/bench.db", "redis://127.0.0.1:{beside}/0"
_REDIS_SERVER = (
    *("redis-server", "--port", "{beside}", "--bind", "127.0.0.1", "--save", ""),
    *("--appendonly", "yes", "--dir", "{scratch}"),
)
_TIDE_ON_UVICORN = (*_UVICORN, "bench.servers.tide:app")

SERVERS = (
    _peer("raw", "raw ASGI", "raw_asgi"),
    _tidelog("tidelog-memory", "tidelog memory, tidelog serve", _MEMORY, command=_TIDELOG_SERVE),
    _tidelog("tidelog-sqlite", "tidelog SQLite, tidelog serve", _SQLITE, command=_TIDELOG_SERVE),
    _tidelog("tidelog-redis", "tidelog Redis, tidelog serve", _REDIS, command=_TIDELOG_SERVE, beside=_REDIS_SERVER),
    _tidelog("tidelog-memory-uvicorn", "tidelog memory, uvicorn", _MEMORY, command=_TIDE_ON_UVICORN),
    _tidelog("tidelog-sqlite-uvicorn", "tidelog SQLite, uvicorn", _SQLITE, command=_TIDE_ON_UVICORN),
    _peer("starlette", "Starlette StreamingResponse", "starlette_streaming"),
    _peer("sse-starlette", "sse-starlette", "sse_starlette_response"),
    _peer("fastapi", "FastAPI SSE", "fastapi_sse"),
)

# Not a row: the least a server can do, which shows how much the load client can take.
FLOOR = Server("c", "C, one write an event", ("{bin}/sender", "{port}"))


def choose(names: list[str]) -> list[Server]:
    """The rows of these names, in their usual order; all of them for none. ``SystemExit`` for a name nobody has."""
    known = {server.name for server in SERVERS}
    if unknown := sorted(set(names) - known):
        raise SystemExit(f"no such server: {', '.join(unknown)} (there are: {', '.join(sorted(known))})")
    return [server for server in SERVERS if not names or server.name in names]
