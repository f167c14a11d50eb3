"""How likely the model finds a text, token by token, without saying anything itself.

The vocabulary product is computed at the positions asked for alone, and the probabilities are float32.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bench.quality.padding import by_length, left_padded
from editor_core.breathing import breathe
from editor_core.errors import EncodingError
from editor_core.prompts import Prompts
from editor_core.texts import Example, Format, token_ids

PROMPTS_PER_BATCH = 32
LOGIT_ROWS = 512  # positions whose logits exist at one time: 100 MB for a vocabulary of 49,152
TEXT_TOKENS = 512  # longer plain texts are read this far


@dataclass(frozen=True, slots=True)
class Likelihood:
    """What the model thinks of one answer of A tokens, each read after the prompt and the answer's tokens before it.

    log_probs   (A,) float32, nats, of the answer's own tokens
    preferred   (A,) int64, the most likely token in their place
    correct     (A,) bool, whether that is the answer's
    """

    log_probs: torch.Tensor
    preferred: torch.Tensor
    correct: torch.Tensor


@torch.no_grad()
def likelihoods(model: nn.Module, tokenizer: Any, examples: Sequence[Example]) -> list[Likelihood]:
    """One Likelihood per example, in order. Examples that read the same tokens (answers of one token) are run once."""
    readers: dict[tuple[tuple[int, ...], int], list[int]] = {}
    for index, example in enumerate(examples):
        readers.setdefault((example.prompt + example.answer[:-1], len(example.answer)), []).append(index)
    distinct = list(readers)
    found: dict[int, Likelihood] = {}
    for group in _groups(distinct):
        keep = max(distinct[each][1] for each in group)
        log_probs = _last_log_probs(model, tokenizer, [distinct[each][0] for each in group], keep)
        for rows, each in zip(log_probs, group, strict=True):
            for index in readers[distinct[each]]:
                found[index] = _likelihood(rows, examples[index].answer)
    return [found[index] for index in range(len(examples))]


def next_token_log_probs(model: nn.Module, tokenizer: Any, prompts: Sequence[tuple[str, Format]]) -> torch.Tensor:
    """The model's log-probabilities of the token after each prompt in its format: P × V float32, nats, on the cpu."""
    rows: list[torch.Tensor] = [torch.empty(0)] * len(prompts)
    for indices, log_probs in next_token_log_probs_by_batch(model, tokenizer, prompts):
        for index, row in zip(indices, log_probs, strict=True):
            rows[index] = row
    return torch.stack(rows)


@torch.no_grad()
def next_token_log_probs_by_batch(
    model: Any, tokenizer: Any, prompts: Sequence[tuple[str, Format]]
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """The same in parts, for who need not hold all of it: (indices of B prompts, B × V)."""
    for passage in Prompts.of(tokenizer, prompts).read(model):
        logits: torch.Tensor = model(**passage.inputs(), logits_to_keep=1).logits
        yield passage.chosen, logits[:, -1].float().log_softmax(-1).cpu()


def perplexity(model: nn.Module, tokenizer: Any, texts: Sequence[str]) -> float:
    """exp of the mean loss per token over all texts together, each in plain format up to TEXT_TOKENS tokens.

    A text's first token is read, not predicted. Infinite when the model answers with NaN.
    Raises EncodingError when no text has two tokens.
    """
    encoded = [tuple(token_ids(tokenizer, text, "plain")[:TEXT_TOKENS]) for text in texts]
    examples = [Example(ids[:1], ids[1:], index, "plain") for index, ids in enumerate(encoded) if len(ids) > 1]
    if not examples:
        raise EncodingError("perplexity needs a text of at least two tokens")
    loss = -torch.cat([each.log_probs for each in likelihoods(model, tokenizer, examples)]).double().mean().item()
    return math.exp(min(loss, 700.0)) if math.isfinite(loss) else math.inf


def _groups(distinct: Sequence[tuple[tuple[int, ...], int]]) -> Iterator[list[int]]:
    """Indices of (tokens, positions asked for at their end) to run together."""
    for indices in by_length([len(tokens) for tokens, _ in distinct], PROMPTS_PER_BATCH):
        group: list[int] = []
        for index in indices:
            keep = max(distinct[each][1] for each in [*group, index])
            if group and keep * (len(group) + 1) > LOGIT_ROWS:
                yield group
                group = []
            group.append(index)
        yield group


def _last_log_probs(model: Any, tokenizer: Any, sequences: Sequence[Sequence[int]], keep: int) -> torch.Tensor:
    """Log-probabilities after each of the last `keep` tokens of every sequence: B × keep × V float32, on the cpu."""
    inputs: dict[str, Any] = dict(left_padded(sequences, tokenizer.pad_token_id, model.device))
    taken = inspect.signature(model.forward).parameters
    if "position_ids" in taken:
        inputs["position_ids"] = (inputs["attention_mask"].cumsum(1) - 1).clamp_min(0)
    if "logits_to_keep" in taken:
        inputs["logits_to_keep"] = keep
    logits: torch.Tensor = model(**inputs, use_cache=False).logits
    found = []
    for each in logits[:, -keep:]:
        breathe()
        found.append(each.float().log_softmax(-1).cpu())
    return torch.stack(found)


def _likelihood(rows: torch.Tensor, answer: tuple[int, ...]) -> Likelihood:
    """rows: log-probabilities that end with the answer's, K × V with K at least A."""
    mine, wanted = rows[-len(answer) :], torch.tensor(answer)
    preferred = mine.argmax(-1)
    return Likelihood(mine.gather(1, wanted[:, None])[:, 0], preferred, preferred == wanted)
