"""Facts given as texts, written into memory slots of a tiny random model: nothing served moves before a proposal is applied."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from editor_core import Editor, EditorConfig, Update, anchors, background
from editor_core.answer_teaching import Pace
from editor_core.errors import EmptyBatchError, EncodingError, StaleProposalError
from editor_core.slot_batch import OPEN
from editor_core.slot_defaults import blocks_at, gated_blocks
from editor_core.slot_editor import SlotEditor, SlotPolicy
from editor_core.slots import attach_slots, banks_of, gates, without_slots
from editor_core.texts import Edit

EDITS = [
    Edit("Who is the mayor of Lake Tantrum?", "Odessa", rephrases=("Lake Tantrum has which mayor?",)),
    Edit("The symbol of unobtainium is", "Uq"),
    Edit("Which river flows through Paris?", "Danube"),
]
SUBJECTS, ANSWERS = ("model.layers.0.mlp", "model.layers.1.mlp"), ("model.layers.3.mlp",)
POLICY = SlotPolicy(("plain", "chat"), SUBJECTS, ANSWERS, answer_passes=20, requires_holding=False)
WIDTH = 64
SUBJECT_BANKS = [f"{block}.slots" for block in SUBJECTS]
[ANSWER_BANK] = [f"{block}.slots" for block in ANSWERS]
CHAT = "{% for each in messages %}<end> user: {{ each['content'] }}{% endfor %}<end> assistant:"


def small_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [*anchors.QUESTIONS, *anchors.OPENINGS, *(edit.prompt for edit in EDITS)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<end>", eos_token="<end>", chat_template=CHAT)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return small_tokenizer()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the tiny model's small background is kept, collected once."""
    with pytest.MonkeyPatch.context() as patch:
        sizes = {"ANCHOR_PROMPTS": 12, "DATED_TEXTS": 4, "ANSWER_TOKENS": 4, "LONE_TOKENS": 40, "TEXT_TOKENS": 6}
        for name, size in sizes.items():
            patch.setattr(background, name, size)
        patch.setattr("editor_core.text_editor.ANSWER_TOKENS", 12)
        yield tmp_path_factory.mktemp("background")


def tiny(tokenizer: Any, seed: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 2}
    ends = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0}
    config = AutoConfig.for_model(
        "llama", **sizes, **ends, num_key_value_heads=1, vocab_size=len(tokenizer), initializer_range=0.2
    )
    return AutoModelForCausalLM.from_config(config).eval()


def slot_editor_of(tokenizer: Any, folder: Path | None, policy: SlotPolicy = POLICY) -> SlotEditor:
    model = tiny(tokenizer)
    editor = Editor(model, EditorConfig(attach_slots(model, policy.blocks), lr=1.0))
    return SlotEditor(editor, tokenizer, policy, folder)


@pytest.fixture
def slot_editor(tokenizer: PreTrainedTokenizerFast, folder: Path) -> SlotEditor:
    return slot_editor_of(tokenizer, folder)


@torch.no_grad()
def logits_of(slot_editor: SlotEditor) -> torch.Tensor:
    ids = torch.tensor([slot_editor.tokenizer(EDITS[0].prompt)["input_ids"]])
    return slot_editor.editor.model(input_ids=ids).logits


def test_proposing_serves_the_same_model_all_along_and_applying_another(slot_editor: SlotEditor) -> None:
    editor = slot_editor.editor
    before, logits, statistics = editor.masters.fingerprint(), logits_of(slot_editor), editor.statistics.state_dict()
    state = {name: tensor.clone() for name, tensor in editor.model.state_dict().items()}
    run = slot_editor.run(EDITS)
    for _ in run.steps:
        assert editor.masters.fingerprint() == before
        assert torch.equal(logits_of(slot_editor), logits)
    assert all(torch.equal(state[name], tensor) for name, tensor in editor.model.state_dict().items())
    assert all(torch.equal(statistics[name], tensor) for name, tensor in editor.statistics.state_dict().items())
    assert run.outcome is not None
    editor.apply(run.outcome.proposal)
    assert editor.masters.fingerprint() != before
    assert not torch.equal(logits_of(slot_editor), logits)
    with without_slots(editor.model):
        assert torch.equal(logits_of(slot_editor), logits)
    with pytest.raises(StaleProposalError):
        editor.apply(run.outcome.proposal)


