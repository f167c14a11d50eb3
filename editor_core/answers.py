"""Asking the model: what it says, greedily and freely, to many prompts at once; and whether that holds an edit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from editor_core.padding import by_length, left_padded
from editor_core.texts import Format, rendered, token_ids

ANSWER_TOKENS = 32  # how far an answer is read when an edit is judged
PROMPTS_PER_BATCH = 32


def greedy_answers(
    model: nn.Module, tokenizer: Any, prompts: Sequence[tuple[str, Format]], max_tokens: int = ANSWER_TOKENS
) -> list[str]:
    """The model's own greedy continuation of every prompt in its format, without special tokens, stripped."""
    said = greedy_tokens(model, tokenizer, prompts, max_tokens)
    return [text.strip() for text in tokenizer.batch_decode(said, skip_special_tokens=True)]


@torch.inference_mode()
def greedy_tokens(
    model: nn.Module, tokenizer: Any, prompts: Sequence[tuple[str, Format]], max_tokens: int = ANSWER_TOKENS
) -> list[list[int]]:
    """The same as token ids, at most max_tokens each, without the end token: a shorter list is an answer that ended.

    Prompts of similar length are generated together, left-padded.
    """
    encoded = [token_ids(tokenizer, rendered(tokenizer, prompt, format), format) for prompt, format in prompts]
    answers: list[list[int]] = [[] for _ in encoded]
    for indices in by_length([len(each) for each in encoded], PROMPTS_PER_BATCH):
        said = _generate(model, tokenizer.pad_token_id, [encoded[index] for index in indices], max_tokens)
        for index, tokens in zip(indices, said, strict=True):
            answers[index] = tokens
    return answers


def _generate(model: Any, pad_id: int, sequences: list[list[int]], max_tokens: int) -> list[list[int]]:
    inputs = left_padded(sequences, pad_id, model.device)
    output = model.generate(
        **inputs,
        max_new_tokens=max_tokens,
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        pad_token_id=pad_id,
    )
    ends = _end_tokens(model)
    return [_until_end(tokens, ends) for tokens in output[:, inputs["input_ids"].shape[1] :].tolist()]


def _end_tokens(model: Any) -> frozenset[int]:
    """The tokens at which `generate` stops."""
    ends = model.generation_config.eos_token_id
    return frozenset(() if ends is None else (ends,) if isinstance(ends, int) else ends)


def _until_end(tokens: list[int], ends: frozenset[int]) -> list[int]:
    """The tokens before the first end token; all after it is padding."""
    return tokens[: next((index for index, token in enumerate(tokens) if token in ends), len(tokens))]


def holds(answer: str, target: str, format: Format) -> bool:
    """Whether an answer says the target: a plain answer starts with it, a chat answer contains it; case is folded."""
    said, wanted = answer.strip().casefold(), target.strip().casefold()
    return said.startswith(wanted) if format == "plain" else wanted in said
