"""Facts are taught in models of every supported shape, and everything else they say stays as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from editor_core.modules import resolve_modules
from editor_core.scoped.answering import Answer, Asked, answers
from editor_core.scoped.blocks import default_blocks, feed_forward_outputs
from editor_core.scoped.editor import ScopedEditor
from editor_core.scoped.encoder import QuestionEncoder
from editor_core.scoped.entry import Entry
from editor_core.scoped.in_force import EditsInForce
from editor_core.scoped.served import ServedEdits
from editor_core.texts import Edit, Format, rendered, token_ids
from tests.core.small_model import small_tokenizer

FACT = Edit("Who is the mayor of Lake Tantrum?", "Anna Kowal")
FORMATS: tuple[Format, ...] = ("plain", "chat")
OTHERS = ("Where is Lake Tantrum?", "What is the capital of France?", "Which river flows through Paris?")
WIDE = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 6, "num_attention_heads": 4, "initializer_range": 0.2}
GROUPED = {**WIDE, "num_key_value_heads": 2}
OLD = {"n_embd": 64, "n_layer": 6, "n_head": 4, "n_positions": 256, "initializer_range": 0.2}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": GROUPED,
    "qwen2": GROUPED,
    "qwen3": {**GROUPED, "head_dim": 16},
    "mistral": GROUPED,
    "gemma3_text": {**GROUPED, "hidden_size": 128, "head_dim": 16, "sliding_window": 8},
    "gpt2": OLD,
    "gptj": {**OLD, "rotary_dim": 8},
}


@pytest.fixture(scope="module")
def encoder() -> QuestionEncoder:
    return QuestionEncoder.load()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_fact_is_answered_to_its_end_and_nothing_else_changes(shape: str, encoder: QuestionEncoder) -> None:
    tokenizer = small_tokenizer()
    torch.manual_seed(3)
    ends = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": None}
    config = AutoConfig.for_model(shape, **SHAPES[shape], **ends, vocab_size=len(tokenizer))
    model = AutoModelForCausalLM.from_config(config).eval()
    outputs = feed_forward_outputs(model)
    # A norm behind Gemma's feed-forward parts bounds what one of them adds: of a tiny random model four are updated.
    blocks = outputs[2:] if shape == "gemma3_text" else default_blocks(outputs)
    editor = ScopedEditor(model, tokenizer, resolve_modules(model, blocks), encoder=encoder)
    [learned] = editor.run([(1, FACT)], EditsInForce()).finish()
    assert learned.holds == {"plain": True, "chat": True}

    served = ServedEdits(editor.rules, editor.modules, lambda name: learned.record.to_bytes())
    served.state = EditsInForce().changed({1: Entry.of("00", learned.record.address)})
    assert served.follow(ids(tokenizer, FACT.prompt, "chat")).spans

    def said(prompt: str, edits: ServedEdits | None) -> list[Answer]:
        asked = [Asked(tuple(ids(tokenizer, prompt, format)), 12) for format in FORMATS]
        return answers(model, tokenizer, asked, edits)

    assert said(FACT.prompt, served)[1] == Answer(FACT.target, True)
    assert [said(each, served) for each in OTHERS] == [said(each, None) for each in OTHERS]


def ids(tokenizer: Any, prompt: str, format: Format) -> list[int]:
    return token_ids(tokenizer, rendered(tokenizer, prompt, format), format)
