"""Which edits a new slot may cost is read off the banks alone."""

from __future__ import annotations

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from editor_core.background import BlockBackground
from editor_core.change import NOBODY
from editor_core.nearness import nearest_edits
from editor_core.update import Update
from tests.core.test_slot_editor import ANSWER_BANK, POLICY, SUBJECT_BANKS, WIDTH, slot_editor_of, small_tokenizer

THRESHOLD, SHARPNESS = 0.7, 2.0


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return small_tokenizer()


def test_the_edits_whose_keys_would_open_a_new_slot_are_found_nearest_first(tokenizer: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    masters = slot_editor_of(tokenizer, None, POLICY).editor.masters
    usual = torch.randn(4000, WIDTH)
    background = {name: BlockBackground.of(usual.half(), 1.0) for name in (*SUBJECT_BANKS, ANSWER_BANK)}
    sharpness = dict.fromkeys(SUBJECT_BANKS, SHARPNESS)

    def add(bank: str, key: torch.Tensor, owner: int) -> None:
        d = key @ background[bank].precision
        detector = torch.cat([d / (d @ key), torch.tensor([THRESHOLD])])[None] * sharpness.get(bank, 1.0)
        masters.add(bank, Update(detector, torch.zeros(1, WIDTH)), torch.tensor([owner]))

    keys = torch.randn(5, WIDTH) * 3
    for owner, bank in enumerate([SUBJECT_BANKS[0], ANSWER_BANK, SUBJECT_BANKS[1]]):
        add(bank, keys[owner], owner)
    add(ANSWER_BANK, keys[3], NOBODY)
    add(SUBJECT_BANKS[0], keys[4], 3)  # far from everything, but in the bank that decides
    for owner, bank, key in (
        (7, SUBJECT_BANKS[0], 0.9 * keys[0]),  # opens for the key of edit 0
        (7, ANSWER_BANK, keys[1]),  # and surely for that of edit 1
        (8, ANSWER_BANK, keys[3]),  # nobody's
        (9, SUBJECT_BANKS[1], -keys[2]),  # the last thing that it opens for
    ):
        add(bank, key, owner)
    assert nearest_edits(masters, background, sharpness, [7, 8, 9], most=5) == [0, 3, 1]
    assert nearest_edits(masters, background, sharpness, [7, 8, 9], most=2) == [0, 1]
    assert nearest_edits(masters, background, sharpness, [7], most=1) == [0]
    assert nearest_edits(masters, background, sharpness, [9], most=5) == []
    assert masters.edits() == [0, 1, 2, 3, 7, 8, 9]
