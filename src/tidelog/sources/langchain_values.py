"""How LangChain's objects are read: messages, documents and whatever else a chunk may hold, as instances or as dicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tidelog import events as e

LONGEST: Final = 16_384
"""Characters that are kept of one document's text, and of what a tool read for the model."""

AI: Final = frozenset({"ai", "AIMessageChunk"})
TOOL: Final = frozenset({"tool", "ToolMessageChunk", "function", "FunctionMessageChunk"})
_OTHERS: Final = frozenset(
    {
        "human", "HumanMessageChunk", "system", "SystemMessageChunk", "developer", "remove", "chat", "ChatMessageChunk",
    }
)  # fmt: skip
MESSAGES: Final = AI | TOOL | _OTHERS
"""What a message calls itself by its `type`."""
_ROLES: Final = {
    "assistant": "ai",
    "ai": "ai",
    "user": "human",
    "human": "human",
    "system": "system",
    "developer": "system",
}


def get(value: Any, name: str) -> Any:
    """A field of an instance or a dict; None where there is none."""
    return value.get(name) if isinstance(value, dict) else getattr(value, name, None)


def field(value: Any, *path: str) -> Any:
    """A field of a field, and so on; None where one is missing."""
    for name in path:
        value = get(value, name)
    return value


def is_message(value: Any) -> bool:
    """Whether this is a message or a chunk of one, of whatever role."""
    if isinstance(value, dict):
        return value.get("type") in MESSAGES and "content" in value
    kind = getattr(value, "type", None)
    return isinstance(kind, str) and kind in MESSAGES and hasattr(value, "content")


def is_chunk(message: Any) -> bool:
    """Whether this is a piece of a message that streams."""
    kind = get(message, "type")
    return bool(kind == "AIMessageChunk" or (kind == "ChatMessageChunk" and _ROLES.get(get(message, "role")) == "ai"))


def is_answer(message: Any) -> bool:
    """Whether a model, or whoever stands for it, said this."""
    kind = get(message, "type")
    return kind in AI or (kind in ("chat", "ChatMessageChunk") and _ROLES.get(get(message, "role")) == "ai")


def told_message(value: Any) -> Any:
    """A message written as a pair or as OpenAI's dict, as a graph's nodes may return it; None for anything else."""
    if isinstance(value, tuple | list) and len(value) == 2 and isinstance(value[1], str):
        role = _ROLES.get(value[0]) if isinstance(value[0], str) else None
        return {"type": role, "content": value[1]} if role else None
    if isinstance(value, dict) and value.get("role") in _ROLES and "content" in value and "type" not in value:
        return {**value, "type": _ROLES[value["role"]]}
    return None


def messages_of(value: Any) -> list[Any]:
    """The messages that a value is or lists; empty where it holds anything else."""
    if is_message(value):
        return [value]
    if not isinstance(value, list | tuple) or not value:
        return []
    found = [each if is_message(each) else told_message(each) for each in value]
    return found if all(each is not None for each in found) else []


def documents_of(value: Any) -> list[Any]:
    """The documents that a value is or lists; empty where it holds anything else."""
    listed = value if isinstance(value, list | tuple) else [value]
    return list(listed) if listed and all(_is_document(each) for each in listed) else []


def source_of(document: Any) -> e.Source:
    """A document as a source, known by its id, else its address, else its title."""
    about = get(document, "metadata") or {}
    address = about.get("url") or about.get("source")
    title = about.get("title") or about.get("file_name") or address
    id = get(document, "id") or address or title or "document"
    url = address if isinstance(address, str) and "://" in address else None
    heading = tuple(str(about[name]) for name in about if str(name).startswith("Header "))
    score = about.get("relevance_score", about.get("score"))
    return e.Source(
        str(id), str(title or id), url=url, heading=heading, quote=shortened(get(document, "page_content") or "") or None,
        score=float(score) if isinstance(score, int | float) and 0 <= score <= 1 else None,
    )  # fmt: skip


def shortened(text: str) -> str:
    """The text, cut at LONGEST."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def plain(value: Any) -> Any:
    """As JSON has it. What JSON cannot hold becomes its text; an exception only tells its kind."""
    return msgspec.to_builtins(value, str_keys=True, enc_hook=_foreign)


def text_of(content: Any) -> str:
    """The text of a message's content, which is a string or a list of blocks."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list | tuple) else ()
    return "".join(each if isinstance(each, str) else get(each, "text") or "" for each in blocks)


def fields_of(state: Any) -> Mapping[str, Any]:
    """The fields of a state: a dict, a pydantic model or a dataclass."""
    if isinstance(state, Mapping):
        return state
    names = getattr(type(state), "model_fields", None) or getattr(state, "__dataclass_fields__", None) or ()
    return {name: getattr(state, name, None) for name in names}


def _is_document(value: Any) -> bool:
    if isinstance(value, dict):
        return "page_content" in value and isinstance(value.get("metadata", {}), dict)
    return hasattr(value, "page_content") and hasattr(value, "metadata")


def _foreign(value: Any) -> Any:
    if isinstance(value, BaseException):
        return type(value).__name__
    for name, options in (("model_dump", {"mode": "json"}), ("tolist", {})):
        dump = getattr(value, name, None)
        if callable(dump) and not isinstance(value, type):
            return _dumped(dump, options, value)
    return str(value)


def _dumped(dump: Any, options: dict[str, Any], value: Any) -> Any:
    try:
        return dump(**options)
    except Exception:  # a model may hold what pydantic cannot write
        return str(value)
