"""What gates are asked: a wording that was taught, and one that is to open the gate or not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.trust.facts import Fact
from bench.trust.questions import FOUR, TWELVE, same_subject
from editor_core.scoped.entry import Entry
from editor_core.scoped.in_force import EditsInForce
from editor_core.scoped.question import NAMELESS, Span, nameless, question_in_turn
from editor_core.scoped.subject import Rarity, find_subject
from editor_core.scoped.words import name_key, words

REPHRASE, OF_FOUR, OF_TWELVE = "rephrases", "the 4", "the 12"
HARD_SAME, HARD_ANOTHER = "hard: the same", "hard: another"
SORTS = (REPHRASE, OF_FOUR, OF_TWELVE, HARD_SAME, HARD_ANOTHER)
HARD_PAIRS = Path(__file__).with_name("hard_pairs.json")


@dataclass(frozen=True, slots=True)
class Wording:
    """A question as it is put, and without its subject's name."""

    whole: str
    nameless: str


@dataclass(frozen=True, slots=True)
class Pair:
    """asked None: it does not name the subject that was found, and no gate is asked."""

    sort: str
    taught: Wording
    asked: Wording | None


def pairs_of(fact: Fact, rarity: Rarity) -> Iterator[Pair]:
    """A fact's prompt with its rephrase, and with questions that ask something else."""
    name = find_subject(fact.prompt, (), rarity) or fact.prompt
    prompt = wording(fact.prompt, name) or Wording(fact.prompt, fact.prompt)
    if fact.rephrase:
        yield Pair(REPHRASE, prompt, wording(fact.rephrase, name))
    for sort, templates in ((OF_FOUR, FOUR), (OF_TWELVE, TWELVE)):
        for question, _ in same_subject([fact], templates):
            yield Pair(sort, prompt, wording(question, name))


def hard_pairs(path: Path = HARD_PAIRS) -> Iterator[Pair]:
    """Written by hand: near misses, and the same in other words."""
    for row in json.loads(path.read_text(encoding="utf-8")):
        taught = _filled(row["taught"], row["subject"])
        for sort, key in ((HARD_SAME, "same"), (HARD_ANOTHER, "another")):
            for template in row[key]:
                yield Pair(sort, taught, _filled(template, row["subject"]))


def wording(text: str, name: str) -> Wording | None:
    """As a user's turn asks it; None when it asks nothing of what bears this name."""
    places = _places(text, name)
    asked = question_in_turn(text, places) if places else None
    return None if asked is None else Wording(text, asked)


def _places(text: str, name: str) -> Sequence[Span]:
    known = EditsInForce().changed({1: Entry("", (name_key(name),), b"")})
    return [(each.start, each.end) for each in known.mentions(words(text))]


def _filled(template: str, subject: str) -> Wording:
    return Wording(template.replace("{}", subject), nameless(template.replace("{}", NAMELESS)))
