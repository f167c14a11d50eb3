"""Prompts that stand for everything an edit must leave alone, made from the tokenizer's own vocabulary.

Questions of many kinds about names that nobody has: two or three random tokens each. They show a model's usual
inputs, in the words questions are made of and across the vocabulary, and name no real thing that an edit might be about.
"""

from __future__ import annotations

import random
from typing import Any

VERSION = 2  # of the anchors; a change makes kept backgrounds stale
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


def anchor_prompts(tokenizer: Any, count: int) -> list[str]:
    """`count` prompts, the same for the same tokenizer."""
    draw = random.Random(SEED)
    tokens = sorted(tokenizer.get_vocab())
    starts = [token[1:] for token in tokens if token[:1] in SPACE_MARKS and _is_word(token[1:])]
    ends = [token for token in tokens if _is_word(token) and token.islower()]
    starts, ends = starts or ["thing"], ends or [""]
    prompts = []
    for _ in range(count):
        prompt = draw.choice(QUESTIONS).format(_name(draw, starts, ends))
        if not prompt.endswith((" is", " by", " that")) and draw.random() < 0.8:
            prompt += "?"
        prompts.append(prompt[0].upper() + prompt[1:] if draw.random() < 0.5 else prompt)
    return prompts


def _is_word(text: str) -> bool:
    return len(text) > 1 and text.isalpha() and text.isascii()


def _name(draw: random.Random, starts: list[str], ends: list[str]) -> str:
    words = [
        draw.choice(starts) + "".join(draw.choice(ends) for _ in range(draw.choice((0, 0, 1, 1, 2))))
        for _ in range(draw.choice((1, 1, 2, 2, 3)))
    ]
    if draw.random() < 0.6:
        words = [word[0].upper() + word[1:] for word in words]
    return " ".join(words) + (f" {draw.randint(1, 2020)}" if draw.random() < 0.12 else "")
