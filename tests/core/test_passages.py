"""Sequences read once and run on from there, again and again: exactly what reading them whole says."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_slots import BLOCKS, build
from torch.nn import functional

from editor_core.attention import grouped_attention
from editor_core.loss import answer_loss
from editor_core.passages import Passage, advanced, alike, from_block, joined, opened, rewound

SEQUENCES = [(5, 9, 7, 8, 11, 20), (5, 9, 4, 30), (5, 9, 40, 30, 3, 8, 9)]
ENDS = [len(each) for each in SEQUENCES]


def logits_from(model: torch.nn.Module, passage: Passage) -> dict[int, torch.Tensor]:
    """By sequence: the logits after every token of its span."""
    with torch.no_grad():
        logits = model(**passage.inputs()).logits
    return {index: logits[row, passage.read[row]] for row, index in enumerate(passage.chosen)}


def whole(model: torch.nn.Module, index: int) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=torch.tensor([SEQUENCES[index]])).logits[0]
    return logits


def test_later_starts_need_no_block_before_the_named_one() -> None:
    model = build()
    passages = [opened(model, SEQUENCES, [1, 1, 1], group, [0] * 3) for group in ([0, 2], [1])]
    later = joined([advanced(model, each, SEQUENCES, [4, 2, 5], BLOCKS[-1]) for each in passages])
    ran: list[str] = []
    handle = model.get_submodule(BLOCKS[0]).register_forward_hook(lambda *arguments: ran.append(BLOCKS[0]))
    said = {}
    for passage in (*passages, *later):
        with from_block(model, BLOCKS[-1], passage):
            said.update({(index, len(each)): each for index, each in logits_from(model, passage).items()})
    handle.remove()
    assert not ran
    assert len(said) == 2 * len(SEQUENCES)
    for (index, length), logits in said.items():
        torch.testing.assert_close(logits, whole(model, index)[-length:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral"])
@pytest.mark.parametrize("beginning", [0, 2])
def test_a_passage_says_what_the_whole_sequence_says(family: str, beginning: int) -> None:
    model, starts = build(family), [3, 3, 4]
    passage = opened(model, SEQUENCES, starts, [2, 0, 1], [beginning] * 3)
    for index, logits in logits_from(model, passage).items():
        torch.testing.assert_close(logits, whole(model, index)[starts[index] :], rtol=1e-4, atol=1e-5)


def test_a_passage_can_be_run_again_rewound_and_narrowed() -> None:
    model = build()
    passage = opened(model, SEQUENCES, ENDS, [0, 1, 2], [2] * 3)
    earlier = rewound(passage, SEQUENCES, [2, 3, 1])
    first, again = logits_from(model, earlier), logits_from(model, earlier)
    narrowed = earlier.of([1, 2])
    assert narrowed is not None
    assert earlier.of([7]) is None
    for index, start in ((0, 2), (1, 3), (2, 1)):
        assert torch.equal(first[index], again[index])
        torch.testing.assert_close(first[index], whole(model, index)[start:], rtol=1e-4, atol=1e-5)
    for index, logits in logits_from(model, narrowed).items():
        torch.testing.assert_close(logits, first[index], rtol=1e-4, atol=1e-5)


def test_running_from_a_block_replays_what_reached_it() -> None:
    model = build()
    passage = opened(model, SEQUENCES, [2, 2, 2], [0, 1, 2], [0] * 3)
    with from_block(model, BLOCKS[-1], passage):
        first = logits_from(model, passage)
    ran: list[str] = []
    handle = model.get_submodule(BLOCKS[0]).register_forward_hook(lambda *arguments: ran.append(BLOCKS[0]))
    with from_block(model, BLOCKS[-1], passage):
        replayed = logits_from(model, passage)
    assert not ran
    assert all(torch.equal(first[index], replayed[index]) for index in first)
    logits_from(model, passage)
    handle.remove()
    assert ran


def test_groups_hold_all_sequences_and_only_what_can_be_read_together() -> None:
    order, widths = [(0, 5), (20, 9), (0, 6), (20, 4), (0, 700)], [5, 9, 6, 4, 700]
    groups = list(alike(order, widths, 20))
    assert sorted(index for group in groups for index in group) == list(range(5))
    assert all(len({order[index][0] for index in group}) == 1 for group in groups)
    assert all(len(group) == 1 or max(widths[index] for index in group) * len(group) <= 20 for group in groups)


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral"])
def test_passages_of_any_lengths_can_be_run_as_one(family: str) -> None:
    model, starts = build(family), [3, 2, 4]
    parts = [opened(model, SEQUENCES, starts, [index], [0] * 3) for index in (2, 0, 1)]
    together = joined(parts)
    assert len(together) == (1 if family != "mistral" or type(parts[0].cache.layers[0]).__name__ == "DynamicLayer" else 3)
    for passage in together:
        for index, logits in logits_from(model, passage).items():
            torch.testing.assert_close(logits, whole(model, index)[starts[index] :], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral"])
def test_attention_without_copies_says_the_same(family: str) -> None:
    model, starts = build(family), [3, 2, 4]
    passage = opened(model, SEQUENCES, starts, [0, 1, 2], [0] * 3)
    usual = logits_from(model, passage)
    with grouped_attention(model):
        grouped = logits_from(model, passage)
    for index, logits in grouped.items():
        torch.testing.assert_close(logits, usual[index], rtol=1e-4, atol=1e-5)
    assert model.config._attn_implementation == "sdpa"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 40), st.floats(0.1, 30))
def test_the_loss_and_its_gradient_are_those_of_cross_entropy(seed: int, rows: int, vocabulary: int, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(rows, vocabulary, generator=generator) * spread).requires_grad_()
    wanted = torch.randint(vocabulary, (rows,), generator=generator)
    losses, certain = answer_loss(logits, wanted)
    expected = functional.cross_entropy(logits, wanted, reduction="none")
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)
    right = logits.argmax(1) == wanted
    torch.testing.assert_close(certain, torch.where(right, (-expected).exp(), 0.0), rtol=1e-4, atol=1e-6)
    [slope], [wished] = (torch.autograd.grad(each.sum(), [logits], retain_graph=True) for each in (losses, expected))
    torch.testing.assert_close(slope, wished, rtol=1e-4, atol=1e-6)
