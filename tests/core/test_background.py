"""What the unedited model usually reads, kept a file a block, so that other choices of blocks need only what is missing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from editor_core import anchors, background
from editor_core.background import Background, BlockBackground, collect_background
from editor_core.modules import resolve_modules
from editor_core.slots import attach_slots
from tests.core.test_slot_editor import small_tokenizer, tiny

BLOCKS = [f"model.layers.{number}.mlp" for number in range(4)]


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The names of the modules of every sweep."""
    for name, size in {
        "ANCHOR_PROMPTS": 4,
        "DATED_TEXTS": 2,
        "NAMES": 5,
        "ANSWER_TOKENS": 2,
        "LONE_TOKENS": 20,
        "TEXT_TOKENS": 3,
    }.items():
        monkeypatch.setattr(background, name, size)
    sweeps: list[list[str]] = []
    collect = background._collect

    def recording(model: Any, tokenizer: Any, modules: Any, *others: Any) -> Any:
        sweeps.append([each.name for each in modules])
        return collect(model, tokenizer, modules, *others)

    monkeypatch.setattr(background, "_collect", recording)
    return sweeps


def background_of(blocks: Sequence[str], folder: Path | None, seed: int = 3) -> Background:
    tokenizer = small_tokenizer()
    model = tiny(tokenizer, seed)
    return collect_background(model, tokenizer, resolve_modules(model, attach_slots(model, blocks)), ("plain",), folder)


def test_only_blocks_without_a_file_are_collected(collected: list[list[str]], tmp_path: Path) -> None:
    first = background_of(BLOCKS[:2], tmp_path)
    again = background_of([BLOCKS[1], BLOCKS[3], BLOCKS[0]], tmp_path)
    assert collected == [["model.layers.0.mlp.slots", "model.layers.1.mlp.slots"], ["model.layers.3.mlp.slots"]]
    assert list(again) == [f"{BLOCKS[number]}.slots" for number in (1, 3, 0)]
    assert len(list(tmp_path.iterdir())) == 3
    for name, block in first.items():
        assert torch.equal(block.inputs, again[name].inputs)
        assert torch.equal(block.precision, again[name].precision)
        assert block.scale == again[name].scale


def test_a_block_collected_with_others_is_what_it_is_alone(collected: list[list[str]]) -> None:
    together, alone = background_of(BLOCKS, None), background_of(BLOCKS[2:3], None)
    [name] = alone
    assert torch.equal(together[name].inputs, alone[name].inputs)
    assert together[name].scale == alone[name].scale


def test_another_model_does_not_take_the_files(collected: list[list[str]], tmp_path: Path) -> None:
    background_of(BLOCKS[:1], tmp_path)
    background_of(BLOCKS[:1], tmp_path, seed=4)
    assert len(collected) == len(list(tmp_path.iterdir())) == 2


def test_its_dated_texts_are_different_and_always_the_same() -> None:
    texts = anchors.dated_texts(60)
    assert texts == anchors.dated_texts(60)
    assert len(set(texts)) == 60
    assert all(any(sign.isdigit() for sign in text) for text in texts)


@pytest.mark.parametrize("keys", [3, 40])
def test_keys_counted_against_a_block_are_in_its_precision_as_if_they_had_been_read(keys: int) -> None:
    generator = torch.Generator().manual_seed(5)
    read, further = torch.randn(200, 12, generator=generator), 3 * torch.randn(keys, 12, generator=generator)
    block = BlockBackground.of(read.half(), 1.0)
    second = torch.linalg.inv(block.precision.double()) + 7.0 / 200 * further.double().T @ further.double()
    weighed = block.against(further, 7.0)
    torch.testing.assert_close(weighed.precision, torch.linalg.inv(second).float(), rtol=1e-4, atol=1e-6)
    assert weighed.inputs is block.inputs


def test_a_slots_key_is_found_again_in_its_discriminant() -> None:
    generator = torch.Generator().manual_seed(6)
    block = BlockBackground.of(torch.randn(200, 12, generator=generator).half(), 1.0)
    key = torch.randn(2, 12, generator=generator)
    discriminant = key @ block.precision
    discriminant /= (discriminant * key).sum(1, keepdim=True)
    torch.testing.assert_close(block.keys(discriminant), key, rtol=1e-3, atol=1e-4)


def test_names_are_always_the_same_and_end_what_is_read() -> None:
    beginnings = anchors.named_beginnings(small_tokenizer(), 20)
    assert beginnings == anchors.named_beginnings(small_tokenizer(), 20)
    assert all(each.split()[-1][:1].isupper() for each in beginnings)
