"""`tidelog serve`: finds the application, says where it is and what it keeps, and serves it."""

from __future__ import annotations

import asyncio
import errno
import inspect
import ipaddress
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import typer
from pydantic import ValidationError

from tidelog.auth import Identify, api_keys
from tidelog.auth.keys import parse_keys
from tidelog.cli.trouble import Trouble
from tidelog.errors import TidelogError
from tidelog.server import serve as server
from tidelog.server import settings, workers
from tidelog.server.app import Tidelog
from tidelog.server.logs import JsonLines, TextLines

BUILT_IN: Final = "tidelog.apps.main"
SIGN_IN: Final = "tidelog.apps.sign_in"
LEVELS: Final = ("debug", "info", "warning", "error", "critical")
LogFormat = Literal["text", "json"]


class Target(NamedTuple):
    """An application, and the URLs of the stores that are known to be its own; `answering` tells who answers, once it is up."""

    app: Any
    stores: tuple[str, ...]
    drain_timeout: float
    answering: Callable[[], str] | None = None


def serve(target: str | None, given: Mapping[str, Any], *, log_format: LogFormat = "text") -> None:
    """Serve until SIGTERM or Ctrl-C. `given` are arguments, which win over the environment.

    Raises `Trouble`, and `TidelogError` for an application that does not start.
    """
    chosen = _prepared(given, log_format)
    if chosen.workers > 1:
        _serve_by_many(target, chosen, given, log_format)
        return
    found = _found(target, chosen, given)
    _serve(found, chosen, _bind(chosen), log_format, lambda: _say_up(_line(chosen, found), log_format))


def _serve(
    found: Target, chosen: settings.Settings, sock: socket.socket, log_format: LogFormat, say: Callable[[], None]
) -> None:
    def up() -> None:
        with _trouble(chosen):
            sock.listen(server.BACKLOG)  # the server would in a moment; whoever hears that it is up may connect at once
        say()

    watched = Watched(found.app, up, log_format=log_format)
    try:
        server.serve(watched, sock)
    except SystemExit:  # uvicorn's word for an application that did not start
        watched.check()
        raise


def _serve_by_many(
    target: str | None, chosen: settings.Settings, given: Mapping[str, Any], log_format: LogFormat
) -> None:
    if not hasattr(os, "setsid"):
        raise Trouble("This system has no process groups: serve with one worker.", 2)
    work = partial(_work, target, dict(given), log_format)
    many = workers.Workers(work, _bind(chosen), chosen.workers, up=lambda up: _say_up(up.line, log_format))
    try:
        many.run()
    except workers.GivenUp as given_up:
        raise Trouble(given_up.why.sentence, given_up.why.code) from None
    except KeyboardInterrupt:
        pass


def _work(
    target: str | None, given: Mapping[str, Any], log_format: LogFormat, sock: socket.socket, say: workers.Say
) -> None:
    """What one of several workers does."""
    try:
        chosen = _prepared(given, log_format)
        found = _found(target, chosen, given)
        _serve(found, chosen, sock, log_format, lambda: say(workers.Up(_line(chosen, found), found.drain_timeout)))
    except Trouble as trouble:
        say(workers.Refused(str(trouble), trouble.code))
        sys.exit(trouble.code)
    except TidelogError as error:
        say(workers.Refused(str(error)))
        sys.exit(1)


class Watched:
    """The application, watched: a start that fails is told in a sentence, and a second Ctrl-C waits for no run."""

    def __init__(self, app: Any, up: Callable[[], None], *, log_format: LogFormat = "text") -> None:
        """`up` is called once, when the application has started."""
        self._app = app
        self._tell = up
        self._log_format = log_format
        self._failed: BaseException | None = None
        self._interrupts = 0
        self._up = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        _format_all(self._log_format)  # uvicorn has set its own by now
        held: list[Any] = []

        async def watch(message: Any) -> None:
            if message["type"] in ("lifespan.startup.failed", "lifespan.shutdown.failed"):
                held.append(message)  # until it is known why
                return
            if message["type"] == "lifespan.startup.complete":
                self._started()
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except BaseException as error:
            for message in held:
                await send(self._quietened(message, error))
            raise
        finally:
            if not (held or self._up):  # an application without a lifespan: uvicorn serves it all the same
                self._started()

    def _quietened(self, message: Any, error: BaseException) -> Any:
        """The message without its traceback, where a sentence or nothing at all says it better."""
        if message["type"] == "lifespan.startup.failed":
            self._failed = error
        if isinstance(error, TidelogError | Trouble) or self._interrupts > 1:
            logging.getLogger("uvicorn.error").addFilter(_not_failed)
            return {**message, "message": ""}
        return message

    def check(self) -> None:
        """Raise what kept the application from starting."""
        if isinstance(self._failed, TidelogError | Trouble):
            raise self._failed
        if self._failed is not None:
            raise Trouble("The application did not start.")

    def _started(self) -> None:
        self._up = True
        self._tell()
        task, loop, before = asyncio.current_task(), asyncio.get_running_loop(), signal.getsignal(signal.SIGINT)

        def heard(sig: int, frame: FrameType | None) -> None:
            self._interrupts += 1
            if callable(before):
                before(sig, frame)
            if self._interrupts > 1 and task is not None:
                loop.call_soon_threadsafe(task.cancel)

        signal.signal(signal.SIGINT, heard)


