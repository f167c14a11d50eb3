"""The editor on every architecture: exact gradients, nothing touched by a proposal, nothing changed by a refusal."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from editor_core import Editor, EditorConfig, Update
from editor_core.draft import Draft
from editor_core.errors import (
    ConfigError,
    EmptyBatchError,
    NonFiniteUpdateError,
    StaleProposalError,
    UnknownModuleError,
    UnsupportedModuleError,
    UpdateTooLargeError,
)

COMMON = {"vocab_size": 61, "max_position_embeddings": 32}
LLAMA_LIKE = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
GPT_LIKE = {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 32, "resid_pdrop": 0.5}
FAMILIES = {
    "llama": (LLAMA_LIKE, ["model.layers.1.mlp.down_proj", "model.layers.2.mlp.up_proj"]),
    "qwen2": (LLAMA_LIKE, ["model.layers.1.mlp.down_proj", "model.layers.2.mlp.down_proj"]),
    "mistral": (LLAMA_LIKE, ["model.layers.1.self_attn.o_proj", "model.layers.2.mlp.down_proj"]),
    "gpt2": (GPT_LIKE, ["transformer.h.1.mlp.c_proj", "transformer.h.2.mlp.c_fc"]),
    "gptj": ({**GPT_LIKE, "rotary_dim": 4}, ["transformer.h.1.mlp.fc_out", "transformer.h.2.mlp.fc_out"]),
}


def build(family: str) -> nn.Module:
    torch.manual_seed(1)
    sizes, _ = FAMILIES[family]
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **COMMON, **sizes))


def batch(seed: int = 0, rows: int = 4, width: int = 9) -> dict[str, torch.Tensor]:
    """Right-padded sequences with answers of one to three tokens at their ends."""
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(3, 61, (rows, width), generator=generator)
    mask, labels = torch.zeros(rows, width, dtype=torch.long), torch.full((rows, width), -100)
    for row in range(rows):
        length = width - row
        mask[row, :length] = 1
        answer = 1 + row % 3
        labels[row, length - answer : length] = torch.randint(3, 61, (answer,), generator=generator)
    return {"input_ids": input_ids * mask, "attention_mask": mask, "labels": labels}


def editor_of(family: str = "llama", **options: object) -> Editor:
    settings = {"modules": FAMILIES[family][1], "lr": 0.01, **options}
    return Editor(build(family), EditorConfig(**settings))  # type: ignore[arg-type]


@pytest.mark.parametrize("family", FAMILIES)
def test_keys_and_gradients_are_those_of_a_full_backward_pass(family: str) -> None:
    """Sum over rows of h v^T is the weight's gradient (over answer positions, where the last layer's gradient lives)."""
    editor, minibatch = editor_of(family), batch()
    rows = editor.capture([minibatch])[0]
    model = build(family).eval()
    last = dict(model.named_modules())[FAMILIES[family][1][-1]]
    labels = minibatch["labels"]
    logits = model(input_ids=minibatch["input_ids"], attention_mask=minibatch["attention_mask"]).logits
    functional.cross_entropy(logits[labels != -100], labels[labels != -100]).backward()
    expected = last.weight.grad if family == "gpt2" else last.weight.grad.T
    found = rows.keys[FAMILIES[family][1][-1]].T @ rows.gradients[FAMILIES[family][1][-1]]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_applied_update_is_added_to_the_weight_in_its_own_orientation(family: str) -> None:
    editor = editor_of(family)
    before = {each.name: each.weight.detach().clone() for each in editor.modules}
    proposal = editor.propose([batch(0), batch(1)])
    editor.apply(proposal)
    for each in editor.modules:
        dense = proposal.updates[each.name].dense()
        assert dense.shape == (each.d_in, each.d_out)
        torch.testing.assert_close(
            each.weight.detach() - before[each.name], dense if family == "gpt2" else dense.T, rtol=1e-3, atol=1e-6
        )


def test_a_step_lowers_the_loss_of_its_own_batch() -> None:
    editor, minibatch = editor_of(lr=1.0), batch()
    first = editor.propose([minibatch])
    editor.apply(first)
    assert editor.propose([minibatch]).losses[0] < first.losses[0] - 0.05


def test_a_proposal_leaves_model_statistics_and_flags_as_they_were() -> None:
    model = build("gpt2").train()
    editor = Editor(model, EditorConfig(FAMILIES["gpt2"][1], lr=0.01))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    statistics, flags = editor.statistics.state_dict(), [p.requires_grad for p in model.parameters()]
    editor.propose([batch()])
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())
    assert all(torch.equal(statistics[name], tensor) for name, tensor in editor.statistics.state_dict().items())
    assert flags == [p.requires_grad for p in model.parameters()]
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_proposing_twice_gives_the_same_update_bit_for_bit() -> None:
    editor = editor_of()
    one, two = editor.propose([batch()]), editor.propose([batch()])
    assert all(torch.equal(one.updates[name].dense(), two.updates[name].dense()) for name in one.updates)


@pytest.mark.parametrize(
    ("modules", "error", "says"),
    [
        (["model.layers.1.mlp.down_projj"], UnknownModuleError, "model.layers.1.mlp.down_proj"),
        (["model.layers.9.mlp.down_proj"], UnknownModuleError, "model.layers.9"),
        (["model.norm"], UnsupportedModuleError, "only nn.Linear and Conv1D"),
    ],
)
def test_a_module_that_cannot_be_edited_is_named(modules: list[str], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Editor(build("llama"), EditorConfig(modules, lr=0.01))


def test_a_weight_shared_with_the_embeddings_is_refused() -> None:
    with pytest.raises(UnsupportedModuleError, match="shares its weight"):
        Editor(build("gpt2"), EditorConfig(["lm_head"], lr=0.01))


def _broken_weights(editor: Editor) -> None:
    with torch.no_grad():
        editor.modules[0].weight[0, 0] = float("nan")


@pytest.mark.parametrize(
    ("prepare", "minibatches", "error", "options"),
    [
        (_broken_weights, [batch()], NonFiniteUpdateError, {}),
        (lambda editor: None, [], EmptyBatchError, {}),
        (lambda editor: None, [{**batch(), "labels": torch.full((4, 9), -100)}], EmptyBatchError, {}),
        (lambda editor: None, [batch()], UpdateTooLargeError, {"max_update_norm": 1e-9}),
    ],
    ids=["nan weights", "no mini-batch", "no answer", "beyond the norm bound"],
)
def test_a_refused_proposal_changes_nothing(
    prepare: Callable[[Editor], None],
    minibatches: list[dict[str, torch.Tensor]],
    error: type[Exception],
    options: dict[str, float],
) -> None:
    editor = editor_of(**options)
    prepare(editor)
    fingerprint = editor.masters.fingerprint()
    with pytest.raises(error):
        editor.propose(minibatches)
    assert editor.masters.fingerprint() == fingerprint
    assert editor.statistics[(24, 16)].n == 0


def test_a_non_finite_factor_is_found_before_any_weight_changes() -> None:
    editor = editor_of()
    proposal, fingerprint = editor.propose([batch()]), editor.masters.fingerprint()
    proposal.updates[FAMILIES["llama"][1][-1]].right[0, 0] = float("inf")
    with pytest.raises(NonFiniteUpdateError):
        editor.apply(proposal)
    assert editor.masters.fingerprint() == fingerprint


def test_a_proposal_applies_at_most_once() -> None:
    editor = editor_of()
    proposal = editor.propose([batch()])
    editor.apply(proposal)
    with pytest.raises(StaleProposalError):
        editor.apply(proposal)


def test_bfloat16_models_keep_a_float32_sum() -> None:
    """Ten thousand steps far below bfloat16's resolution still add up in the master, and reach the served weight."""
    model = build("llama").to(torch.bfloat16)
    editor = Editor(model, EditorConfig(["model.layers.2.mlp.down_proj"], lr=0.01))
    module = editor.modules[0]
    start = module.weight.detach().float().clone()
    for _ in range(1000):
        editor.masters.add(module.name, Update(torch.full((1, 24), 1e-5), torch.ones(1, 16)))
    assert torch.allclose(editor.masters.snapshot()[module.name], start + 1e-2, atol=1e-5)
    assert module.weight.dtype == torch.bfloat16
    assert torch.allclose(module.weight.float(), start + 1e-2, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_base_model_is_kept_whatever_the_dtype(dtype: torch.dtype) -> None:
    editor = Editor(build("llama").to(dtype), EditorConfig(FAMILIES["llama"][1], lr=1.0))
    name, base = editor.modules[0].name, editor.masters.fingerprint()
    update = Update(torch.ones(1, 24), torch.ones(1, 16))
    editor.masters.add(name, update)
    assert editor.masters.distance_from_base()[name] == pytest.approx(update.norm(), rel=1e-4)
    editor.masters.restore_base()
    assert editor.masters.fingerprint() == base


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_draft_leaves_no_trace_and_can_be_kept(dtype: torch.dtype) -> None:
    editor = Editor(build("llama").to(dtype), EditorConfig(FAMILIES["llama"][1], lr=0.01))
    before, draft = editor.masters.fingerprint(), Draft(editor)
    served = editor.modules[0].weight.detach().clone()
    with draft:
        editor.apply(editor.propose([batch()]))
        tried = editor.masters.fingerprint()
    assert editor.masters.fingerprint() == before != tried
    assert torch.equal(editor.modules[0].weight, served)
    draft.keep()
    assert editor.masters.fingerprint() == tried
    assert editor.step == 1
    with pytest.raises(StaleProposalError):
        draft.keep()


@pytest.mark.parametrize(
    "options",
    [
        {"modules": []},
        {"modules": "model.layers.1.mlp.down_proj"},
        {"modules": ["a", "a"]},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"ridge": -1.0},
        {"algorithm": "rome"},
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        EditorConfig(**{"modules": ["m"], "lr": 0.1, **options})  # type: ignore[arg-type]


def test_published_ridge_is_each_algorithms_default() -> None:
    assert EditorConfig(["m"], lr=1.0).alpha == 10.0
    assert EditorConfig(["m"], lr=1.0, algorithm="ultraedit").alpha == 1.0


@pytest.mark.parametrize("family", FAMILIES)
def test_cutting_prompts_from_answers_changes_no_key_and_no_gradient(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    editor, minibatch = editor_of(family), batch(seed=5, rows=6)
    cut = editor.capture([minibatch])[0]
    monkeypatch.setattr("editor_core.span._keeps_a_cache", lambda module: False)
    whole = editor.capture([minibatch])[0]
    for name in FAMILIES[family][1]:
        torch.testing.assert_close(cut.keys[name], whole.keys[name], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(cut.gradients[name], whole.gradients[name], rtol=1e-4, atol=1e-7)
    assert torch.equal(cut.example, whole.example)


def test_a_batch_that_cannot_be_cut_is_still_exact() -> None:
    """Padding on the left, or an answer that begins the row."""
    editor, minibatch = editor_of(), batch(rows=1)
    minibatch["labels"][0, 0] = 5
    expected = editor.capture([minibatch])[0]
    padded = {name: functional.pad(tensor, (3, 0), value=-100 if name == "labels" else 0) for name, tensor in minibatch.items()}
    found = editor.capture([padded])[0]
    name = FAMILIES["llama"][1][-1]
    assert len(expected.example) == 2
    torch.testing.assert_close(found.gradients[name], expected.gradients[name], rtol=1e-3, atol=1e-6)
