"""Changes of slots: whose rows they are, who leans on whose mark, and that taking out is exact."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from editor_core.change import NOBODY, Change
from editor_core.slot_editor import SlotEditor
from editor_core.texts import Edit
from tests.core.test_slot_editor import ANSWER_BANK, EDITS, SUBJECT_BANKS, WIDTH, folder, slot_editor_of, tokenizer

__all__ = ["folder", "tokenizer"]  # fixtures
SECOND = Edit("Which town lies beside Lake Tantrum?", "Paris")  # about the first edit's subject


@pytest.fixture
def slot_editor(tokenizer: PreTrainedTokenizerFast, folder: Path) -> SlotEditor:
    return slot_editor_of(tokenizer, folder)


def teach(slot_editor: SlotEditor, edits: list[Edit], ids: list[int], taken: Change | None = None) -> Change:
    proposed = slot_editor.run(edits, taken).finish()
    change = Change.of(proposed.proposal, ids).after(taken)
    slot_editor.editor.change(change, proposed.proposal.statistics)
    return change


def open_wide(slot_editor: SlotEditor) -> None:
    """Marks open at every subject of this random model, as a real one's do at their own."""
    deciding = slot_editor.editor.masters[SUBJECT_BANKS[0]]
    deciding[:, WIDTH] = -100.0


def owned(slot_editor: SlotEditor, edit: int) -> dict[str, int]:
    return {name: int((owners == edit).sum()) for name, owners in slot_editor.editor.masters.owners.items()}


def test_every_row_knows_its_edit(slot_editor: SlotEditor) -> None:
    teach(slot_editor, EDITS, [11, 12, 13])
    masters = slot_editor.editor.masters
    for name, owners in masters.owners.items():
        assert len(owners) == len(masters[name])
        assert set(owners.tolist()) == {11, 12, 13}
    assert NOBODY not in masters.owners[ANSWER_BANK].tolist()


def test_taking_out_all_edits_in_any_order_gives_back_the_model_as_it_was(slot_editor: SlotEditor) -> None:
    masters = slot_editor.editor.masters
    before = masters.fingerprint()
    teach(slot_editor, EDITS[:2], [11, 12])
    teach(slot_editor, EDITS[2:], [13])
    for edit in (12, 13, 11):
        slot_editor.editor.change(slot_editor.taken_out([edit]))
    assert masters.fingerprint() == before


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "two batches"])
def test_a_second_fact_about_a_subject_leans_on_the_firsts_mark(slot_editor: SlotEditor, together: bool) -> None:
    if together:
        change = teach(slot_editor, [EDITS[0], EDITS[1], SECOND], [11, 12, 13])
    else:
        teach(slot_editor, EDITS[:1], [11])
        open_wide(slot_editor)
        change = teach(slot_editor, [SECOND], [13])
    assert change.leans == {13: (11,)}


def test_a_mark_stays_for_as_long_as_an_edit_leans_on_it(slot_editor: SlotEditor) -> None:
    masters = slot_editor.editor.masters
    before = masters.fingerprint()
    teach(slot_editor, EDITS[:1], [11])
    open_wide(slot_editor)
    teach(slot_editor, [SECOND], [13])
    marks = {name: masters[name].clone() for name in SUBJECT_BANKS}
    slot_editor.editor.change(slot_editor.taken_out([11]))
    assert owned(slot_editor, 11)[ANSWER_BANK] == 0
    assert all(torch.equal(masters[name], mark) for name, mark in marks.items())
    slot_editor.editor.change(slot_editor.taken_out([13]))
    assert masters.fingerprint() == before


def test_edits_that_rely_on_one_mark_share_it_even_when_its_own_edit_is_gone(slot_editor: SlotEditor) -> None:
    masters = slot_editor.editor.masters
    masters.leans = {13: (11,), 14: (13,), 15: (11, 16), 18: (17,)}
    assert masters.sharing(11) == {13, 15}
    assert masters.sharing(13) == {11, 14, 15}
    assert masters.sharing(16) == {15}
    assert masters.sharing(17) == {18}
    assert masters.sharing(12) == frozenset()


def test_what_is_superseded_is_out_before_its_successor_is_taught(slot_editor: SlotEditor) -> None:
    teach(slot_editor, EDITS, [11, 12, 13])
    change = teach(slot_editor, [Edit(EDITS[1].prompt, "Zz")], [14], slot_editor.taken_out([12]))
    assert change.taken == (12,)
    assert not any(owned(slot_editor, 12).values())
    assert all(owned(slot_editor, 14).values())
    assert all(owned(slot_editor, 11).values())


def test_two_changes_as_one_are_the_two_one_after_the_other() -> None:
    """Also where the later one takes out rows that have moved up."""
    rows = torch.arange(8)
    first, later = torch.tensor([1, 4]), torch.tensor([0, 2, 5])
    together = Change(removed={"bank": later}, taken=(2,)).after(Change(removed={"bank": first}, taken=(1,)))
    one_by_one = _without(_without(rows, first), later)
    assert _without(rows, together.removed["bank"]).tolist() == one_by_one.tolist()
    assert together.taken == (1, 2)


def _without(rows: torch.Tensor, gone: torch.Tensor) -> torch.Tensor:
    kept = torch.ones(len(rows), dtype=torch.bool)
    kept[gone] = False
    return rows[kept]
