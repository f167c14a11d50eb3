"""Choosing the next token of many sequences at once, each in its own way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

NUCLEUS_GUESS = 256  # most nuclei are smaller; the whole vocabulary is sorted only for those that are not
LEAST_TEMPERATURE = 1e-6  # below it float32 knows no other answer than the likeliest


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a sequence is to go on.

    temperature   0: the most likely token, always
    top_p         sampled from the smallest set of tokens that has this much of the probability
    seed          draws that can be repeated; None: different every time
    stop          texts that end the answer and are not part of it
    logprobs      so many alternatives are reported with every token; None: no logprobs at all
    echo          logprobs of the prompt's own tokens as well
    """

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    echo: bool = False

    def generator(self) -> torch.Generator | None:
        """The sequence's own source of chance; None for greedy ones."""
        if self.temperature == 0:
            return None
        generator = torch.Generator()
        if self.seed is None:
            generator.seed()
        else:
            generator.manual_seed(self.seed)
        return generator


@dataclass(frozen=True, slots=True)
class Scored:
    """A token, its log probability (None where none was asked for), and the likeliest tokens with theirs."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def chosen(logits: torch.Tensor, samplings: Sequence[Sampling], generators: Sequence[torch.Generator | None]) -> list[int]:
    """One token for each row. logits: B × vocabulary, float32."""
    tokens: list[int] = logits.argmax(-1).tolist()
    drawn = [row for row, generator in enumerate(generators) if generator is not None]
    if not drawn:
        return tokens
    temperatures = [max(samplings[row].temperature, LEAST_TEMPERATURE) for row in drawn]
    below_best = logits[drawn] - logits[drawn].amax(-1, keepdim=True)  # so that no division overflows but to minus infinity
    probabilities = (below_best / torch.tensor(temperatures, device=logits.device)[:, None]).softmax(-1)
    for probability, row in zip(probabilities, drawn, strict=True):
        generator = generators[row]
        assert generator is not None
        tokens[row] = _draw(probability, samplings[row].top_p, float(torch.rand(1, generator=generator)))
    return tokens


def _draw(probability: torch.Tensor, top_p: float, chance: float) -> int:
    """The token at `chance` (0 to 1) of the nucleus. probability: vocabulary, float32."""
    if top_p >= 1:
        return _at(probability, chance)
    best, tokens = probability.topk(min(NUCLEUS_GUESS, len(probability)))
    if float(best.sum()) < top_p:
        best, tokens = probability.sort(descending=True)
    is_in = best.cumsum(0) - best < top_p
    is_in[0] = True  # a share too small for float32 is that of the likeliest token
    return int(tokens[_at(best * is_in, chance)])


def _at(weights: torch.Tensor, chance: float) -> int:
    """Index at a share of the weights' sum; never one of weight 0."""
    cumulative = weights.cumsum(0, dtype=torch.float64)
    wanted = torch.tensor([chance], dtype=torch.float64, device=weights.device) * cumulative[-1]
    return int(torch.searchsorted(cumulative, wanted, right=True).clamp_max(int(weights.nonzero()[-1])))


def scored(logits: torch.Tensor, tokens: Sequence[int], top: int) -> list[Scored]:
    """The tokens with their log probabilities and the `top` likeliest. logits: N × vocabulary, float32."""
    logprobs = logits.log_softmax(-1)
    own = logprobs.gather(1, torch.tensor(tokens, dtype=torch.int64, device=logits.device)[:, None])[:, 0].tolist()
    values, indices = logprobs.topk(top) if top else (logprobs[:, :0], logprobs[:, :0].long())
    best = [tuple(zip(*each, strict=True)) for each in zip(indices.tolist(), values.tolist(), strict=True)]
    return [Scored(token, logprob, alternatives) for token, logprob, alternatives in zip(tokens, own, best, strict=True)]
