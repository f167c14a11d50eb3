"""Memory slots: silent but for their own inputs, removable, exact in their gradients, and bound to their model."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from editor_core import Editor, EditorConfig, Update
from editor_core.background import BlockBackground
from editor_core.errors import StatisticsMismatchError, UnsupportedModuleError
from editor_core.modules import resolve_modules
from editor_core.passages import opened
from editor_core.slot_capture import SlotRows, captured, sequence_of
from editor_core.slot_keys import HIGHEST_THRESHOLD, INDISTINCT, SHUT, detectors, in_names, name_begin, name_end, name_ending
from editor_core.slots import RAMP, SHARPNESS, SlotBank, attach_slots, banks_of, gates, without_slots
from editor_core.texts import Example

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
BANKS = tuple(f"{block}.slots" for block in BLOCKS)
TOKENS = torch.randint(3, 61, (3, 9), generator=torch.Generator().manual_seed(0))


def build(family: str = "llama", seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **LLAMA_LIKE)).eval()


@torch.no_grad()
def logits_of(model: nn.Module) -> torch.Tensor:
    return model(input_ids=TOKENS).logits


def some_slots(count: int, seed: int = 0, value: float = 1.0) -> Update:
    """Slots that are open, shut and on their way across the inputs of these models."""
    generator = torch.Generator().manual_seed(seed)
    keys, thresholds = torch.randn(count, 16, generator=generator) / 16, torch.full((count, 1), 0.05)
    return Update(torch.cat([keys, thresholds], 1), value * torch.randn(count, 16, generator=generator))


def with_slots(model: nn.Module, count: int = 4, value: float = 1.0) -> Editor:
    editor = Editor(model, EditorConfig(attach_slots(model, BLOCKS), lr=1.0))
    for number, name in enumerate(BANKS):
        editor.masters.add(name, some_slots(count, number, value))
    return editor


def unusual(seed: int, shift: float = 3.0, width: int = 16) -> tuple[BlockBackground, torch.Tensor]:
    """A background, and an input unlike it."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(200, width, generator=generator) * torch.linspace(0.1, 2, width)
    return BlockBackground.of(inputs.half(), 1.0), shift * torch.randn(1, width, generator=generator)


def test_a_bank_without_slots_changes_no_logit() -> None:
    model = build()
    before = logits_of(model)
    assert attach_slots(model, BLOCKS) == BANKS
    assert torch.equal(logits_of(model), before)


def test_attaching_twice_keeps_the_bank_that_is_there() -> None:
    model = build()
    with_slots(model)
    edited = logits_of(model)
    assert attach_slots(model, BLOCKS) == BANKS
    assert torch.equal(logits_of(model), edited)


def test_a_slot_is_open_at_its_own_input_and_shut_well_below_its_threshold() -> None:
    background, own = unusual(0)
    made = detectors(own, torch.tensor([0]), background, torch.tensor([0.4]), 0.1)
    assert float(gates(own, made)) == pytest.approx(1, abs=0.06)  # the ramp's rounded corner
    scores = background.inputs.float() @ made[0, :-1]
    below = background.inputs.float()[scores < made[0, -1] - 0.3]
    assert len(below) > 100
    assert gates(below, made).abs().max() < 1e-3


def test_slots_of_value_zero_change_no_logit() -> None:
    model = build()
    before = logits_of(model)
    with_slots(model, value=0.0)
    assert torch.equal(logits_of(model), before)


