"""Reads, indexes and searches a folder of documents, and answers from it in its own sentences.

A plain leaf: it imports nothing else of tidelog and waits for nothing but the disk. Call `read_folder` and
`Index.build` from a thread.
"""

from tidelog.apps.documents.answer import Sentence, Source, answer, nothing_found, sources, written
from tidelog.apps.documents.chunks import Chunk
from tidelog.apps.documents.folder import Document, Skipped, read_folder
from tidelog.apps.documents.index import Hit, Index
from tidelog.apps.documents.words import language

__all__ = [
    "Chunk",
    "Document",
    "Hit",
    "Index",
    "Sentence",
    "Skipped",
    "Source",
    "answer",
    "language",
    "nothing_found",
    "read_folder",
    "sources",
    "written",
]
