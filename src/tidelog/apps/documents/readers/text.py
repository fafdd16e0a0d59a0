"""Plain text and markdown: bytes in one of the encodings that people keep text in."""

import codecs
from typing import Final, NamedTuple

MIN_CHINESE_MARKS: Final = 0.03  # share of ，。、的 among the non-ASCII characters of Chinese prose (usually above 0.1)
NO_TEXT: Final = "it holds no text"


class Text(NamedTuple):
    """What a reader found: markdown, the title that the file itself carries, and where its pages begin.

    `pages` are offsets in `text`, the first page's first; empty where the format has no pages.
    """

    text: str
    title: str = ""
    pages: tuple[int, ...] = ()


class Unreadable(ValueError):
    """A reader's verdict on one file; its text is the reason that is shown."""


def read_text(data: bytes) -> Text:
    """A text or markdown file."""
    return Text(decode(data).replace("\r\n", "\n").replace("\r", "\n"))


def decode(data: bytes) -> str:
    """The text of a file: UTF-8, UTF-16 with its mark, or the GB encodings of older Chinese Windows files.

    Raises Unreadable for binary data and for text in any other encoding: a wrong guess would show nonsense.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return _strictly(data, "utf-16")
    if b"\0" in data:
        raise Unreadable("it is binary, not text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = _strictly(data, "gb18030")
    if not _reads_as_chinese(text):
        raise Unreadable("its text encoding is unknown (UTF-8 is expected)")
    return text


def _strictly(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise Unreadable("its text encoding is unknown (UTF-8 is expected)") from None


def _reads_as_chinese(text: str) -> bool:
    # Almost any bytes decode as GB18030; only Chinese prose then has Chinese commas, full stops and 的.
    marks = sum(text.count(mark) for mark in "，。、的")
    return marks > MIN_CHINESE_MARKS * sum(not character.isascii() for character in text)
