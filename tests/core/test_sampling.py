"""Tokens are drawn from the distribution that was asked for."""

from __future__ import annotations

import pytest
import torch

from editor_core.generation.sampling import Sampling, chosen, scored


def drawn(logits: torch.Tensor, count: int, **wishes: float) -> torch.Tensor:
    sampling = Sampling(max_tokens=1, seed=0, **wishes)
    generator = sampling.generator()
    tokens = [chosen(logits[None], [sampling], [generator])[0] for _ in range(count)]
    return torch.bincount(torch.tensor(tokens), minlength=len(logits)) / count


def test_temperature_shapes_the_distribution() -> None:
    logits = torch.tensor([1.0, 0.0, -1.0, 0.5])
    assert torch.allclose(drawn(logits, 4000, temperature=2.0), (logits / 2).softmax(-1), atol=0.03)


def test_nothing_outside_the_nucleus_is_drawn() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    assert torch.allclose(drawn(logits, 2000, temperature=1.0, top_p=0.8), torch.tensor([0.625, 0.375, 0, 0]), atol=0.04)


@pytest.mark.parametrize("wishes", [{"temperature": 1.0, "top_p": 1e-300}, {"temperature": 1e-40}, {"temperature": 5e-324}])
def test_wishes_too_small_for_float32_are_those_for_the_likeliest_token(wishes: dict[str, float]) -> None:
    assert drawn(torch.tensor([2.0, 40.0, -3.0]), 20, **wishes).tolist() == [0, 1, 0]


def test_a_nucleus_larger_than_the_guess_is_drawn_from_whole() -> None:
    assert (drawn(torch.zeros(1000), 3000, temperature=1.0, top_p=0.999) > 0).sum() > 850


def test_each_row_has_its_own_way() -> None:
    logits = torch.zeros(2, 50)
    logits[:, 7] = 1.0
    greedy, random = Sampling(1), Sampling(1, temperature=5.0, seed=1)
    found = [chosen(logits, [greedy, random], [greedy.generator(), random.generator()]) for _ in range(3)]
    assert [row[0] for row in found] == [7, 7, 7]


def test_scores_are_log_probabilities_with_the_likeliest_first() -> None:
    [found] = scored(torch.tensor([[0.5, 0.3, 0.2]]).log(), [1], 2)
    assert abs(found.logprob - torch.tensor(0.3).log()) < 1e-6
    assert [token for token, _ in found.top] == [0, 1]
