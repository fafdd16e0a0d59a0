"""The servers, one row each: how to start it and what to ask it."""

from __future__ import annotations

from dataclasses import dataclass, replace

BASELINE = "raw"  # what every ratio is against

_UVICORN = (
    *("{python}", "-m", "uvicorn", "--host", "127.0.0.1", "--port", "{port}"),
    *("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"),
)
_GRANIAN = (
    *("{python}", "-m", "granian", "--interface", "asgi", "--host", "127.0.0.1", "--port", "{port}"),
    *("--loop", "uvloop", "--log-level", "warning", "--backlog", "4096"),
)
_TIDELOG_SERVE = (
    *("{python}", "-m", "tidelog", "serve", "bench.servers.tide:app"),
    *("--host", "127.0.0.1", "--port", "{port}"),
)


@dataclass(frozen=True)
class Server:
    """A row.

    In ``command`` and ``env``, ``{python}``, ``{port}``, ``{bin}`` (compiled programs), ``{scratch}`` (a folder that
    is fresh for every start), ``{node}`` (packages of Node) and ``{nginx}`` (its files) are filled in. ``beside`` is the
    command of another server that runs on the client's core, at ``{beside}``, a port.

    Requests are a method and a target, with headers on lines of their own. ``stream`` and ``idle`` start a run and
    watch it; ``fan`` starts one that ``viewers`` watches, where ``{run}`` is what it answered as ``Run-Id``.
    A server that only passes on what others post has ``publish`` instead of ``fan`` and, where streams must be made
    first, ``create``. In requests of such a server ``@lot@`` is a word of its own for every load, ``@@@@@`` the number of
    the stream.
    """

    name: str
    title: str
    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    peer: bool = True  # {python} is that of bench/.venv; otherwise the interpreter that runs the bench
    stream: str = "GET /stream?seconds={seconds}&rate={rate}"
    idle: str | None = "GET /idle"
    fan: str | None = "POST /fan?start={start}&count={count}&rate={rate}&burst={burst}&pad={pad}"
    viewers: str | None = "GET /fan"
    publish: str | None = None
    create: str | None = None
    beside: tuple[str, ...] = ()

    @property
    def keeps(self) -> bool:
        """Whether a run can be watched after its end."""
        return "{run}" in (self.viewers or "") or self.publish is not None

    @property
    def file(self) -> bool:
        """Whether its runs are there again after a restart in the same folder."""
        return any("{scratch}" in value for _, value in self.env)


def _peer(name: str, title: str, module: str) -> Server:
    return Server(name, title, (*_UVICORN, f"bench.servers.{module}:app"))


def _tidelog(name: str, title: str, store: str, *, command: tuple[str, ...], beside: tuple[str, ...] = ()) -> Server:
    env = (("BENCH_STORE", store),)
    return Server(name, title, command, env, peer=False, viewers="GET /runs/{run}/events", beside=beside)


def _timed(name: str, title: str, workers: str) -> Server:
    """Not a row of every table: tidelog on SQLite that writes down how long its commits take."""
    command = ("bench.servers.timed:app" if part == "bench.servers.tide:app" else part for part in _TIDELOG_SERVE)
    server = _tidelog(name, title, _SQLITE, command=(*command, "--workers", workers))
    return replace(server, env=(*server.env, ("BENCH_COMMITS", "{scratch}")))


def _passing_on(name: str, title: str, command: tuple[str, ...], *, watch: str, publish: str, **more: str) -> Server:
    shared = watch.replace("@@@@@", "00000")
    return Server(
        name,
        title,
        command,
        stream=watch,
        idle=watch,
        viewers=shared,
        fan=None,
        publish=publish,
        create=more.get("create"),
    )


_MEMORY, _SQLITE, _REDIS = "memory:", "sqlite:///{scratch}/bench.db", "redis://127.0.0.1:{beside}/0"
_REDIS_SERVER = (
    *("redis-server", "--port", "{beside}", "--bind", "127.0.0.1", "--save", ""),
    *("--appendonly", "yes", "--dir", "{scratch}"),
)
_TIDE_ON_UVICORN = (*_UVICORN, "bench.servers.tide:app")
_JSON = "\nContent-Type: application/json"

