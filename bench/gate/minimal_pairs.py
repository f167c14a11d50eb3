"""Classes that differ in one word: what was done to a thing, or when, where, why, how, by whom."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

Wordings = tuple[str, ...]  # of one question, "{}" in place of its subject's name

HERE = Path(__file__).parent
PARTICIPLES, NOUNS = HERE / "participles.txt", HERE / "nouns.txt"  # one a line
PAST = {"stolen": "stole", "grown": "grew", "sunk": "sank"}  # where it is not the participle
BORN = "born"  # that one is so is not asked, nor by whom


def minimal_pairs() -> list[Wordings]:
    """Of all verbs, then of all nouns."""
    verbs = [wordings for each in _lines(PARTICIPLES) for wordings in of_verb(each)]
    return [*verbs, *map(of_noun, _lines(NOUNS))]


def of_verb(done: str) -> Iterator[Wordings]:
    """When, where, why, how, by whom and whether something was done: a class each."""
    yield (
        f"When was {{}} {done}?",
        f"In which year was {{}} {done}?",
        f"What year was {{}} {done} in?",
        f"{{}} was {done} in the year",
        f"The date when {{}} was {done} is",
        f"On what date was {{}} {done}?",
    )
    yield (
        f"Where was {{}} {done}?",
        f"In what place was {{}} {done}?",
        f"Which place was {{}} {done} in?",
        f"{{}} was {done} in the place called",
        f"The place where {{}} was {done} is",
    )
    yield (
        f"Why was {{}} {done}?",
        f"For what reason was {{}} {done}?",
        f"What was the reason {{}} was {done}?",
        f"{{}} was {done} because",
        f"The reason why {{}} was {done} is",
    )
    yield (
        f"How was {{}} {done}?",
        f"In what way was {{}} {done}?",
        f"By what means was {{}} {done}?",
        f"The way in which {{}} was {done} is",
    )
    if done == BORN:
        return
    did = PAST.get(done, done)
    yield (
        f"Who {did} {{}}?",
        f"{{}} was {done} by whom?",
        f"By whom was {{}} {done}?",
        f"The person who {did} {{}} is",
        f"{{}} was {done} by",
        f"Who was it that {did} {{}}?",
    )
    yield f"Was {{}} {done}?", f"Has {{}} been {done}?", f"Is it true that {{}} was {done}?"


def of_noun(noun: str) -> Wordings:
    """One class: what this of a thing is."""
    return (
        f"What is the {noun} of {{}}?",
        f"What is {{}}'s {noun}?",
        f"{{}}'s {noun} is",
        f"The {noun} of {{}} is",
        f"Which {noun} does {{}} have?",
        f"Tell me the {noun} of {{}}.",
        f"{{}} {noun}",
    )


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()
