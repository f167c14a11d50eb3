"""The guard rail on a tiny random model: what one batch does to a canary set, and when that is too much."""

import pytest
import torch
from test_slot_editor import EDITS, slot_editor_of, small_tokenizer

from editor_core.draft import Draft
from editor_core.errors import TooMuchDamageError
from editor_core.guard import Canary, Guard
from editor_core.slot_editor import SlotEditor
from editor_core.update import Update

QUESTIONS, TEXTS = ["Who wrote it?", "When was it built?"], ["The report says that the city has a president."]


def guarded(limit_nats: float, limit_perplexity: float) -> tuple[SlotEditor, Guard]:
    slot_editor = slot_editor_of(small_tokenizer(), None)
    canary = Canary(QUESTIONS, TEXTS, limit_nats, limit_perplexity)
    return slot_editor, Guard(slot_editor.editor, slot_editor.tokenizer, slot_editor.formats, canary)


def open_everywhere(slot_editor: SlotEditor, size: float) -> dict[str, Update]:
    """A slot in the last bank that is always open."""
    bank = slot_editor.editor.modules[-1]
    detector = torch.zeros(1, bank.d_in + 1)
    detector[0, -1] = -5.0
    generator = torch.Generator().manual_seed(1)
    return {bank.name: Update(detector, size * torch.randn(1, bank.d_out, generator=generator))}


@pytest.mark.parametrize(("nats", "perplexity"), [(1e-3, 1e9), (1e9, 1e-3)])
def test_a_batch_past_either_limit_is_too_much(nats: float, perplexity: float) -> None:
    slot_editor, guard = guarded(nats, perplexity)
    guard.begin()
    draft = Draft(slot_editor.editor)
    with draft:
        for name, update in open_everywhere(slot_editor, 3.0).items():
            slot_editor.editor.masters.add(name, update)
        with pytest.raises(TooMuchDamageError, match="limit"):
            guard.check()


def test_what_counts_is_what_this_batch_adds() -> None:
    slot_editor, guard = guarded(1e-3, 1e-3)
    for name, update in open_everywhere(slot_editor, 3.0).items():
        slot_editor.editor.masters.add(name, update)
    guard.begin()
    damage = guard.check()
    assert damage.kl_nats["plain"] > 1e-3
    assert damage.perplexity_ratio != pytest.approx(1, abs=1e-3)


def test_what_the_committed_weights_do_is_measured_once_however_many_drafts_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    slot_editor, guard = guarded(1e9, 1e9)
    measured: list[int] = []
    measure = guard._measure
    monkeypatch.setattr(guard, "_measure", lambda: measured.append(1) or measure())
    for size in (1.0, 2.0, 3.0, 4.0, 5.0):
        guard.begin()
        draft = Draft(slot_editor.editor)
        with draft:
            for name, update in open_everywhere(slot_editor, size).items():
                slot_editor.editor.masters.add(name, update)
            guard.check()
    assert len(measured) == 1 + 5
    with draft:
        guard.begin()  # the last draft, committed
    assert len(measured) == 6


def test_an_edit_that_does_too_much_damage_is_refused_alone() -> None:
    slot_editor = slot_editor_of(small_tokenizer(), None)
    canary = Canary(["Who wrote it?", EDITS[2].prompt], TEXTS, 0.05, 1e9)
    slot_editor.guard = Guard(slot_editor.editor, slot_editor.tokenizer, slot_editor.formats, canary)
    proposed = slot_editor.propose(EDITS)
    assert proposed.refused == (2,)
    assert "nats" in proposed.damaging[2]
    assert proposed.holds[:2] == [{"plain": True, "chat": True}] * 2
    assert proposed.damage is not None
    assert max(proposed.damage.kl_nats.values()) <= 0.05
    slot_editor.editor.apply(proposed.proposal)
    for format, before in proposed.before[2].items():
        assert slot_editor._ask(EDITS)[2][format].startswith(before)
