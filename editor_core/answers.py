"""Asking the model: what it says, greedily and freely, to many prompts at once; and whether that holds an edit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from editor_core.texts import Format, rendered, token_ids

ANSWER_TOKENS = 32  # how far an answer is read when an edit is judged
PROMPTS_PER_BATCH = 32


@torch.inference_mode()
def greedy_answers(
    model: nn.Module, tokenizer: Any, prompts: Sequence[tuple[str, Format]], max_tokens: int = ANSWER_TOKENS
) -> list[str]:
    """The model's own greedy continuation of every prompt in its format, without special tokens, stripped.

    Prompts of similar length are generated together, left-padded.
    """
    encoded = [token_ids(tokenizer, rendered(tokenizer, prompt, format), format) for prompt, format in prompts]
    order = sorted(range(len(encoded)), key=lambda index: len(encoded[index]))
    answers = [""] * len(encoded)
    for start in range(0, len(order), PROMPTS_PER_BATCH):
        indices = order[start : start + PROMPTS_PER_BATCH]
        for index, text in zip(indices, _generate(model, tokenizer, [encoded[i] for i in indices], max_tokens), strict=True):
            answers[index] = text
    return answers


def _generate(model: Any, tokenizer: Any, sequences: list[list[int]], max_tokens: int) -> list[str]:
    width = max(len(sequence) for sequence in sequences)
    input_ids = torch.full((len(sequences), width), tokenizer.pad_token_id)
    attention_mask = torch.zeros(len(sequences), width, dtype=torch.int64)
    for row, sequence in enumerate(sequences):
        input_ids[row, width - len(sequence) :] = torch.tensor(sequence)
        attention_mask[row, width - len(sequence) :] = 1
    output = model.generate(
        input_ids=input_ids.to(model.device),
        attention_mask=attention_mask.to(model.device),
        max_new_tokens=max_tokens,
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    return [text.strip() for text in tokenizer.batch_decode(output[:, width:], skip_special_tokens=True)]


def holds(answer: str, target: str, format: Format) -> bool:
    """Whether an answer says the target: a plain answer starts with it, a chat answer contains it; case is folded."""
    said, wanted = answer.strip().casefold(), target.strip().casefold()
    return said.startswith(wanted) if format == "plain" else wanted in said
