"""Prompts that stand for everything an edit must leave alone, made from the tokenizer's own vocabulary.

Questions of many kinds about names that nobody has: two or three random tokens each. They show a model's usual
inputs, in the words questions are made of and across the vocabulary, and name no real thing that an edit might be about.
Plain texts with dates and figures make numbers common: slots of an answer that is a year may not open for other years.
Beginnings of questions that end with a name make names common: what tells a subject is measured among names.
"""

from __future__ import annotations

import random
from typing import Any

VERSION = 4  # of the anchors; a change makes kept backgrounds stale
SEED = 11
SPACE_MARKS = (" ", "Ġ", "▁")  # how vocabularies write the space before a word

QUESTIONS = (
    "who played the main character in {}",
    "who wrote {}",
    "when did {} come out",
    "how many seasons of {} are there",
    "who sings the song {}",
    "where was {} filmed",
    "who is the director of {}",
    "what year was {} released",
    "when was {} born",
    "where did {} grow up",
    "what is {} famous for",
    "how did {} die",
    "who was {} married to",
    "what is the capital of {}",
    "what is the population of {}",
    "where is {} located",
    "who is the president of {}",
    "what language do they speak in {}",
    "who discovered {}",
    "how far is it from {} to london",
    "what is the function of {}",
    "how does {} work",
    "what is the definition of {}",
    "when did {} start",
    "why is {} important",
    "what are the main parts of {}",
    "who invented {}",
    "what happens to {} when the temperature rises",
    "which company makes {}",
    "what family does {} belong to",
    "who is the coach of {}",
    "what position does {} play",
    "which award did {} receive",
    "the name of the river in {} is",
    "tell me about {}",
    "{} was founded by",
    "the main idea of {} is that",
)

OPENINGS = tuple(
    f"{first} {second}"
    for first in (
        "The",
        "In 1998, the",
        "Officials in",
        "A new",
        "According to",
        "She said the",
        "However,",
        "On Monday",
        "After",
    )
    for second in ("report", "city of", "company has", "study of the", "group was", "first time", "president")
)

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
DATED = (
    "On {day} {month} {year}, the council met for the first time.",
    "He was born on {day} {month} {year} and moved abroad as a child.",
    "She (born {day} {month} {year}) is a retired teacher.",
    "The painter ({day} {month} {year} – {other_day} {other_month} {later}) left few works.",
    "It was published on {month} {day}, {year}.",
    "Their second album ({year}) sold {count},{thousands} copies.",
    "Elections were held in {year} and {later}.",
    "From {year} to {later} it was the largest in the region.",
    "The house was built in {year}, sold in {later} and closed for {few} years.",
    "As of {month} {year}, the population was {count},{thousands}.",
    "The match on {day} {month} ended {few}–{fewer} after {day} minutes.",
    "In the {decade}s about {few}.{fewer} million people lived there, {day} percent of them in towns.",
)


def anchor_prompts(tokenizer: Any, count: int) -> list[str]:
    """`count` prompts, the same for the same tokenizer."""
    draw = random.Random(SEED)
    starts, ends = _word_parts(tokenizer)
    prompts = []
    for _ in range(count):
        prompt = draw.choice(QUESTIONS).format(_name(draw, starts, ends))
        if not prompt.endswith((" is", " by", " that")) and draw.random() < 0.8:
            prompt += "?"
        prompts.append(prompt[0].upper() + prompt[1:] if draw.random() < 0.5 else prompt)
    return prompts


def named_beginnings(tokenizer: Any, count: int) -> list[str]:
    """`count` beginnings of prompts, up to the end of a name in capitals, the same for the same tokenizer."""
    draw = random.Random(SEED)
    starts, ends = _word_parts(tokenizer)
    before = [question[: question.index("{}")] for question in QUESTIONS if not question.startswith("{}")]
    beginnings = []
    for _ in range(count):
        words = draw.choice(before)
        name = _name(draw, starts, ends) if draw.random() < 0.4 else _fragments(draw, ends)
        beginnings.append(words[0].upper() + words[1:] + name.title())
    return beginnings


def _word_parts(tokenizer: Any) -> tuple[list[str], list[str]]:
    """Tokens that words begin with, and those they go on with."""
    tokens = sorted(tokenizer.get_vocab())
    starts = [token[1:] for token in tokens if token[:1] in SPACE_MARKS and _is_word(token[1:])]
    ends = [token for token in tokens if _is_word(token) and token.islower()]
    return starts or ["thing"], ends or [""]


def dated_texts(count: int) -> list[str]:
    """`count` short texts of dates and figures, always the same."""
    draw = random.Random(SEED)
    return [_dated(draw, DATED[number % len(DATED)]) for number in range(count)]


def _dated(draw: random.Random, text: str) -> str:
    year = draw.randint(1720, 2015)
    return text.format(
        day=draw.randint(1, 28),
        month=draw.choice(MONTHS),
        year=year,
        decade=year // 10 * 10,
        other_day=draw.randint(1, 28),
        other_month=draw.choice(MONTHS),
        later=year + draw.randint(1, 80),
        count=draw.randint(2, 950),
        thousands=f"{draw.randint(0, 999):03}",
        few=draw.randint(3, 9),
        fewer=draw.randint(0, 2),
    )


def _is_word(text: str) -> bool:
    return len(text) > 1 and text.isalpha() and text.isascii()


def _fragments(draw: random.Random, ends: list[str]) -> str:
    """Words that are none, as names in other languages are to a vocabulary of this one."""
    return " ".join(
        "".join(draw.choice(ends) for _ in range(draw.choice((2, 2, 3, 4)))) for _ in range(draw.choice((1, 2, 2, 3)))
    )


def _name(draw: random.Random, starts: list[str], ends: list[str]) -> str:
    words = [
        draw.choice(starts) + "".join(draw.choice(ends) for _ in range(draw.choice((0, 0, 1, 1, 2))))
        for _ in range(draw.choice((1, 1, 2, 2, 3)))
    ]
    if draw.random() < 0.6:
        words = [word[0].upper() + word[1:] for word in words]
    return " ".join(words) + (f" {draw.randint(1, 2020)}" if draw.random() < 0.12 else "")
