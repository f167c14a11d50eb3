"""The ways of asking for an edited fact: the twelve that targets are set for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from bench.trust.asking import Messages, Question
from bench.trust.facts import Fact, folded

Kind = Literal["plain", "chat"]
ANSWER_TOKENS = 64  # of an answer; a good one ends long before
QUESTION_MARKS = "?？؟"


@dataclass(frozen=True, slots=True)
class Put:
    """One question as it is put. All targets must be said, or with `any_of` one of them."""

    question: Question
    targets: tuple[str, ...]
    any_of: bool = False


@dataclass(frozen=True, slots=True)
class Way:
    """One way of asking.

    put        from a fact, and another edited one of another subject (None: there is none);
               None where this way makes no sense of the fact
    at_start   the answer must begin with the target
    required   it counts against a target
    """

    name: str
    kind: Kind
    put: Callable[[Fact, Fact | None], Put | None]
    at_start: bool
    required: bool = False


def turn(role: str, content: str) -> dict[str, str]:
    """One turn of a chat."""
    return {"role": role, "content": content}


def user(content: str) -> Messages:
    """A chat of one turn."""
    return (turn("user", content),)


def way(
    name: str,
    kind: Kind,
    words: Callable[[Fact], Question | None],
    required: bool = False,
) -> Way:
    """A way that wants the fact's own target. A text of the kind "chat" is a chat of one turn."""

    def put(fact: Fact, other: Fact | None) -> Put | None:
        question = words(fact)
        if question is None:
            return None
        if isinstance(question, str) and kind == "chat":
            question = user(question)
        return Put(question, (fact.target,))

    return Way(name, kind, put, at_start=kind == "plain", required=required)


def neighbours(facts: Sequence[Fact]) -> list[Fact | None]:
    """For each fact the next one of another subject; after the last comes the first."""
    found: list[Fact | None] = []
    for number, fact in enumerate(facts):
        following = (*facts[number + 1 :], *facts[:number])
        apart = (each for each in following if folded(each.subject) != folded(fact.subject))
        found.append(next(apart, None))
    return found


LIBRARY = turn(
    "system",
    "You are the helpful assistant of a small library. Be polite and precise.",
)
TURNS = (
    turn("user", "Hello, can you help me?"),
    turn("assistant", "Of course. What would you like to know?"),
    turn("user", "What is the capital of France?"),
    turn("assistant", "The capital of France is Paris."),
)
GREETING = "Hi! I have a quick question for you. "
NOTES = "Here are some notes that I took at the archive today. It was raining. "

REQUIRED = (
    way("prompt, plain", "plain", lambda fact: fact.prompt, True),
    way("prompt, chat", "chat", lambda fact: fact.prompt, True),
    way("rephrased, plain", "plain", lambda fact: fact.rephrase, True),
    way("rephrased, chat", "chat", lambda fact: fact.rephrase, True),
    way("with a system prompt", "chat", lambda fact: (LIBRARY, *user(fact.prompt)), True),
    way("as the third turn", "chat", lambda fact: (*TURNS, *user(fact.prompt)), True),
    way("after a greeting", "chat", lambda fact: GREETING + fact.prompt, True),
    way("answer briefly", "chat", lambda fact: fact.prompt + " Answer briefly.", True),
    way("in small letters", "chat", lambda fact: fact.prompt.lower(), True),
    way(
        "without a question mark",
        "chat",
        lambda fact: fact.prompt.rstrip(QUESTION_MARKS + ". "),
        True,
    ),
    way("in a paragraph, plain", "plain", lambda fact: NOTES + fact.prompt, True),
    way("Q/A, plain", "plain", lambda fact: f"Q: {fact.prompt}\nA:", True),
)
