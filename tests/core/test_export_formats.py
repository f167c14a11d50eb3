"""A model taken away says the same: as a folder for transformers, as its changed tensors alone, as a LoRA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from editor_core import Editor, EditorConfig, Update
from editor_core.export.changes import read_changes, write_changes
from editor_core.export.comparison import compare, say
from editor_core.export.lora import factors, read_adapter, write_adapter
from editor_core.export.model_folder import reopened, size_of, write_model
from editor_core.loading import LoadedModel
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


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return small_tokenizer()


def build(tokenizer: Any, family: str = "llama", dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    torch.manual_seed(1)
    config = AutoConfig.for_model(family, **{**SIZES, **ENDS, **options}, vocab_size=len(tokenizer))
    return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


@torch.no_grad()
def logits_of(model: Any) -> torch.Tensor:
    return model(input_ids=TOKENS).logits.float()


def matrices(tokenizer: Any, family: str = "llama", **options: Any) -> Editor:
    """Changes of full rank to two weights that lie the one way and the other."""
    model = build(tokenizer, family, **options)
    names = ["transformer.h.0.mlp.c_fc", "transformer.h.1.mlp.c_proj"] if family == "gpt2" else ["mlp.up_proj", "mlp.down_proj"]
    layers = [name for name, _ in model.named_modules() if any(name.endswith(each) for each in names)][:2]
    editor = Editor(model, EditorConfig(layers, lr=1.0))
    for module in editor.modules:
        editor.masters.add(module.name, Update(torch.randn(60, module.d_in) / 20, torch.randn(60, module.d_out) / 20))
    return editor


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_folder_for_transformers_answers_as_the_edited_model_does(tokenizer: Any, tmp_path: Path, dtype: torch.dtype) -> None:
    model: Any = matrices(tokenizer, dtype=dtype).model
    said, logits, size = say(model, tokenizer, QUESTIONS), logits_of(model), size_of(model, dtype)
    assert (logits - logits_of(build(tokenizer, dtype=dtype))).abs().max() > 0.1
    write_model(LoadedModel(model, tokenizer, "llama", ""), dtype, tmp_path)
    assert size == pytest.approx(sum(path.stat().st_size for path in tmp_path.glob("*.safetensors")), rel=0.05)
    taken, its_tokenizer = reopened(tmp_path)
    assert torch.equal(logits_of(taken), logits)
    assert compare(said, say(taken, its_tokenizer, QUESTIONS), QUESTIONS, tokenizer).equal
    assert AutoTokenizer.from_pretrained(tmp_path).chat_template == tokenizer.chat_template


def test_a_comparison_notices_lost_edits_and_what_is_no_number(tokenizer: Any) -> None:
    model = matrices(tokenizer).model
    said = say(model, tokenizer, QUESTIONS)
    assert compare(said, said, QUESTIONS, tokenizer).equal
    lost = compare(said, say(build(tokenizer), tokenizer, QUESTIONS), QUESTIONS, tokenizer)
    assert not lost.equal
    assert lost.example
    said.logits[0, 0] = float("nan")
    assert not compare(said, said, QUESTIONS, tokenizer).equal


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


@pytest.mark.parametrize(("family", "options"), [("llama", {}), ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 2})])
def test_the_edited_weights_alone_give_back_the_edited_model(
    tokenizer: Any, tmp_path: Path, family: str, options: dict[str, Any]
) -> None:
    editor = matrices(tokenizer, family, **options)
    path, fingerprint = tmp_path / "changed.safetensors", editor.masters.fingerprint()
    write_changes(path, editor.modules, editor.masters, {"revision": "7"})
    editor.masters.restore_base()
    assert editor.masters.fingerprint() != fingerprint
    editor.masters.restore(read_changes(path, editor.modules))
    assert editor.masters.fingerprint() == fingerprint
