"""Words of a text as names are compared: without case, accents, punctuation or a final s, in any script.

Scripts that are written without spaces between words count every character as a word, so that a name is found inside a
sentence wherever it stands.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

# Thai to Burmese, Khmer, Kana, Bopomofo and Han: written without spaces. Hangul is not among them.
UNSPACED = "\u0e00-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u312f\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
SYMBOLS = "\u2600-\u27bf\U0001f000-\U0001faff"
# A combining mark belongs to the letter before it, where a text is not composed and in scripts that always write so.
MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0903\u093a-\u094f\u0962\u0963"
_WORD = re.compile(rf"[{UNSPACED}{SYMBOLS}]|(?:[^\W_{UNSPACED}{MARKS}][{MARKS}]*)+")
_UNSPACED = re.compile(f"[{UNSPACED}]")


class Word(NamedTuple):
    """A folded word without a final s, and where it stands in the text (characters)."""

    text: str
    start: int
    end: int


def folded(text: str) -> str:
    """Equal for texts that differ in case, accents or Unicode form alone."""
    marked = unicodedata.normalize("NFKD", text.casefold())
    return unicodedata.normalize("NFC", "".join(each for each in marked if not unicodedata.combining(each)))


def _stem(word: str) -> str:
    """Without a plural's or a possessive's s: names are written with and without it."""
    return word[:-1] if len(word) > 3 and word[-1] == "s" else word


def words(text: str) -> list[Word]:
    """All words of a text, in order."""
    return [Word(_stem(folded(found.group())), found.start(), found.end()) for found in _WORD.finditer(text)]


def name_key(name: str) -> str:
    """Equal for names that are written alike; "" for a name without a word."""
    return " ".join(word.text for word in words(name))


def is_unspaced(text: str) -> bool:
    """Whether a text begins in a script that is written without spaces."""
    return _UNSPACED.match(text) is not None
