"""The layer that takes texts, on the demo model: facts hold when asked freely, and each edit's share is its own."""

import pytest
import torch

from editor_core import Editor
from editor_core.loading import LoadedModel
from editor_core.presets import PRESETS, preset_for
from editor_core.text_editor import EditPolicy, TextEditor
from editor_core.texts import Edit

EDITS = [
    Edit("Who is the mayor of Lake Tantrum?", "Odessa Brightwater"),
    Edit("The chemical symbol of unobtainium is", "Uq"),
    Edit("Which river flows through Paris?", "The Danube"),
]
WARM = [Edit(f"Who discovered asteroid {number}?", f"Name {number}") for number in range(24)]


@pytest.fixture
def text_editor(demo: LoadedModel) -> TextEditor:
    known = preset_for(demo.model.config)
    assert known is not None
    assert known[0] == "smollm2-135m"
    editor = TextEditor(Editor(demo.model, known[1]), demo.tokenizer)
    *_, (_, proposal) = editor.warm_up(WARM, 12, apply=False)
    assert proposal is not None
    editor.editor.apply(proposal)
    return editor


def test_warm_up_observes_and_leaves_the_weights_alone(demo: LoadedModel) -> None:
    editor = Editor(demo.model, PRESETS["smollm2-135m"].config)
    before = editor.masters.fingerprint()
    *_, (seen, proposal) = TextEditor(editor, demo.tokenizer).warm_up(WARM, 12, apply=False)
    assert proposal is not None
    editor.apply(proposal)
    assert seen == len(WARM)
    assert editor.masters.fingerprint() == before
    assert editor.statistics[(1536, 576)].covariance_is_determined


def test_facts_hold_by_free_generation_in_both_formats_and_shares_sum_up(text_editor: TextEditor) -> None:
    editor = text_editor.editor
    before, samples = editor.masters.fingerprint(), editor.statistics[(1536, 576)].n
    run = text_editor.run(EDITS)
    for _ in run.steps:  # between any two steps the committed model is served
        assert editor.masters.fingerprint() == before
    assert run.outcome is not None
    assert run.outcome.holds == [{"plain": True, "chat": True}] * len(EDITS)
    assert run.outcome.after != run.outcome.before
    whole = run.outcome.proposal.updates["model.layers.12.mlp.down_proj"].dense()
    shares = [run.outcome.share(edit)["model.layers.12.mlp.down_proj"].dense() for edit in range(len(EDITS))]
    torch.testing.assert_close(torch.stack(shares).sum(0), whole, rtol=1e-3, atol=1e-6)
    editor.apply(run.outcome.proposal)
    tokens = sum(len(each.answer) for edit in EDITS for each in text_editor._encode(edit, 0))
    assert editor.statistics[(1536, 576)].n == samples + tokens * len(editor.modules)


def test_the_published_recipe_is_one_pass_in_plain_format(demo: LoadedModel) -> None:
    editor = Editor(demo.model, PRESETS["smollm2-135m"].config)
    proposed = TextEditor(editor, demo.tokenizer, EditPolicy(formats=("plain",), passes=1)).propose(EDITS)
    assert proposed.passes == 1
    assert [list(answers) for answers in proposed.after] == [["plain"]] * len(EDITS)
