"""What others stream, as sources: the methods of `Tidelog` that need nothing of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Unpack

from tidelog.sources.wrapped import wrapped

if TYPE_CHECKING:
    from tidelog.events import Data
    from tidelog.sources.logs import FileArgs, TapArgs
    from tidelog.sources.rows import RowArgs, SessionFactory


class Foreign:
    """Streams of libraries, of files, of this process's own log, and of databases."""

    def openai(self, stream: Any, /) -> Any:
        """A stream of chunks that are dicts in OpenAI's shapes, chat completions or Responses. Instances need no wrapper."""
        return wrapped("openai", stream)

    def anthropic(self, stream: Any, /) -> Any:
        """A stream of events that are dicts in the shape of Anthropic's Messages. Instances need no wrapper."""
        return wrapped("anthropic", stream)

    def langchain(self, stream: Any, /) -> Any:
        """A stream of LangChain: `astream_events` of any version, `astream_log`, or `astream` of a chain that gives dicts."""
        return wrapped("langchain_core", stream)

    def langgraph(self, stream: Any, /) -> Any:
        """What `astream` of a LangGraph graph gives, in one mode or several, of either version."""
        return wrapped("langgraph", stream)

    def logs(self, path: str | os.PathLike[str], /, **options: Unpack[FileArgs]) -> AsyncIterator[Data | str]:
        """A file that is followed as `tail -F` follows it: see `tidelog.sources.logs.logs`."""
        from tidelog.sources.logs import logs

        return logs(path, **options)

    def logging(self, **options: Unpack[TapArgs]) -> AsyncIterator[Data | str]:
        """What this process logs while the run lives: see `tidelog.sources.logs.records`."""
        from tidelog.sources.logs import records

        return records(**options)

    def rows(
        self, session_factory: SessionFactory, statement: Any, /, **options: Unpack[RowArgs]
    ) -> AsyncIterator[Data | str]:
        """The rows of a select, read by SQLAlchemy: see `tidelog.sources.rows.rows`."""
        from tidelog.sources.rows import rows

        return rows(session_factory, statement, **options)
