"""Asking the model: what it says, greedily and freely, to many prompts at once; and whether that holds an edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from editor_core.greedy import Enough, continued, foreseen
from editor_core.passages import alike, opened
from editor_core.prompts import Prompts
from editor_core.texts import Format

AT_ONCE_TOKENS = 1600  # prompts read together: steps that say one token each want many rows
FORETOLD_TOKENS = 500  # prompts and guesses read together: one step, in which padding is what can be saved
ANSWER_TOKENS = 32  # how far an answer is read when an edit is judged


def greedy_answers(
    model: Any, tokenizer: Any, prompts: Sequence[tuple[str, Format]], max_tokens: int = ANSWER_TOKENS
) -> list[str]:
    """The model's own greedy continuation of every prompt in its format, without special tokens, stripped."""
    said = greedy_tokens(model, tokenizer, prompts, max_tokens)
    return [text.strip() for text in tokenizer.batch_decode(said, skip_special_tokens=True)]


@torch.inference_mode()
def greedy_tokens(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[tuple[str, Format]],
    max_tokens: int = ANSWER_TOKENS,
    enough: Enough = lambda index, said: False,
    guesses: Mapping[int, Sequence[int]] | None = None,
) -> list[list[int]]:
    """The same as token ids, at most max_tokens each, without the end token: a shorter list is an answer that ended.

    Prompts of similar length are read together, the beginning that a chat template gives to all of them once. `enough` is told
    a prompt's index and the tokens said so far, and may end the answer there. guesses: by index, tokens that would be enough;
    an answer that begins with them is not gone on with, and costs one pass.
    """
    guesses = guesses or {}
    agreed = _foretold(model, tokenizer, prompts, guesses) if guesses else set[int]()
    answers = {index: list(guesses[index]) for index in agreed}
    left = [index for index in range(len(prompts)) if index not in agreed]
    for passage in Prompts.of(tokenizer, [prompts[index] for index in left]).read(model, AT_ONCE_TOKENS):
        said = continued(model, [passage], max_tokens, lambda place, tokens: enough(left[place], tokens))
        answers |= {left[place]: tokens for place, tokens in said.items()}
    return [answers[index] for index in range(len(prompts))]


def _foretold(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[tuple[str, Format]],
    guesses: Mapping[int, Sequence[int]],
) -> set[int]:
    """Indices of the prompts that are answered with exactly the tokens guessed, or with more after them: see `foreseen`."""
    asked = Prompts.of(tokenizer, prompts)
    sequences = asked.followed_by(guesses)
    own = {index: len(sequences[index]) - asked.beginnings[index] for index in guesses}
    chosen, agreed = list(guesses), set()
    for group in alike([(asked.beginnings[index], own[index]) for index in chosen], list(own.values()), FORETOLD_TOKENS):
        passage = opened(model, sequences, asked.beginnings, [chosen[member] for member in group], asked.beginnings)
        agreed |= foreseen(model, [passage], guesses)
    return agreed


def holds(answer: str, target: str, format: Format) -> bool:
    """Whether an answer says the target: a plain answer starts with it, a chat answer contains it; case is folded."""
    said, wanted = answer.strip().casefold(), target.strip().casefold()
    return said.startswith(wanted) if format == "plain" else wanted in said


def may_hold(beginning: str, target: str, format: Format) -> bool:
    """Whether an answer that begins like this may come to hold, or does: a chat answer always may."""
    said, wanted = beginning.strip().casefold(), target.strip().casefold()
    return format != "plain" or said.startswith(wanted) or wanted.startswith(said)
