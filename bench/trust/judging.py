"""What one whole answer says. Nothing here knows a model."""

from __future__ import annotations

import re
import unicodedata

from bench.trust.facts import folded

NUMBER_MARKS = ".,-"  # between two digits they make one number of both
JOINERS = "\u200c\u200d"  # what follows one belongs to the same word or emoji
SKIN_TONES = ("\U0001f3fb", "\U0001f3ff")
# Scripts without spaces between words; Korean has them, but writes particles against its words.
RUN_TOGETHER = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")
WITH_PREFIXES = ("ARABIC", "HEBREW")  # "and", "in" and "the" are written against the next word
SHORT_TARGET = 4  # characters; shorter targets stand in many words by chance
LOOP_CHARACTERS = 20
_AGAIN_AND_AGAIN = re.compile(r"(.{1,60}?)\1{3,}", re.DOTALL)


def says(text: str, target: str, at_start: bool) -> bool:
    """Whether the target stands in the text as a whole word, number, run of characters or emoji.

    "Bo Lindberg" does not say "Bo Lind", "84433333" and "8443.5" not "8443". Without spaces
    between words nobody can tell: there a longer name also says the shorter one.
    at_start: the text must begin with it.
    """
    text, target = folded(text.strip()), folded(target.strip())
    place = text.find(target)
    while place >= 0 and target:
        whole = not _goes_on(text, place, target) and not _began_before(text, place, target)
        if whole and (place == 0 or not at_start):
            return True
        place = -1 if at_start else text.find(target, place + 1)
    return False


def is_just(text: str, target: str) -> bool:
    """Whether the text is the target and nothing more; case and full stops do not count."""
    return _bare(text) == _bare(target)


def first_line(text: str) -> str:
    """What a plain answer says before its first line break."""
    return text.strip().partition("\n")[0]


def loops(text: str) -> bool:
    """Whether the text repeats itself.

    It has more than 12 words, of which less than a third differ, or one piece stands four times
    in a row over at least 20 characters.
    """
    words = text.split()
    if len(words) > 12 and len(set(words)) < len(words) / 3:
        return True
    pieces = (found[0].strip() for found in _AGAIN_AND_AGAIN.finditer(text + " "))
    return any(len(piece) >= LOOP_CHARACTERS for piece in pieces)


def leaks(text: str, before: str, target: str) -> bool:
    """Whether the text says the target, in part of a word too, where the text before did not.

    Targets of less than four characters count as whole words only.
    """
    return _has(text, target) and not _has(before, target)


def _has(text: str, target: str) -> bool:
    if len(target) < SHORT_TARGET:
        return says(text, target, at_start=False)
    return folded(target.strip()) in folded(text)


def _bare(text: str) -> str:
    return folded(text.strip().strip(".。").strip())


def _goes_on(text: str, place: int, target: str) -> bool:
    end = place + len(target)
    after, further = text[end : end + 1], text[end + 1 : end + 2]
    number = target[-1].isdigit() and after and after in NUMBER_MARKS and further.isdigit()
    return bool(number) or _joined(target[-1], after)


def _began_before(text: str, place: int, target: str) -> bool:
    before, further = text[max(place - 1, 0) : place], text[max(place - 2, 0) : max(place - 1, 0)]
    if _is_of(target[0], WITH_PREFIXES):
        return False
    number = target[0].isdigit() and before and before in NUMBER_MARKS and further.isdigit()
    return bool(number) or _joined(before, target[0])


def _joined(left: str, right: str) -> bool:
    """Whether two neighbouring characters belong to one word or one emoji."""
    if not left or not right:
        return False
    if right in JOINERS or left in JOINERS or unicodedata.category(right).startswith("M"):
        return True
    if SKIN_TONES[0] <= right <= SKIN_TONES[1]:
        return True
    apart = _is_of(left, RUN_TOGETHER) or _is_of(right, RUN_TOGETHER)
    return left.isalnum() and right.isalnum() and not apart


def _is_of(character: str, scripts: tuple[str, ...]) -> bool:
    return unicodedata.name(character, "").startswith(scripts)