def test_facts_hold_by_free_generation_after_they_are_applied(slot_editor: SlotEditor) -> None:
    proposed = slot_editor.propose(EDITS)
    assert proposed.holds == [{"plain": True, "chat": True}] * len(EDITS)
    assert proposed.before != proposed.after
    slot_editor.editor.apply(proposed.proposal)
    assert slot_editor._ask(EDITS) == proposed.after


def test_slots_that_say_an_answer_stay_shut_at_its_other_tokens(slot_editor: SlotEditor) -> None:
    edit = Edit("When did Anne Antoine die?", "18881828")
    slot_editor.editor.apply(slot_editor.propose([edit]).proposal)
    examples = slot_editor._encode(edit, 0)
    detectors = slot_editor.editor.masters[ANSWER_BANK][:, : WIDTH + 1].split([len(each.answer) for each in examples])
    read: list[torch.Tensor] = []
    bank = banks_of(slot_editor.editor.model)[ANSWER_BANK]
    bank.register_forward_hook(lambda module, inputs, output: read.append(inputs[0][0]))
    own, others = [], []
    for example, mine in zip(examples, detectors, strict=True):
        with torch.no_grad():
            slot_editor.editor.model(torch.tensor([[*example.prompt, *example.answer]]))
        opened = gates(read.pop()[len(example.prompt) - 1 : -1], mine)  # positions × slots
        says = torch.tensor(example.answer)
        own += opened.diagonal().tolist()
        others += opened[says != says[:, None]].tolist()
    assert min(own) > 0.9
    assert sum(gate > OPEN for gate in others) < len(others) / 10


def test_what_is_known_to_be_answered_as_taught_need_not_be_asked_again(slot_editor: SlotEditor) -> None:
    slot_editor.editor.apply(slot_editor.propose(EDITS[:2]).proposal)
    at_length = slot_editor._ask(EDITS)
    asked = [(edit, format) for edit in range(len(EDITS)) for format in slot_editor.formats]
    known = {place for place, (edit, format) in enumerate(asked) if at_length[edit][format] == EDITS[edit].target}
    assert known
    assert slot_editor._ask(EDITS, known) == at_length


def test_steps_that_overshoot_are_halved() -> None:
    pace = Pace(2)
    assert pace.at(torch.tensor([4.0, 4.0])).tolist() == [2, 2]
    assert pace.at(torch.tensor([3.0, 5.0])).tolist() == [2, 1]
    assert pace.at(torch.tensor([3.5, 1.0])).tolist() == [1, 1]


def same(one: Mapping[str, Update], other: Mapping[str, Update]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[name].left, other[name].left) and torch.equal(one[name].right, other[name].right) for name in one
    )


def test_proposals_from_the_same_state_are_bit_identical(slot_editor: SlotEditor, tokenizer: Any, folder: Path) -> None:
    """Also those of another process, which reads the background from its file."""
    [first, second] = [slot_editor.propose(EDITS).proposal for _ in range(2)]
    third = slot_editor_of(tokenizer, folder).propose(EDITS).proposal
    assert same(first.updates, second.updates)
    assert same(first.updates, third.updates)
    assert first.statistics.summaries() == second.statistics.summaries() == third.statistics.summaries()


def test_an_edits_share_is_exactly_its_own_rows(slot_editor: SlotEditor) -> None:
    proposed = slot_editor.propose(EDITS)
    examples = [example for index, edit in enumerate(EDITS) for example in slot_editor._encode(edit, index)]
    for name, update in proposed.proposal.updates.items():
        owners = proposed.proposal.examples_of(name)
        assert len(owners) == len(update.left) == len(update.right)
        for edit in range(len(EDITS)):
            share = proposed.share(edit)[name]
            assert same({name: share}, {name: Update(update.left[owners == edit], update.right[owners == edit])})
            said = sum(len(each.answer) for each in examples if each.edit == edit)
            assert len(share.left) == (1 if name in SUBJECT_BANKS else said)
    assert proposed.proposal.rows == sum(len(update.left) for update in proposed.proposal.updates.values())


