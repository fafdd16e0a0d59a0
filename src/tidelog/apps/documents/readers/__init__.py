"""Readers: from the bytes of a file to its text. A new format is one file and one row of `READERS`.

What a format needs beyond the standard library is an extra and imported on use: where it is missing, the file is named
with a sentence that says so, and no other is harmed.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Final, cast

from tidelog.apps.documents.readers.text import Text, Unreadable, decode

__all__ = ["READERS", "Reader", "Text", "Unreadable", "decode", "reader"]

Reader = Callable[[bytes], Text]


def reader(place: str, *, needs: str | None = None) -> Reader:
    """A reader that is imported when its first file comes. `place` is `module:function` in this package.

    It raises `Unreadable` where the package that it `needs` is not installed.
    """
    module, _, function = place.partition(":")

    def read(data: bytes) -> Text:
        if needs is not None:
            _check(needs)
        found = cast(Reader, getattr(import_module(f"{__name__}.{module}"), function))
        return found(data)

    return read


def _check(package: str) -> None:
    try:
        import_module(package)
    except ImportError:
        raise Unreadable('its format needs a package that is not installed: pip install "tidelog[documents]"') from None


_PLAIN: Final = reader("text:read_text")
_HTML: Final = reader("html:read_html")

READERS: Final[Mapping[str, Reader]] = MappingProxyType(
    {
        ".txt": _PLAIN,
        ".md": _PLAIN,
        ".markdown": _PLAIN,
        ".html": _HTML,
        ".htm": _HTML,
        ".pdf": reader("pdf:read_pdf", needs="pypdf"),
        ".docx": reader("docx:read_docx", needs="docx"),
    }
)
"""By the end of a file's name, in small letters."""
