"""Sequences read once and run on from there, again and again: exactly what reading them whole says."""

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from editor_core.passages import Passage, alike, from_block, opened, spanning

LLAMA_LIKE = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 61,
    "max_position_embeddings": 32,
}
BLOCKS = ("model.layers.0.mlp", "model.layers.2.mlp")
SEQUENCES = [(5, 9, 7, 8, 11, 20), (5, 9, 4, 30), (5, 9, 40, 30, 3, 8, 9)]
ENDS = [len(each) for each in SEQUENCES]


def build(family: str = "llama") -> nn.Module:
    torch.manual_seed(1)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **LLAMA_LIKE)).eval()


def logits_from(model: torch.nn.Module, passage: Passage) -> dict[int, torch.Tensor]:
    """By sequence: the logits after every token of its span."""
    with torch.no_grad():
        logits = model(**passage.inputs()).logits
    return {index: logits[row, passage.read[row]] for row, index in enumerate(passage.chosen)}


def whole(model: torch.nn.Module, index: int) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=torch.tensor([SEQUENCES[index]])).logits[0]
    return logits


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral"])
@pytest.mark.parametrize("beginning", [0, 2])
def test_a_passage_says_what_the_whole_sequence_says(family: str, beginning: int) -> None:
    model, starts = build(family), [3, 3, 4]
    passage = opened(model, SEQUENCES, starts, [2, 0, 1], [beginning] * 3)
    for index, logits in logits_from(model, passage).items():
        torch.testing.assert_close(logits, whole(model, index)[starts[index] :], rtol=1e-4, atol=1e-5)


def test_a_passage_can_be_run_again() -> None:
    model = build()
    passage = opened(model, SEQUENCES, [2, 3, 1], [0, 1, 2], [2] * 3)
    first, again = logits_from(model, passage), logits_from(model, passage)
    for index, start in ((0, 2), (1, 3), (2, 1)):
        assert torch.equal(first[index], again[index])
        torch.testing.assert_close(first[index], whole(model, index)[start:], rtol=1e-4, atol=1e-5)


def test_spans_can_be_put_on_a_cache_that_was_read_elsewhere() -> None:
    model, starts = build(), [3, 2, 4]
    passage = opened(model, SEQUENCES, starts, [0, 1, 2], [0] * 3)
    for index, logits in logits_from(model, spanning(SEQUENCES, starts, passage.known, passage.cache)).items():
        torch.testing.assert_close(logits, whole(model, index)[starts[index] :], rtol=1e-4, atol=1e-5)


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