def _prepared(given: Mapping[str, Any], log_format: LogFormat) -> settings.Settings:
    """The settings, once this process's store and log are set by them."""
    chosen = _settings(given)
    os.environ[settings.PREFIX + "STORE"] = chosen.store
    _log(chosen.log_level, log_format)
    return chosen


def _settings(given: Mapping[str, Any]) -> settings.Settings:
    try:
        chosen = settings.load().model_copy(update=dict(given))
    except TidelogError as error:
        raise Trouble(str(error), 2) from None
    except ValidationError as error:
        first = error.errors()[0]
        name = settings.PREFIX + str(first["loc"][0]).upper()
        raise Trouble(f"{name}={first['input']!r}: {first['msg']}.", 2) from None
    if chosen.log_level.lower() not in LEVELS:
        raise Trouble(f"{settings.PREFIX}LOG_LEVEL={chosen.log_level!r} is none of {', '.join(LEVELS)}.", 2)
    return chosen


def _log(level: str, log_format: LogFormat) -> None:
    """tidelog's own lines at the chosen level, everybody else's warnings."""
    lines = logging.StreamHandler()
    lines.setFormatter(TextLines("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[lines])
    logging.getLogger("tidelog").setLevel(level.upper())
    _format_all(log_format)
    logging.captureWarnings(log_format == "json")


def _format_all(log_format: LogFormat) -> None:
    """Under `json` every line is JSON, those of the server too."""
    if log_format == "json":
        for logger in (logging.getLogger(), logging.getLogger("uvicorn")):
            for each in logger.handlers:
                each.setFormatter(JsonLines())


def _found(target: str | None, chosen: settings.Settings, given: Mapping[str, Any]) -> Target:
    """The application; what was asked of it makes sense."""
    if target is None:
        found = _built_in(chosen)
    elif ours := next((name for name in ("docs", "model") if name in given), None):
        raise Trouble(f"--{ours} is for the built-in applications: leave it out, or leave out your own.", 2)
    elif chosen.api_keys is not None:
        raise Trouble(
            f"{settings.PREFIX}API_KEYS is for the built-in applications: yours has Tidelog(principal=api_keys(...)).",
            2,
        )
    else:
        found = _load(target, chosen)
        if "store" in given and found.stores and chosen.store not in found.stores:
            raise Trouble(f"--store has no effect: {target} names its own store, {found.stores[0]}.", 2)
    if chosen.workers > 1 and any(url.startswith("memory") for url in found.stores or (chosen.store,)):
        raise Trouble(
            f"{chosen.workers} workers cannot share a store in memory: name a file, sqlite:///file.db, "
            "or serve with one worker.",
            2,
        )
    return found


def _built_in(chosen: settings.Settings) -> Target:
    if chosen.docs is not None and not Path(chosen.docs).exists():
        raise Trouble(f"There is no folder or file {chosen.docs}: --docs names your documents.", 2)
    ours = import_module(BUILT_IN)
    try:
        model = ours.choose(os.environ, chosen.model)
    except TidelogError as error:
        raise Trouble(str(error), 2) from None
    app = ours.make_app(
        chosen.store, chosen.docs, drain_timeout=chosen.drain_timeout, model=model, principal=_principal(chosen)
    )
    return Target(app, (chosen.store,), chosen.drain_timeout, lambda: str(ours.answering(app)))


def _principal(chosen: settings.Settings) -> Identify | None:
    """Those who have a key: by header, or by the cookie that the page's sign-in sets."""
    if chosen.api_keys is None:
        return None
    given, name = chosen.api_keys.get_secret_value(), f"{settings.PREFIX}API_KEYS"
    try:
        is_file = os.path.isfile(given)
        if not is_file and ":" not in given:
            raise Trouble(f"{name} is neither a file that is there nor a list of name:key.", 2)
        lines = Path(given).read_text("utf-8") if is_file else given.replace(",", "\n")
        keys: dict[str, list[str]] = {}
        for who, key in parse_keys(lines.splitlines()):
            keys.setdefault(who, []).append(key)
        return api_keys(keys, cookie=import_module(SIGN_IN).COOKIE)
    except (ValueError, OSError) as error:
        raise Trouble(f"{name}: {error if isinstance(error, ValueError) else error.strerror}", 2) from None


def _load(target: str, chosen: settings.Settings) -> Target:
    """The application that `module:name` names. Without `name` it is `app`; it may be a function that makes one."""
    name, _, attribute = target.partition(":")
    sys.path.insert(0, "")
    module = _module(name)
    found: Any = module
    for part in (attribute or "app").split("."):
        found = getattr(found, part, None)
        if found is None:
            raise Trouble(
                f"The module {name!r} has no {attribute or 'app'!r}: write module:name of your application.", 2
            )
    if inspect.isfunction(found) and not inspect.signature(found).parameters:
        found = found()
    if not callable(found):
        raise Trouble(f"{target} is no application: it is {type(found).__name__}.", 2)
    tides = [each for each in vars(module).values() if isinstance(each, Tidelog)]
    drain_timeout = max((each.drain_timeout for each in tides), default=chosen.drain_timeout)
    return Target(found, tuple(dict.fromkeys(each.store_url for each in tides)), drain_timeout)


def _module(name: str) -> ModuleType:
    if name.endswith(".py") or not all(part.isidentifier() for part in name.split(".")):
        wish = name.removesuffix(".py").replace("/", ".").strip(".") or "module"
        raise Trouble(f"{name!r} is no module's name: write {wish}:app.", 2)
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        raise Trouble(f"There is no module {name!r} in {Path.cwd()} or among the installed packages.", 2) from None


def _say_up(line: str, log_format: LogFormat) -> None:
    if log_format == "text":
        typer.echo(line)
        sys.stdout.flush()
    else:
        logging.getLogger("tidelog").info(line)


def _line(chosen: settings.Settings, found: Target) -> str:
    """Where it is, who answers, and what is kept."""
    answering = f"{found.answering()}; " if found.answering is not None else ""
    by = f"{chosen.workers} workers; " if chosen.workers > 1 else ""
    return f"tidelog on {_url(chosen)} - {by}{answering}{_kept(found.stores)}{_open(chosen, found)}. Ctrl-C ends it."


def _open(chosen: settings.Settings, found: Target) -> str:
    """A warning where the built-in applications listen to more than this machine, and ask nobody who they are."""
    if found.answering is None or chosen.api_keys is not None or _is_loopback(chosen.host):
        return ""
    return f"; WHOEVER REACHES IT MAY READ, UPLOAD AND DELETE: set {settings.PREFIX}API_KEYS"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _kept(stores: tuple[str, ...]) -> str:
    if not stores:
        return "prompts and answers are kept in the store that your application opens"
    if all(url.startswith("memory") for url in stores):
        return "prompts and answers are kept in memory until it ends"
    places = (_place(url) for url in stores if not url.startswith("memory"))
    return f"prompts and answers are kept in {', '.join(places)}"


def _place(url: str) -> str:
    """A file's path, or a server's address without the secrets in its URL."""
    parts = urlsplit(url)
    if not parts.netloc:
        return str(Path(url.partition("///")[2].partition("?")[0]).absolute())
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _url(chosen: settings.Settings) -> str:
    host = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
    return f"http://{host}:{chosen.port}"


def _bind(chosen: settings.Settings) -> socket.socket:
    with _trouble(chosen):
        return server.bind(chosen.host, chosen.port)


@contextmanager
def _trouble(chosen: settings.Settings) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Trouble(f"Port {chosen.port} of {chosen.host} is in use: choose another with --port.") from None
        raise Trouble(f"Cannot listen on {chosen.host} port {chosen.port}: {error.strerror or error}.") from None


def _not_failed(record: logging.LogRecord) -> bool:
    """uvicorn need not say again that the application failed to start or to end."""
    return not re.match("Application (startup|shutdown) failed", record.getMessage())
