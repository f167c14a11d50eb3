"""Changes of the weights: whose rows they are, and that what is taken out is exactly what was put in."""

from __future__ import annotations

import pytest
import torch

from editor_core import Editor, EditorConfig
from editor_core.change import NOBODY, Change
from editor_core.text_editor import TextEditor
from editor_core.texts import Edit
from tests.core.small_model import small_tokenizer, tiny

TOKENIZER = small_tokenizer()
MODULES = ["model.layers.1.mlp.down_proj", "model.layers.2.mlp.down_proj"]
EDITS = [
    Edit("Who is the mayor of Lake Tantrum?", "Odessa"),
    Edit("The symbol of unobtainium is", "Uq"),
    Edit("Which river flows through Paris?", "Danube"),
]


@pytest.fixture
def text_editor() -> TextEditor:
    return TextEditor(Editor(tiny(TOKENIZER), EditorConfig(MODULES, lr=0.01)), TOKENIZER)


def teach(text_editor: TextEditor, edits: list[Edit], ids: list[int], taken: Change | None = None) -> Change:
    proposed = text_editor.run(edits, taken).finish()
    change = Change.of(proposed.proposal, ids).after(taken)
    text_editor.editor.change(change, proposed.proposal.statistics)
    return change


def undoing(change: Change, *edits: int) -> Change:
    return Change.undoing(change.updates, change.owners, edits)


def test_every_row_knows_its_edit(text_editor: TextEditor) -> None:
    change = teach(text_editor, EDITS, [11, 12, 13])
    for name, update in change.updates.items():
        counts = [int((change.owners[name] == id).sum()) for id in (11, 12, 13)]
        assert counts == [text_editor.tokens(edit) for edit in EDITS]
        assert sum(counts) == len(update.left)
    nobodys = Change.of(text_editor.propose(EDITS).proposal)
    assert all((owners == NOBODY).all() for owners in nobodys.owners.values())


def test_all_edits_taken_out_in_any_order_leave_the_model_as_it_was(text_editor: TextEditor) -> None:
    editor = text_editor.editor
    first = teach(text_editor, EDITS[:2], [11, 12])
    second = teach(text_editor, EDITS[2:], [13])
    edited = editor.masters.distance_from_base()
    for change, edit in ((first, 12), (second, 13), (first, 11)):
        editor.change(undoing(change, edit))
    left = editor.masters.distance_from_base()
    assert all(left[name] < 1e-5 * edited[name] for name in MODULES)


def test_what_is_superseded_is_out_before_its_successor_is_taught(text_editor: TextEditor) -> None:
    editor = text_editor.editor
    first = teach(text_editor, EDITS, [11, 12, 13])
    change = teach(text_editor, [Edit(EDITS[1].prompt, "Zz")], [14], undoing(first, 12))
    assert change.taken == (12,)
    for edit in (11, 13):
        editor.change(undoing(first, edit))
    editor.change(undoing(change, 14))  # its own rows alone, not those that took the other out
    distances = editor.masters.distance_from_base()
    assert all(distance < 1e-5 for distance in distances.values())


def test_two_changes_as_one_are_the_two_one_after_the_other(text_editor: TextEditor) -> None:
    editor = text_editor.editor
    first = Change.of(text_editor.propose(EDITS[:2]).proposal, [11, 12])
    later = Change.of(text_editor.propose(EDITS[2:]).proposal, [13])
    before = editor.masters.snapshot()
    editor.change(later.after(first))
    together = editor.masters.snapshot()
    editor.masters.restore(before)
    for change in (first, later):
        editor.change(change)
    for name in MODULES:
        torch.testing.assert_close(editor.masters[name], together[name])
        assert later.after(first).owners[name].tolist() == [*first.owners[name].tolist(), *later.owners[name].tolist()]
