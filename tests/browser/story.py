"""The long answer of the browser tests: what the server says and what the page must show."""

from __future__ import annotations

import random

TOKENS = 500


def long_text(question: str) -> list[str]:
    """The tokens of the answer to this question: English, Chinese, four-byte characters, what looks like HTML or SSE."""
    chance = random.Random(question)
    words = ("tide", "the", "log", "ebb,", "潮汐", "日志。", "🌊", "𝒙", "<b>", "&amp;", "data:", "id:", "é", "a_b")
    return [f"{chance.choice(words)}{number} " for number in range(TOKENS)]
