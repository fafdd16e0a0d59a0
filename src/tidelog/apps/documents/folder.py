"""Reads the documents of a folder: text becomes a Document; a file that cannot be read is named and harms no other.

Everything here blocks on the disk: call it from a thread. For the formats, see `readers`.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from tidelog.apps.documents.blocks import blocks, front_matter
from tidelog.apps.documents.readers import READERS, Reader, Unreadable

MAX_FILE_BYTES: Final = 8 * 1024 * 1024
MAX_TOTAL_BYTES: Final = 128 * 1024 * 1024
MAX_FILES: Final = 10_000
TITLE_WINDOW_CHARS: Final = 4_000  # a title further down is not a title

# Folders of other people's text; hidden folders are passed over as well.
PASSED_FOLDERS: Final = frozenset({"node_modules", "__pycache__", "site-packages"})


@dataclass(frozen=True, slots=True)
class Document:
    """One readable document: `path` relative to the folder with forward slashes, `text` with LF line ends.

    `pages` are the offsets in `text` where its pages begin, if it has any.
    """

    path: str
    title: str
    text: str
    pages: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Skipped:
    """One file that was not read, and why, in words for the person who named the folder."""

    path: str
    reason: str


def read_document(name: str, data: bytes, *, readers: Mapping[str, Reader] = READERS) -> Document:
    """The document in one file, by the end of its name. Raises `Unreadable`, whose text is the reason."""
    path = PurePosixPath(name)
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise Unreadable(_no_reader(path.suffix))
    found = reader(data)
    text = _sound(found.text)
    # The first heading of a PDF is that of its first chapter; in all other formats it is the title.
    title = found.title if found.pages else title_of(text) or found.title
    return Document(name, _sound(title) or path.stem, text, found.pages)


def read_folder(
    path: str | os.PathLike[str],
    *,
    skipped: list[Skipped] | None = None,
    readers: Mapping[str, Reader] = READERS,
    max_file_bytes: int = MAX_FILE_BYTES,
    max_total_bytes: int = MAX_TOTAL_BYTES,
    max_files: int = MAX_FILES,
) -> Iterator[Document]:
    """Yields every document below a folder in the order of their paths, or the one document of a single file.

    Hidden files and folders are passed over in silence. Any other file that is not read is appended to `skipped`.
    Once a total is reached, one last entry says so and reading ends. Raises FileNotFoundError, at the first step, if
    there is nothing at `path`.
    """
    root = Path(path)
    misses = [] if skipped is None else skipped
    total = 0
    for count, file in enumerate(_files(root)):
        name = file.relative_to(root).as_posix() if file != root else file.name
        if count >= max_files or total >= max_total_bytes:
            misses.append(
                Skipped(name, f"it and all after it: the limit of {max_files} files or {max_total_bytes} bytes")
            )
            return
        try:
            data = _bytes(file, root, readers, max_file_bytes)
            total += len(data)
            document = read_document(name, data, readers=readers)
        except (Unreadable, OSError) as problem:
            misses.append(Skipped(name, _reason(problem)))
        else:
            yield document


def title_of(text: str) -> str:
    """The title a text gives itself: `title:` of its front matter, its first line as a heading, or its first level-1
    heading near the top; else an empty string."""
    top = text[:TITLE_WINDOW_CHARS]
    if match := re.search(r"^title:[ \t]*(.+)$", front_matter(top), re.MULTILINE):
        return match[1].strip().strip("\"'")
    found = blocks(top)
    headings = [
        block.info for at, block in enumerate(found) if block.kind == "heading" and (at == 0 or block.level == 1)
    ]
    return next(filter(None, headings), "")


def _files(root: Path) -> Iterator[Path]:
    if not root.exists():
        raise FileNotFoundError(f"there is no file or folder at {root}")
    if not root.is_dir():
        yield root
        return
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in PASSED_FOLDERS)
        yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def _bytes(file: Path, root: Path, readers: Mapping[str, Reader], limit: int) -> bytes:
    if file.suffix.lower() not in readers:
        raise Unreadable(_no_reader(file.suffix))
    if file != root and not file.resolve().is_relative_to(root.resolve()):
        raise Unreadable("it is a link to a place outside the folder")
    if not file.is_file():
        raise Unreadable("it is not a regular file")  # opening a named pipe would wait for ever
    with file.open("rb") as opened:
        data = opened.read(limit + 1)  # not stat: the file may grow between the two
    if len(data) > limit:
        raise Unreadable(f"it is larger than {limit} bytes")
    return data


def _sound(text: str) -> str:
    """The text with marks in the place of half characters, which PDFs hold at times and no database takes."""
    return text.encode("utf-8", "replace").decode()


def _no_reader(suffix: str) -> str:
    return f"there is no reader for {suffix or 'files without a suffix'}"


def _reason(problem: Unreadable | OSError) -> str:
    return str(problem) if isinstance(problem, Unreadable) else f"it cannot be opened: {problem.strerror or problem}"
