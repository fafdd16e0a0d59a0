"""Which language model answers: chosen by the environment and by a name, before anything is asked of anybody."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from tidelog import TidelogError

Provider = Literal["openai", "anthropic", "compatible"]

OPENAI_URL: Final = "https://api.openai.com/v1"
ANTHROPIC_URL: Final = "https://api.anthropic.com"
OPENAI_MODEL: Final = "gpt-6-luna"
ANTHROPIC_MODEL: Final = "claude-sonnet-5-5"
ATTEMPTS: Final = 2
"""How often a model is asked that fails before it has said anything."""
VARIABLES: Final = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL")
"""What `choose` reads of the environment."""

_OF_ANTHROPIC: Final = re.compile(r"claude\b", re.IGNORECASE)
_OF_OPENAI: Final = re.compile(r"(gpt|chatgpt|o\d)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Choice:
    """A model that may be asked. `url` holds no credentials; `name` None: its server is asked which one it has."""

    provider: Provider
    url: str
    name: str | None
    key: str | None = field(default=None, repr=False)
    login: tuple[str, str] | None = field(default=None, repr=False)
    """User and password that stood in the URL."""

    @property
    def place(self) -> str:
        """The server, as people may read it."""
        parts = urlsplit(self.url)
        return parts.netloc if parts.scheme == "https" else f"{parts.scheme}://{parts.netloc}"


def choose(environ: Mapping[str, str], name: str | None = None) -> Choice | None:
    """The model that the environment offers, or None. `name` is the one that was asked for.

    Where there are several, the name chooses between OpenAI and Anthropic; without one, OPENAI_BASE_URL comes first, then
    OPENAI_API_KEY. Raises `TidelogError` for a name that nothing offers, and for an address or a key that is none.
    """
    given = {each: environ.get(each, "").strip() for each in VARIABLES}
    name = (name or "").strip() or None
    openai, anthropic = given["OPENAI_API_KEY"] or given["OPENAI_BASE_URL"], given["ANTHROPIC_API_KEY"]
    if not openai and not anthropic:
        if name is not None:
            raise _error(f"The model {name} needs a key or a server: set {', '.join(VARIABLES[:3])}.")
        return None
    chosen = _anthropic if anthropic and _is_for_anthropic(name, given) else _openai
    return chosen(given, name)


def _is_for_anthropic(name: str | None, given: Mapping[str, str]) -> bool:
    if name is not None and _OF_ANTHROPIC.match(name):
        return True
    if given["OPENAI_BASE_URL"] or given["OPENAI_API_KEY"]:
        return False
    if name is not None and _OF_OPENAI.match(name):
        raise _error(f"The model {name} needs OPENAI_API_KEY, or OPENAI_BASE_URL for a server that has it.")
    return True


def _anthropic(given: Mapping[str, str], name: str | None) -> Choice:
    url, login = _address(given["ANTHROPIC_BASE_URL"] or ANTHROPIC_URL, "ANTHROPIC_BASE_URL")
    return Choice("anthropic", url, name or ANTHROPIC_MODEL, _key(given, "ANTHROPIC_API_KEY"), login)


def _openai(given: Mapping[str, str], name: str | None) -> Choice:
    url, login = _address(given["OPENAI_BASE_URL"] or OPENAI_URL, "OPENAI_BASE_URL")
    if not urlsplit(url).path:
        url += "/v1"  # where all servers of this kind answer, and what people forget
    key = _key(given, "OPENAI_API_KEY")
    if urlsplit(url).hostname != urlsplit(OPENAI_URL).hostname:
        return Choice("compatible", url, name, key, login)
    if name is not None and _OF_ANTHROPIC.match(name):
        raise _error(f"The model {name} needs ANTHROPIC_API_KEY, or OPENAI_BASE_URL for a server that has it.")
    return Choice("openai", url, name or OPENAI_MODEL, key, login)


def _address(url: str, variable: str) -> tuple[str, tuple[str, str] | None]:
    """The URL without its credentials, and these. The error does not show them."""
    import httpx2  # here: who has no model starts without it

    try:
        parts = urlsplit(url)
        port, host = parts.port, httpx2.URL(url).host
    except (ValueError, httpx2.InvalidURL):
        port, host, parts = None, None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise _error(f"{variable} is no address of a server: it must look like http://127.0.0.1:11434/v1.")
    place = f"[{host}]" if ":" in host else host
    login = (unquote(parts.username), unquote(parts.password or "")) if parts.username else None
    return f"{parts.scheme}://{place}{f':{port}' if port else ''}{parts.path.rstrip('/')}", login


def _key(given: Mapping[str, str], variable: str) -> str | None:
    key = given[variable]
    if not (key.isascii() and key.isprintable()):
        raise _error(f"{variable} holds characters that no key has.")
    return key or None


def _error(sentence: str) -> TidelogError:
    return TidelogError(sentence, code="invalid_request")
