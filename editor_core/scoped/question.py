"""Which sentence asks, and what it asks of a subject: the sentence with the subject's name taken out.

In a conversation that is the last question of the user's turn; in running text the sentence that ends where something is to
follow. A pronoun stands for the subject that was named before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from editor_core.scoped.subject import function_words
from editor_core.scoped.words import words

Span = tuple[int, int]  # characters, from and to

NAMELESS = "this"  # what stands where a name stood; measured: better than "it", a mask token or another name
QUESTION_MARKS = "?？؟"
PRONOUNS = frozenset(["he", "she", "it", "they", "him", "her", "them", "his", "hers", "its", "their", "theirs"])
# A full stop ends a sentence after a word of three letters: not after an initial, "Dr." or "No."; a mark before white space
_END = re.compile(r"[。？！؟।\n]+|[?!]+(?=\s|$)|(?<=[^\W\d_]{3})\.(?=\s|$)|(?<=\d)\.(?=\s+[^\W\d_])")
_LABEL = re.compile(r"\s*(?:[^\W_]+[ '’]?){1,4}[:：]\s*")
_PRONOUN = re.compile(rf"\b(?:{'|'.join(sorted(PRONOUNS))})\b", re.IGNORECASE)
LOOKED_BACK = 6  # sentences: how far from a name its pronoun may be, in running text


def sentences(text: str, names: Sequence[Span] = ()) -> list[Span]:
    """Where sentences stand; nothing inside a name ends one."""
    found, start = [], 0
    for end in _END.finditer(text):
        if any(a < end.end() and end.start() < b for a, b in names):
            continue
        found.append((start, end.end()))
        start = end.end()
    if start < len(text):
        found.append((start, len(text)))
    return [span for span in found if text[slice(*span)].strip()]


def nameless(text: str, names: Sequence[Span] = ()) -> str:
    """A sentence without the names at these places, without a label ("Q:") before it, and without white space at its ends."""
    parts, done = [], 0
    for start, end in sorted(names):
        if start >= done:
            parts += [text[done:start], NAMELESS]
            done = end
    whole = " ".join(("".join(parts) + text[done:]).split())
    label = _LABEL.match(whole)
    return whole[label.end() :] if label and NAMELESS in whole[label.end() :].lower() else whole


def question_in_turn(text: str, names: Sequence[Span], *, named_before: bool = False) -> str | None:
    """What a user's turn asks of the subject named at these places; None when it asks about something else.

    named_before: whether an earlier turn named the subject, and this one names nobody.
    """
    found = [span for span in sentences(text, names) if _says_something(text, span)]
    asking = [span for span in found if _asks(text, span)]
    naming = [span for span in found if _within(names, span)]
    if asking:
        last = asking[-1]
        if (asked := _asked(text, last, names, named_before or any(span < last for span in naming))) is not None:
            return asked
        naming = [span for span in naming if span > last]
    elif not naming and named_before and found:
        return _asked(text, found[-1], names, named_before)
    return _nameless_at(text, naming[-1], names) if naming else None


def question_before(text: str, names: Sequence[Span]) -> str | None:
    """What is asked of the subject named at these places where a text ends, or goes on; None where nothing is."""
    found = sentences(text, names)
    if found and _LABEL.fullmatch(text[slice(*found[-1])]):
        found.pop()  # "A:"
    found = [span for span in found if _says_something(text, span)]
    if not found:
        return None
    before = found[-1 - LOOKED_BACK : -1]
    return _asked(text, found[-1], names, any(_within(names, span) for span in before))


def is_question(text: str) -> bool:
    """Whether a sentence says by its end that it is one."""
    return text.rstrip().endswith(tuple(QUESTION_MARKS))


def _asked(text: str, span: Span, names: Sequence[Span], named_before: bool) -> str | None:
    """Of one sentence, by name or by pronoun."""
    if _within(names, span):
        return _nameless_at(text, span, names)
    pronouns = [(each.start() + span[0], each.end() + span[0]) for each in _PRONOUN.finditer(text[slice(*span)])]
    if named_before and pronouns and not _names_another(text, span):
        return _nameless_at(text, span, pronouns)
    return None


def _within(names: Sequence[Span], span: Span) -> list[Span]:
    return [name for name in names if span[0] <= name[0] and name[1] <= span[1]]


def _nameless_at(text: str, span: Span, names: Sequence[Span]) -> str:
    return nameless(text[slice(*span)], [(a - span[0], b - span[0]) for a, b in _within(names, span)])


def _asks(text: str, span: Span) -> bool:
    return is_question(text[slice(*span)])


def _says_something(text: str, span: Span) -> bool:
    """Whether there is more in it than function words: "Can you tell me?" asks nothing by itself."""
    return any(word.text not in function_words() or word.text in PRONOUNS for word in words(text[slice(*span)]))


def _names_another(text: str, span: Span) -> bool:
    """Whether it has a capitalised word after its first."""
    return any(
        text[span[0] + word.start].isupper() and word.text not in function_words() for word in words(text[slice(*span)])[1:]
    )