def test_a_slot_is_two_neurons_with_a_bias() -> None:
    bank, slots = SlotBank(16, 16, torch.device("cpu")), some_slots(5)
    bank.weight.data = torch.cat([slots.left, slots.right], 1)
    key, threshold = slots.left[:, :-1], slots.left[:, -1]
    first, second = nn.Linear(16, 10), nn.Linear(10, 16, bias=False)
    first.weight.data = SHARPNESS * torch.cat([key, key])
    first.bias.data = -SHARPNESS * torch.cat([threshold, threshold + RAMP])
    second.weight.data = torch.cat([slots.right, -slots.right]).T / (SHARPNESS * RAMP)
    x = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(bank(x), second(functional.silu(first(x))).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", ["transformer.h.0.mlp", "transformer.h.0.attn", "transformer.h.9.mlp"])
def test_a_block_that_is_not_gated_is_refused(block: str) -> None:
    config = AutoConfig.for_model("gpt2", n_embd=16, n_layer=1, n_head=2, n_positions=32, vocab_size=61)
    with pytest.raises(UnsupportedModuleError, match=block):
        attach_slots(AutoModelForCausalLM.from_config(config), [block])


def test_without_slots_the_model_is_the_unedited_one_and_edited_again_afterwards() -> None:
    model = build()
    before = logits_of(model)
    with_slots(model)
    edited = logits_of(model)
    assert not torch.allclose(edited, before)
    with without_slots(model), without_slots(model):
        assert torch.equal(logits_of(model), before)
    assert torch.equal(logits_of(model), edited)


def test_slots_are_back_after_an_exception() -> None:
    model = build()
    with_slots(model)
    edited = logits_of(model)
    with pytest.raises(KeyboardInterrupt), without_slots(model):
        raise KeyboardInterrupt
    assert torch.equal(logits_of(model), edited)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 3), st.floats(0.1, 10))
