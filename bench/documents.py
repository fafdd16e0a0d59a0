"""The documents of the built-in application: how long an index takes, a question, and the answer to an upload.

`python -m bench.documents`. The text is this project's own, again and again, each time with other words in the place
of some, until there are 3 MB of it; the questions are answered from there.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import quantiles

import httpx2
from fastapi import FastAPI

from tidelog.apps.documents import Document, Index, read_folder
from tidelog.apps.main import make_app
from tidelog.apps.rag import extracted, find
from tidelog.testing import serve_process

ROOT = Path(__file__).parent.parent
TEXTS = ("README.md", "README.zh-CN.md", "docs", "spec/PROTOCOL.md", "tests/apps/documents")
BYTES = 3_000_000
ROUNDS = 5
QUESTIONS_EACH = 100
UPLOADS = 50
UPLOADS_QUICK = 5
QUESTIONS = (
    "How much is the deposit?",
    "How wide is the mirror of the main telescope?",
    "What is a cursor?",
    "how do I stop a run when the viewer leaves",
    "What does Last-Event-ID do",
    "continue after a crash",
    "retry",
    "押金什么时候退？",
    "釉烧的温度是多少？",
    "怎么还车？",
    "断线以后怎么继续？",
    "quantum gravity",
)


def varied(size: int) -> Iterator[Document]:
    """Documents of together at least `size` bytes; one word in ten of the long ones occurs in no other copy."""
    chance, copy, total = random.Random(11), 0, 0
    texts = [document for name in TEXTS for document in read_folder(ROOT / name)]
    while total < size:
        copy += 1
        for one in texts:
            text = re.sub("[A-Za-z]{5,}|[\u4e00-\u9fff]{2}", _other(chance, copy), one.text)
            total += len(text.encode())
            yield Document(f"{copy}/{one.path}", f"{one.title} {copy}", text)


def _other(chance: random.Random, copy: int) -> Callable[[re.Match[str]], str]:
    def other(match: re.Match[str]) -> str:
        if chance.random() > 0.1:
            return match[0]
        return "".join(chr(ord(one) + copy) if one > "z" else f"{one}{copy}" for one in match[0])

    return other


def build(documents: Sequence[Document]) -> Index:
    """The index, and the figures of making it."""
    size = sum(len(document.text.encode()) for document in documents)
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        index = Index.build(documents)
        times.append(time.perf_counter() - began)
    print(f"index     {size / 1e6:.2f} MB, {index.documents} documents, {index.chunks} passages")
    print(f"          {min(times):.3f} s at best, {max(times):.3f} s at worst of {ROUNDS}")
    return index


def questions(index: Index) -> None:
    """The figures of retrieval and answer, in milliseconds."""
    times = [
        _timed(lambda question=question: extracted(index, find(index, question), question, lang="en"))  # type: ignore[misc]
        for _ in range(QUESTIONS_EACH)
        for question in QUESTIONS
    ]
    print(f"question  {_told(times)}")


def changes(index: Index, documents: Sequence[Document]) -> None:
    """The figures of one document that comes and goes, and of one of 3 MB."""
    for name, text in (
        ("document", documents[0].text),
        ("3 MB", "\n\n".join(document.text for document in documents)),
    ):
        began = time.perf_counter()
        entry = index.add(Document("new.md", "New", text))
        added = time.perf_counter()
        index.remove(entry)
        gone = time.perf_counter()
        print(f"one more  {name}: {(added - began) * 1e3:.1f} ms to add, {(gone - added) * 1e3:.1f} ms to delete")


def served() -> FastAPI:
    """The application, for a process of its own."""
    return make_app("memory:")


def uploads(number: int) -> None:
    """How long a client waits for 202, in milliseconds: with nothing else to do, and while 3 MB are indexed."""
    large = ("files", ("large.md", _text(BYTES)))
    with serve_process("bench.documents:served", cwd=ROOT) as server, httpx2.Client(base_url=server.url) as client:
        for size in (10_000, 1_000_000, BYTES):
            file = ("files", (f"{size}.md", _text(size)))
            for busy in (False, True):
                times = []
                for _ in range(number):
                    before = _send(client, large) if busy else None
                    run, took = _timed_send(client, file)
                    times.append(took)
                    _wait(client, run)
                    _wait(client, before)
                print(f"202       {size / 1e6:.2f} MB, {'indexing' if busy else 'idle':8}: {_told(times)}")


def _text(size: int) -> bytes:
    return "\n\n".join(one.text for one in varied(size)).encode()[:size].decode("utf-8", "ignore").encode()


def _timed_send(client: httpx2.Client, file: tuple[str, tuple[str, bytes]]) -> tuple[str, float]:
    began = time.perf_counter()
    run = _send(client, file)
    return run, (time.perf_counter() - began) * 1e3


def _send(client: httpx2.Client, file: tuple[str, tuple[str, bytes]]) -> str:
    answer = client.post("/documents", files=[file])
    assert answer.status_code == 202, answer.text
    return str(answer.json()["run"])


def _wait(client: httpx2.Client, run: str | None) -> None:
    if run is not None:
        client.get(f"/runs/{run}/events", headers={"Accept": "application/x-ndjson"}, timeout=60).raise_for_status()


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1e3


def _told(times: Sequence[float]) -> str:
    cuts = quantiles(times, n=100, method="inclusive")
    return f"{cuts[49]:.1f} ms median, {cuts[98]:.1f} ms p99, {max(times):.1f} ms slowest of {len(times)}"


def report(quick: bool = False) -> None:
    """Print everything."""
    documents = list(varied(BYTES))
    index = build(documents)
    questions(index)
    changes(index, documents)
    uploads(UPLOADS_QUICK if quick else UPLOADS)


if __name__ == "__main__":
    report()