# The least a server can do: the floor of every figure, and what shows how much the load client can take.
FLOOR = Server("c", "C, one write an event", ("{bin}/sender", "{port}"), idle=None)

SERVERS = (
    _peer("raw", "raw ASGI, uvicorn", "raw_asgi"),
    _tidelog("tidelog-memory", "tidelog memory, tidelog serve", _MEMORY, command=_TIDELOG_SERVE),
    _tidelog("tidelog-sqlite", "tidelog SQLite, tidelog serve", _SQLITE, command=_TIDELOG_SERVE),
    _tidelog(
        "tidelog-sqlite-full",
        "tidelog SQLite FULL, tidelog serve",
        f"{_SQLITE}?synchronous=full",
        command=_TIDELOG_SERVE,
    ),
    _tidelog("tidelog-redis", "tidelog Redis, tidelog serve", _REDIS, command=_TIDELOG_SERVE, beside=_REDIS_SERVER),
    _tidelog("tidelog-memory-uvicorn", "tidelog memory, uvicorn", _MEMORY, command=_TIDE_ON_UVICORN),
    _tidelog("tidelog-sqlite-uvicorn", "tidelog SQLite, uvicorn", _SQLITE, command=_TIDE_ON_UVICORN),
    Server("granian", "raw ASGI, granian", (*_GRANIAN, "bench.servers.raw_asgi:app")),
    _peer("starlette", "Starlette StreamingResponse", "starlette_streaming"),
    _peer("sse-starlette", "sse-starlette", "sse_starlette_response"),
    _peer("fastapi", "FastAPI SSE", "fastapi_sse"),
    Server("aiohttp", "aiohttp", ("{python}", "-m", "bench.servers.aiohttp_stream", "{port}")),
    Server("node", "Node's http", ("node", "bench/servers/node_http.mjs", "{port}")),
    Server(  # what has ended it does not keep, and it has no run without a viewer
        "resumable-stream",
        "npm resumable-stream, Redis",
        ("node", "bench/servers/resumable_stream.mjs", "{node}", "{port}", "{beside}"),
        viewers=None,
        beside=_REDIS_SERVER,
    ),
    _passing_on(
        "nchan",
        "nginx with nchan",
        ("{python}", "-m", "bench.servers.nchan", "{nginx}", "{scratch}", "{port}"),
        watch="GET /watch/@lot@-@@@@@",
        publish="POST /publish/@lot@-@@@@@" + _JSON,
    ),
    _passing_on(
        "durable-streams",
        "@durable-streams/server",
        ("node", "bench/servers/durable_streams.mjs", "{node}", "{port}"),
        watch="GET /@lot@-@@@@@?offset=-1&live=sse",
        publish="POST /@lot@-@@@@@" + _JSON,
        create="PUT /@lot@-@@@@@" + _JSON,
    ),
    FLOOR,
)


REDIS_CLUSTER = _tidelog(
    "tidelog-redis-cluster",
    "tidelog Redis Cluster, 3 masters",
    "redis+cluster://127.0.0.1:{beside}",
    command=_TIDELOG_SERVE,
    beside=("{python}", "-m", "bench.servers.redis_cluster", "{beside}", "{scratch}"),
)
ONE_PROCESS = _timed("tidelog-sqlite-one", "one process", "1")
FOUR_PROCESSES = _timed("tidelog-sqlite-four", "four processes", "4")
BUILT_IN = Server(
    "tidelog-built-in",
    "tidelog serve, its own applications",
    ("{python}", "-m", "tidelog", "serve", "--host", "127.0.0.1", "--port", "{port}", "--store", _SQLITE),
    peer=False,
)


def named(name: str) -> Server:
    """The row of this name."""
    return next(server for server in SERVERS if server.name == name)


def choose(names: list[str]) -> list[Server]:
    """The rows of these names, in their usual order; all of them for none. ``SystemExit`` for a name nobody has."""
    known = {server.name for server in SERVERS}
    if unknown := sorted(set(names) - known):
        raise SystemExit(f"no such server: {', '.join(unknown)} (there are: {', '.join(sorted(known))})")
    return [server for server in SERVERS if not names or server.name in names]