def test_detectors_find_all_their_own_inputs_and_nothing_of_the_background(
    seed: int, slots: int, inputs: int, shift: float
) -> None:
    """An edit's own inputs resemble each other; what is just like the background stays shut."""
    background, _ = unusual(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    centres = shift * torch.randn(slots, 16, generator=generator)
    x = (centres[:, None] * (1 + 0.1 * torch.rand(slots, inputs, 16, generator=generator))).flatten(0, 1)
    owners = torch.arange(slots).repeat_interleave(inputs)
    floor = torch.full((slots,), 0.4)
    made = detectors(x, owners, background, floor, 0.1)
    own = (x * made[owners, :-1]).sum(1)
    lowest = torch.stack([own[owners == owner].min() for owner in range(slots)])
    torch.testing.assert_close(lowest, torch.ones(slots), rtol=1e-3, atol=0)
    highest, thresholds = background.highest_scores(made[:, :-1]), made[:, -1]
    assert ((thresholds > highest) | (thresholds == HIGHEST_THRESHOLD) | (thresholds == SHUT)).all()
    assert (thresholds >= floor).all()
    assert ((thresholds == SHUT) == (highest > INDISTINCT)).all()


def test_a_slot_tells_its_input_from_its_lookalikes() -> None:
    background, own = unusual(4)
    lookalike = 0.6 * own + 0.3 * unusual(5)[1]
    floor = torch.tensor([0.4])
    plainly = detectors(own, torch.tensor([0]), background, floor, 0.1)
    made = detectors(own, torch.tensor([0]), background, floor, 0.1, lookalike[None])
    assert float(gates(lookalike, plainly)) > 0.5
    assert float(gates(own, made)) == pytest.approx(1, abs=0.05)
    assert float(gates(lookalike, made)) < 0.2


@pytest.mark.parametrize(
    ("tokens", "named", "end"),
    [
        (["Who", " led", " Lake", " Tan", "trum", "?"], [2, 3, 4], 4),
        (["When", " was", " NGC", " ", "6", "6", " seen"], [2, 4, 5], 5),
        (["Who", " sang", " Rain", ",", " Hail", " or", " Sh", "ine", "?"], [2, 4, 6, 7], 7),
        (["Who", " led", " the", " Order", " of", " the", " Eagle", " and", " why"], [3, 6], 6),
        (["the", " sym", "bol", " is"], [], 2),
    ],
)
def test_a_name_is_known_by_its_capitals_and_read_to_its_end(tokens: list[str], named: list[int], end: int) -> None:
    found = [index for index, each in enumerate(in_names(tokens)) if each]
    assert found == named
    start = named[0] if named else 1
    assert start + name_end(tokens[start:]) == end


@pytest.mark.parametrize(
    ("tokens", "end", "name", "ending"),
    [
        (["Who", " is", " Om", "ar", " Bra", "vo", "?"], 5, " Omar Bravo", " Bravo"),
        (["Where", " did", " Dul", "cina", " de", " Mora", "es"], 6, " Dulcina de Moraes", " Moraes"),
        (["Who", " published", " Crack", "pots"], 3, " Crackpots", "pots"),
        (["Who", " married", " Cicero"], 2, " Cicero", ""),
        (["What", " is", " a", " symbol"], 3, None, None),
    ],
)
def test_a_name_is_found_whole_and_so_is_what_other_names_share_with_it(
    tokens: list[str], end: int, name: str | None, ending: str | None
) -> None:
    begin = name_begin(tokens, end)
    assert (None if begin is None else "".join(tokens[begin : end + 1])) == name
    if begin is not None:
        first, after = name_ending(tokens, begin, end)
        assert "".join(tokens[first:after]) == ending


def test_what_sways_from_one_surrounding_to_the_next_does_not_open_a_slot() -> None:
    background, own = unusual(6)
    sway = unusual(7)[1]
    elsewhere = torch.stack([own + share * sway for share in (-0.4, -0.2, 0.2, 0.4)], 1)
    alone = detectors(own, torch.tensor([0]), background, torch.tensor([0.4]), 0.1)[:, :-1]
    made = detectors(own, torch.tensor([0]), background, torch.tensor([0.4]), 0.1, elsewhere=elsewhere)[:, :-1]
    assert abs(float(made @ sway.T)) < 0.5 * abs(float(alone @ sway.T))


def test_a_slot_is_shut_at_other_edits_keys_and_open_at_its_own_all_the_same() -> None:
    background, own = unusual(8)
    like = 0.65 * own + 0.1 * unusual(9)[1]
    floor, owner = torch.tensor([0.3]), torch.tensor([0])
    plainly = detectors(own, owner, background, floor, 0.05)
    earlier = background.keys(detectors(like, owner, background, floor, 0.05)[:, :-1])
    made = detectors(own, owner, background, floor, 0.05, others=earlier)
    assert float(plainly[0, -1]) < float(plainly[0, :-1] @ earlier[0]) < float(made[0, -1])
    again = detectors(own, owner, background, floor, 0.05, others=background.keys(plainly[:, :-1]))
    assert float(again[0, -1]) == pytest.approx(HIGHEST_THRESHOLD)
    assert float(gates(own, again)) == pytest.approx(1, abs=0.05)
    same = detectors(own, owner, background, floor, 0.05, others=own, apart=torch.tensor([[False]]))
    assert float(same[0, -1]) == float(plainly[0, -1])


def test_a_higher_score_in_the_background_raises_the_threshold() -> None:
    background, own = unusual(2)
    lifted = BlockBackground(torch.cat([background.inputs, 0.6 * own.half()]), background.precision, background.scale)
    assert float(detectors(own, torch.tensor([0]), lifted, torch.tensor([0.4]), 0.1)[0, -1]) == pytest.approx(0.7, abs=1e-3)


def captured_from(model: nn.Module, editor: Editor, examples: list[Example], starts: list[int]) -> SlotRows:
    sequences = [sequence_of(each) for each in examples]
    passage = opened(model, sequences, starts, list(range(len(examples))), [0] * len(examples))
    return captured(model, editor.modules, examples, [passage])


EXAMPLES = [Example((5, 9, 7, 8, 11), (20, 21), 0, "plain"), Example((6, 4, 30), (8,), 1, "plain")]
EXAMPLES += [Example((6, 40, 30, 3), (8, 9, 12), 2, "plain")]
STARTS = [2, 1, 3]


@pytest.mark.parametrize("slots", [0, 4])
@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral"])
def test_inputs_and_gradients_are_those_of_a_backward_pass_over_the_whole_sequence(family: str, slots: int) -> None:
    model = build(family)
    editor = with_slots(model, slots, value=0.3)
    rows = captured_from(model, editor, EXAMPLES, STARTS)
    assert sorted(zip(rows.example.tolist(), rows.position.tolist(), strict=True)) == [
        (index, position)
        for index, (example, start) in enumerate(zip(EXAMPLES, STARTS, strict=True))
        for position in range(start, len(example))
    ]
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    for block, bank in zip(BLOCKS, BANKS, strict=True):

        def hook(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor, bank: str = bank) -> None:
            output.retain_grad()
            seen[bank] = inputs[0], output

        model.get_submodule(block).register_forward_hook(hook)
    for index, example in enumerate(EXAMPLES):
        logits = model(input_ids=torch.tensor([example.prompt + example.answer[:-1]])).logits[0, len(example.prompt) - 1 :]
        losses = functional.cross_entropy(logits, torch.tensor(example.answer), reduction="none")
        losses.sum().backward()
        mine = rows.example == index
        for bank in BANKS:
            x, output = seen[bank]
            assert output.grad is not None
            torch.testing.assert_close(rows.inputs[bank][mine], x[0, rows.position[mine]].detach(), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(rows.gradients[bank][mine], output.grad[0, rows.position[mine]], rtol=1e-3, atol=1e-6)
        assert float(rows.losses[index]) == pytest.approx(float(losses.detach().sum()), rel=1e-4)


def test_confidence_is_the_least_likely_tokens_and_zero_where_another_is_likelier() -> None:
    model, prompt = build(), (6, 4, 30)
    editor = with_slots(model, 0)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt])).logits[0, -1]
    likeliest, other = logits.topk(2).indices.tolist()
    examples = [Example(prompt, answer, 0, "plain") for answer in ((likeliest,), (other,))]
    rows = captured_from(model, editor, examples, [1, 1])
    torch.testing.assert_close(rows.confidence, torch.tensor([float(logits.softmax(0).max()), 0.0]), rtol=1e-4, atol=0)