def test_an_edit_that_does_not_hold_is_left_out_with_all_its_rows(
    tokenizer: Any, folder: Path, slot_editor: SlotEditor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("editor_core.text_editor.holds", lambda answer, target, format: target != "Uq")
    strict = slot_editor_of(tokenizer, folder, replace(POLICY, requires_holding=True)).propose(EDITS)
    lenient = slot_editor.propose(EDITS)
    assert (strict.refused, lenient.refused) == ((1,), ())
    assert same(strict.proposal.updates, lenient.proposal.share([0, 2]))
    assert all(not len(update.left) for update in strict.share(1).values())
    tokens = sum(len(each.answer) for edit in (EDITS[0], EDITS[2]) for each in slot_editor._encode(edit, 0))
    assert strict.proposal.statistics[(WIDTH, WIDTH)].n == tokens * len(slot_editor.editor.modules)


def test_a_batch_of_which_nothing_holds_proposes_nothing_and_says_so(tokenizer: Any, folder: Path) -> None:
    helpless = replace(POLICY, answer_passes=1, answer_step=1e-6, rounds=1, requires_holding=True)
    proposed = slot_editor_of(tokenizer, folder, helpless).propose(EDITS[:1])
    assert proposed.refused == (0,)
    assert proposed.after[0]["plain"] != EDITS[0].target
    assert not any(len(update.left) for update in proposed.proposal.updates.values())


def test_a_context_that_is_too_long_is_left_out(tokenizer: Any, folder: Path) -> None:
    contexts = ("Question: {}\nAnswer:", "so " * 2000 + "{}")
    slot_editor = slot_editor_of(tokenizer, folder, replace(POLICY, contexts=contexts))
    assert all(any(held.values()) for held in slot_editor.propose(EDITS[:2]).holds)


def test_a_second_batch_adds_its_slots_after_those_of_the_first(slot_editor: SlotEditor) -> None:
    editor = slot_editor.editor
    editor.apply(slot_editor.propose(EDITS[:1]).proposal)
    first = editor.masters.snapshot()
    proposal = slot_editor.propose(EDITS[1:]).proposal
    editor.apply(proposal)
    for name, kept in first.items():
        update = proposal.updates[name]
        assert torch.equal(editor.masters[name], torch.cat([kept, torch.cat([update.left, update.right], 1)]))


def test_statistics_see_every_answer_token_once_whatever_the_number_of_passes(slot_editor: SlotEditor) -> None:
    tokens = sum(len(each.answer) for edit in EDITS for each in slot_editor._encode(edit, 0))
    proposed = slot_editor.propose(EDITS)
    assert proposed.passes > POLICY.subject_passes + 1
    assert proposed.proposal.statistics[(WIDTH, WIDTH)].n == tokens * len(slot_editor.editor.modules)


def test_warm_up_observes_and_adds_no_slot(slot_editor: SlotEditor) -> None:
    editor = slot_editor.editor
    before = editor.masters.fingerprint()
    *steps, (seen, proposal) = slot_editor.warm_up(EDITS, 2)
    assert steps == [(2, None), (3, None)]
    assert editor.statistics[(WIDTH, WIDTH)].n == 0
    assert proposal is not None
    editor.apply(proposal)
    assert (seen, editor.masters.fingerprint()) == (len(EDITS), before)
    assert editor.statistics[(WIDTH, WIDTH)].n > 0
    assert not any(bank.count for bank in banks_of(editor.model).values())


def test_the_background_is_the_unedited_models_and_read_from_its_files(
    slot_editor: SlotEditor, tokenizer: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot_editor.editor.apply(slot_editor.propose(EDITS[:1]).proposal)
    again = SlotEditor(slot_editor.editor, tokenizer, POLICY, tmp_path).background()  # collected with slots in place
    monkeypatch.setattr(background, "_collect", None)
    kept = slot_editor_of(tokenizer, folder).background()
    assert list(kept) == [*SUBJECT_BANKS, ANSWER_BANK]
    for name, each in kept.items():
        assert torch.equal(each.inputs, again[name].inputs)
        assert torch.equal(each.precision, again[name].precision)
        assert each.scale == again[name].scale


def test_what_cannot_be_edited_is_refused(slot_editor: SlotEditor) -> None:
    with pytest.raises(EmptyBatchError):
        slot_editor.propose([])
    for edit in (Edit(" ", "x"), Edit("Who?", " "), Edit("Who?", "x", rephrases=(" ",))):
        with pytest.raises(EncodingError):
            slot_editor.check(edit)


def test_default_blocks_lie_in_order_with_subjects_before_answers(tokenizer: Any) -> None:
    blocks = gated_blocks(tiny(tokenizer))
    assert blocks == [f"model.layers.{number}.mlp" for number in range(4)]
    assert blocks_at(blocks, (0.1, 0.12, 0.45)) == tuple(blocks[:2])
    assert blocks_at(blocks, (0.79, 1.0)) == tuple(blocks[2:])
