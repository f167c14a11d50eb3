"""Asking the model by itself agrees with the batcher, and with nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.endurance.questions import Question
from bench.endurance.recomputed import Claim, doubt
from editor_core.generation import Batcher, Sampling, Sequence
from editor_core.loading import LoadedModel, load_model
from editor_core.texts import rendered, token_ids
from tests.conftest import MODELS

GREEDY = Question("Who led Lake Tantrum?", chat=True, max_tokens=12)
QUESTIONS = [
    GREEDY,
    Question("Who led Lake Tantrum?", chat=False, max_tokens=9, seed=5),
    Question("Where does rain come from?", chat=False, max_tokens=20, seed=11, stop=("a",)),
]


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder), cache_dir=MODELS)


def batched(loaded: LoadedModel, questions: list[Question]) -> list[Claim]:
    """All in one batch, as the service answers them."""
    batcher, sequences = Batcher(loaded.model), []
    for number, each in enumerate(questions):
        format = "chat" if each.chat else "plain"
        ids = token_ids(loaded.tokenizer, rendered(loaded.tokenizer, each.prompt, format), format)
        temperature = 0.0 if each.seed is None else 1.0
        sampling = Sampling(each.max_tokens, temperature, seed=each.seed, stop=each.stop)
        sequences.append(Sequence(str(number), ids, sampling, loaded.tokenizer))
        batcher.add(sequences[-1])
    while batcher.busy:
        batcher.step(0)
    return [
        Claim(each, sequence.text, sequence.finish_reason or "") for each, sequence in zip(questions, sequences, strict=True)
    ]


def test_what_the_batcher_says_is_not_doubted(tiny: LoadedModel) -> None:
    claims = batched(tiny, QUESTIONS)
    assert [doubt(tiny.model, tiny.tokenizer, each) for each in claims] == ["", "", ""]
    assert {each.finish_reason for each in claims[:2]} == {"length"}


def test_the_beginning_of_an_answer_is_not_doubted(tiny: LoadedModel) -> None:
    [whole] = batched(tiny, [GREEDY])
    assert doubt(tiny.model, tiny.tokenizer, Claim(GREEDY, whole.text[: len(whole.text) // 2])) == ""


def test_every_other_text_is_doubted(tiny: LoadedModel) -> None:
    [whole] = batched(tiny, [GREEDY])
    middle = len(whole.text) // 2
    wrong = [
        whole.text[:middle],
        whole.text[:middle] + "#" + whole.text[middle + 1 :],
        whole.text + "!",
        "",
    ]
    assert all(doubt(tiny.model, tiny.tokenizer, replace(whole, text=text)) for text in wrong)
    assert doubt(tiny.model, tiny.tokenizer, replace(whole, finish_reason="stop"))


def test_another_seeds_text_is_doubted(tiny: LoadedModel) -> None:
    [whole] = batched(tiny, QUESTIONS[1:2])
    assert doubt(tiny.model, tiny.tokenizer, replace(whole, question=replace(whole.question, seed=6)))
