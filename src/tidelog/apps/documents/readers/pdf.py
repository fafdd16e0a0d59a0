"""PDF, by pypdf: the text of each page, under the headings of the outline where there is one.

A PDF knows no paragraphs, only places on a page, so lines are joined as they come. What stands on most pages (running
heads, page numbers) is left out, and a sentence that a page's end cuts stays whole, on the page where it begins.
"""

import io
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from tidelog.apps.documents.readers.markup import escaped, heading, one_line
from tidelog.apps.documents.readers.text import Text, Unreadable

if TYPE_CHECKING:
    from pypdf import PdfReader

MAX_PAGES: Final = 5_000
MAX_TEXT_CHARS: Final = 32 * 1024 * 1024
MAX_READ_SECONDS: Final = 60.0
"""Looked at after each page: a small file may ask for hours of work."""
MAX_OUTLINE: Final = 10_000
RUNNING_PAGES: Final = 3
"""From this many pages on, a first or last line that most of them share is no text."""
CARRIED_CHARS: Final = 600
"""At most so much of a page goes to the one before it, where its first sentence began."""

_HYPHENATED: Final = re.compile(r"(?<=[a-z])-\n(?=[a-z])")
_PAGE_NUMBER: Final = re.compile(r"[-–—\s]*(?:page\s*)?\d{1,5}(?:\s*(?:of|/)\s*\d{1,5})?[-–—\s]*", re.IGNORECASE)
_SENTENCE_END: Final = re.compile(r"[.!?](?=\s)|[。！？]")
_ENDED: Final = tuple('.!?。！？:：;；”"）)')
_NO_TITLE: Final = re.compile(r"microsoft \w+ - .*|untitled.*|\S+\.\w{2,5}|\W*", re.IGNORECASE)

Outline = Mapping[int, Sequence[tuple[int, str]]]


def read_pdf(data: bytes) -> Text:
    """The text of a PDF. Raises `Unreadable` if it is broken, encrypted with a password, empty, a scan, or endless."""
    import pypdf
    from pypdf.errors import DependencyError, FileNotDecryptedError, WrongPasswordError

    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            raise WrongPasswordError
        return _read(reader)
    except Unreadable:
        raise
    except (DependencyError, FileNotDecryptedError) as error:
        raise Unreadable("it is encrypted: save it without a password") from error
    except Exception as error:  # pypdf meets a broken file with almost any exception, RecursionError included
        raise Unreadable("it is no PDF, or a broken one") from error


def _read(reader: "PdfReader") -> Text:
    if len(reader.pages) > MAX_PAGES:
        raise Unreadable(f"it has more than {MAX_PAGES} pages")
    pages = _without_running(list(_lines(reader)))
    if not any(pages):
        raise Unreadable("it holds no text: its pages may be pictures")
    outline = _outline(reader)
    texts = _carried([_page(lines, outline.get(number, ())) for number, lines in enumerate(pages)])
    starts, text = [], ""
    for one in texts:
        starts.append(len(text))
        text += f"{one}\n\n" if one else ""
    return Text(text, _title(reader), tuple(starts))


def _lines(reader: "PdfReader") -> Iterator[list[str]]:
    """The lines of each page."""
    until, chars = time.monotonic() + MAX_READ_SECONDS, 0
    for page in reader.pages:
        text = page.extract_text()
        chars += len(text)
        if chars > MAX_TEXT_CHARS:
            raise Unreadable(f"it holds more than {MAX_TEXT_CHARS} characters")
        if time.monotonic() > until:
            raise Unreadable(f"it takes longer than {MAX_READ_SECONDS:.0f} seconds to read")
        text = _HYPHENATED.sub("", text.replace("\x00", ""))
        yield [line.strip() for line in text.split("\n") if line.strip()]


def _without_running(pages: list[list[str]]) -> list[list[str]]:
    """The pages without the first and last lines that most of them share, and without page numbers there."""
    edges = Counter(line for lines in pages for line in {*lines[:1], *lines[-1:]})
    often = len(pages) / 2 if len(pages) >= RUNNING_PAGES else len(pages)

    def runs(line: str) -> bool:
        return edges[line] > often or _PAGE_NUMBER.fullmatch(line) is not None

    for lines in pages:
        while lines and runs(lines[0]):
            del lines[0]
        while lines and runs(lines[-1]):
            del lines[-1]
    return pages


def _outline(reader: "PdfReader") -> Outline:
    """The headings of each page, by its number from 0: level and text. A broken outline is none."""
    found: defaultdict[int, list[tuple[int, str]]] = defaultdict(list)

    def take(items: Sequence[Any], level: int) -> None:
        for item in items:
            if isinstance(item, list):
                take(item, level + 1)
            elif (title := one_line(str(item.title or ""))) and sum(map(len, found.values())) < MAX_OUTLINE:
                page = reader.get_destination_page_number(item)
                if page is not None and page >= 0:
                    found[page].append((level, title))

    try:
        take(reader.outline, 1)
    except Exception:  # the text is worth more than its headings
        return {}
    return found


def _page(lines: Sequence[str], headings: Sequence[tuple[int, str]]) -> str:
    """A page as markdown. A heading takes the place of its line; one that has none stands on top."""
    folded = [_folded(line) for line in lines]
    at = 0
    placed: dict[int, tuple[int, str]] = {}
    top: list[str] = []
    for level, title in headings:
        place = next((number for number in range(at, len(lines)) if folded[number] == _folded(title)), None)
        if place is None:
            top.append(heading(escaped(title), level))
        else:
            placed[place] = (level, title)
            at = place + 1
    out = [
        f"\n{heading(escaped(placed[number][1]), placed[number][0])}\n" if number in placed else escaped(line)
        for number, line in enumerate(lines)
    ]
    return "\n".join([*(f"{one}\n" for one in top), *out]).strip("\n")


def _carried(pages: list[str]) -> list[str]:
    """The pages, each with the end of its last sentence."""
    for number in range(len(pages) - 1):
        page, following = pages[number], pages[number + 1]
        begins_inside = following[:1].islower() or (following[:1].isalpha() and not following[:1].isascii())
        if not page or page.endswith(_ENDED) or page.rpartition("\n")[2].startswith("#") or not begins_inside:
            continue
        if match := _SENTENCE_END.search(following, 0, CARRIED_CHARS):
            pages[number] = f"{page}\n{following[: match.end()]}"
            pages[number + 1] = following[match.end() :].lstrip()
    return pages


def _folded(text: str) -> str:
    """What two spellings of a heading share: layout puts spaces, and numbers it, as it likes."""
    return re.sub(r"[\W\d_]+", "", text).lower() or text


def _title(reader: "PdfReader") -> str:
    """The title in the file's own data, unless a program put a file's name there."""
    try:
        title = one_line(str((reader.metadata and reader.metadata.title) or ""))
    except Exception:
        return ""
    return "" if _NO_TITLE.fullmatch(title) else title