def test_capturing_leaves_no_hook_and_no_gradient_behind() -> None:
    model = build()
    editor = with_slots(model)
    hooks = [len(module._forward_hooks) for module in model.modules()]
    wanting = [parameter.requires_grad for parameter in model.parameters()]
    captured_from(model, editor, EXAMPLES, STARTS)
    assert hooks == [len(module._forward_hooks) for module in model.modules()]
    assert wanting == [parameter.requires_grad for parameter in model.parameters()]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_restoring_brings_back_an_earlier_number_of_slots() -> None:
    model = build()
    unedited = logits_of(model)
    editor = with_slots(model, 2)
    kept, before, fingerprint = editor.masters.snapshot(), logits_of(model), editor.masters.fingerprint()
    editor.masters.add(BANKS[0], some_slots(3, 9))
    assert editor.masters.fingerprint() != fingerprint
    assert [bank.count for bank in banks_of(model).values()] == [5, 2]
    editor.masters.restore(kept)
    assert [bank.count for bank in banks_of(model).values()] == [2, 2]
    assert editor.masters.fingerprint() == fingerprint
    assert torch.equal(logits_of(model), before)
    editor.masters.restore_base()
    assert torch.equal(logits_of(model), unedited)


def test_slots_of_another_width_are_refused_and_change_nothing() -> None:
    editor = with_slots(build())
    fingerprint = editor.masters.fingerprint()
    with pytest.raises(StatisticsMismatchError):
        editor.masters.restore({name: master[:, 1:] for name, master in editor.masters.snapshot().items()})
    assert editor.masters.fingerprint() == fingerprint


def test_a_fingerprint_of_empty_banks_tells_their_models_apart() -> None:
    prints = [with_slots(build(seed=seed), 0).masters.fingerprint() for seed in (1, 1, 2)]
    assert prints[0] == prints[1] != prints[2]


def test_a_bfloat16_model_keeps_its_slots_in_float32() -> None:
    model = build().to(torch.bfloat16)
    before = logits_of(model)
    with_slots(model)
    edited = logits_of(model)
    assert edited.dtype == torch.bfloat16
    assert not torch.equal(edited, before)
    assert {bank.weight.dtype for bank in banks_of(model).values()} == {torch.float32}


def test_banks_are_found_in_the_order_of_the_blocks() -> None:
    model = build()
    attach_slots(model, BLOCKS[::-1])
    assert tuple(banks_of(model)) == BANKS
    assert all(each.is_bank for each in resolve_modules(model, BANKS))
    assert all(one.host_digest != two.host_digest for one, two in itertools.pairwise(banks_of(model).values()))
