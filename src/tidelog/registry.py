"""Name to leaf: five tables, then the entry points of installed packages. A leaf is imported when it is first used.

The rows also enrol a leaf in the conformance tests.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final, cast

from tidelog.errors import InvalidRequest
from tidelog.seams import Carrier, Dialect, Framing, LibraryTranslator, Store

STORES: Final = {
    "memory": "tidelog.stores.memory:MemoryStore",
    "sqlite": "tidelog.stores.sqlite:SqliteStore",
    "redis": "tidelog.stores.redis:RedisStore",
    "rediss": "tidelog.stores.redis:RedisStore",
}
DIALECTS: Final = {
    "native": "tidelog.dialects.native:Native",
    "text": "tidelog.dialects.text:Text",
    "simple": "tidelog.dialects.tutorial:Simple",
    "sse-text": "tidelog.dialects.tutorial:SseText",
}
FRAMINGS: Final = {
    "sse": "tidelog.transports.sse:Sse",
    "lines": "tidelog.transports.lines:Lines",
    "text": "tidelog.transports.lines:Bare",
    "messages": "tidelog.transports.websocket:Messages",
    "enveloped": "tidelog.transports.websocket:Enveloped",
}
SOURCES: Final[dict[str, str]] = {
    "openai": "tidelog.sources.openai:OpenAI",
    "anthropic": "tidelog.sources.anthropic:Anthropic",
    "langchain_core": "tidelog.sources.langchain:LangChain",
    "langgraph": "tidelog.sources.langgraph:LangGraph",
    "pydantic_ai": "tidelog.sources.pydantic_ai:PydanticAI",
    "sse_starlette": "tidelog.sources.events:ServerSentEvents",
    "fastapi": "tidelog.sources.events:ServerSentEvents",
}
"""By the package whose chunks the translator takes."""
CARRIERS: Final[dict[str, str]] = {
    "taskiq": "tidelog.carriers.taskiq:TaskiqCarrier",
    "celery": "tidelog.carriers.celery:CeleryCarrier",
}
"""By the package of the job queue."""
WANTED: Final = (
    "It takes a taskiq broker (pip install 'tidelog[taskiq]') or a Celery application (pip install 'tidelog[celery]')."
)
"""What a Tidelog needs for work elsewhere."""
_GROUPS: Final = {"store": STORES, "dialect": DIALECTS, "framing": FRAMINGS, "source": SOURCES, "carrier": CARRIERS}


def store(url: str) -> Store:
    """The store of a URL like `memory:` or `sqlite:///tidelog.db`, not yet started. Raises `InvalidRequest`."""
    scheme = url.partition(":")[0].partition("+")[0]
    return cast(Store, _load("store", scheme)(url))


def dialect(name: str) -> type[Dialect]:
    """The dialect of this name. Raises `InvalidRequest` for an unknown one."""
    return cast("type[Dialect]", _load("dialect", name))


def framing(name: str) -> type[Framing]:
    """The framing of this name. Raises `InvalidRequest` for an unknown one."""
    return cast("type[Framing]", _load("framing", name))


def source(name: str) -> type[LibraryTranslator]:
    """The translator of the chunks of this package. Raises `InvalidRequest` for an unknown one."""
    return cast("type[LibraryTranslator]", _load("source", name))


def carrier(queue: Any) -> type[Carrier]:
    """The carrier for a job queue, which is an object of its library's. Raises `InvalidRequest` for any other object."""
    packages = dict.fromkeys(kind.__module__.partition(".")[0] for kind in type(queue).__mro__)
    known = CARRIERS.keys() | {point.name for point in entry_points(group="tidelog.carriers")}
    found = next((name for name in packages if name in known), None)
    if found is None:
        raise InvalidRequest(f"worker= is {type(queue).__name__}. {WANTED}")
    return cast("type[Carrier]", _load("carrier", found))


@cache
def has_source(name: str) -> bool:
    """Whether there is a translator for the chunks of this package."""
    return name in SOURCES or bool(entry_points(group="tidelog.sources", name=name))


@cache
def _load(kind: str, name: str) -> Any:
    table = _GROUPS[kind]
    target = table.get(name)
    if target is None:
        for point in entry_points(group=f"tidelog.{kind}s", name=name):
            return point.load()
        raise InvalidRequest(f"There is no {kind} {name!r}; there are {', '.join(sorted(table))}.")
    module, _, attribute = target.partition(":")
    return getattr(import_module(module), attribute)
