"""Reads, indexes and searches a folder of documents, and answers from it in its own sentences.

A plain leaf: it imports nothing else of tidelog and waits for nothing but the disk. Call `read_folder` and
`Index.build` from a thread.
"""

from tidelog.apps.documents.answer import Sentence, Source, answer, nothing_found, sources, written
from tidelog.apps.documents.chunks import Chunk
from tidelog.apps.documents.folder import Document, Skipped, read_document, read_folder
from tidelog.apps.documents.index import Entry, Hit, Index
from tidelog.apps.documents.readers import READERS, Unreadable
from tidelog.apps.documents.scoring import Scored, score
from tidelog.apps.documents.words import language

__all__ = [
    "READERS",
    "Chunk",
    "Document",
    "Entry",
    "Hit",
    "Index",
    "Scored",
    "Sentence",
    "Skipped",
    "Source",
    "Unreadable",
    "answer",
    "language",
    "nothing_found",
    "read_document",
    "read_folder",
    "score",
    "sources",
    "written",
]
