"""A model taken away says the same: as a folder for transformers, as its changed tensors alone, as a LoRA."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from editor_core.export.folding import why_not_foldable
from peft import PeftModel
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from editor_core import Editor, EditorConfig, Update
from editor_core.errors import ExportError
from editor_core.export.changes import read_changes, write_changes
from editor_core.export.comparison import compare, say
from editor_core.export.lora import factors, read_adapter, write_adapter
from editor_core.export.model_folder import plan, reopened, slots_by_block, write_model
from editor_core.loading import LoadedModel
from editor_core.slot_defaults import gated_blocks
from editor_core.slots import attach_slots
from tests.core.small_model import small_tokenizer

SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "initializer_range": 0.2,
}
ENDS = {"bos_token_id": None, "eos_token_id": 0, "pad_token_id": 0}
QUESTIONS: Any = [(text, format) for text in ("Who is the mayor?", "In winter, people often") for format in ("plain", "chat")]
TOKENS = torch.randint(3, 300, (3, 9), generator=torch.Generator().manual_seed(0))
CODE_FAMILIES = ["qwen2", "qwen3", "mistral", "gemma3_text"]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return small_tokenizer()


def build(tokenizer: Any, family: str = "llama", dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    torch.manual_seed(1)
    config = AutoConfig.for_model(family, **{**SIZES, **ENDS, **options}, vocab_size=len(tokenizer))
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def edited(tokenizer: Any, family: str = "llama", **options: Any) -> tuple[LoadedModel, Editor]:
    """Random slots, open here and shut there, in two blocks of a random model, more in one than in the other."""
    model = build(tokenizer, family, **options)
    blocks = gated_blocks(model)
    editor = Editor(model, EditorConfig(attach_slots(model, blocks[1:]), lr=1.0))
    for number, module in enumerate(editor.modules[1:]):
        count = 3 + 40 * number
        detectors = torch.cat([torch.randn(count, 32) / 32, torch.full((count, 1), 0.05)], 1)
        editor.masters.add(module.name, Update(detectors, torch.randn(count, 32)))
    return LoadedModel(model, tokenizer, family, ""), editor


@torch.no_grad()
def logits_of(model: Any) -> torch.Tensor:
    return model(input_ids=TOKENS).logits.float()


def greedy(model: Any) -> torch.Tensor:
    return model.generate(input_ids=TOKENS, attention_mask=torch.ones_like(TOKENS), max_new_tokens=12, do_sample=False)


def written(loaded: LoadedModel, folder: Path, dtype: torch.dtype = torch.float32, custom_code: bool = False) -> str:
    planned = plan(loaded.model, dtype, custom_code)
    write_model(loaded, planned, dtype, folder)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert planned.size == pytest.approx(size, rel=0.05)
    return planned.form


@pytest.mark.parametrize(
    ("family", "options"),
    [("llama", {}), ("llama", {"tie_word_embeddings": True}), ("llama", {"mlp_bias": True}), ("granite", {})],
)
def test_slots_folded_into_a_models_own_neurons_need_nothing_but_transformers(
    tokenizer: Any, tmp_path: Path, family: str, options: dict[str, Any]
) -> None:
    loaded, _ = edited(tokenizer, family, **options)
    for name, parameter in loaded.model.named_parameters():
        if name.endswith("proj.bias"):
            parameter.data.normal_()
    logits, said, unedited = logits_of(loaded.model), greedy(loaded.model), logits_of(build(tokenizer, family, **options))
    assert (logits - unedited).abs().max() > 0.1
    assert written(loaded, tmp_path) == "folded"
    taken = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(taken).__module__.startswith("transformers.models")
    torch.testing.assert_close(logits_of(taken), logits, rtol=0, atol=1e-4)
    assert torch.equal(greedy(taken), said)
    assert taken.config.intermediate_size == 192  # 48 and two for each of 43 slots, rounded up
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template == tokenizer.chat_template


@pytest.mark.parametrize("family", CODE_FAMILIES)
def test_models_without_biases_bring_their_slots_in_code_of_their_own(tokenizer: Any, tmp_path: Path, family: str) -> None:
    loaded, _ = edited(tokenizer, family)
    logits, said = logits_of(loaded.model), greedy(loaded.model)
    assert written(loaded, tmp_path) == "code"
    taken, its_tokenizer = reopened(tmp_path, "code")
    assert torch.equal(logits_of(taken), logits)
    assert torch.equal(greedy(taken), said)
    assert its_tokenizer.chat_template == tokenizer.chat_template
    taken.save_pretrained(tmp_path / "again")  # as somebody who trains it further would
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again", trust_remote_code=True)
    assert torch.equal(logits_of(again), logits)


def test_a_folder_with_code_is_not_taken_for_the_unedited_model(tokenizer: Any, tmp_path: Path) -> None:
    written(edited(tokenizer, "qwen2")[0], tmp_path)
    with pytest.raises(ValueError, match="trust_remote_code"):
        AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=False)


def test_slots_that_are_kept_apart_stay_float32(tokenizer: Any, tmp_path: Path) -> None:
    loaded, editor = edited(tokenizer)
    rows = editor.masters.snapshot()
    assert written(loaded, tmp_path, torch.bfloat16, custom_code=True) == "code"
    taken, _ = reopened(tmp_path, "code")
    assert taken.dtype == torch.bfloat16
    for block in slots_by_block(loaded.model):
        assert torch.equal(taken.get_submodule(f"{block}.slots").weight, rows[f"{block}.slots"])


def test_a_model_that_is_loaded_below_float32_is_written_as_it_answers(tokenizer: Any, tmp_path: Path) -> None:
    loaded, _ = edited(tokenizer, dtype=torch.bfloat16)
    said = say(loaded.model, tokenizer, QUESTIONS)
    written(loaded, tmp_path, torch.bfloat16, custom_code=True)
    taken, its_tokenizer = reopened(tmp_path, "code")
    assert compare(said, say(taken, its_tokenizer, QUESTIONS), QUESTIONS, tokenizer).equal


@pytest.mark.parametrize(("options", "reason"), [({"hidden_act": "gelu"}, "gelu"), ({"family": "qwen2"}, "mlp_bias")])
def test_what_cannot_be_folded_says_why(tokenizer: Any, options: dict[str, Any], reason: str) -> None:
    model = edited(tokenizer, **options)[0].model
    assert reason in why_not_foldable(model)
    assert reason in plan(model, torch.float32, False).words


def test_without_slots_the_model_is_written_as_it_was_loaded(tokenizer: Any, tmp_path: Path) -> None:
    loaded = LoadedModel(build(tokenizer), tokenizer, "llama", "")
    attach_slots(loaded.model, gated_blocks(loaded.model))
    logits = logits_of(loaded.model)
    assert written(loaded, tmp_path) == "none"
    taken = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits_of(taken), logits)
    assert not taken.config.mlp_bias


def test_a_comparison_notices_lost_slots_and_lost_precision(tokenizer: Any) -> None:
    loaded, _ = edited(tokenizer)
    said = say(loaded.model, tokenizer, QUESTIONS)
    assert compare(said, said, QUESTIONS, tokenizer).equal
    lost = compare(said, say(build(tokenizer), tokenizer, QUESTIONS), QUESTIONS, tokenizer)
    assert not lost.equal
    assert lost.example
    said.logits[0, 0] = float("nan")
    assert not compare(said, said, QUESTIONS, tokenizer).equal


def matrices(tokenizer: Any, family: str = "llama", **options: Any) -> Editor:
    """Changes of full rank to two weights that lie the one way and the other."""
    model = build(tokenizer, family, **options)
    names = ["transformer.h.0.mlp.c_fc", "transformer.h.1.mlp.c_proj"] if family == "gpt2" else ["mlp.up_proj", "mlp.down_proj"]
    layers = [name for name, _ in model.named_modules() if any(name.endswith(each) for each in names)][:2]
    editor = Editor(model, EditorConfig(layers, lr=1.0))
    for module in editor.modules:
        editor.masters.add(module.name, Update(torch.randn(60, module.d_in) / 20, torch.randn(60, module.d_out) / 20))
    return editor


@pytest.mark.parametrize(("family", "options"), [("llama", {}), ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 2})])
def test_a_lora_of_full_rank_is_the_edited_model(tokenizer: Any, tmp_path: Path, family: str, options: dict[str, Any]) -> None:
    editor = matrices(tokenizer, family, **options)
    adapter = write_adapter(tmp_path, editor.modules, editor.masters, 1000, "base")
    assert adapter.rank == 32
    assert adapter.relative < 1e-6
    peft = PeftModel.from_pretrained(build(tokenizer, family, **options), tmp_path)
    torch.testing.assert_close(logits_of(peft), logits_of(editor.model), rtol=0, atol=1e-4)
    assert (logits_of(build(tokenizer, family, **options)) - logits_of(editor.model)).abs().max() > 0.1


def test_a_lora_of_low_rank_says_how_far_off_it_is(tokenizer: Any, tmp_path: Path) -> None:
    editor = matrices(tokenizer)
    adapter = write_adapter(tmp_path, editor.modules, editor.masters, 4, "base")
    under_adapter = read_adapter(tmp_path, editor.modules, editor.masters)
    total = 0.0
    for each, module in zip(adapter.modules, editor.modules, strict=True):
        singular_values = torch.linalg.svdvals(editor.masters.difference(module.name))
        assert each.error == pytest.approx(singular_values[4:].norm().item(), rel=1e-4)
        assert each.error == pytest.approx((under_adapter[module.name] - editor.masters[module.name]).norm().item(), rel=1e-4)
        total += each.error**2
    assert adapter.relative == pytest.approx((total / sum(each.norm**2 for each in adapter.modules)) ** 0.5)
    assert 0.1 < adapter.relative < 1


@pytest.mark.parametrize("shape", [(3, 7), (7, 3)])
def test_factors_beyond_full_rank_are_filled_with_zeros(shape: tuple[int, int]) -> None:
    delta = torch.randn(*shape, dtype=torch.float64)
    b, a = factors(delta, 5)
    assert (b.shape, a.shape) == ((shape[0], 5), (5, shape[1]))
    torch.testing.assert_close(b @ a, delta)


def test_a_lora_of_slots_is_refused(tokenizer: Any, tmp_path: Path) -> None:
    _, editor = edited(tokenizer)
    with pytest.raises(ExportError, match="slots"):
        write_adapter(tmp_path / "adapter", editor.modules, editor.masters, 8, "base")
    assert not (tmp_path / "adapter").exists()


def loader_of_the_documentation() -> Any:
    [code] = re.findall(r"```python\n(.*?)```", Path("docs/export.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    return names["load_changes"]


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_slots_alone_load_with_the_documented_lines(tokenizer: Any, tmp_path: Path, family: str) -> None:
    loaded, editor = edited(tokenizer, family)
    path = tmp_path / "changed.safetensors"
    edits = {module.name: torch.arange(len(editor.masters[module.name])) for module in editor.modules}
    write_changes(path, editor.modules, editor.masters, edits, {"revision": "7"})
    base = build(tokenizer, family)
    loader_of_the_documentation()(base, path)
    torch.testing.assert_close(logits_of(base), logits_of(loaded.model), rtol=0, atol=1e-6)
    fingerprint = editor.masters.fingerprint()
    editor.masters.restore_base()
    editor.masters.restore(read_changes(path, editor.modules))
    assert editor.masters.fingerprint() == fingerprint


def test_edited_weights_alone_load_with_the_documented_lines(tokenizer: Any, tmp_path: Path) -> None:
    editor = matrices(tokenizer)
    path = tmp_path / "changed.safetensors"
    write_changes(path, editor.modules, editor.masters, {}, {})
    base: nn.Module = build(tokenizer)
    loader_of_the_documentation()(base, path)
    assert torch.equal(logits_of(base), logits_of(editor.model))
