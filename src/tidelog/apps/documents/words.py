"""Turns text into the words that are indexed and asked for: one function for both sides, so that they always meet.

Latin and other spaced scripts give lower-case words without accents and English endings. Chinese, Japanese and Korean
have no spaces between words (or glue particles to them), so every two neighbouring characters are a word: that is how
a two-character word such as 押金 is found. Single characters are kept apart, as weaker evidence.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from operator import add
from typing import Final, Literal

from tidelog.apps.documents.lexicon import ENGLISH, FAINT, HOW_MUCH, IRREGULAR, SPLITS

Language = Literal["en", "zh"]

# A bigram says what is meant, a lone character only hints at it: 金 is in 押金, 现金 and 金属.
LONE_STRENGTH: Final = 0.6  # a character that stands alone between two question words
HINT_STRENGTH: Final = 0.3  # a character of a longer word
PHRASE_STRENGTH: Final = 0.5  # two neighbours of a question that are neighbours in the text too: "lock pin"
MAX_KANA_SHARE: Final = 0.1  # against Chinese characters; Japanese prose has more kana than kanji
STEM_CACHE_WORDS: Final = 65_536

_HAN: Final = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_KANA: Final = "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
_HANGUL: Final = "\uac00-\ud7af"
_CJK: Final = _HAN + _KANA + _HANGUL
_CJK_RUN: Final = re.compile(rf"[{_CJK}]+")
_CJK_WRAP: Final = re.compile(rf"\n(?<=[{_CJK}]\n)[ \t]*(?=[{_CJK}])")
# Full-width Ａ１, half-width ｶ, ligatures as ﬁ, and accents that stand apart from their letter.
_VARIANT: Final = re.compile("[\u0300-\u036f\ufb00-\ufb06\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uffdc]")
_HAN_ONE: Final = re.compile(rf"[{_HAN}]")
_KANA_OR_HANGUL: Final = re.compile(rf"[{_KANA}{_HANGUL}]")
_WORD: Final = re.compile(r"[^\W_]+")
# Dashes, quotes, arrows and signs that are part of no word: most texts that are not ASCII are, but for these.
_TYPOGRAPHY: Final = re.compile(
    "[\\u00a0-\\u00a9\\u00ab-\\u00b1\\u00b4\\u00b6-\\u00b8\\u00bb\\u00bf\\u00d7\\u00f7"
    "\\u2000-\\u206f\\u20a0-\\u20bf\\u2190-\\u23ff\\u2500-\\u2775]"
)
_ASCII_SPACED: Final = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}
_NAME: Final = re.compile(r"(?<![a-z0-9])[a-z0-9]++(?:_++[a-z0-9]++)++")
_LATIN_WORD: Final = re.compile(r"[A-Za-z]+")
_HIRAGANA_ONLY: Final = re.compile(r"[\u3041-\u309f]+")


def words(text: str) -> list[str]:
    """The words of a text: stems of spaced scripts and every two neighbouring CJK characters, as often as they occur.

    Stems come first, in their order, so that phrases can be found. `send_timeout` gives its parts and, later, the whole
    name. A CJK character with no CJK neighbour gives nothing here; see `characters`.
    """
    if (bare := _bare(text)).isascii():  # most text is, and needs no more regular expressions
        found = list(map(_stem, bare.translate(_ASCII_SPACED).split()))
        return found if "_" not in bare else found + _NAME.findall(bare.lower())
    folded = _folded(text)
    found = list(map(_stem, _WORD.findall(_CJK_RUN.sub(" ", folded))))
    if "_" in folded:
        found += _NAME.findall(folded)
    for run in _CJK_RUN.findall(folded):
        found.extend(_pairs(run))
    return found


def characters(text: str) -> set[str]:
    """The distinct CJK characters of a text, so that a question of one character is answered too."""
    return set("".join(_CJK_RUN.findall(_folded(text))))


def held(text: str, among: Iterable[str]) -> set[str]:
    """Which of these words a text holds: the same as looking them up in `words` and `characters`, but quicker."""
    if (bare := _bare(text)).isascii():
        spaced = f" {' '.join(words(bare))} "
        return {word for word in among if f" {word} " in spaced}
    folded = _folded(text)
    spaced = f" {' '.join(words(_CJK_RUN.sub(' ', folded)))} "
    return {word for word in among if f" {word} " in spaced or (word in folded and is_cjk(word[0]))}


def asked(question: str) -> dict[str, float]:
    """The words and phrases of a question that say what it is about, each with a strength in 0..1.

    A phrase is two stems with a space between. Question words (什么, 吗, how, the) are left out; a question
    of nothing else gives an empty dict.
    """
    text = HOW_MUCH.sub(" ", _folded(question))
    strengths: dict[str, float] = {}
    for run in _CJK_RUN.findall(text):
        _ask_cjk(run, strengths)
    _ask_spaced(_WORD.findall(_CJK_RUN.sub(" ", text)), strengths)
    strengths.update(dict.fromkeys(_NAME.findall(text), 1.0))
    return _without_particles(strengths)


def is_pair(word: str) -> bool:
    """Whether this word is two CJK characters: it may then be the seam of two real words, and occur nowhere."""
    return len(word) == 2 and _CJK_RUN.fullmatch(word) is not None


def language(text: str, *, han_a_word: float = 1.0) -> Language:
    """`zh` if a text has this many Chinese characters for each Latin word, and hardly any kana or hangul; else `en`."""
    han = len(_HAN_ONE.findall(text))
    if not han or len(_KANA_OR_HANGUL.findall(text)) > han * MAX_KANA_SHARE:
        return "en"
    return "zh" if han >= han_a_word * len(_LATIN_WORD.findall(text)) else "en"


def is_cjk(character: str) -> bool:
    """Whether one character belongs to a script that is written without spaces."""
    return _CJK_RUN.match(character) is not None


def _bare(text: str) -> str:
    return text if text.isascii() else _TYPOGRAPHY.sub(" ", text)


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower()
    if _VARIANT.search(text):  # asked first, for NFKC is slow over Chinese punctuation
        text = unicodedata.normalize("NFKC", text)
    return _CJK_WRAP.sub("", text.lower())  # a line may end in the middle of a Chinese word


def _pairs(run: str) -> Iterator[str]:
    return map(add, run, run[1:])


def _ask_spaced(run: list[str], strengths: dict[str, float]) -> None:
    before = ""
    for word in run:
        stem = "" if word in ENGLISH else _stem(word)
        if stem:
            strengths[stem] = 1.0
        if before and stem:
            strengths[f"{before} {stem}"] = PHRASE_STRENGTH
        before = stem


def _ask_cjk(run: str, strengths: dict[str, float]) -> None:
    for match in SPLITS.finditer(run):
        segment = match["kept"] or ""
        for pair in _pairs(segment):
            strengths[pair] = 1.0
        hint = HINT_STRENGTH if len(segment) > 1 else LONE_STRENGTH
        for character in segment:
            if character not in FAINT or len(run) == 1:
                strengths[character] = max(hint, strengths.get(character, 0.0))


def _without_particles(strengths: dict[str, float]) -> dict[str, float]:
    # Japanese: kanji and katakana carry the meaning, hiragana the grammar, unless there is nothing else.
    kept = {word: strength for word, strength in strengths.items() if not _HIRAGANA_ONLY.fullmatch(word)}
    return kept or strengths


@lru_cache(maxsize=STEM_CACHE_WORDS)
def _stem(word: str) -> str:
    """A light English stem: both sides use it, so it need not be a word, only the same for rent, rents and renting."""
    if not word.isascii():
        decomposed = unicodedata.normalize("NFKD", word)
        return "".join(character for character in decomposed if not unicodedata.combining(character))
    word = IRREGULAR.get(word) or _without_tense(_without_plural(word))
    return word[:-1] if len(word) > 4 and word.endswith("e") else word


def _without_plural(word: str) -> str:
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y" if len(word) > 4 else word[:-1]
    return word[:-2] if word.endswith(("sses", "xes", "ches", "shes", "zzes")) else word[:-1]


def _without_tense(word: str) -> str:
    for ending in ("ing", "ed"):
        stem = word.removesuffix(ending)
        if stem != word and len(stem) > 2 and any(letter in "aeiouy" for letter in stem) and not word.endswith("eed"):
            return _single_final(stem)
    return word


def _single_final(stem: str) -> str:
    if stem.endswith("i"):
        return stem[:-1] + "y"  # carried, carries and carry
    doubled = stem[-1] == stem[-2] and stem[-1] not in "aeiouls"
    return stem[:-1] if doubled else stem  # locked stays lock; stopped becomes stop, but filled stays fill
