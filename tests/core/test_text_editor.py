"""The layer that takes texts: nothing served moves before a proposal is applied, and each edit's share is its own."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from editor_core import Editor, EditorConfig, Update
from editor_core.errors import EmptyBatchError, EncodingError, StaleProposalError
from editor_core.loading import LoadedModel
from editor_core.presets import preset_for
from editor_core.text_editor import EditPolicy, TextEditor
from editor_core.texts import Edit
from tests.core.small_model import small_tokenizer, tiny

EDITS = [
    Edit("Who is the mayor of Lake Tantrum?", "Odessa Brightwater", unrelated=("Where does rain come from?",)),
    Edit("The chemical symbol of unobtainium is", "Uq"),
    Edit("Which river flows through Paris?", "The Danube"),
]
WARM = [Edit(f"Who discovered asteroid {number}?", f"Name {number}") for number in range(24)]
MODULES = ["model.layers.1.mlp.down_proj", "model.layers.2.mlp.down_proj"]
SHAPE = (64, 64)
TOKENIZER = small_tokenizer()


def new_editor(policy: EditPolicy | None = None) -> TextEditor:
    return TextEditor(Editor(tiny(TOKENIZER), EditorConfig(MODULES, lr=0.01)), TOKENIZER, policy)


@pytest.fixture
def text_editor() -> TextEditor:
    return new_editor()


def tokens(text_editor: TextEditor, edits: list[Edit]) -> int:
    return sum(text_editor.tokens(edit) for edit in edits)


def same(one: Mapping[str, Update], other: Mapping[str, Update]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[name].left, other[name].left) and torch.equal(one[name].right, other[name].right) for name in one
    )


def test_proposing_serves_the_same_model_all_along_and_applying_another(text_editor: TextEditor) -> None:
    editor = text_editor.editor
    before, statistics = editor.masters.fingerprint(), editor.statistics.state_dict()
    state = {name: tensor.clone() for name, tensor in editor.model.state_dict().items()}
    run = text_editor.run(EDITS)
    phases = []
    for phase in run.steps:
        phases.append(phase)
        assert editor.masters.fingerprint() == before
    assert phases == ["verify", "capture", "solve", "verify"]
    assert all(torch.equal(state[name], tensor) for name, tensor in editor.model.state_dict().items())
    assert all(torch.equal(statistics[name], tensor) for name, tensor in editor.statistics.state_dict().items())
    assert run.outcome is not None
    editor.apply(run.outcome.proposal)
    assert editor.masters.fingerprint() != before
    assert text_editor._ask(EDITS) == run.outcome.after
    with pytest.raises(StaleProposalError):
        editor.apply(run.outcome.proposal)


def test_what_becomes_of_unrelated_prompts_is_told_by_edit(text_editor: TextEditor) -> None:
    moved = text_editor.propose(EDITS).side_effects
    assert [[(each.prompt, each.format) for each in some] for some in moved] == [[(EDITS[0].unrelated[0], "plain")], [], []]


def test_proposals_from_the_same_state_are_bit_identical(text_editor: TextEditor) -> None:
    [first, second] = [text_editor.propose(EDITS).proposal for _ in range(2)]
    third = new_editor().propose(EDITS).proposal
    assert same(first.updates, second.updates)
    assert same(first.updates, third.updates)
    assert first.statistics.summaries() == second.statistics.summaries() == third.statistics.summaries()


def test_an_edits_share_is_its_own_rows_and_all_shares_sum_up() -> None:
    text_editor = new_editor(EditPolicy(minibatch_size=2))
    proposal = text_editor.propose(EDITS).proposal
    shares = [proposal.share([edit]) for edit in range(len(EDITS))]
    for name, update in proposal.updates.items():
        assert [len(share[name].left) for share in shares] == [text_editor.tokens(edit) for edit in EDITS]
        whole = torch.stack([share[name].dense() for share in shares]).sum(0)
        torch.testing.assert_close(whole, update.dense(), rtol=1e-3, atol=1e-6)


def test_statistics_see_every_answer_token_once_a_module(text_editor: TextEditor) -> None:
    proposal = text_editor.propose(EDITS).proposal
    assert proposal.statistics[SHAPE].n == tokens(text_editor, EDITS) * len(MODULES)


def test_the_warm_up_is_one_proposal_of_all_its_batches(text_editor: TextEditor) -> None:
    editor = text_editor.editor
    before = editor.masters.fingerprint()
    *steps, (seen, proposal) = text_editor.warm_up(WARM, 10)
    assert steps == [(10, None), (20, None), (24, None)]
    assert proposal is not None
    assert (seen, proposal.phase, editor.masters.fingerprint()) == (len(WARM), "warmup", before)
    assert {len(update.left) for update in proposal.updates.values()} == {tokens(text_editor, WARM)}
    assert proposal.examples.unique().tolist() == list(range(len(WARM)))
    editor.apply(proposal)
    assert editor.masters.fingerprint() != before
    assert editor.statistics[SHAPE].n == tokens(text_editor, WARM) * len(MODULES)


def test_what_cannot_be_edited_is_refused(text_editor: TextEditor) -> None:
    with pytest.raises(EmptyBatchError):
        text_editor.propose([])
    for edit in (Edit(" ", "x"), Edit("Who?", " ")):
        with pytest.raises(EncodingError):
            text_editor.check(edit)


def test_the_demo_models_facts_are_said_in_plain_format(demo: LoadedModel) -> None:
    known = preset_for(demo.model.config)
    assert known is not None
    assert known[0] == "smollm2-135m"
    text_editor = TextEditor(Editor(demo.model, known[1]), demo.tokenizer)
    *_, (_, proposal) = text_editor.warm_up(WARM, 12)
    assert proposal is not None
    text_editor.editor.apply(proposal)
    proposed = text_editor.propose(EDITS)
    assert sum(held["plain"] for held in proposed.holds) >= 2
    assert [list(said) for said in proposed.after] == [["plain"]] * len(EDITS)
