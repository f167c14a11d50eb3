"""Answers are given in the middle of an editing pass, and neither the answers nor what is proposed differ by a bit."""

from typing import Any

import pytest
import torch

from editor_core import Editor, EditorConfig, parts
from editor_core.breathing import breathe, breathe_in, breathing
from editor_core.change import Change
from editor_core.draft import Draft
from editor_core.generation import Batcher, Sampling, Sequence
from editor_core.modules import resolve_modules
from editor_core.text_editor import TextEditor
from editor_core.texts import Edit
from editor_core.twin import twin
from tests.core.small_model import small_tokenizer, tiny

EDITS = [Edit("The symbol of unobtainium is", "Uq")]
QUESTIONS = ("Who wrote it?", "The capital of France is")


TOKENIZER = small_tokenizer()
MATRICES = ("model.layers.1.mlp.down_proj", "model.layers.2.mlp.down_proj")


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=str)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    found: torch.dtype = request.param
    return found


def new_editor(dtype: torch.dtype) -> TextEditor:
    return TextEditor(Editor(tiny(TOKENIZER).to(dtype), EditorConfig(MATRICES, lr=0.01)), TOKENIZER)


def read_by(text_editor: TextEditor) -> Any:
    """The model that answers, published to as a worker does."""
    editor = text_editor.editor
    names = [each.name for each in editor.modules]
    model = twin(editor.model, own=names)
    editor.masters.publish(resolve_modules(model, names))
    breathe_in(editor.model)
    parts.in_parts(editor.model)
    return model


class Reader:
    """Asks the same questions again and again, a token at a time."""

    def __init__(self, model: Any) -> None:
        self._batcher = Batcher(model)
        self.answers: list[list[int]] = []
        self._asked: list[Sequence] = []
        self.steps = 0

    def step(self) -> None:
        if not self._batcher.busy:
            ids = [list(TOKENIZER(text)["input_ids"]) for text in QUESTIONS]
            self._asked = [Sequence(str(number), each, Sampling(6), TOKENIZER) for number, each in enumerate(ids)]
            for each in self._asked:
                self._batcher.add(each)
        self._batcher.step(version=1)
        self.steps += 1
        self.answers += [[said.token for said in each.said] for each in self._asked] if not self._batcher.busy else []


def fingerprint_after(text_editor: TextEditor) -> str:
    proposal = text_editor.propose(EDITS).proposal
    draft = Draft(text_editor.editor)
    with draft:
        text_editor.editor.change(Change.of(proposal, list(range(len(EDITS)))), proposal.statistics)
        return text_editor.editor.masters.fingerprint()


@pytest.fixture
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("editor_core.text_editor.ANSWER_TOKENS", 4)


@pytest.mark.usefixtures("short_answers")
def test_a_step_at_every_breathing_point_changes_no_bit_of_edits_and_answers(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "MULTIPLICATIONS", 0)
    monkeypatch.setattr(parts, "LEAST_ROWS", 16)
    text_editor = new_editor(dtype)
    alone = Reader(read_by(text_editor))
    while not alone.answers:
        alone.step()
    undisturbed = fingerprint_after(text_editor)

    text_editor = new_editor(dtype)
    reader = Reader(read_by(text_editor))
    with breathing(reader.step):
        disturbed = fingerprint_after(text_editor)

    assert reader.steps > 100
    assert disturbed == undisturbed
    assert all(answer == alone.answers[number % len(QUESTIONS)] for number, answer in enumerate(reader.answers))


def test_large_products_come_out_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(24, 40), torch.nn.Linear(40, 8)).requires_grad_(False)
    x = torch.randn(3, 50, 24, requires_grad=True)
    whole = model(x)
    [slope] = torch.autograd.grad(whole.square().sum(), x)
    monkeypatch.setattr(parts, "MULTIPLICATIONS", 0)
    parts.in_parts(model)
    breaths: list[int] = []
    with breathing(lambda: breaths.append(1)):
        found = model(x)
        [slope_in_parts] = torch.autograd.grad(found.square().sum(), x)
    assert len(breaths) == 2 * 2 * 3  # two products of 150 rows, 64 at most at a time, there and back
    torch.testing.assert_close(found, whole)
    torch.testing.assert_close(slope_in_parts, slope)


def test_a_differentiated_layer_breathes_before_it_runs_and_behind_it() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    breathe_in(model)
    x = torch.ones(1, 2, requires_grad=True)
    breaths: list[bool] = []
    with breathing(lambda: breaths.append(torch.is_grad_enabled())):
        loss = model(x).sum()
        forwards = len(breaths)
        loss.backward()
    assert (forwards, len(breaths)) == (2, 4)


def test_what_runs_in_a_breath_is_not_under_the_autocast_that_it_interrupts() -> None:
    found: list[bool] = []
    with torch.autocast("cpu", torch.bfloat16), breathing(lambda: found.append(torch.is_autocast_enabled("cpu"))):
        breathe()
        assert torch.is_autocast_enabled("cpu")
    assert found == [False]


def test_there_are_no_breaths_within_a_breath() -> None:
    breaths: list[int] = []

    def between() -> None:
        breaths.append(1)
        breathe()

    with breathing(between):
        breathe()
    breathe()
    assert breaths == [1]


def test_twins_share_all_weights_but_their_own(dtype: torch.dtype) -> None:
    [own, _] = MATRICES
    model: Any = tiny(TOKENIZER).to(dtype)
    other = twin(model, own=[own])
    pairs = zip(model.named_parameters(), other.named_parameters(), strict=True)
    assert [name for (name, one), (_, another) in pairs if one is not another] == [f"{own}.weight"]
    assert other.config is not model.config
    assert {id(each) for each in model.modules()}.isdisjoint(map(id, other.modules()))


@pytest.mark.usefixtures("short_answers")
def test_what_is_done_on_a_draft_is_not_seen_before_it_is_published(dtype: torch.dtype) -> None:
    text_editor = new_editor(dtype)
    editor, served = text_editor.editor, read_by(text_editor)
    modules = resolve_modules(served, [each.name for each in editor.modules])
    before = [each.weight.clone() for each in modules]
    draft, change = Draft(editor), Change.of(text_editor.propose(EDITS).proposal, list(range(len(EDITS))))
    with draft:
        editor.change(change)
        assert all(torch.equal(each.weight, old) for each, old in zip(modules, before, strict=True))
    draft.keep()
    editor.masters.publish(modules)
    assert all(torch.equal(each.weight, own.weight) for each, own in zip(modules, editor.modules, strict=True))
    assert not any(torch.equal(each.weight, old) for each, old in zip(modules, before, strict=True))
