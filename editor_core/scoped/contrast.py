"""Words that tell two questions apart which an encoder takes for near: "the first ruler", "north of", "closed" for "opened".

A modifier that only one of two questions has makes it another question. Opposites make another one where each has its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from editor_core.scoped.question import NAMELESS
from editor_core.scoped.subject import function_words
from editor_core.scoped.words import name_key

_MODIFIERS = (
    *("north northern", "south southern", "east eastern", "west western"),
    *("former ex previous", "deputy vice", "acting", "old", "why reason"),
    *("the-first", "the-second", "the-third", "the-fourth", "the-fifth", "the-sixth", "the-seventh", "the-eighth"),
)
_OPPOSITES = (
    ("wide width", "long length", "tall high height", "deep depth", "heavy weight weigh mass", "age"),
    ("open opened opening start started begin began born birth founded", "close closed closing end ended died death die"),
    ("win won winner", "lose lost loser"),
    ("maximum highest largest biggest tallest", "minimum lowest smallest shortest"),
    ("left", "right"),
)

# "Where was this's mother born?" is asked of somebody else, unless what was taught speaks of relatives as well.
_KIN = "father mother dad mom brother sister sibling son daughter child wife husband spouse aunt uncle cousin friend"
_OF_KIN = re.compile(rf"\b{name_key(NAMELESS)} s (?:{'|'.join(map(name_key, _KIN.split()))})\b")
_SPEAKS_OF_KIN = re.compile(
    "|".join([*_KIN.split(), "parent", "matern", "patern", "marri", "wed", "birth", "family", "relat", "lady"])
)


def _by_word(classes: Iterable[str]) -> Mapping[str, str]:
    return {word if "-" in word else name_key(word): each for each in classes for word in each.split()}


_MODIFIER = _by_word(_MODIFIERS)
_OPPOSITE = [_by_word(each) for each in _OPPOSITES]
_NAME = name_key(NAMELESS)
# What may stand before a name without making it another's: "Dr", "President".
_TITLES = frozenset(
    name_key(
        "mr mrs ms miss dr sir dame lord lady prof professor president chancellor minister senator governor mayor captain"
        " general colonel saint st queen king prince princess pope emperor duke duchess count rev judge chief doctor"
    ).split()
)
_AGE = re.compile(r"\bhow old\b")
_ORDINAL = re.compile(r"\bthe (first|second|third|fourth|fifth|sixth|seventh|eighth) (?!time)")


def contrasts(one: str, other: str) -> bool:
    """Whether the words of two questions, by their keys, say that they ask different things."""
    first, second = (_ORDINAL.sub(r"the-\1 ", _AGE.sub("age", key)).split() for key in (one, other))
    if {_MODIFIER[word] for word in first if word in _MODIFIER} != {_MODIFIER[word] for word in second if word in _MODIFIER}:
        return True
    if any(_OF_KIN.search(key) and not _SPEAKS_OF_KIN.search(than) for key, than in ((one, other), (other, one))):
        return True
    for opposite in _OPPOSITE:
        mine, its = ({opposite[word] for word in words if word in opposite} for words in (first, second))
        if mine and its and mine.isdisjoint(its):
            return True
    return False


def longer_names(question: str) -> frozenset[str]:
    """Keys of the capitalised words next to the name in a nameless question: "New this", "this Museum" is somebody else.

    The first word of a sentence says nothing by its capital, nor does a function word.
    """
    found = re.findall(r"[^\W_]+(?:-(?=[^\W_]))?|[^\w\s]", question)
    near = set()
    for index, word in enumerate(found):
        if word == NAMELESS:
            near |= {found[at] for at in (index - 1, index + 1) if 0 < at < len(found)}
    return frozenset(
        name_key(each) for each in near if each[0].isupper() and name_key(each) not in function_words() | _TITLES | {_NAME}
    )
