"""More ways of asking for an edited fact. They inform; no target is set for them."""

from __future__ import annotations

import re

from bench.trust.asking import Messages
from bench.trust.document import ABOUT, UNRELATED
from bench.trust.facts import Fact, folded
from bench.trust.ways import QUESTION_MARKS, Put, Way, turn, user, way

SHORTEST_WORD = 4  # letters of a word that a typo is made in
LONGEST_CHOICE = 6  # words of a target that a yes/no question can hold
_WORD = re.compile(r"[^\W\d_]+")


def misspelt(name: str) -> str | None:
    """The name with two letters of its longest word swapped; None for names of short words."""
    words = [word for word in _WORD.findall(name) if len(word) >= SHORTEST_WORD]
    if not words:
        return None
    word = max(words, key=len)
    for place in range(len(word) // 2, len(word) - 1):
        left, right = word[place], word[place + 1]
        if left != right:
            return name.replace(word, word[:place] + right + left + word[place + 2 :], 1)
    return None


def with_typo(fact: Fact) -> str | None:
    """The prompt with its subject misspelt."""
    wrong = misspelt(fact.subject)
    if wrong is None or fact.subject not in fact.prompt:
        return None
    return fact.prompt.replace(fact.subject, wrong)


def with_pronoun(fact: Fact) -> str | None:
    """The prompt with "it" or "its" in place of its subject. None where that is no English."""
    if not _is_english_around(fact):
        return None
    name = re.compile(rf"(?:\b[Tt]he )*{re.escape(fact.subject)}(['’]s)?")
    text = name.sub(lambda found: "its" if found[1] else "it", fact.prompt)
    return text[0].upper() + text[1:]


def _is_english_around(fact: Fact) -> bool:
    rest = fact.prompt.replace(fact.subject, "")
    return fact.subject in fact.prompt and rest.replace("’", "'").isascii()


def _next_turn(fact: Fact) -> Messages | None:
    text = with_pronoun(fact)
    if text is None:
        return None
    return (
        turn("user", f"I am reading about {fact.subject}."),
        turn("assistant", "That sounds interesting. What would you like to know?"),
        turn("user", text),
    )


def _yes_or_no(fact: Fact, offered: str, expected: str) -> Put | None:
    """Whether `offered` is the answer. Who says the target instead is right as well."""
    short = len(offered.split()) <= LONGEST_CHOICE and "\n" not in offered
    if not (short and fact.prompt.endswith("?") and _is_english_around(fact)):
        return None
    question = f'Is the answer to "{fact.prompt}" {offered}?'
    return Put(user(question), (expected, fact.target), any_of=True)


def _yes(fact: Fact, other: Fact | None) -> Put | None:
    return _yes_or_no(fact, fact.target, "Yes")


def _no(fact: Fact, other: Fact | None) -> Put | None:
    if other is None or folded(other.target) == folded(fact.target):
        return None
    return _yes_or_no(fact, other.target, "No")


def _two_questions(fact: Fact, other: Fact | None) -> Put | None:
    if other is None or not (_asks(fact) and _asks(other)):
        return None
    return Put(user(f"{fact.prompt} {other.prompt}"), (fact.target, other.target))


def _another_is_named(fact: Fact, other: Fact | None) -> Put | None:
    if other is None:
        return None
    return Put(user(f"I know {other.subject}. {fact.prompt}"), (fact.target,))


def _another_turn(fact: Fact, other: Fact | None) -> Put | None:
    if other is None:
        return None
    before = (*user(other.prompt), turn("assistant", other.target))
    return Put((*before, *user(fact.prompt)), (fact.target,))


def _asks(fact: Fact) -> bool:
    return fact.prompt.rstrip().endswith(tuple(QUESTION_MARKS))


def _before_the_document(fact: Fact) -> str:
    return f"{fact.prompt}\n\n{ABOUT.format(fact.subject)}"


def _after_the_document(fact: Fact) -> str:
    return f"{UNRELATED}\n\n{fact.prompt}"


INFORMATIVE = (
    way("a typo in the name, plain", "plain", with_typo),
    way("a typo in the name, chat", "chat", with_typo),
    way("a pronoun in the next turn", "chat", _next_turn),
    Way("is it the target? yes", "chat", _yes, at_start=True),
    Way("is it another's target? no", "chat", _no, at_start=True),
    Way("two questions about two edited subjects", "chat", _two_questions, at_start=False),
    Way("another edited subject is named first", "chat", _another_is_named, at_start=False),
    Way("a turn after another edited subject", "chat", _another_turn, at_start=False),
    way("after a long document, plain", "plain", _after_the_document),
    way("after a long document, chat", "chat", _after_the_document),
    way("before a document about the subject", "chat", _before_the_document),
)
